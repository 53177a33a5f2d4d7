"""Recognise digits on one host or several, with the same accuracy: a legacy script.

Channel ``train``: digits.csv, with a line per picture: its label and 64 values from 0 to 16.
Channel ``test``: the same, for pictures that are held out.
"""

import os

import mxnet as mx
import numpy as np


def train(hyperparameters, channel_input_dirs, hosts, current_host, output_data_dir, **kwargs):
    count = len(hosts)
    kv = mx.kv.create("dist_sync" if count > 1 else "local")

    # The batch of all hosts together is the same on any number of hosts.
    batch_size = hyperparameters.get("batch_size", 32) // count
    rows = read(channel_input_dirs["train"])
    rows = rows[: len(rows) // count * count]  # as many for each host, and so as many batches
    rows = rows[sorted(hosts).index(current_host) :: count]
    data = mx.io.NDArrayIter(rows[:, 1:], rows[:, 0], batch_size, shuffle=True)

    module = mx.mod.Module(network())
    module.fit(
        data,
        kvstore=kv,
        num_epoch=hyperparameters.get("epochs", 3),
        initializer=mx.init.Xavier(),
        optimizer_params={"learning_rate": hyperparameters.get("learning_rate", 0.1)},
    )
    rows = read(channel_input_dirs["test"])
    held_out = mx.io.NDArrayIter(rows[:, 1:], rows[:, 0], batch_size)
    accuracy = dict(module.score(held_out, "acc"))["accuracy"]
    with open(os.path.join(output_data_dir, "accuracy"), "w") as file:
        file.write(f"{accuracy:.3f}\n")
    return module


def read(folder):
    return np.loadtxt(os.path.join(folder, "digits.csv"), delimiter=",")


def network():
    hidden = mx.sym.FullyConnected(mx.sym.var("data") / 16, num_hidden=128, name="hidden")
    scores = mx.sym.FullyConnected(mx.sym.relu(hidden), num_hidden=10, name="scores")
    return mx.sym.SoftmaxOutput(scores, name="softmax")
