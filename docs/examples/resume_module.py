"""Train a Module, from its last checkpoint on: a legacy script."""

import glob
import os

import mxnet as mx
import numpy as np


def train(channel_input_dirs, hyperparameters, **kwargs):
    rows = np.loadtxt(os.path.join(channel_input_dirs["train"], "points.csv"), delimiter=",")
    data = mx.io.NDArrayIter(rows[:, 1:], rows[:, 0], batch_size=32, shuffle=True)
    prefix = os.path.join(os.environ.get("SM_CHECKPOINT_DIR", "/opt/ml/checkpoints"), "model")
    # The last file of a checkpoint; it is empty if the run ended while it was written.
    ended = sorted(path for path in glob.glob(f"{prefix}-*.states") if os.path.getsize(path))
    begin_epoch = int(ended[-1][-len("0001.states") :][:4]) if ended else 0
    if begin_epoch:
        module = mx.mod.Module.load(prefix, begin_epoch, load_optimizer_states=True)
    else:
        module = mx.mod.Module(network())
    for _ in range(begin_epoch):
        data.reset()  # shuffles the rows as the epochs that have ended did
    module.fit(
        data,
        begin_epoch=begin_epoch,
        num_epoch=hyperparameters.get("epochs", 10),
        initializer=mx.init.Xavier(),
        optimizer_params={"learning_rate": 0.1, "momentum": 0.9},
        epoch_end_callback=mx.callback.module_checkpoint(
            module, prefix, save_optimizer_states=True
        ),
    )
    return module


def network():
    hidden = mx.sym.FullyConnected(mx.sym.var("data"), num_hidden=16, name="hidden")
    scores = mx.sym.FullyConnected(mx.sym.relu(hidden), num_hidden=2, name="scores")
    return mx.sym.SoftmaxOutput(scores, name="softmax")
