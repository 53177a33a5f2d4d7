"""Cut an input into parts that hold whole records, while it is read.

Where an input is cut depends on its bytes and on the options alone, so that a job that goes on
after it was stopped cuts as before.
"""

from __future__ import annotations

from typing import BinaryIO, Iterator, NamedTuple, Sequence

from mms_handler.transform.part import Options, Part
from mms_handler.transform.splitting import BadRecord, Record, records

#: Bytes of a part: enough records for its overhead not to count, few enough for many workers.
PART_BYTES = 2**21
#: A part of large records has so many of them, for a worker to predict together, if they take no
#: more than MAX_PART_BYTES.
PART_RECORDS, MAX_PART_BYTES = 32, 2**24

#: Any number of bytes.
_NO_LIMIT = 2**40

#: Where a part ends that is its input's last, if its records cannot be read.
_END = 2**62


class Position(NamedTuple):
    """Where a part begins: its number, the number of its first record, and the offset of that."""

    number: int = 0
    first: int = 1
    offset: int = 0


def payload_limit(options: Options) -> int:
    """Bytes that a request may have."""
    return options.max_payload_bytes or _NO_LIMIT


def part_bytes(stream: BinaryIO, options: Options) -> int:
    """How many bytes the parts of an input have.

    Args:
        stream: the input from its beginning, unpacked.
        options: of the job.
    """
    if not options.single:
        return min(payload_limit(options), MAX_PART_BYTES)
    if options.split_type == "None":
        return 1  # each part is an input
    limit = min(payload_limit(options), MAX_PART_BYTES)
    first = next(records(stream, options.split_type, limit), None)
    record_bytes = first.framed_bytes if isinstance(first, Record) else 0
    return max(PART_BYTES, min(PART_RECORDS * record_bytes, MAX_PART_BYTES))


def cut(
    stream: BinaryIO,
    name: str,
    content_type: str,
    options: Options,
    size: int,
    start: Position = Position(),  # noqa: B008 - it is a constant
) -> Iterator[Part]:
    """Yield the parts of an input.

    Args:
        stream: the input from ``start`` on, unpacked.
        name: the input's.
        content_type: of its records.
        options: of the job.
        size: from ``part_bytes``.
        start: of the first part.
    """
    limit = payload_limit(options)
    if options.split_type == "Line":
        pieces = _lines(stream, size, limit, start)
    else:
        number, offset = start.first, start.offset
        split = records(stream, options.split_type, limit, number=number, offset=offset)
        pieces = _records(split, size)
    types = content_type, options.accepted(content_type)
    for number, piece in enumerate(pieces, start.number):
        head = name, number, piece.first, piece.offset, piece.data
        yield Part(*head, *types, piece.end, piece.next_first, piece.problem)


class _Piece(NamedTuple):
    """A part without its name and number."""

    first: int
    offset: int
    data: bytes
    end: int
    next_first: int
    problem: str = ""


def _lines(stream: BinaryIO, size: int, limit: int, start: Position) -> Iterator[_Piece]:
    """Cut after the last line that ends within ``size`` bytes, without looking at each line."""
    first, offset, held, ended = start.first, start.offset, b"", False
    while not ended:
        more = _read(stream, size - len(held))
        ended = len(more) < size - len(held)
        data = held + more
        cut_at = len(data) if ended else data.rfind(b"\n") + 1
        if not cut_at:  # a part has a whole line at least, if it is no longer than a record may be
            data += stream.readline(max(0, limit + 2 - len(data)))
            cut_at = len(data)
        data, held = data[:cut_at], data[cut_at:]
        end, lines, problem = offset + len(data), data.count(b"\n"), ""
        if data and not data.endswith(b"\n") and not ended and len(data) >= limit + 2:
            end, lines = end + _skip_line(stream), 1
            data, problem = b"", f"it is larger than the payload limit of {limit} bytes"
        if end > offset:
            yield _Piece(first, offset, data, end, first + lines, problem)
        first, offset = first + lines, end


def _read(stream: BinaryIO, size: int) -> bytes:
    """So many bytes; fewer only at the end."""
    data = stream.read(size)
    while 0 < len(data) < size:
        more = stream.read(size - len(data))
        if not more:
            break
        data += more
    return data


def _skip_line(stream: BinaryIO) -> int:
    """Pass over the rest of a line; return its bytes."""
    count = 0
    while True:
        piece = stream.readline(PART_BYTES)
        count += len(piece)
        if not piece or piece.endswith(b"\n"):
            return count


def _records(split: Iterator[Record | BadRecord], size: int) -> Iterator[_Piece]:
    held: list[Record] = []
    held_bytes = 0
    bad: BadRecord | None = None
    for record in split:
        if bad:
            yield _Piece(bad.number, bad.offset, b"", record.offset, record.number, bad.problem)
            bad = None
        is_bad = isinstance(record, BadRecord)
        framed_bytes = 0 if isinstance(record, BadRecord) else record.framed_bytes
        if held and (is_bad or held_bytes + framed_bytes > size):
            yield _joined(held)
            held, held_bytes = [], 0
        if isinstance(record, BadRecord):
            bad = record
        else:
            held.append(record)
            held_bytes += framed_bytes
    if held:
        yield _joined(held)
    if bad:
        yield _Piece(bad.number, bad.offset, b"", _END, bad.number + 1, bad.problem)


def _joined(held: Sequence[Record]) -> _Piece:
    data = b"".join(piece for record in held for piece in record.pieces)
    first, last = held[0], held[-1]
    return _Piece(first.number, first.offset, data, first.offset + len(data), last.number + 1)


def records_of(part: Part, options: Options) -> Iterator[Record | BadRecord]:
    """The records of a part, in their order."""
    if part.problem:
        yield BadRecord(part.first, part.offset, part.problem)
        return
    stream = part.stream(by_lines=options.split_type == "Line")
    limit = payload_limit(options)
    yield from records(stream, options.split_type, limit, number=part.first, offset=part.offset)
