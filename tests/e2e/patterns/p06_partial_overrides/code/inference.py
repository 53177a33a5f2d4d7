"""Script mode's order of parameters, data before model; output_fn is the default."""

import mxnet as mx
from mxnet import gluon


def model_fn(model_dir):
    net = gluon.nn.Dense(2, in_units=2, use_bias=False)
    net.load_parameters(model_dir + "/net.params")
    net.hybridize()
    return net


def input_fn(request_body, request_content_type):
    assert request_content_type == "text/csv"
    rows = [line.split(";") for line in request_body.splitlines()]
    return mx.nd.array([[float(cell) for cell in row] for row in rows])


def predict_fn(input_object, model):
    return model(input_object) * 2
