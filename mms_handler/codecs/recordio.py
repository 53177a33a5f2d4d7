"""RecordIO-protobuf (application/x-recordio-protobuf): SageMaker's records, one per row.

    frame: magic, length with 3 flag bits, data, zeros to a multiple of 4
    data of a frame, or of several: an aialgs.data.Record

Source: dmlc-core's recordio.h for the frames.  SageMaker's SDK writes only frames of whole records.
"""

from __future__ import annotations

import struct
from typing import Any, Iterator

import numpy as np

from mms_handler.codecs.arrays import (
    Array,
    Arrays,
    common_rows,
    is_named,
    is_several,
    numeric,
)
from mms_handler.codecs.record import read_record, write_record
from mms_handler.errors import TooLarge

_HEADER = struct.Struct("<II")
HEADER_BYTES = _HEADER.size
_MAGIC = 0xCED7230A
MAGIC_BYTES = struct.pack("<I", _MAGIC)
#: The flag bits of a frame: a whole record, or a part of one.  A writer cuts a record where its
#: data contains the magic number, and leaves that number out.
WHOLE, FIRST, MIDDLE, LAST = range(4)
_MAX_LENGTH = 2**29


def decode(body: bytes, limit_bytes: int) -> Arrays:
    """Stack the records to (N, ...): an array if "values" is their only tensor, else one per name.

    Raises:
        ValueError: names the record, counted from 1.
        TooLarge: the tensors, with the zeros of sparse ones, take more than ``limit_bytes``.
    """
    columns: dict[str, list[Array]] = {}
    remaining_bytes = limit_bytes
    for number, data in enumerate(records(memoryview(body)), 1):
        try:
            tensors = read_record(data, remaining_bytes)
        except TooLarge as exc:
            raise TooLarge(f"record {number}: {exc}") from None
        except ValueError as exc:
            raise ValueError(f"record {number}: {exc}") from None
        _add(tensors, columns, number)
        remaining_bytes -= sum(tensor.nbytes for tensor in tensors.values())
    stacked = {name: _stacked(columns.pop(name)) for name in list(columns)}
    return stacked["values"] if stacked.keys() == {"values"} else stacked


def _stacked(rows: list[Array]) -> Array:
    return np.stack(rows) if len(rows) > 1 else rows[0][np.newaxis]  # one large row is not copied


def _add(tensors: dict[str, Array], columns: dict[str, list[Array]], number: int) -> None:
    """Append a record's tensors to those of the records before it."""
    if number == 1:
        columns.update({name: [] for name in tensors})
    if tensors.keys() != columns.keys():
        names = ", ".join(sorted(tensors.keys() ^ columns.keys()))[:80]
        raise ValueError(f"record {number} differs from record 1 in the tensors {names}")
    for name, tensor in tensors.items():
        rows = columns[name]
        if rows and rows[0].shape != tensor.shape:
            shapes = f"{tensor.shape}, but in record 1 it is {rows[0].shape}"
            raise ValueError(f"record {number}: {name[:40]!r} has shape {shapes}")
        rows.append(tensor)


def records(body: memoryview) -> Iterator[memoryview]:
    """The data of each record, with its parts joined.

    Raises:
        ValueError: a frame is damaged, or stands where it cannot be.
    """
    joined: bytearray | None = None
    number = 1
    for flag, data in _frames(body):
        if flag > LAST or (flag in (MIDDLE, LAST)) != (joined is not None):
            raise ValueError(f"record {number} has a misplaced frame (flag {flag})")
        if flag == WHOLE:
            yield data
        elif joined is None:
            joined = bytearray(data)
            continue
        else:
            joined += MAGIC_BYTES
            joined += data
            if flag != LAST:
                continue
            yield memoryview(joined)
            joined = None
        number += 1
    if joined is not None:
        raise ValueError(f"record {number} has no last frame")


def _frames(body: memoryview) -> Iterator[tuple[int, memoryview]]:
    """The flag and data of each frame; lengths are checked against the body."""
    at = number = 0
    while at < len(body):
        number += 1
        start = at + HEADER_BYTES
        try:
            flag, length = read_header(body[at:start])
        except ValueError as exc:
            raise ValueError(f"frame {number} {exc}") from None
        at = start + length + -length % 4
        if at > len(body):
            sizes = f"{at - start} bytes, but {len(body) - start} are left"
            raise ValueError(f"frame {number} takes {sizes}")
        yield flag, body[start : start + length]


def read_header(header: bytes | memoryview) -> tuple[int, int]:
    """The flag of a frame, and the length of its data in bytes, without the zeros that follow.

    Raises:
        ValueError: the header is cut off, or is none; the text goes on from "the frame".
    """
    if len(header) < HEADER_BYTES:
        raise ValueError(f"has {len(header)} bytes, but its header takes {HEADER_BYTES}")
    magic, word = _HEADER.unpack(header)
    if magic != _MAGIC:
        raise ValueError("does not begin with RecordIO's magic number")
    return word >> 29, word % _MAX_LENGTH


def encode(value: Any) -> bytes:
    """Write a record per row, with the row in ``label`` as "values", as SageMaker's algorithms do.

    Several outputs are "values_0", "values_1"; named outputs keep their names.

    Raises:
        ValueError: the outputs are not numbers, or have different numbers of rows.
    """
    outputs = _outputs(value)
    rows = range(common_rows(list(outputs.values())))
    return b"".join(
        _frame(write_record({name: array[row] for name, array in outputs.items()})) for row in rows
    )


def _outputs(value: Any) -> dict[str, Array]:
    if is_named(value):
        return {name: numeric(output) for name, output in value.items()}
    if is_several(value):
        return {f"values_{index}": numeric(output) for index, output in enumerate(value)}
    return {"values": np.atleast_1d(numeric(value))}


def _frame(data: bytes) -> bytes:
    if len(data) >= _MAX_LENGTH:
        raise ValueError(
            f"a row takes {len(data)} bytes; the limit of a record is {_MAX_LENGTH - 1}"
        )
    return _HEADER.pack(_MAGIC, len(data)) + data + bytes(-len(data) % 4)
