"""process_request_fn replaces input_fn and predict_fn; the default model_fn loads the Module."""

import json

import mxnet as mx


def process_request_fn(model, data, input_content_type):
    rows = mx.nd.array(json.loads(data)["rows"])
    return model.predict(mx.io.NDArrayIter(rows, batch_size=1)).asnumpy().tolist()


def input_fn(model, data, input_content_type):
    raise AssertionError("input_fn was called")


def output_fn(prediction, accept):
    return json.dumps({"by": "process_request_fn", "answer": prediction}), accept
