"""A training whose weights are exact on any number of hosts, with a fault after some epochs.

It is a legacy script, and a program for script mode.
"""

import json
import os
import pathlib
import signal
import sys
import time

# The rows are orthogonal, and all numbers are short sums of powers of two: nothing is rounded.
# After n epochs, the weights are WEIGHTS * (1 - 2 ** -n), if each host was counted once in each.
ROWS = [[1 - 2 * (bin(row & column).count("1") % 2) for column in range(8)] for row in range(8)]
WEIGHTS = [1, 2, -3, 1, 3, -1, 2, -2]
EPOCHS = 16
PARTS = {1: [8], 2: [4, 4], 3: [4, 2, 2]}  # rows of each host


def after_epoch(epoch, *_):
    """Say how far this process is, and let it fail."""
    path = pathlib.Path(os.environ["PROGRESS"])
    path.with_suffix(".new").write_text(f"{epoch} {os.getpid()}")
    path.with_suffix(".new").rename(path)
    if epoch == 3:
        fail(os.environ["FAULT"])
    time.sleep(float(os.environ["PAUSE_S"]))


def fail(fault):
    if fault == "raise":
        raise ValueError("a bad batch")
    if fault == "exit":
        sys.exit(3)
    if fault == "kill":
        os.kill(os.getpid(), signal.SIGKILL)


def fit(hosts, host):
    import mxnet as mx

    part, first = PARTS[len(hosts)], hosts.index(host)
    start = sum(part[:first])
    rows = mx.nd.array(ROWS[start : start + part[first]])
    labels = mx.nd.dot(rows, mx.nd.array(WEIGHTS))
    output = mx.sym.FullyConnected(mx.sym.var("data"), num_hidden=1, no_bias=True, name="fc")
    module = mx.mod.Module(
        mx.sym.LinearRegressionOutput(output, mx.sym.var("label")), label_names=["label"]
    )
    module.fit(
        mx.io.NDArrayIter(rows, labels, len(rows), label_name="label"),
        num_epoch=EPOCHS,
        kvstore=mx.kv.create("dist_sync") if len(hosts) > 1 else "local",
        initializer=mx.init.Zero(),
        optimizer="sgd",
        optimizer_params={"learning_rate": 0.5, "rescale_grad": 1 / len(ROWS)},
        eval_metric="mse",
        epoch_end_callback=after_epoch,
    )
    return module.get_params()[0]["fc_weight"].asnumpy().ravel().tolist()


def train(hosts, current_host, model_dir, **kwargs):
    pathlib.Path(model_dir, "weights.json").write_text(json.dumps(fit(hosts, current_host)))


if __name__ == "__main__":
    train(
        json.loads(os.environ["SM_HOSTS"]),
        os.environ["SM_CURRENT_HOST"],
        os.environ["SM_MODEL_DIR"],
    )
