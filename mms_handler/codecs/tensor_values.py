"""The values of a tensor: in JSON or in binary, both ways.

A tensor is described by its entry in a message, whose name, datatype and shape have been checked.
An array of BYTES is one of objects, each of them bytes.
"""

from __future__ import annotations

import math
import struct
from itertools import islice
from typing import Any, Iterator, Mapping

import numpy as np

from mms_handler.codecs import json
from mms_handler.codecs.arrays import Array, misfit, shape_of_first
from mms_handler.errors import NotAcceptable

#: NumPy's types of the protocol's numbers; in binary they are little-endian.
DTYPES = {
    "BOOL": np.dtype("?"),
    "UINT8": np.dtype("u1"),
    "UINT16": np.dtype("<u2"),
    "UINT32": np.dtype("<u4"),
    "UINT64": np.dtype("<u8"),
    "INT8": np.dtype("i1"),
    "INT16": np.dtype("<i2"),
    "INT32": np.dtype("<i4"),
    "INT64": np.dtype("<i8"),
    "FP16": np.dtype("<f2"),
    "FP32": np.dtype("<f4"),
    "FP64": np.dtype("<f8"),
}
_NAMES = {dtype: name for name, dtype in DTYPES.items()}
TEXTS = "BYTES"

_LENGTH = struct.Struct("<I")


def datatype_of(array: Array) -> str | None:
    """The protocol's name of an array's type; None if it has none."""
    if array.dtype.kind == "O":
        return TEXTS if all(isinstance(value, bytes) for value in array.flat) else None
    return _NAMES.get(array.dtype.newbyteorder("<"))


def shown(entry: Mapping[str, Any]) -> str:
    """A tensor's name for a message; a client's may be long."""
    return repr(entry["name"])[:60]


# --- reading ---------------------------------------------------------------------------------


def from_json(entry: Mapping[str, Any]) -> Array:
    """The values of a tensor in JSON: in a flat list, or in nested ones of its shape.

    Raises:
        ValueError: they are not of its shape, or not of its type.
    """
    data, shape = entry.get("data"), tuple(entry["shape"])
    if not isinstance(data, list):
        raise ValueError(f'{shown(entry)} has neither a list "data" nor "binary_data_size"')
    data_shape = shape_of_first(data)
    if data_shape not in ((math.prod(shape),), shape):
        raise ValueError(f"{shown(entry)} has data of the shape {data_shape}, expected {shape}")
    if entry["datatype"] == TEXTS:
        return _texts(data, entry).reshape(shape)
    if misfit(data, data_shape) is not None:
        raise ValueError(
            f"the data of {shown(entry)} are not numbers in a list of shape {data_shape}"
        )
    return _cast(data, entry).reshape(shape)


def _cast(data: list[Any], entry: Mapping[str, Any]) -> Array:
    dtype = DTYPES[entry["datatype"]]
    if dtype.kind == "f":
        return np.asarray(data, np.float64).astype(dtype)
    # NumPy would make doubles of integers beyond 63 bits.
    array = np.asarray(data, object if dtype.itemsize == 8 and dtype.kind == "u" else None)
    integers = set(map(type, array.flat)) <= {int, bool} if array.dtype == object else True
    if array.dtype.kind not in "biuO" or not integers or not _in_range(array, dtype):
        raise ValueError(f"the data of {shown(entry)} are not all {entry['datatype']}")
    return array.astype(dtype)


def _in_range(array: Array, dtype: Any) -> bool:
    """Whether integers are of a type."""
    low, high = (0, 1) if dtype.kind == "b" else (np.iinfo(dtype).min, np.iinfo(dtype).max)
    return bool(low <= array.min() and array.max() <= high)


def _texts(data: Any, entry: Mapping[str, Any]) -> Array:
    values = np.asarray(data, object).ravel().tolist()
    if not all(isinstance(value, str) for value in values):
        raise ValueError(f"the data of {shown(entry)} are not texts in a list of its shape")
    return _objects([value.encode() for value in values])


def _objects(values: list[bytes]) -> Array:
    array = np.empty(len(values), object)
    array[:] = values
    return array


def from_binary(entry: Mapping[str, Any], values: memoryview) -> Array:
    """The values of a tensor in binary.

    Raises:
        ValueError: they are not as many as its shape says.
    """
    count, shape = math.prod(entry["shape"]), entry["shape"]
    if entry["datatype"] == TEXTS:
        texts = list(islice(_binary_texts(values), count + 1))
        if len(texts) != count:
            raise ValueError(f"{shown(entry)} has not {count} texts, as its shape says")
        return _objects(texts).reshape(shape)
    dtype = DTYPES[entry["datatype"]]
    if len(values) != dtype.itemsize * count:
        raise ValueError(
            f"{shown(entry)} has {len(values)} bytes, but {entry['datatype']} of shape {shape} "
            f"takes {dtype.itemsize * count}"
        )
    if dtype.kind == "b":  # any other number is true, too
        return np.frombuffer(values, np.uint8).astype(np.bool_).reshape(shape)
    return np.frombuffer(values, dtype).reshape(shape)


def _binary_texts(values: memoryview) -> Iterator[bytes]:
    """The texts in ``values``, each after its length."""
    at = 0
    while at < len(values):
        if at + 4 > len(values):
            raise ValueError("the values end inside a text's length")
        (length,) = _LENGTH.unpack_from(values, at)
        at += 4
        if at + length > len(values):
            raise ValueError(f"a text has {length} bytes, but {len(values) - at} are left")
        yield bytes(values[at : at + length])
        at += length


# --- writing ---------------------------------------------------------------------------------


def to_binary(array: Array) -> bytes:
    """The values of an array in binary."""
    if array.dtype.kind == "O":
        return b"".join(_LENGTH.pack(len(text)) + text for text in array.flat)
    return array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes()


def to_json(array: Array) -> bytes:
    """The values of an array as a flat list in JSON.

    Raises:
        NotAcceptable: a text is not UTF-8.
    """
    if array.dtype.kind != "O":
        return json.encode(array.ravel())
    try:
        return json.encode([text.decode() for text in array.flat])
    except UnicodeDecodeError:
        raise NotAcceptable(
            "an output has bytes that are no text; ask for it in binary (binary_data: true)"
        ) from None
