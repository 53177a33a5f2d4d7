"""The paths of the Open Inference Protocol: what the gate answers about a model, and OpenAPI."""

from __future__ import annotations

from typing import Any, Sequence

from mms_handler import __version__, media, schema
from mms_handler.schema import Tensor
from mms_handler.server.api_parts import Described, errors, example_of, in_json, ref


def server_metadata() -> dict[str, Any]:
    """What GET /v2 answers."""
    return {"name": "mms_handler", "version": __version__, "extensions": ["binary_tensor_data"]}


def metadata(described: Described, versions: Sequence[str]) -> dict[str, Any]:
    """What GET /v2/models/NAME answers; -1 stands for any length."""
    return {
        "name": described.name,
        "versions": list(versions),
        "platform": "mxnet_mxnet",
        "inputs": list(map(_tensor_metadata, described.schema.inputs)),
        "outputs": list(map(_tensor_metadata, described.schema.outputs)),
    }


def _tensor_metadata(tensor: Tensor) -> dict[str, Any]:
    shape = [-1 if length is None else length for length in tensor.shape]
    entry: dict[str, Any] = {"name": tensor.name, "datatype": tensor.type, "shape": shape}
    if tensor.content_type and tensor.type == "BYTES":
        entry["parameters"] = {"content_type": tensor.content_type}
    return entry


def paths(described: Described) -> dict[str, Any]:
    """The paths of one model by the Open Inference Protocol."""
    name = described.name
    start = f"/v2/models/{name}"
    versioned = f"{start}/versions/{{version}}"
    version = [
        {
            "in": "path",
            "name": "version",
            "required": True,
            "schema": {"type": "string"},
            "example": described.version,
        }
    ]
    paths = {}
    for path, suffix, parameters in ((start, "", []), (versioned, "_version", version)):
        operations = {
            path: ("get", _get(f"metadata_{name}{suffix}", "What it takes and gives", "Metadata")),
            f"{path}/ready": ("get", _get_ready(f"ready_{name}{suffix}")),
            f"{path}/infer": ("post", _infer(described, f"infer_{name}{suffix}")),
        }
        for each, (method, operation) in operations.items():
            paths[each] = {method: {**operation, "parameters": parameters}}
    return paths


def _get(operation: str, text: str, form: str) -> dict[str, Any]:
    responses = {"200": {"description": text, "content": in_json(ref(form))}}
    return {
        "operationId": operation,
        "responses": {**responses, **errors("TensorError", 404, 503)},
    }


def _get_ready(operation: str) -> dict[str, Any]:
    states = in_json({"type": "object", "required": ["ready"]})
    return {
        "operationId": operation,
        "responses": {
            **errors("TensorError", 404),
            "200": {"description": "It answers requests", "content": states},
            "503": {"description": "It does not answer requests now", "content": states},
        },
    }


def _infer(described: Described, operation: str) -> dict[str, Any]:
    binary: dict[str, Any] = {"application/octet-stream": {}}
    example = _example(described)
    content: dict[str, Any] = {"schema": _request(described)}
    return {
        "operationId": operation,
        "summary": f"Ask {described.name} for tensors.",
        "description": "The data have the shape that is beside them.  Values in binary follow the "
        "JSON, whose length is then in the header Inference-Header-Content-Length.",
        "requestBody": {
            "required": True,
            "content": {
                media.JSON: {**content, "example": example} if example else content,
                **binary,
            },
        },
        "responses": {
            "200": {
                "description": "The tensors",
                "content": {**in_json(ref("Inferred")), **binary},
            },
            **errors("TensorError", 400, 404, 406, 413, 500, 503, 504),
        },
    }


def _request(described: Described) -> dict[str, Any]:
    names = [tensor.name for tensor in described.schema.inputs if not tensor.content_type]
    tensor: dict[str, Any] = {
        "type": "object",
        "required": ["name", "datatype", "shape"],
        "properties": {
            "name": {"enum": names} if names else {"type": "string"},
            "datatype": {"enum": list(schema.TYPES)},
            "shape": {"type": "array", "items": {"type": "integer", "minimum": 1}},
            "data": {"type": "array", "minItems": 1},
            "parameters": {"type": "object"},
        },
    }
    return {
        "type": "object",
        "required": ["inputs"],
        "properties": {
            "id": {"type": "string"},
            "parameters": {"type": "object"},
            "inputs": {"type": "array", "minItems": 1, "items": tensor},
            "outputs": {"type": "array", "items": {"type": "object", "required": ["name"]}},
        },
    }


def _example(described: Described) -> dict[str, Any] | None:
    """A short sample as tensors; None if it is not a list in JSON for the default functions."""
    inputs, sample = described.schema.inputs, described.sample
    if sample is None or len(inputs) != 1 or inputs[0].content_type:
        return None
    data = example_of(described.body, sample.content_type).get("example")
    shape, level = [], data
    while isinstance(level, list) and level:
        shape.append(len(level))
        level = level[0]
    if not isinstance(data, list) or not isinstance(level, (int, float)):
        return None
    tensor = {"name": inputs[0].name, "datatype": "FP32", "shape": shape, "data": data}
    return {"inputs": [tensor]}
