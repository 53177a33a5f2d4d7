"""SageMaker's protobuf message aialgs.data.Record: one row's tensors by name.

    Record: features = 1, label = 2: map<string, Value>
    Value: float32_tensor = 2, float64_tensor = 3, int32_tensor = 7, bytes = 9
    tensor: values = 1, keys = 2, shape = 3, each repeated; a tensor with keys is sparse

Source: the developer guide, "Common data formats for training".
"""

from __future__ import annotations

import math
from typing import Callable

import numpy as np

from mms_handler.codecs.arrays import MAX_ARRAYS, MAX_DIMENSIONS, Array, count
from mms_handler.codecs.wire import (
    FIXED32,
    FIXED64,
    LENGTH,
    VARINT,
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


def read_record(message: memoryview, remaining_bytes: int) -> dict[str, Array]:
    """Read a record's features by name, as float32; its label if it has no features.

    Algorithms answer with labels, and in a pipeline the answer of one is the next one's request.

    Args:
        message: the record.
        remaining_bytes: the limit of its tensors' size.

    Raises:
        ValueError: the message is not a Record, or has no tensor.
        TooLarge: its tensors, unpacked if they are sparse, take more than ``remaining_bytes``.
    """
    entries: list[tuple[int, tuple[str, memoryview]]] = []
    for number, wire_type, data in fields(message):
        if wire_type == LENGTH and number in (_FEATURES, _LABEL):
            if len(entries) == MAX_ARRAYS:
                raise ValueError(f"more than {MAX_ARRAYS} tensors")
            entries.append((number, _entry(data)))
    part = _FEATURES if any(number == _FEATURES for number, _ in entries) else _LABEL
    tensors: dict[str, Array] = {}
    for number, (name, value) in entries:
        if number == part:
            try:
                tensors[name] = _tensor(value, remaining_bytes)
            except ValueError as exc:
                raise ValueError(f"{name[:40]!r}: {exc}") from None
            remaining_bytes -= tensors[name].nbytes
    if not tensors:
        raise ValueError("no features")
    return tensors


def _entry(entry: memoryview) -> tuple[str, memoryview]:
    """The name and the Value of a map's entry."""
    name = value = memoryview(b"")
    for number, wire_type, data in fields(entry):
        if wire_type == LENGTH and number == _KEY:
            name = data
        elif wire_type == LENGTH and number == _VALUE:
            value = data
    return bytes(name).decode("utf-8"), value


def _tensor(value: memoryview, limit_bytes: int) -> Array:
    """The tensor of a Value, in its shape."""
    kind, tensor = None, memoryview(b"")
    for number, wire_type, data in fields(value):
        if wire_type == LENGTH and number in (_FLOAT32, _FLOAT64, _INT32, _BYTES):
            kind, tensor = number, data
    if kind == _BYTES:
        raise ValueError("expected numbers, found bytes")
    if kind is None:
        raise ValueError("no tensor")
    read, values_type = _READERS[kind]
    wire_types = {_VALUES: values_type, _KEYS: VARINT, _SHAPE: VARINT}
    parts = {_VALUES: bytearray(), _KEYS: bytearray(), _SHAPE: bytearray()}
    for number, wire_type, data in fields(tensor):
        # The values are packed into one field, or have a field each.
        if number in parts and wire_type in (LENGTH, wire_types[number]):
            parts[number] += data
    if len(parts[_SHAPE]) > 10 * MAX_DIMENSIONS:  # a number takes up to ten bytes
        raise ValueError(f"the shape has more than {MAX_DIMENSIONS} dimensions")
    shape = [int(length) for length in varints(parts[_SHAPE])]
    keys = varints(parts[_KEYS])
    return _shaped(read(parts[_VALUES]), keys, shape, limit_bytes)


def _shaped(values: Array, keys: Array, shape: list[int], limit_bytes: int) -> Array:
    if len(shape) > MAX_DIMENSIONS:
        raise ValueError(f"the shape has {len(shape)} dimensions; the limit is {MAX_DIMENSIONS}")
    size = math.prod(shape)
    zeros = bool(shape) and size > 0 and not values.size  # a sparse row of zeros has no keys
    sparse = keys.size > 0 or zeros
    if max(size if sparse else 0, values.size) * 4 > limit_bytes:
        raise TooLarge(f"a tensor of shape {shape} takes more than the {limit_bytes} bytes left")
    if sparse:
        return _dense(values, keys, shape)
    if not shape:
        return values
    if size != values.size:
        raise ValueError(f"{count(values.size, 'value')} for shape {shape}")
    return values.reshape(shape)


def _dense(values: Array, keys: Array, shape: list[int]) -> Array:
    """A sparse tensor with its zeros filled in.  A key is an index into the row-major values."""
    if not shape:
        raise ValueError("the tensor is sparse but has no shape")
    if keys.size != values.size:
        raise ValueError(f"{count(values.size, 'value')} for {count(keys.size, 'key')}")
    size = math.prod(shape)
    if keys.size and int(keys.max()) >= size:
        raise ValueError(f"key {int(keys.max())} is outside shape {shape}")
    if np.unique(keys).size != keys.size:
        raise ValueError("a key occurs twice")
    dense = np.zeros(size, np.float32)
    dense[keys.astype(np.int64)] = values
    return dense.reshape(shape)


def _floats(data: bytes | bytearray, dtype: str) -> Array:
    if len(data) % np.dtype(dtype).itemsize:
        raise ValueError(f"{len(data)} bytes of values are not whole {np.dtype(dtype).name}s")
    return np.frombuffer(data, dtype).astype(np.float32)


_READERS: dict[int, tuple[Callable[[bytearray], Array], int]] = {
    _FLOAT32: (lambda data: _floats(data, "<f4"), FIXED32),
    _FLOAT64: (lambda data: _floats(data, "<f8"), FIXED64),
    _INT32: (
        lambda data: varints(data).astype(np.uint32).view(np.int32).astype(np.float32),
        VARINT,
    ),
}


def write_record(tensors: dict[str, Array]) -> bytes:
    """Write a Record with ``tensors`` as its label, each in the type that holds its dtype.

    A tensor of more than one dimension gets a shape: it could not be read without one.
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
        fits = np.can_cast(tensor.dtype, np.float32)
        number, dtype = (_FLOAT32, "<f4") if fits else (_FLOAT64, "<f8")
        return number, tensor.astype(dtype).tobytes()
    if tensor.size and not -(2**31) <= int(tensor.min()) <= int(tensor.max()) < 2**31:
        raise ValueError("an integer does not fit into 32 bits")
    return _INT32, packed_varints(tensor.ravel().tolist())
