"""SageMaker's aialgs.data.Record, the protobuf message: one row's tensors by name.

    Record: features = 1, label = 2: map<string, Value>
    Value: float32_tensor = 2, float64_tensor = 3, int32_tensor = 7, bytes = 9
    tensor: values = 1, keys = 2, shape = 3, repeated; with keys it is sparse

Source: the developer guide, "Common data formats for training".
"""

from __future__ import annotations

import math
from itertools import islice
from typing import Callable, Iterator

import numpy as np

from mms_handler.codecs.arrays import MAX_ARRAYS, Array, count
from mms_handler.codecs.wire import (
    FIXED32,
    FIXED64,
    LENGTH,
    VARINT,
    Field,
    fields,
    length_field,
    packed_varints,
    varints,
)
from mms_handler.errors import TooLarge

_FEATURES, _LABEL = 1, 2
_KEY, _VALUE = 1, 2
_FLOAT32, _FLOAT64, _INT32, _BYTES = 2, 3, 7, 9
_VALUES, _KEYS, _SHAPE = 1, 2, 3
_MAX_DIMENSIONS = 32  # NumPy's


def unpack(message: memoryview, left: int) -> dict[str, Array]:
    """A record's features by name, as float32; its label where it has no features.

    Algorithms answer with labels, and in a pipeline one's answer is the next one's request.

    Args:
        message: the record.
        left: bytes that its tensors may take.

    Raises:
        ValueError: it is not a Record, or has no tensor.
        TooLarge: its tensors, sparse as they are, take more than ``left``.
    """
    entries = [(f.number, _entry(f.data)) for f in islice(_maps(message), MAX_ARRAYS + 1)]
    if len(entries) > MAX_ARRAYS:
        raise ValueError(f"it has more than {MAX_ARRAYS} tensors")
    wanted = _FEATURES if any(number == _FEATURES for number, _ in entries) else _LABEL
    tensors: dict[str, Array] = {}
    for number, (name, value) in entries:
        if number == wanted:
            try:
                tensors[name] = _tensor(value, left)
            except ValueError as exc:
                raise ValueError(f"{name[:40]!r}: {exc}") from None
            left -= tensors[name].nbytes
    if not tensors:
        raise ValueError("it has no features")
    return tensors


def _maps(message: memoryview) -> Iterator[Field]:
    return (field for field in fields(message) if _is(field, _FEATURES, _LABEL))


def _is(field: Field, *numbers: int) -> bool:
    return field.number in numbers and field.wire_type == LENGTH


def _entry(entry: memoryview) -> tuple[str, memoryview]:
    """Name and Value of an entry of a map."""
    found = {f.number: f.data for f in fields(entry) if _is(f, _KEY, _VALUE)}
    name = bytes(found.get(_KEY, b"")).decode("utf-8")
    return name, found.get(_VALUE, memoryview(b""))


def _tensor(value: memoryview, left: int) -> Array:
    """A Value's tensor in its shape."""
    kind, tensor = None, memoryview(b"")
    for field in fields(value):
        if _is(field, _FLOAT32, _FLOAT64, _INT32, _BYTES):
            kind, tensor = field.number, field.data
    if kind == _BYTES:
        raise ValueError("it is bytes, numbers were wanted")
    if kind is None:
        raise ValueError("it has no tensor")
    read, wire_type = _READERS[kind]
    wire_types = {_VALUES: wire_type, _KEYS: VARINT, _SHAPE: VARINT}
    parts = {_VALUES: bytearray(), _KEYS: bytearray(), _SHAPE: bytearray()}
    for number, found, data in fields(tensor):
        if number in parts and found in (LENGTH, wire_types[number]):  # packed, or one by one
            parts[number] += data
    shape = [int(length) for length in varints(parts[_SHAPE])]
    keys = varints(parts[_KEYS])
    return _shaped(read(parts[_VALUES]), keys, shape, left)


def _shaped(values: Array, keys: Array, shape: list[int], left: int) -> Array:
    if len(shape) > _MAX_DIMENSIONS:
        raise ValueError(f"a shape of {len(shape)} dimensions")
    size = math.prod(shape)
    zeros = bool(shape) and size > 0 and not values.size  # a sparse row of them has no keys
    sparse = keys.size > 0 or zeros
    if max(size if sparse else 0, values.size) * 4 > left:
        raise TooLarge(f"a tensor of shape {shape} is more than is unpacked")
    if sparse:
        return _dense(values, keys, shape)
    if not shape:
        return values
    if size != values.size:
        raise ValueError(f"{count(values.size, 'value')} for shape {shape}")
    return values.reshape(shape)


def _dense(values: Array, keys: Array, shape: list[int]) -> Array:
    """A sparse tensor with its zeros; keys count along the last dimension first."""
    if not shape:
        raise ValueError("it is sparse and has no shape")
    if keys.size != values.size:
        raise ValueError(f"{count(values.size, 'value')} for {count(keys.size, 'key')}")
    size = math.prod(shape)
    if keys.size and int(keys.max()) >= size:
        raise ValueError(f"key {int(keys.max())} is outside shape {shape}")
    if np.unique(keys).size != keys.size:
        raise ValueError("a key is there twice")
    dense = np.zeros(size, np.float32)
    dense[keys.astype(np.int64)] = values
    return dense.reshape(shape)


def _floats(data: bytes | bytearray, dtype: str) -> Array:
    if len(data) % np.dtype(dtype).itemsize:
        raise ValueError(f"{len(data)} bytes of values are not whole {np.dtype(dtype).name}s")
    return np.frombuffer(data, dtype).astype(np.float32)


def _int32s(data: bytes | bytearray) -> Array:
    return varints(data).astype(np.uint32).view(np.int32).astype(np.float32)


_READERS: dict[int, tuple[Callable[[bytearray], Array], int]] = {
    _FLOAT32: (lambda data: _floats(data, "<f4"), FIXED32),
    _FLOAT64: (lambda data: _floats(data, "<f8"), FIXED64),
    _INT32: (_int32s, VARINT),
}


def pack(tensors: dict[str, Array]) -> bytes:
    """A Record with ``tensors`` as its label, each of the type that holds its dtype.

    A tensor of more than one dimension has a shape, as it could not be read without.
    """
    return b"".join(
        length_field(
            _LABEL,
            length_field(_KEY, name.encode()),
            length_field(_VALUE, _packed_tensor(tensor)),
        )
        for name, tensor in tensors.items()
    )


def _packed_tensor(tensor: Array) -> bytes:
    number, values = _packed_values(tensor)
    parts = [length_field(_VALUES, values)]
    if tensor.ndim > 1:
        parts.append(length_field(_SHAPE, packed_varints(tensor.shape)))
    return length_field(number, *parts)


def _packed_values(tensor: Array) -> tuple[int, bytes]:
    if tensor.dtype.kind == "f":
        double = tensor.dtype.itemsize > 4
        return (_FLOAT64 if double else _FLOAT32), tensor.astype(
            "<f8" if double else "<f4"
        ).tobytes()
    if tensor.size and not -(2**31) <= int(tensor.min()) <= int(tensor.max()) < 2**31:
        raise ValueError("an integer is beyond 32 bits")
    return _INT32, packed_varints(tensor.ravel().tolist())
