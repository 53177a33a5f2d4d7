"""CSV (text/csv): a line a row, in and out."""

from __future__ import annotations

import csv
import io
import re
import warnings
from typing import Any, Iterator

import numpy as np

from mms_handler.codecs import digits, parsers
from mms_handler.codecs.arrays import Array, Arrays, count, is_several

#: A whole number in JSON, which has no sign there; in CSV it does.
_MINUS_ZERO = re.compile(rb"-0(?![.eE\d])")


def decode(body: str) -> Array:
    """The lines as (lines, columns); empty ones do not count.

    Raises:
        ValueError: names the line and column, the first being 1, that is not right.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # an empty body: whoever asked says so in words
        try:
            return np.loadtxt(
                io.StringIO(body), np.float32, comments=None, delimiter=",", ndmin=2, quotechar='"'
            )
        except ValueError as exc:
            raise ValueError(_odd_place(body) or "not lines of numbers") from exc


def quick(body: bytes) -> Arrays | None:
    """What ``decode`` makes of this body's text, to the last bit; None where only it can say.

    Lines of numbers as JSON writes them become JSON.
    """
    lines = body.replace(b"\r\n", b"\n").rstrip(b"\n")
    if b"[" in lines or b"\r" in lines:
        return None
    found = parsers.arrays(b"[[" + lines.replace(b"\n", b"],[") + b"]]")
    if isinstance(found, np.ndarray) and not found.all() and _MINUS_ZERO.search(lines):
        return None
    return found


def _odd_place(body: str) -> str:
    """Where ``body`` stops being lines of as many numbers, in words."""
    first: tuple[int, int] | None = None
    for line, cells in _parsed(body):
        first = first or (line, len(cells))
        for column, cell in enumerate(cells, 1):
            if not _is_number(cell):
                return f"line {line}, column {column}: {cell[:40]!r} is not a number"
        if len(cells) != first[1]:
            return f"line {line} has {count(len(cells), 'value')}, line {first[0]} has {first[1]}"
    return ""


def _parsed(body: str) -> Iterator[tuple[int, list[str]]]:
    """Line numbers and cells of the lines that are not empty."""
    for line, text in enumerate(io.StringIO(body), 1):
        bare = text.rstrip("\r\n")
        if bare:
            # A cell at a time would be quicker by split; quotes may hold a comma.
            try:
                yield line, next(csv.reader([bare]), [])
            except csv.Error:  # a field too large to be a number, or a line end inside
                yield line, [bare]


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return cell.isascii() and "_" not in cell  # Python's own spellings


def encode(value: Any) -> bytes:
    """One line a row, or a line for each item of a list; CRLF, float32 as short text."""
    if is_several(value):
        return b"".join(
            _lines(one[None] if isinstance(one, np.ndarray) else [one]) for one in value
        )
    rows = value if isinstance(value, (list, tuple)) else np.atleast_1d(np.asarray(value))
    return _lines(rows)


def _lines(rows: Any) -> bytes:
    """A line for each of ``rows``, flattened."""
    return _floats(rows) or _one_by_one(rows)


def _floats(rows: Any) -> bytes | None:
    """``_one_by_one`` of many floats; None of others."""
    if not isinstance(rows, np.ndarray) or not rows.size:
        return None
    written = digits.text(rows.reshape(len(rows), -1), rows.dtype.type, _spelled)
    return written and written[2:-2].replace(b"],[", b"\r\n") + b"\r\n"


def _spelled(numbers: Array) -> Iterator[str]:
    return map(str, numbers)


def _one_by_one(rows: Any) -> bytes:
    out = io.StringIO()
    writer = csv.writer(out)
    for row in rows:
        writer.writerow(_cells(row))
    return out.getvalue().encode()


def _cells(row: Any) -> list[Any]:
    """Everything in ``row``, however deep its lists and arrays, as cells of one line."""
    if isinstance(row, (list, tuple)):
        return [cell for one in row for cell in _cells(one)]
    cells = np.ravel(row)
    if cells.dtype.kind == "O":
        raise TypeError("numbers or texts were wanted")
    return list(cells)
