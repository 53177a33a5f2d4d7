"""Tell fruit by their length and width, with an MXNet Module.

mms-handler calls the functions of this file by their names.  Each is optional: without it, the
default is used that its docstring names.

    mms-handler train: train ─▶ save
    mms-handler serve: model_fn once in each worker, then for each request
                       input_fn ─▶ predict_fn ─▶ output_fn
"""

import os

import mxnet as mx
import numpy as np

FRUIT = ["banana", "cherry", "lemon"]


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
    np.random.seed(1)
    path = os.path.join(channel_input_dirs["train"], "fruit.csv")
    table = np.genfromtxt(path, delimiter=",", dtype=str)
    labels = np.array([FRUIT.index(name) for name in table[:, 0]], "float32")
    sizes = table[:, 1:].astype("float32")
    scores = mx.sym.FullyConnected(mx.sym.var("data"), num_hidden=len(FRUIT), name="scores")
    module = mx.mod.Module(mx.sym.SoftmaxOutput(scores, name="softmax"))
    module.fit(
        mx.io.NDArrayIter(sizes, labels, batch_size=20, shuffle=True),
        num_epoch=hyperparameters.get("epochs", 40),
        optimizer="adam",
        optimizer_params={"learning_rate": 0.1},
        initializer=mx.init.Xavier(),
    )
    return module


# def save(model, model_dir):
#     """Write what train returned into model_dir.
#
#     Default: write a Module as model-symbol.json, model-0000.params and model-shapes.json.
#     """


# def model_fn(model_dir):
#     """Return the model, from what save wrote.
#
#     Default: load the files of the default save as a Module.
#     """


# def input_fn(input_data, content_type):
#     """Return the NDArray for predict_fn, from a body: text for JSON and CSV, bytes otherwise.
#
#     Default: read JSON, CSV, NPY, images and others.  Raise ValueError for a bad body: the client
#     gets 400.
#     """


# def predict_fn(module, data):
#     """Return the prediction for data, an iterator over batches of the Module's own size.
#
#     Default: module.predict(data).
#     """


def output_fn(prediction, accept):
    """Return the reply's body, from a prediction: (body, content type), or a value to be written.

    Default: write the numbers as JSON, CSV or NPY, as the client accepts.
    """
    return [FRUIT[int(row.argmax().asscalar())] for row in prediction]
