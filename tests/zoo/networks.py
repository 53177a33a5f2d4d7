"""Networks with random weights: of each family of MXNet's model zoo, and others."""

from __future__ import annotations

from typing import Any, Callable

import mxnet as mx
import numpy as np

from mms_handler.models.graphs.graph import graph_of
from mms_handler.models.onnx import convert, prove

#: The side of a picture, by the name of the network: the smallest that it takes, or the usual one.
SMALL = {
    "resnet18_v1": 32,
    "resnet18_v2": 32,
    "mobilenet0.25": 32,
    "mobilenetv2_0.25": 32,
    "squeezenet1.1": 224,
}
LARGE = {
    "resnet50_v1": 224,
    "resnet50_v2": 224,
    "vgg11": 224,
    "vgg11_bn": 224,
    "alexnet": 224,
    "densenet121": 224,
    "inceptionv3": 299,
    "mobilenet1.0": 224,
    "mobilenetv2_1.0": 224,
    "squeezenet1.0": 224,
}


def network(name: str, side: int, classes: int = 10) -> tuple[Any, Any]:
    """A network, and a picture for it in an array (1, 3, side, side)."""
    mx.random.seed(0)
    net = mx.gluon.model_zoo.vision.get_model(name, classes=classes)
    net.initialize(mx.init.Xavier())
    picture = np.random.RandomState(0).normal(0, 1, (1, 3, side, side)).astype(np.float32)
    net(mx.nd.array(picture)).wait_to_read()
    return net, picture


def largest_difference(name: str, side: int, classes: int = 10) -> float:
    """How far a network's ONNX is from the network itself, as the proof says."""
    net, picture = network(name, side, classes)
    graph = graph_of(net, [mx.nd.array(picture)])
    converted = convert(graph, [picture.shape], ["data"], ["scores"])
    expected = [net(mx.nd.array(picture)).asnumpy()]
    (difference,) = prove(converted, graph, [picture], expected).differences
    assert difference.output == "scores"
    return difference.largest


def words(layer: Callable[..., Any]) -> tuple[Any, Any]:
    """A reader of fifty tokens by two recurrent layers in both directions, and tokens for it."""
    mx.random.seed(0)
    net = mx.gluon.nn.HybridSequential()
    net.add(
        mx.gluon.nn.Embedding(5000, 128),
        layer(128, 2, layout="NTC", bidirectional=True),
        mx.gluon.nn.LayerNorm(),
        mx.gluon.nn.Dense(5),
    )
    net.initialize(mx.init.Xavier())
    tokens = np.random.RandomState(0).randint(0, 5000, (1, 50)).astype(np.float32)
    net(mx.nd.array(tokens)).wait_to_read()
    return net, tokens
