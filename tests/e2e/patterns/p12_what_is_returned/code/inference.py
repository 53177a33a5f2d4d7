"""Return any kind of value that scripts have returned; the request names the kind."""

import pickle

import mxnet as mx
import numpy as np


class Response:
    """A response like Flask's and werkzeug's."""

    mimetype, status_code = "text/html", 202

    def get_data(self):
        return b"<p>later</p>"


def model_fn(model_dir):
    return {
        "list": [1, "two", 3.5],
        "dict": {"a": [1, None]},
        "dict and type": ({"b": 2}, "application/json"),
        "list and odd type": ([1, 2], "application/vnd.mine+json"),
        "int": 7,
        "float": 0.5,
        "float32": np.float32(0.1),
        "str": "a text",
        "str and type": ("caf\u00e9", "text/plain"),
        "bytes": b"\x00\xff",
        "bytearray": bytearray(b"\x01\xfe"),
        "numpy": np.array([[1, 2], [3, 4]], "float32"),
        "ndarray": mx.nd.array([[1, 2], [3, 4]]),
        "ndarrays": [mx.nd.array([1]), mx.nd.array([2, 3])],
        "lists of ndarrays": [[mx.nd.array([1])], [mx.nd.array([2, 3])]],
        "dict of ndarrays": {"scores": mx.nd.array([0.5, 1])},
        "pickle": (pickle.dumps([1, 2], protocol=2), "pickle_buffer"),
        "nothing": (None, "application/json"),
        "response": Response(),
    }


def transform_fn(model, input_data, content_type, accept):
    return model[bytes(input_data, "utf-8").decode("utf-8").strip('"')]
