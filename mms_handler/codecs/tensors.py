"""Tensors: the requests and replies of the Open Inference Protocol, version 2.

    JSON ─or─ JSON, then the values of its tensors in binary ──read──▶ arrays by name
    arrays by name ──write──▶ the same, as the client asked for it

Arrays keep the client's types.  An array of BYTES is one of objects, each of them bytes.

Source: the KServe project, "Open Inference Protocol" and Triton's "Binary Tensor Data Extension".
"""

from __future__ import annotations

import math
import sys
from typing import Any, Mapping, NamedTuple

from mms_handler.codecs import json, parsers
from mms_handler.codecs.arrays import (
    MAX_ARRAYS,
    MAX_DIMENSIONS,
    Array,
    check_bytes,
)
from mms_handler.codecs.tensor_values import (
    DTYPES,
    TEXTS,
    datatype_of,
    from_binary,
    from_json,
    shown,
    to_binary,
    to_json,
)
from mms_handler.errors import BadInput
from mms_handler.media import JSON, parameter

#: The header with the bytes of a body's JSON; without it, a body is JSON alone.
HEADER_LENGTH = "Inference-Header-Content-Length"

_BINARY = "application/octet-stream"
#: An empty text takes the memory of so many numbers.
_TEXT_VALUES = 16


class TensorRequest(NamedTuple):
    """A request.

    Attributes:
        id: the client's, for the reply; None if it sent none.
        version: of the model that answers, for the reply; "" if it is unknown.
        inputs: the arrays by name.
        content_types: of the texts in inputs of BYTES, by name, as far as the client says.
        outputs: those that it wants, and whether in binary; None: all.
        binary: whether outputs are in binary of which nothing else is said.
    """

    id: str | None
    version: str
    inputs: Mapping[str, Array]
    content_types: Mapping[str, str]
    outputs: Mapping[str, bool] | None
    binary: bool


class Written(NamedTuple):
    """A reply, with the headers that it needs."""

    body: bytes
    content_type: str
    headers: Mapping[str, str]


# --- reading ---------------------------------------------------------------------------------


def read(body: bytes, content_type: str, limit_bytes: int) -> TensorRequest:
    """Read a request.

    Args:
        body: as received.
        content_type: has the parameters of media.INFER.
        limit_bytes: what the arrays may take as float32.

    Raises:
        BadInput: it is not a request, or its sizes do not agree.
        TooLarge: the arrays take more than the limit.
    """
    try:
        length = parameter(content_type, "header-length") if ";" in content_type else ""
        header = _header_bytes(length, len(body))
        message = parsers.document(body[:header] if header < len(body) else body)
        version = parameter(content_type, "version")
        return _request(message, memoryview(body)[header:], version, limit_bytes)
    except (ValueError, TypeError, RecursionError, OverflowError) as exc:
        raise BadInput(f"not a valid inference request: {exc}") from exc


def read_reply(body: bytes, header_length: str) -> dict[str, Array]:
    """Read the outputs of a reply by name.

    Args:
        body: as received.
        header_length: of the reply's HEADER_LENGTH; "" if it has none.

    Raises:
        ValueError: it is no such reply.
    """
    header = _header_bytes(header_length, len(body))
    message = parsers.document(body[:header])
    if not isinstance(message, dict):
        raise ValueError("the JSON is not an object")
    entries = _entries(message, "outputs")
    _check_values(entries, sys.maxsize)
    return _arrays(entries, memoryview(body)[header:])


def _header_bytes(length: str, body_bytes: int) -> int:
    if not length:
        return body_bytes
    if not (length.isascii() and length.isdecimal() and len(length) < 20):
        raise ValueError(f"{HEADER_LENGTH} is {length[:40]!r}, which is not a number of bytes")
    if int(length) > body_bytes:
        raise ValueError(f"{HEADER_LENGTH} is {length}, but the body has {body_bytes} bytes")
    return int(length)


def _request(message: Any, binary: memoryview, version: str, limit_bytes: int) -> TensorRequest:
    if not isinstance(message, dict):
        raise ValueError("the JSON is not an object")
    entries = _entries(message, "inputs")
    if not entries:
        raise ValueError('"inputs" is missing or empty')
    _check_values(entries, limit_bytes)
    arrays = _arrays(entries, binary)
    return TensorRequest(
        _id(message),
        version,
        arrays,
        {entry["name"]: _content_type(entry) for entry in entries if entry["datatype"] == TEXTS},
        _wanted(message),
        _parameters(message).get("binary_data_output") is True,
    )


def _arrays(entries: list[dict[str, Any]], binary: memoryview) -> dict[str, Array]:
    """The values of inputs or outputs by name; ``binary`` has those that are not in the JSON."""
    arrays, at = {}, 0
    for entry in entries:
        size = _parameters(entry).get("binary_data_size")
        if size is None:
            arrays[entry["name"]] = from_json(entry)
            continue
        if "data" in entry:
            raise ValueError(f'{shown(entry)} has data in JSON beside "binary_data_size"')
        if type(size) is not int or size < 0:
            raise ValueError(
                f'the "binary_data_size" of {shown(entry)} is {str(size)[:40]}, which is not a '
                "number of bytes"
            )
        if at + size > len(binary):
            raise ValueError(f"{shown(entry)} has {size} bytes, but {len(binary) - at} are left")
        arrays[entry["name"]] = from_binary(entry, binary[at : at + size])
        at += size
    if at < len(binary):
        raise ValueError(f"{len(binary) - at} bytes in binary belong to no input")
    return arrays


def _entries(message: Mapping[str, Any], key: str) -> list[dict[str, Any]]:
    """The inputs or outputs of a message, each with a name of its own."""
    entries = message.get(key, [])
    if not isinstance(entries, list) or len(entries) > MAX_ARRAYS:
        raise ValueError(f'"{key}" is not a list of up to {MAX_ARRAYS} tensors')
    names = set()
    for entry in entries:
        if not isinstance(entry, dict) or not isinstance(entry.get("name"), str):
            raise ValueError(f'an item of "{key}" is not an object with a name')
        if entry["name"] in names:
            raise ValueError(f'"{key}" has {shown(entry)} twice')
        names.add(entry["name"])
    return entries


def _parameters(entry: Mapping[str, Any]) -> Mapping[str, Any]:
    parameters = entry.get("parameters") or {}
    if not isinstance(parameters, dict):
        raise ValueError('"parameters" is not an object')
    if any(name.startswith("shared_memory") for name in parameters):
        raise ValueError("shared memory is not read; send the values in the body")
    return parameters


def _id(message: Mapping[str, Any]) -> str | None:
    value = message.get("id")
    if value is not None and not isinstance(value, str):
        raise ValueError('"id" is not a text')
    return value


def _content_type(entry: Mapping[str, Any]) -> str:
    value = _parameters(entry).get("content_type") or ""
    if not isinstance(value, str) or not (value.isascii() and value.isprintable()):
        raise ValueError(f"the content_type of {shown(entry)} is not one")
    return value


def _wanted(message: Mapping[str, Any]) -> dict[str, bool] | None:
    entries = _entries(message, "outputs")
    if any("classification" in _parameters(entry) for entry in entries):
        raise ValueError("outputs are not classified here; ask for them without classification")
    by_default = _parameters(message).get("binary_data_output") is True
    in_binary = {
        entry["name"]: bool(_parameters(entry).get("binary_data", by_default)) for entry in entries
    }
    return in_binary or None


def _check_values(entries: list[dict[str, Any]], limit_bytes: int) -> None:
    """Check the types and shapes of inputs before memory is allocated for them.

    Raises:
        ValueError: one of them is none.
        TooLarge: they take more than the limit as float32.
    """
    values = 0
    for entry in entries:
        datatype, shape = entry.get("datatype"), entry.get("shape")
        if not isinstance(datatype, str) or datatype not in {*DTYPES, TEXTS}:
            known = ", ".join([*DTYPES, TEXTS])
            text = str(datatype)[:40]
            raise ValueError(f"{shown(entry)} has the datatype {text!r}; expected one of {known}")
        lengths = isinstance(shape, list) and all(type(n) is int and n >= 0 for n in shape)
        if not (isinstance(shape, list) and lengths and len(shape) <= MAX_DIMENSIONS):
            raise ValueError(
                f"the shape of {shown(entry)} is not a list of up to {MAX_DIMENSIONS} lengths"
            )
        if not math.prod(shape):
            raise ValueError(f"{shown(entry)} has no values (shape {shape})")
        values += math.prod(shape) * (_TEXT_VALUES if datatype == TEXTS else 1)
    check_bytes(4 * values, limit_bytes)


# --- writing ---------------------------------------------------------------------------------


def write(
    request: TensorRequest, model: str, outputs: Mapping[str, Array], content_type: str = ""
) -> Written:
    """Write a reply.

    Args:
        request: the client's.
        model: its name.
        outputs: all outputs that the model has, by name, in types of the protocol.
        content_type: of the texts in outputs of BYTES; "" if there is nothing to say.

    Raises:
        BadInput: the client wants an output that there is not.
        NotAcceptable: a text is not UTF-8, and the client wants JSON.
    """
    binary_by_name = request.outputs or dict.fromkeys(outputs, request.binary)
    unknown = [name for name in binary_by_name if name not in outputs]
    if unknown:
        names = ", ".join(map(repr, unknown))[:200]
        raise BadInput(f"the model's outputs are {', '.join(outputs)}; it has no {names}")
    entries, binary = [], []
    for name, in_binary in binary_by_name.items():
        entry, values = _output(name, outputs[name], in_binary, content_type)
        entries.append(entry)
        binary.append(values)
    start = {
        "model_name": model,
        **({"model_version": request.version} if request.version else {}),
        **({} if request.id is None else {"id": request.id}),
    }
    text = json.dumps(start)[:-1].encode() + b', "outputs": [' + b", ".join(entries) + b"]}"
    if not any(binary_by_name.values()):
        return Written(text, JSON, {})
    return Written(b"".join([text, *binary]), _BINARY, {HEADER_LENGTH: str(len(text))})


def _output(name: str, array: Array, in_binary: bool, content_type: str) -> tuple[bytes, bytes]:
    """An output's object in JSON, and its values in binary; none if they are in the JSON."""
    kind = datatype_of(array)
    values = to_binary(array) if in_binary else b""
    parameters: dict[str, Any] = {"binary_data_size": len(values)} if in_binary else {}
    if content_type and kind == TEXTS:
        parameters["content_type"] = content_type
    entry: dict[str, Any] = {"name": name, "datatype": kind, "shape": list(array.shape)}
    if parameters:
        entry["parameters"] = parameters
    text = json.dumps(entry).encode()
    return (text if in_binary else text[:-1] + b', "data": ' + to_json(array) + b"}"), values
