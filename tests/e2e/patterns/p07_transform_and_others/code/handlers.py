"""Every hosting function in one file; only transform_fn is used."""

import json


def model_fn(path_to_model_files):
    with open(path_to_model_files + "/scale.json") as f:
        return json.load(f)["scale"]


def transform_fn(model, request_data, input_content_type, requested_output_content_type):
    answer = [model * value for value in json.loads(request_data)]
    # A pair in a pair, by mistake: output_fn already returns a pair.
    return output_fn(answer, requested_output_content_type), requested_output_content_type


def process_request_fn(model, data, input_content_type):
    raise AssertionError("process_request_fn was called")


def input_fn(model, data, input_content_type):
    raise AssertionError("input_fn was called")


def predict_fn(model, data):
    raise AssertionError("predict_fn was called")


def output_fn(prediction, accept):
    return json.dumps({"by": "transform_fn", "answer": prediction}), accept
