"""Train a Gluon Block on Fisher's irises.  This made net.params.

The channel ``train`` has iris.csv with a line for each flower: four measures in cm and its
species, which is 0, 1 or 2.
"""

import os

import mxnet as mx
import numpy as np
from mxnet import autograd, gluon
from rich.progress import track


def train(hyperparameters, channel_input_dirs, **kwargs):
    mx.random.seed(7)
    table = np.loadtxt(os.path.join(channel_input_dirs["train"], "iris.csv"), delimiter=",")
    flowers, species = mx.nd.array(table[:, :4]), mx.nd.array(table[:, 4])
    net = gluon.nn.Dense(3, in_units=4)
    net.initialize(mx.init.Xavier())
    loss = gluon.loss.SoftmaxCrossEntropyLoss()
    trainer = gluon.Trainer(net.collect_params(), "adam", {"learning_rate": 0.05})
    for _ in track(range(hyperparameters.get("epochs", 400)), description="training"):
        with autograd.record():
            error = loss(net(flowers), species)
        error.backward()
        trainer.step(len(table))
    return net


def save(net, model_dir):
    net.save_parameters(os.path.join(model_dir, "net.params"))
