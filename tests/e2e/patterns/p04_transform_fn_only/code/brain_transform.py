"""Only a transform_fn; the model is the Module from the default model_fn."""

import json
import os
from collections import namedtuple

import mxnet as mx

Batch = namedtuple("Batch", ["data"])


def transform_fn(net, data, input_content_type, output_content_type):
    request = json.loads(data)
    with open(
        "request.json", "w"
    ) as f:  # in the working directory, where such scripts put downloads
        json.dump(request, f)
    net.forward(Batch([mx.nd.array(request["volume"])]), is_train=False)
    mask = net.get_outputs()[0].asnumpy()
    size = os.path.getsize("request.json")
    os.remove("request.json")
    reply = {"shape": mask.shape, "mask": mask.tolist(), "bytes": size}
    return json.dumps(reply), "application/json"
