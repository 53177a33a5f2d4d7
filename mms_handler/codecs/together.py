"""Read and write the bodies of several requests at once, where they are plain and alike.

    bodies ──decode──▶ the rows of all in one array, and how many each has ──encode──▶ bodies

Plain bodies hold rows of numbers as JSON, CSV or NPY.  They are alike if their rows have one shape.
What is read and written is what ``codecs.decode`` and ``codecs.encode`` make of each body alone, to
the last bit.  Of all other bodies nothing is said here, also of those that are not valid: whoever
calls reads and writes them one by one.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import islice
from typing import Any, Callable, Iterator, NamedTuple, Sequence

import numpy as np

from mms_handler.codecs import compiled, csv, json, npy, parsers
from mms_handler.codecs.arrays import Array
from mms_handler.media import CSV, JSON, NPY, charset, main_type

#: Bytes of a text that is read together with others.  Of a larger one, parsing is all the cost.
MAX_TEXT_BYTES = 2**16

#: Values of arrays that are written together; of more, each takes long enough by itself.
MAX_VALUES = 2**16


class Rows(NamedTuple):
    """What several bodies hold.

    Attributes:
        array: the rows of all, in their order: float32, with two dimensions or more.
        counts: how many rows each body has; none is 0.
    """

    array: Array
    counts: list[int]


# --- reading ---------------------------------------------------------------------------------


def decode(bodies: Sequence[bytes], content_type: str, limit_bytes: int) -> Rows | None:
    """Read bodies of one type.

    Args:
        bodies: as received; at least one.
        content_type: the header of all, as sent.
        limit_bytes: what the array may take.

    Returns:
        None if one of them is not plain, not like the others, or not valid; if the array may take
        more than the limit; and if reading them together would gain nothing.
    """
    read = _reader(content_type)
    return read and read(bodies, limit_bytes)


@lru_cache(maxsize=64)
def _reader(content_type: str) -> Callable[[Sequence[bytes], int], Rows | None] | None:
    name = main_type(content_type)
    is_utf8 = charset(content_type) in ("", "utf-8", "utf8")
    return _READERS.get(name) if name == NPY or is_utf8 else None


def _read_json(bodies: Sequence[bytes], limit_bytes: int) -> Rows | None:
    read = compiled.read_json_rows(bodies, limit_bytes)
    if read is None and not _may_exceed(bodies, limit_bytes):
        read = parsers.rows(bodies)
    return read and Rows(*read)


def _read_csv(bodies: Sequence[bytes], limit_bytes: int) -> Rows | None:
    read = compiled.read_csv_rows(bodies, limit_bytes)
    if read is not None:
        return Rows(*read)
    if _may_exceed(bodies, limit_bytes):
        return None
    listed = list(map(csv.as_json, bodies))
    read = None if None in listed else parsers.rows(listed)  # type: ignore[arg-type]
    if read is None or (not read[0].all() and any(map(csv.has_minus_zero, bodies))):
        return None
    return Rows(*read)


def _may_exceed(bodies: Sequence[bytes], limit_bytes: int) -> bool:
    """Whether texts are too large: a number takes two bytes or more, and four as float32."""
    sizes = list(map(len, bodies))
    return max(sizes) > MAX_TEXT_BYTES or 2 * sum(sizes) > limit_bytes


def _read_npy(bodies: Sequence[bytes], limit_bytes: int) -> Rows | None:
    """Read bodies that have the same header."""
    first = bodies[0]
    try:
        header = npy.read_header(first, len(first))
    except ValueError:
        return None
    if len(header.shape) < 2 or header.fortran or not header.values:
        return None
    if 4 * header.values * len(bodies) > limit_bytes:
        return None
    size, start = len(first), header.start
    head = first[:start]
    if not all(len(body) == size and body[:start] == head for body in bodies):
        return None
    values = [np.frombuffer(body, header.dtype, header.values, start) for body in bodies]
    array = np.concatenate(values).astype(np.float32, copy=False)
    return Rows(array.reshape(-1, *header.shape[1:]), [header.shape[0]] * len(bodies))


_READERS = {JSON: _read_json, CSV: _read_csv, NPY: _read_npy}


# --- writing ---------------------------------------------------------------------------------


def encode(array: Array, counts: Sequence[int], content_type: str) -> list[bytes] | None:
    """Write the rows of several bodies.

    Args:
        array: the rows of all, in row-major order.
        counts: how many rows each body has.
        content_type: as negotiated.

    Returns:
        None if they can only be written one by one, or if that takes no longer.
    """
    write = _WRITERS.get(content_type)
    plain = type(array) is np.ndarray and array.dtype.kind in "biuf" and array.flags.c_contiguous
    if write is None or not plain or not 0 < array.size <= MAX_VALUES or not all(counts):
        return None
    return write(array, counts)


def _write_json(array: Array, counts: Sequence[int]) -> list[bytes]:
    written = compiled.write_json_rows(array, counts)
    if written is not None:
        return written
    depth = array.ndim
    start, end = b"[" * depth, b"]" * depth
    between = end[1:] + b", " + start[1:]
    texts = _each(json.encode(array)[depth:-depth], between, counts)
    return [start + text + end for text in texts]


def _write_csv(array: Array, counts: Sequence[int]) -> list[bytes]:
    written = compiled.write_csv_rows(array, counts)
    if written is not None:
        return written
    return [text + b"\r\n" for text in _each(csv.encode(array)[:-2], b"\r\n", counts)]


def _write_npy(array: Array, counts: Sequence[int]) -> list[bytes]:
    values, row_bytes = array.tobytes(), array.nbytes // len(array)
    bodies, start = [], 0
    for count in counts:
        end = start + count * row_bytes
        head = npy.head((count, *array.shape[1:]), array.dtype, False)
        bodies.append(head + values[start:end])
        start = end
    return bodies


_WRITERS = {JSON: _write_json, CSV: _write_csv, NPY: _write_npy}


def _each(text: bytes, between: bytes, counts: Sequence[int]) -> Iterator[bytes]:
    """The part of ``text`` for each body.  Only numbers and separators are in it."""
    texts = iter(text.split(between))
    for count in counts:
        yield next(texts) if count == 1 else between.join(islice(texts, count))


def alike(values: Sequence[Any]) -> bool:
    """Whether ``values`` are arrays of one type whose rows have one shape, and not too large."""
    first = values[0]
    if type(first) is not np.ndarray or not first.ndim:
        return False
    dtype, shape = first.dtype, first.shape[1:]
    same = all(
        type(value) is np.ndarray
        and value.dtype == dtype
        and value.ndim
        and value.shape[1:] == shape
        for value in values
    )
    return same and sum(value.size for value in values) <= MAX_VALUES
