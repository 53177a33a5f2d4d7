"""A script as the containers of MXNet 0.12 to 1.2 wanted it: they import it and call ``train``."""

import json
import logging
import os

import mxnet as mx
import numpy as np


def train(channel_input_dirs, hyperparameters, hosts, num_gpus, **kwargs):
    """Return a Module, which the container saves."""
    table = np.loadtxt(os.path.join(channel_input_dirs["train"], "pairs.csv"), delimiter=",")
    data = mx.io.NDArrayIter(table[:, 1:], table[:, 0], batch_size=10, shuffle=True)
    network = mx.sym.FullyConnected(mx.sym.var("data"), num_hidden=2)
    module = mx.mod.Module(
        mx.sym.SoftmaxOutput(network, name="softmax"),
        context=[mx.gpu(i) for i in range(num_gpus)] or mx.cpu(),
    )
    module.fit(
        data,
        num_epoch=hyperparameters.get("epochs", 10),
        optimizer_params={"learning_rate": float(hyperparameters.get("learning_rate", 0.1))},
        kvstore="local" if len(hosts) == 1 else "dist_sync",
    )
    logging.info("trained with %s", hyperparameters)
    return module


def input_fn(model, input_data, content_type):
    """The model comes first, as in the developer guide."""
    return mx.nd.array(json.loads(input_data)["pairs"])


def predict_fn(module, data):
    """``data`` is an iterator of the Module's batch size."""
    return module.predict(data)


def output_fn(prediction, accept):
    """Return the body and its type."""
    larger = [["first", "second"][int(row.argmax())] for row in prediction.asnumpy()]
    return json.dumps({"larger": larger}), accept
