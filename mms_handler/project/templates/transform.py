"""Tell fruit by their length and width, with a model of your own and a transform_fn.

mms-handler calls the functions of this file by their names.

    mms-handler train: train ─▶ save
    mms-handler serve: model_fn once in each worker, then transform_fn for each request
"""

import csv
import json
import os

from mms.service import PredictionException


def train(channel_input_dirs):
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
    sizes = {}
    with open(os.path.join(channel_input_dirs["train"], "fruit.csv")) as file:
        for name, *size in csv.reader(file):
            sizes.setdefault(name, []).append([float(value) for value in size])
    return {
        name: [sum(column) / len(column) for column in zip(*rows)] for name, rows in sizes.items()
    }


def save(model, model_dir):
    """Write what train returned into model_dir."""
    with open(os.path.join(model_dir, "means.json"), "w") as file:
        json.dump(model, file)


def model_fn(model_dir):
    """Return the model, from what save wrote: any object."""
    with open(os.path.join(model_dir, "means.json")) as file:
        return json.load(file)


def transform_fn(model, input_data, content_type, accept):
    """Return the reply's body and its content type, from a request's body.

    input_data is text for JSON and CSV, and bytes for other types.  Raise PredictionException for a
    bad body, as here: the client gets its text and its status.  Any other exception is a bug: the
    client gets 500, and the log has the traceback.
    """
    try:
        if content_type == "text/csv":
            rows = [[float(value) for value in row] for row in csv.reader(input_data.splitlines())]
        else:
            rows = json.loads(input_data)
        names = [nearest(model, length, width) for length, width in rows]
    except (TypeError, ValueError) as exc:
        message = f"send rows of length and width, as CSV or JSON: {exc}"
        raise PredictionException(message, 400) from exc
    return json.dumps(names), "application/json"


def nearest(means, length, width):
    """The fruit whose mean size is the nearest."""
    return min(
        means, key=lambda name: (means[name][0] - length) ** 2 + (means[name][1] - width) ** 2
    )
