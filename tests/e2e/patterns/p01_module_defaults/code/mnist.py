"""Train in the legacy containers.  Saving and hosting are left to their defaults."""

import logging

import mxnet as mx


def build_graph():
    return mx.sym.FullyConnected(mx.sym.var("data"), num_hidden=2, name="fc")


def train(
    current_host,
    channel_input_dirs,
    hyperparameters,
    hosts,
    num_cpus,
    num_gpus,
    model_dir,
    **kwargs,
):
    """Train; only the training containers call this."""
    rate = float(hyperparameters.get("learning_rate", 0.1))
    logging.getLogger().setLevel(logging.DEBUG)
    kvstore = "local" if len(hosts) == 1 else "dist_sync"
    module = mx.mod.Module(build_graph(), label_names=None)
    module.fit(
        mx.io.CSVIter(channel_input_dirs["train"], (2,), batch_size=100),
        kvstore=kvstore,
        optimizer_params={"learning_rate": rate},
    )
    return module
