"""The MLP in ONNX Runtime, with one thread: JSON in, JSON out.

python -m benchmarks.byhand.model WEIGHTS.npz MODEL.onnx        writes the model
"""

from __future__ import annotations

import os
import sys
from typing import Any

import numpy as np
import onnxruntime  # type: ignore[import-not-found]  # only in its own environment
import orjson  # type: ignore[import-not-found]


class Mlp:
    """The model, and the two ends of a request."""

    def __init__(self) -> None:
        """Load the model that the variable MODEL names."""
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        providers = ["CPUExecutionProvider"]
        self._session = onnxruntime.InferenceSession(os.environ["MODEL"], options, providers)

    def read(self, body: bytes) -> Any:
        return np.array(orjson.loads(body), np.float32)

    def predict(self, rows: Any) -> Any:
        return self._session.run(None, {"data": rows})[0]

    def write(self, prediction: Any) -> bytes:
        reply: bytes = orjson.dumps(prediction, option=orjson.OPT_SERIALIZE_NUMPY)
        return reply

    def answer(self, body: bytes) -> bytes:
        return self.write(self.predict(self.read(body)))


def convert(weights: str, path: str) -> None:
    """Write layers (weight0, bias0, ...) with ReLU between them as an ONNX model."""
    import onnx  # type: ignore[import-not-found]
    from onnx import TensorProto, helper, numpy_helper

    arrays = np.load(weights)
    layers = len(arrays.files) // 2
    nodes, last = [], "data"
    for number in range(layers):
        inputs, output = [last, f"weight{number}", f"bias{number}"], f"dense{number}"
        nodes.append(helper.make_node("Gemm", inputs, [output], transB=1))
        last = output
        if number < layers - 1:
            last = f"relu{number}"
            nodes.append(helper.make_node("Relu", [output], [last]))
    columns, classes = arrays["weight0"].shape[1], len(arrays[f"bias{layers - 1}"])
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["rows", size])
        for name, size in (("data", columns), (last, classes))
    ]
    constants = [numpy_helper.from_array(arrays[name], name) for name in arrays.files]
    graph = helper.make_graph(nodes, "mlp", ends[:1], ends[1:], constants)
    opset = helper.make_opsetid("", 13)
    onnx.save(helper.make_model(graph, opset_imports=[opset], ir_version=8), path)


if __name__ == "__main__":
    convert(*sys.argv[1:])
