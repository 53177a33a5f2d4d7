"""How net.params was made: Fisher's irises, the guide's train and a save for a Gluon Block.

One channel, ``train``: iris.csv with a line a flower, four measures in cm and its species 0 to 2.
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
            wrong = loss(net(flowers), species)
        wrong.backward()
        trainer.step(len(table))
    return net


def save(net, model_dir):
    net.save_parameters(os.path.join(model_dir, "net.params"))
