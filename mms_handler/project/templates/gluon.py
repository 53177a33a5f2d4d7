"""Tell fruit by their length and width, with a Gluon Block.

mms-handler calls the functions of this file by their names.  Each is optional: without it, the
default is used that its docstring names.

    mms-handler train: train ─▶ save
    mms-handler serve: model_fn once in each worker, then for each request
                       input_fn ─▶ predict_fn ─▶ output_fn
"""

import os

import mxnet as mx
import numpy as np
from mxnet import gluon

FRUIT = ["banana", "cherry", "lemon"]


def network():
    return gluon.nn.Dense(len(FRUIT), in_units=2)


def train(hyperparameters, channel_input_dirs):
    """Train a model, and return it for save.

    Take any of these arguments, by their names:
        hyperparameters: a dict; on the command line --hp NAME=VALUE.
        input_data_config: a dict, the configuration of each channel.
        channel_input_dirs: a dict, the folder of each channel; on the command line
            --channel NAME=FOLDER.
        output_data_dir: a folder for other results than the model.
        model_dir: the folder for the model; save writes into it.
        num_gpus, num_cpus: how many this machine has.
        hosts, current_host: the names of all machines of the job, and of this one.
    """
    mx.random.seed(1)
    path = os.path.join(channel_input_dirs["train"], "fruit.csv")
    table = np.genfromtxt(path, delimiter=",", dtype=str)
    labels = mx.nd.array([FRUIT.index(name) for name in table[:, 0]])
    sizes = mx.nd.array(table[:, 1:].astype("float32"))
    net = network()
    net.initialize(mx.init.Xavier())
    trainer = gluon.Trainer(net.collect_params(), "adam", {"learning_rate": 0.3})
    loss = gluon.loss.SoftmaxCrossEntropyLoss()
    for _ in range(hyperparameters.get("steps", 100)):
        with mx.autograd.record():
            losses = loss(net(sizes), labels)
        losses.backward()
        trainer.step(len(labels))
    print(f"loss {losses.mean().asscalar():.3f}")
    return net


def save(model, model_dir):
    """Write what train returned into model_dir.

    Default: a Module, or a hybridized Block, as model-symbol.json and model-0000.params.
    """
    model.save_parameters(os.path.join(model_dir, "net.params"))


def model_fn(model_dir):
    """Return the model, from what save wrote.

    Default: load the files of the default save.
    """
    net = network()
    net.load_parameters(os.path.join(model_dir, "net.params"))
    return net


# def input_fn(input_data, content_type):
#     """Return the NDArray for predict_fn, from a body: text for JSON and CSV, bytes otherwise.
#
#     Default: read JSON, CSV, NPY, images and others.  Raise ValueError for a bad body: the client
#     gets 400.
#     """


# def predict_fn(block, array):
#     """Return the prediction for an array.
#
#     Default: block(array).
#     """


def output_fn(prediction, accept):
    """Return the reply's body, from a prediction: (body, content type), or a value to be written.

    Default: write the numbers as JSON, CSV or NPY, as the client accepts.
    """
    return [FRUIT[int(row.argmax().asscalar())] for row in prediction]
