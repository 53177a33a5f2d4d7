"""JSON (application/json): nested lists of numbers, or an object of them."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np

from mms_handler.codecs.arrays import Array, Arrays, numbers


def decode(body: str) -> Arrays:
    """An array, or a dict of arrays for an object; null is NaN, NaN and Infinity are read.

    Raises:
        ValueError: names the place, and the key before it, that is not right.
    """
    value = json.loads(body)
    if isinstance(value, dict):
        return {name: numbers(item, json.dumps(name)[:40]) for name, item in value.items()}
    return numbers(value)


def encode(value: Any) -> bytes:
    """``value`` as JSON that any reader takes: a float that is not finite is null."""
    return dumps(value).encode()


def dumps(value: Any) -> str:
    """As encode, as text of one line."""
    try:
        return json.dumps(value, default=_jsonable, allow_nan=False)
    except ValueError:  # not finite: rare enough to be looked for only when it is met
        return json.dumps(_finite(value), default=_jsonable, allow_nan=False)


def _jsonable(item: Any) -> Any:
    """Arrays as nested lists: a float32 is written as the double it equals."""
    if isinstance(item, (np.ndarray, np.generic)):
        return item.tolist()
    if isinstance(item, (bytes, bytearray)):
        return bytes(item).decode("utf-8")
    raise TypeError(f"a {type(item).__name__} has no JSON form")


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
