"""A model of another library, without MXNet, and the legacy contract's train as a stub."""

import json
import os
import sys


class LinearRegressor:
    def __init__(self, coef):
        self.coef = coef

    def predict(self, rows):
        return [sum(c * v for c, v in zip(self.coef, row)) for row in rows]


def train(
    channel_input_dirs, hyperparameters, hosts, current_host, num_cpus, num_gpus, model_dir,
    output_data_dir, **kwargs
):  # fmt: skip
    pass


def model_fn(model_dir):
    with open(os.path.join(model_dir, "model", "model.json")) as f:
        model = LinearRegressor(json.load(f))
    assert predict_fn([[1, 1]], model) == {"predictions": [3]}  # a warm-up
    return model


def input_fn(request_body, request_content_type):
    if request_content_type == "application/json":
        return json.loads(request_body.decode("utf-8"))["inputs"]
    raise ValueError("cannot read " + request_content_type)


def predict_fn(input_object, model):
    return {"predictions": model.predict(input_object)}


def output_fn(prediction, content_type):
    return dict(prediction, model="linear")


if __name__ == "__main__":
    loaded = model_fn(sys.argv[1])
    assert output_fn(predict_fn(input_fn(b'{"inputs": []}', "application/json"), loaded), "*/*")
