"""Splitting: the records of a file, one after another, in bounded memory.

    None      the whole file
    Line      a line, without its line end
    RecordIO  frames of MXNet and SageMaker
    TFRecord  frames of TensorFlow

Source: SageMaker's TransformInput.SplitType.
"""

from __future__ import annotations

import gzip
import io
import zlib
from typing import Any, BinaryIO

from mms_handler.transform.frames import recordio_records, tfrecord_records
from mms_handler.transform.source import (
    CHUNK_BYTES,
    BadRecord,
    Record,
    Source,
    Split,
    too_large,
)

__all__ = ["SPLIT_TYPES", "BadRecord", "Record", "place", "records"]


def records(
    stream: BinaryIO,
    split_type: str,
    limit_bytes: int,
    gzipped: bool = False,
    number: int = 1,
    offset: int = 0,
) -> Split:
    """Yield the records of a file; at most one of them is in memory.

    A record that is too large, damaged or cut off is a BadRecord; those after it follow if they
    can be found.  Lines of nothing but white space count, but are no records.

    Args:
        stream: the file, from the first byte of a record on.
        split_type: one of SPLIT_TYPES.
        limit_bytes: of the data of a record.
        gzipped: whether the stream is to be unpacked first.
        number: of the first record.
        offset: of the first record in the unpacked file, in bytes.

    Raises:
        SettingsError: the split type needs a package that is not installed.
    """
    if gzipped:
        unpacked: Any = gzip.GzipFile(fileobj=stream)  # for mypy, this is no RawIOBase
        stream = io.BufferedReader(unpacked, CHUNK_BYTES)
    source = Source(stream, number, offset)
    try:
        yield from SPLIT_TYPES[split_type](source, limit_bytes)
    except (EOFError, gzip.BadGzipFile, zlib.error) as exc:
        text = str(exc).rstrip(".")
        yield source.bad(f"the gzip data are damaged, and nothing after it can be read: {text}")


def printable(name: str) -> str:
    """A file's name for people: in quotes if it has line ends or other control characters."""
    return name if name.isprintable() else repr(name)


def place(name: str, split_type: str, record: Record | BadRecord) -> str:
    """Where a record is, for people: the file ``name``, and the line or the record in it."""
    name = printable(name)
    if split_type == "None":
        return name
    if split_type == "Line":
        return f"{name}, line {record.number}"
    return f"{name}, record {record.number} (at byte {record.offset})"


def _whole(source: Source, limit_bytes: int) -> Split:
    """The file as one record; none if it is empty."""
    source.begin()
    data = source.read(limit_bytes + 1)
    if len(data) > limit_bytes:
        yield source.bad(too_large(limit_bytes))
    elif data:
        yield source.record(data, data)


def _lines(source: Source, limit_bytes: int) -> Split:
    """The lines, which end in LF or CRLF; the last one needs no end."""
    line_bytes = limit_bytes + len(b"\r\n")
    while True:
        source.begin()
        framed = source.line(line_bytes)
        if not framed:
            return
        data = framed
        if framed.endswith(b"\n"):
            data = framed[: -2 if framed.endswith(b"\r\n") else -1]
        if len(data) > limit_bytes:
            rest = framed
            while rest and not rest.endswith(b"\n"):
                rest = source.line(CHUNK_BYTES)
            yield source.bad(too_large(limit_bytes))
        elif data and not data.isspace():
            yield source.record(data, framed)


#: By SageMaker's names.
SPLIT_TYPES = {
    "None": _whole,
    "Line": _lines,
    "RecordIO": recordio_records,
    "TFRecord": tfrecord_records,
}
