"""A script as the containers of MXNet 1.4 and later served it: code/inference.py."""

import json

import mxnet as mx
from mxnet import gluon


def model_fn(model_dir):
    """Load what ``HybridBlock.export`` wrote."""
    return gluon.SymbolBlock.imports(
        f"{model_dir}/model-symbol.json", ["data"], f"{model_dir}/model-0000.params"
    )


def transform_fn(net, data, input_content_type, output_content_type, threshold=0.5):
    """Answer a request; ``threshold`` keeps its default."""
    assert input_content_type == "application/json"
    second = net(mx.nd.array(json.loads(data))).softmax()[:, 1].asnumpy()
    larger = ["second" if share > threshold else "first" for share in second]
    return json.dumps({"larger": larger}), output_content_type
