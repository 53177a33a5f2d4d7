"""Convert the heads of a training: they compute a prediction, and ignore their labels.

Source: mxnet 1.9.1, src/operator/softmax_output-inl.h, regression_output-inl.h, svm_output-inl.h.
"""

from __future__ import annotations

from mms_handler.models.onnx.builder import Builder
from mms_handler.models.onnx.nodes import Node
from mms_handler.models.onnx.shapes import Length


def unchanged(node: Node, graph: Builder) -> list[str]:
    """What gives its first input: a loss, or something that only matters in training."""
    return [node.inputs[0].name]


def logistic(node: Node, graph: Builder) -> list[str]:
    return [graph.op("Sigmoid", node.inputs[0].name)]


def softmax_output(node: Node, graph: Builder) -> list[str]:
    """SoftmaxOutput: along the second dimension, the last, or all but the first."""
    data = node.inputs[0]
    if node.flag("multi_output"):
        return [graph.op("Softmax", data.name, axis=1)]
    if node.flag("preserve_shape"):
        return [graph.op("Softmax", data.name, axis=-1)]
    return [_softmax_of_rows(node, graph)]


def softmax_activation(node: Node, graph: Builder) -> list[str]:
    """SoftmaxActivation: along the second dimension, or all but the first."""
    if node.text("mode", "instance") == "channel":
        return [graph.op("Softmax", node.inputs[0].name, axis=1)]
    return [_softmax_of_rows(node, graph)]


def _softmax_of_rows(node: Node, graph: Builder) -> str:
    data = node.inputs[0]
    if data.rank == 2:
        return graph.op("Softmax", data.name, axis=-1)
    row = 1
    for length in data.sides[1:]:
        row *= length.fixed
    flat = graph.reshape(data.name, [data.sides[0], Length(row)])
    return graph.reshape(graph.op("Softmax", flat, axis=-1), data.sides)


CONVERTERS = {
    "SoftmaxOutput": softmax_output,
    "SoftmaxActivation": softmax_activation,
    "LogisticRegressionOutput": logistic,
    "LinearRegressionOutput": unchanged,
    "MAERegressionOutput": unchanged,
    "SVMOutput": unchanged,
    "MakeLoss": unchanged,
    "make_loss": unchanged,
    "IdentityAttachKLSparseReg": unchanged,
    "BlockGrad": unchanged,
    "_copy": unchanged,
}
