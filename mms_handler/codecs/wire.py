"""Protobuf's wire format: fields, varints, lengths.  Knows no message type.

Source: protobuf.dev, "Encoding".  The format has not changed since 2008.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Iterable, Iterator

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

VARINT, FIXED64, LENGTH, FIXED32 = 0, 1, 2, 5
_FIXED_BYTES = {FIXED64: 8, FIXED32: 4}


#: Bytes of packed numbers that are decoded at a time, in about fifty times as much memory.
_WINDOW_BYTES = 2**16


def fields(message: memoryview) -> Iterator[tuple[int, int, memoryview]]:
    """Read the fields of a message, in the message's order.

    Yields:
        The number and wire type of a field, and its data, still encoded; a varint is its bytes.

    Raises:
        ValueError: the message ends inside a field, or a wire type is not one of the four.
    """
    at, end = 0, len(message)
    while at < end:
        tag, start = (message[at], at + 1) if message[at] < 0x80 else _varint(message, at)
        number, wire_type = tag >> 3, tag & 7
        if wire_type == LENGTH:
            # Most lengths take one byte, and a call for each would take half of the time.
            if start < end and message[start] < 0x80:
                at = start + 1 + message[start]
                start += 1
            else:
                length, start = _varint(message, start)
                at = start + length
        elif wire_type == VARINT:
            _, at = _varint(message, start)
        elif wire_type in _FIXED_BYTES:
            at = start + _FIXED_BYTES[wire_type]
        else:
            raise ValueError(f"field {number} has the unknown wire type {wire_type}")
        if at > end:
            sizes = f"{at - start} bytes, but {end - start} are left"
            raise ValueError(f"field {number} takes {sizes}")
        yield number, wire_type, message[start:at]


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    """The number at ``at``, and the place after it."""
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(message):
            raise ValueError("the data ends inside a number")
        byte = message[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & (2**64 - 1), at
    raise ValueError("a number has more than 10 bytes")


def varints(packed: bytes | bytearray) -> npt.NDArray[np.uint64]:
    """Read all numbers of a packed field.

    Raises:
        ValueError: the field ends inside a number, or a number has more than 10 bytes.
    """
    if not packed:
        return np.zeros(0, np.uint64)
    raw, at = np.frombuffer(packed, np.uint8), 0
    parts = [np.zeros(0, np.uint64)]
    while at < raw.size:
        window = raw[at : at + _WINDOW_BYTES]
        last = np.flatnonzero(window < 0x80)
        if not last.size:
            raise ValueError("the data ends inside a number")
        at += int(last[-1]) + 1
        parts.append(_whole_varints(window[: last[-1] + 1], last))
    return np.concatenate(parts)


def _whole_varints(
    raw: npt.NDArray[np.uint8], last: npt.NDArray[np.intp]
) -> npt.NDArray[np.uint64]:
    """The numbers in ``raw``; their last bytes are at the places ``last``."""
    first = np.concatenate(([0], last[:-1] + 1))
    lengths = last - first + 1
    if lengths.max() > 10:
        raise ValueError("a number has more than 10 bytes")
    shifts = 7 * (np.arange(raw.size) - np.repeat(first, lengths))
    parts = (raw & 0x7F).astype(np.uint64) << shifts.astype(np.uint64)
    return np.add.reduceat(parts, first)


def varint(value: int) -> bytes:
    """Write a varint.  A negative value takes 64 bits, as protobuf's int32 does."""
    value &= 2**64 - 1
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def length_field(number: int, *parts: bytes) -> bytes:
    """Write a field of bytes, a message, or packed numbers."""
    data = b"".join(parts)
    return varint(number << 3 | LENGTH) + varint(len(data)) + data


def packed_varints(values: Iterable[Any]) -> bytes:
    """Write what ``varints`` reads."""
    return b"".join(varint(int(value)) for value in values)
