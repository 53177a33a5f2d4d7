"""The public port as OpenAPI 3.1 describes it, with the models that are served: /openapi.json."""

from __future__ import annotations

from typing import Any, Iterable, Mapping, Sequence

from mms_handler import __version__, media
from mms_handler.schema import Tensor
from mms_handler.server import tensor_api
from mms_handler.server.api_parts import (
    MAX_EXAMPLE,
    SCHEMAS,
    Described,
    errors,
    example_of,
    in_json,
    is_text,
)

#: The types that the default input_fn reads, and those that the default output_fn writes.
READ = (
    *(media.JSON, media.CSV, media.NPY, media.NPZ, media.JSON_LINES, "application/x-jsonlines"),
    *("application/jsonl", "application/x-ndjson", media.RECORDIO),
    *("image/jpeg", "image/png", "application/x-image"),
)
WRITTEN = (media.JSON, media.CSV, media.NPY, media.NPZ, media.JSON_LINES, media.RECORDIO)

#: Bytes of the beginning of a longer body, in a description.
_BEGINNING = 200


def description(models: Iterable[Described], invocations: str, multi_model: bool) -> dict[str, Any]:
    """The whole API.

    Args:
        models: a version of each model: the served one.
        invocations: the model that /invocations means; "" if a request must name one.
        multi_model: whether models come and go.
    """
    paths: dict[str, Any] = {}
    for each in models:
        paths[f"/predictions/{each.name}"] = {"post": _prediction(each, "predict")}
        if multi_model:
            paths[f"/models/{each.name}/invoke"] = {"post": _prediction(each, "invoke")}
        if each.name == invocations:
            paths["/invocations"] = {"post": _prediction(each, "invocations_of")}
        paths.update(tensor_api.paths(each))
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Inference API of mms_handler",
            "version": __version__,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": {**paths, **_paths_of_server()},
        "components": {"schemas": SCHEMAS, "securitySchemes": {"token": _TOKEN}},
        "security": [{}, {"token": []}],
    }


_TOKEN = {
    "type": "http",
    "scheme": "bearer",
    "description": "The server's token for inference, if it has one",
}

# --- predictions -----------------------------------------------------------------------------


def _prediction(described: Described, operation: str) -> dict[str, Any]:
    return {
        "operationId": f"{operation}_{described.name}",
        "summary": f"Ask {described.name} for a prediction.",
        "description": _long_sample(described),
        "requestBody": {"required": True, "content": _request_types(described)},
        "responses": {
            "200": {"description": "The prediction", "content": _reply_types(described)},
            **errors("Error", 400, 404, 406, 413, 415, 500, 503, 504),
        },
    }


def _long_sample(described: Described) -> str:
    """The beginning of a sample that is too long for an example; "" if it is not."""
    sample = described.sample
    if sample is None or len(described.body) <= MAX_EXAMPLE or not is_text(sample.content_type):
        return ""
    beginning = described.body[:_BEGINNING].decode("utf-8", "replace")
    size = len(described.body)
    return f"The packed sample is {sample.content_type} of {size} bytes: {beginning} ..."


def _request_types(described: Described) -> dict[str, Any]:
    inputs, sample = described.schema.inputs, described.sample
    by_default = bool(inputs) and not any(tensor.content_type for tensor in inputs)
    content: dict[str, Any] = {content_type: {} for content_type in READ if by_default}
    if by_default:
        content[media.JSON] = {"schema": _values(inputs)}
        content[media.CSV] = {"schema": {"type": "string", "minLength": 1}}
    for tensor in inputs:
        if tensor.content_type:
            known = tensor.type != "BYTES"
            content[tensor.content_type] = {"schema": _array(tensor)} if known else {}
    if sample:
        content.setdefault(media.main_type(sample.content_type), {}).update(
            example_of(described.body, sample.content_type)
        )
    return content or {"*/*": {}}


def _reply_types(described: Described) -> dict[str, Any]:
    outputs, sample = described.schema.outputs, described.sample
    by_default = bool(outputs) and not any(tensor.content_type for tensor in outputs)
    content: dict[str, Any] = {content_type: {} for content_type in WRITTEN if by_default}
    if by_default:
        content[media.JSON] = {"schema": _reply_schema(outputs)}
    for tensor in outputs:
        if tensor.content_type:
            content[tensor.content_type] = {}
    reply = sample.reply if sample else None
    if reply and "body" in reply:
        content_type = str(reply["content_type"])
        content.setdefault(media.main_type(content_type), {}).update(
            example_of(str(reply["body"]).encode(), content_type)
        )
    return content or {"*/*": {}}


def _values(inputs: Sequence[Tensor]) -> dict[str, Any]:
    """The JSON of a request: an array; an object of them for several inputs."""
    if len(inputs) == 1:
        return _array(inputs[0])
    return {
        "type": "object",
        "required": [tensor.name for tensor in inputs],
        "properties": {tensor.name: _array(tensor) for tensor in inputs},
    }


def _reply_schema(outputs: Sequence[Tensor]) -> dict[str, Any]:
    """The JSON of a reply: an array; a list of them for several outputs."""
    if len(outputs) == 1:
        return _array(outputs[0])
    return {"type": "array", "minItems": len(outputs), "maxItems": len(outputs)}


def _array(tensor: Tensor) -> dict[str, Any]:
    """Nested lists of a tensor's shape; null stands for a number that JSON does not have."""
    types: dict[str, Any] = {"BYTES": "string", "BOOL": "boolean"}
    nested: dict[str, Any] = {"type": types.get(tensor.type, ["number", "null"])}
    for length in reversed(tensor.shape):
        limits = {"minItems": 1} if length is None else {"minItems": length, "maxItems": length}
        nested = {"type": "array", **limits, "items": nested}
    return nested


# --- the server ------------------------------------------------------------------------------


def _paths_of_server() -> dict[str, Any]:
    status = in_json({"type": "object", "required": ["status"]})
    live = in_json({"type": "object", "required": ["live"]})
    ready = in_json({"type": "object", "required": ["ready"]})
    anything = in_json({"type": "object"})
    return {
        "/ping": _server_get("ping", "The models answer", status, status),
        "/metrics": _server_get("metrics", "Metrics for Prometheus", {"text/plain": {}}),
        "/openapi.json": _server_get("openapi", "This description", anything),
        "/v2": _server_get("server_metadata", "What the server is", anything),
        "/v2/health/live": _server_get("live", "It runs", live),
        "/v2/health/ready": _server_get("ready", "The models answer", ready, ready),
    }


def _server_get(
    operation: str, text: str, good: Mapping[str, Any], bad: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    responses = {"200": {"description": text, "content": good}}
    if bad:
        responses["503"] = {"description": "They do not, or not yet", "content": bad}
    return {"get": {"operationId": operation, "responses": responses}}
