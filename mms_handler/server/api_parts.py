"""What the descriptions of the public port's paths are made of: schemas, errors, bodies in JSON."""

from __future__ import annotations

import json
from typing import Any, Mapping, NamedTuple

from mms_handler import media, schema
from mms_handler.manifest import Sample
from mms_handler.schema import Schema

#: Bytes of the longest body that is an example.
MAX_EXAMPLE = 4_000

#: What a status means here.
STATUSES = {
    400: "The body does not match its type, or the model's inputs",
    404: "There is no such model or version",
    406: "Nothing in Accept can be written",
    413: "The body, or what it unpacks to, is too large",
    415: "Nothing reads the Content-Type",
    500: "The model failed; see the server's log",
    503: "The model is being loaded, or too many requests wait; see Retry-After",
    504: "The model did not answer in time",
}


class Described(NamedTuple):
    """A version of a model, as clients may know it.

    Fields:
        name: the model's.
        version: of the model.
        schema: what it takes and gives.
        sample: the request that was packed with it; None if none was.
        body: the sample's.
    """

    name: str
    version: str
    schema: Schema = Schema()
    sample: Sample | None = None
    body: bytes = b""


#: The schemas that others refer to.
SCHEMAS: dict[str, Any] = {
    "Error": {
        "type": "object",
        "required": ["code", "type", "message"],
        "properties": {
            "code": {"type": "integer"},
            "type": {"type": "string"},
            "message": {"type": "string"},
            "request_id": {"type": "string"},
        },
    },
    "TensorError": {
        "type": "object",
        "required": ["error"],
        "properties": {"error": {"type": "string"}},
    },
    "Tensor": {
        "type": "object",
        "required": ["name", "datatype", "shape"],
        "properties": {
            "name": {"type": "string"},
            "datatype": {"enum": list(schema.TYPES)},
            "shape": {"type": "array", "items": {"type": "integer", "minimum": -1}},
            "parameters": {"type": "object"},
        },
    },
    "ValuedTensor": {
        "allOf": [{"$ref": "#/components/schemas/Tensor"}],
        "properties": {"data": {"type": "array"}},
    },
    "Metadata": {
        "type": "object",
        "required": ["name", "versions", "platform", "inputs", "outputs"],
        "properties": {
            "name": {"type": "string"},
            "versions": {"type": "array", "items": {"type": "string"}},
            "platform": {"const": "mxnet_mxnet"},
            "inputs": {"type": "array", "items": {"$ref": "#/components/schemas/Tensor"}},
            "outputs": {"type": "array", "items": {"$ref": "#/components/schemas/Tensor"}},
        },
    },
    "Inferred": {
        "type": "object",
        "required": ["model_name", "outputs"],
        "properties": {
            "model_name": {"type": "string"},
            "model_version": {"type": "string"},
            "id": {"type": "string"},
            "outputs": {"type": "array", "items": {"$ref": "#/components/schemas/ValuedTensor"}},
        },
    },
}


def in_json(content: Mapping[str, Any]) -> dict[str, Any]:
    return {media.JSON: {"schema": content}}


def ref(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}


def errors(form: str, *statuses: int) -> dict[str, Any]:
    """The responses that are errors, in one of the two forms, and that of any other error."""
    content = {**in_json(ref(form)), "text/plain": {"schema": {"type": "string"}}}
    content = content if form == "Error" else in_json(ref(form))
    described = {
        str(status): {"description": STATUSES[status], "content": content} for status in statuses
    }
    return {**described, "default": {"description": "Any other error", "content": content}}


def example_of(body: bytes, content_type: str) -> dict[str, Any]:
    """A short body as an example; {} if it is long, or no text."""
    if len(body) > MAX_EXAMPLE or not is_text(content_type):
        return {}
    try:
        text = body.decode()
        is_json = media.main_type(content_type) == media.JSON
        return {"example": json.loads(text) if is_json else text}
    except ValueError:
        return {}


def is_text(content_type: str) -> bool:
    return media.main_type(content_type) in (media.JSON, media.CSV, media.JSON_LINES)
