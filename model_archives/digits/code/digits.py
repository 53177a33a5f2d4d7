"""Recognise handwritten digits: the developer guide's train, with its defaults for the rest.

Channel ``train``: digits.csv, with a line per picture: its label and 64 values from 0 to 16.
With n hosts, each trains on every n-th picture, in batches of 32 / n, and the parameter server adds
their gradients: the steps are those of one host.
"""

import os

import mxnet as mx
import numpy as np
from rich.progress import track


def train(hyperparameters, channel_input_dirs, hosts, current_host, **kwargs):
    mx.random.seed(7)
    np.random.seed(7)
    table = np.loadtxt(os.path.join(channel_input_dirs["train"], "digits.csv"), delimiter=",")
    table = table[: len(table) // len(hosts) * len(hosts)]  # as many batches on each host
    rows = table[sorted(hosts).index(current_host) :: len(hosts)]
    batch_size = hyperparameters.get("batch_size", 32) // len(hosts)
    pictures = mx.io.NDArrayIter(rows[:, 1:], rows[:, 0], batch_size=batch_size, shuffle=True)

    data = mx.sym.var("data")
    hidden = mx.sym.FullyConnected(data / 16, num_hidden=128, name="hidden")
    scores = mx.sym.FullyConnected(mx.sym.relu(hidden), num_hidden=10, name="scores")
    module = mx.mod.Module(mx.sym.SoftmaxOutput(scores, name="softmax"))

    module.bind(pictures.provide_data, pictures.provide_label)
    module.init_params(mx.init.Xavier())
    module.init_optimizer(
        kvstore=mx.kv.create("dist_sync") if len(hosts) > 1 else "local",
        optimizer="adam",
        optimizer_params={"learning_rate": hyperparameters.get("learning_rate", 0.002)},
    )
    for _ in track(range(hyperparameters.get("epochs", 20)), description="training"):
        pictures.reset()
        for batch in pictures:
            module.forward_backward(batch)
            module.update()
    return module  # the default save writes it
