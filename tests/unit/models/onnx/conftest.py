"""What the tests of ONNX share: graphs, and what MXNet and ONNX Runtime answer."""

from __future__ import annotations

from typing import Any, Callable

import mxnet as mx
import numpy as np
import onnxruntime
import pytest

from mms_handler.models.graphs.graph import Graph, graph_of


def noise(*shape: int, seed: int = 0) -> Any:
    return np.random.RandomState(seed).normal(0, 1, shape).astype(np.float32)


@pytest.fixture
def symbol_graph() -> Callable[..., Graph]:
    """Build the graph of a symbol with random parameters, none for its labels."""

    def build(symbol: Any, **shapes: Any) -> Graph:
        arguments, _, states = symbol.infer_shape(**shapes)
        sizes = dict(zip(symbol.list_arguments(), arguments))
        parameters = {
            name: mx.nd.array(noise(*size, seed=seed))
            for seed, (name, size) in enumerate(sizes.items())
            if name not in shapes and not name.endswith("label")
        }
        for name, size in zip(symbol.list_auxiliary_states(), states):
            parameters[name] = mx.nd.array(np.abs(noise(*size, seed=9)) + 0.5)
        return Graph.of_symbol(symbol, list(shapes), parameters, mx.cpu())

    return build


@pytest.fixture
def block_graph() -> Callable[..., Graph]:
    """Build the graph of a Block that is called with arrays; all its parameters are random."""

    def build(block: Any, *arrays: Any) -> Graph:
        block.initialize()
        inputs = [mx.nd.array(array) for array in arrays]
        block(*inputs)
        for seed, (name, parameter) in enumerate(block.collect_params().items()):
            values = noise(*parameter.shape, seed=seed)
            parameter.set_data(np.abs(values) + 0.5 if name.endswith("var") else values)
        return graph_of(block, inputs)

    return build


@pytest.fixture
def answers() -> Callable[..., Any]:
    """ONNX Runtime's outputs of a converted model, by name."""

    def run(converted: Any, *arrays: Any) -> dict[str, Any]:
        session = onnxruntime.InferenceSession(
            converted.model.SerializeToString(), providers=["CPUExecutionProvider"]
        )
        feeds = {tensor.name: array for tensor, array in zip(converted.inputs, arrays)}
        outputs = session.run(None, feeds)
        return dict(zip([each.name for each in session.get_outputs()], outputs))

    return run


@pytest.fixture
def mxnet_answers() -> Callable[..., Any]:
    """MXNet's outputs of a graph, which is bound for just these arrays."""

    def run(graph: Graph, *arrays: Any) -> list[Any]:
        shapes = {name: array.shape for name, array in zip(graph.names, arrays)}
        executor = graph.symbol.simple_bind(mx.cpu(), grad_req="null", **shapes)
        for name, value in graph.parameters.items():
            for kind in (executor.arg_dict, executor.aux_dict):
                if name in kind and kind[name].shape == value.shape:
                    kind[name][:] = value
        for name, array in zip(graph.names, arrays):
            executor.arg_dict[name][:] = array
        return [output.asnumpy() for output in executor.forward()]

    return run
