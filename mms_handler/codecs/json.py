"""JSON (application/json): nested lists of numbers, or an object of them."""

from __future__ import annotations

import json
import math
from typing import Any, Collection

import numpy as np

from mms_handler.codecs import compiled, digits, parsers, parts
from mms_handler.codecs.arrays import (
    MAX_ARRAYS,
    Array,
    Arrays,
    as_float32,
    is_named,
    is_several,
    numbers,
)

#: A body of at least this many bytes is read faster by pysimdjson, with its checks, than by orjson
#: (measured).
_MIN_BYTES = 512


def decode(body: str) -> Arrays:
    """Read an array, or a dict of arrays for an object.

    null is NaN; NaN, Infinity and -Infinity are read too.

    Raises:
        ValueError: names the key and the place of the first value that is not valid; or the object
            has more than MAX_ARRAYS names.
    """
    if len(body) >= parts.LARGE_BYTES:
        arrays = parts.arrays(body.encode("utf-8", "surrogatepass"))
        if arrays is not None:
            return arrays
    value = parsers.loads(body)
    if isinstance(value, dict):
        check_names(value)
        return {name: numbers(item, json.dumps(name)[:40]) for name, item in value.items()}
    return numbers(value)


def quick(body: bytes) -> Arrays | None:
    """Return what ``decode`` makes of this body's text, to the last bit, or None if unsure."""
    arrays: Arrays | None = compiled.read_json(body)
    if arrays is None and len(body) >= _MIN_BYTES:
        arrays = parsers.arrays(body)
    if arrays is None and len(body) >= parts.LARGE_BYTES:
        return parts.arrays(body)
    if arrays is not None or parsers.orjson is None or b"NaN" in body or b"Infinity" in body:
        return arrays
    try:
        value = parsers.orjson.loads(body)
        if b'"' not in body:
            return as_float32(value)
        # More quotes mean a text among the values, or a name that occurs twice.
        if len(value) > MAX_ARRAYS or body.count(b'"') > 2 * len(value):
            return None
        return {name: as_float32(item) for name, item in value.items()}
    except (AttributeError, ValueError, TypeError, OverflowError, RecursionError):
        return None


def check_names(names: Collection[str]) -> None:
    """Check that an object has at most MAX_ARRAYS names.

    Raises:
        ValueError: the object has more names.
    """
    if len(names) > MAX_ARRAYS:
        raise ValueError(f"the object has {len(names)} names; the limit is {MAX_ARRAYS}")


def encode(value: Any) -> bytes:
    """Write ``value`` as JSON that any reader accepts: null for a float that is not finite."""
    if isinstance(value, np.ndarray):
        return (
            compiled.write_json(value)
            or floats(value)
            or _few_floats(value)
            or dumps(value).encode()
        )
    if is_several(value):
        return b"[" + b", ".join(map(encode, value)) + b"]"
    if is_named(value):
        members = (dumps(name).encode() + b": " + encode(item) for name, item in value.items())
        return b"{" + b", ".join(members) + b"}"
    return dumps(value).encode()


def floats(array: Array) -> bytes | None:
    """Write an array of many floats as ``encode`` does; None for any other array."""
    written = digits.encode_floats(array, np.float64, _spelled)
    return written and written.replace(b",", b", ")


def _few_floats(array: Array) -> bytes | None:
    """Write floats as ``encode`` does; None if one is not finite, and for any other array."""
    # Python spells lists of doubles as JSON does.
    text = str(array.tolist()) if array.dtype.char in "efd" else "nan"
    return None if "n" in text else text.encode()  # as in inf and nan


def _spelled(numbers: Array) -> list[str]:
    return [repr(number) if math.isfinite(number) else "null" for number in numbers.tolist()]


def dumps(value: Any) -> str:
    """Write ``value`` as ``encode`` does, as text of one line."""
    try:
        return _ENCODER.encode(value)
    except ValueError:  # a value is not finite; too rare to look for it beforehand
        return _ENCODER.encode(_finite(value))


def _jsonable(item: Any) -> Any:
    """Arrays as nested lists: a float32 is written as the double it equals."""
    if isinstance(item, (np.ndarray, np.generic)):
        return item.tolist()
    if isinstance(item, (bytes, bytearray)):
        return bytes(item).decode("utf-8")
    raise TypeError(f"JSON has no form for the type {type(item).__name__}")


#: Made once; ``json.dumps`` would make one for each body.
_ENCODER = json.JSONEncoder(default=_jsonable, allow_nan=False)


def _finite(item: Any) -> Any:
    """``item`` with None in place of every float in it that is not finite."""
    if isinstance(item, float):
        return item if math.isfinite(item) else None
    if isinstance(item, (list, tuple)):
        return [_finite(child) for child in item]
    if isinstance(item, dict):
        return {key: _finite(child) for key, child in item.items()}
    if isinstance(item, (np.ndarray, np.generic)):
        return _finite_array(np.asarray(item))
    return item


def _finite_array(array: Array) -> Any:
    if array.dtype.kind == "f":
        none: Any = None
        return np.where(np.isfinite(array), array.astype(object), none).tolist()
    return _finite(array.tolist()) if array.dtype.kind == "O" else array
