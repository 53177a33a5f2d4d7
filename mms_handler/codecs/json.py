"""JSON (application/json): nested lists of numbers, or an object of them."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np

from mms_handler.codecs import digits, parsers
from mms_handler.codecs.arrays import Array, Arrays, doubles, is_named, is_several, numbers

#: Bytes from which pysimdjson and its checks take less time than orjson, measured.
_MANY = 512


def decode(body: str) -> Arrays:
    """An array, or a dict of arrays for an object; null is NaN, NaN and Infinity are read.

    Raises:
        ValueError: names the place, and the key before it, that is not right.
    """
    return _arrays(json.loads(body))


def quick(body: bytes) -> Arrays | None:
    """What ``decode`` makes of this body's text, to the last bit; None where only it can say."""
    found = parsers.arrays(body) if len(body) >= _MANY else None
    if found is not None or parsers.orjson is None or b"NaN" in body or b"Infinity" in body:
        return found
    try:
        value = parsers.orjson.loads(body)
        return doubles(value) if b'"' not in body else _arrays(value)
    except (ValueError, TypeError, OverflowError, RecursionError):
        return None


def _arrays(value: Any) -> Arrays:
    if isinstance(value, dict):
        return {name: numbers(item, json.dumps(name)[:40]) for name, item in value.items()}
    return numbers(value)


def encode(value: Any) -> bytes:
    """``value`` as JSON that any reader takes: a float that is not finite is null."""
    if isinstance(value, np.ndarray):
        return floats(value) or dumps(value).encode()
    if is_several(value):
        return b"[" + b", ".join(map(encode, value)) + b"]"
    if is_named(value):
        members = (dumps(name).encode() + b": " + encode(one) for name, one in value.items())
        return b"{" + b", ".join(members) + b"}"
    return dumps(value).encode()


def floats(array: Array) -> bytes | None:
    """As encode, for many floats; None for others."""
    written = digits.text(array, np.float64, _spelled)
    return written and written.replace(b",", b", ")


def _spelled(numbers: Array) -> list[str]:
    return [repr(one) if math.isfinite(one) else "null" for one in numbers.tolist()]


def dumps(value: Any) -> str:
    """As encode, as text of one line."""
    try:
        return _ENCODER.encode(value)
    except ValueError:  # not finite: rare enough to be looked for only when it is met
        return _ENCODER.encode(_finite(value))


def _jsonable(item: Any) -> Any:
    """Arrays as nested lists: a float32 is written as the double it equals."""
    if isinstance(item, (np.ndarray, np.generic)):
        return item.tolist()
    if isinstance(item, (bytes, bytearray)):
        return bytes(item).decode("utf-8")
    raise TypeError(f"a {type(item).__name__} has no JSON form")


#: ``json.dumps`` would make another for each body.
_ENCODER = json.JSONEncoder(default=_jsonable, allow_nan=False)


def _finite(item: Any) -> Any:
    """``item`` with None for every float in it that is not finite."""
    if isinstance(item, float):
        return item if math.isfinite(item) else None
    if isinstance(item, (list, tuple)):
        return [_finite(one) for one in item]
    if isinstance(item, dict):
        return {key: _finite(one) for key, one in item.items()}
    if isinstance(item, (np.ndarray, np.generic)):
        return _finite_array(np.asarray(item))
    return item


def _finite_array(array: Array) -> Any:
    if array.dtype.kind == "f":
        none: Any = None
        return np.where(np.isfinite(array), array.astype(object), none).tolist()
    return _finite(array.tolist()) if array.dtype.kind == "O" else array
