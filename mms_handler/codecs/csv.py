"""CSV (text/csv): a row per line, in and out."""

from __future__ import annotations

import csv
import io
import re
import warnings
from typing import Any, Iterator

import numpy as np

from mms_handler.codecs import compiled, digits, parsers, parts
from mms_handler.codecs.arrays import Array, Arrays, count, is_several

#: A zero that keeps its minus sign in CSV but loses it in JSON, where it is an integer.
_MINUS_ZERO = re.compile(rb"-0(?![.eE\d])")


def decode(body: str) -> Array:
    """Read the lines as an array (lines, columns); empty lines are skipped.

    Raises:
        ValueError: names the line and column, counted from 1, that is wrong.
    """
    try:
        return _read(body.encode("utf-8", "surrogatepass"))
    except ValueError as exc:
        raise ValueError(_problem(body) or "not lines of numbers") from exc


def quick(body: bytes) -> Arrays | None:
    """Return what ``decode`` makes of this body's text, to the last bit, or None if unsure."""
    try:
        return _read(body)
    except ValueError:
        return None


def _read(body: bytes) -> Array:
    """Read the lines in parts.

    Raises:
        ValueError: a value is not a number, or lines have different numbers of values.
    """
    array = compiled.read_csv(body)
    if array is not None:
        return array
    if len(body) < parts.PART_BYTES:
        return _read_lines(body)
    arrays = [_read_lines(lines) for lines in _split_lines(body)]
    return np.concatenate([array for array in arrays if array.size] or arrays[:1])


def _split_lines(body: bytes) -> Iterator[bytes]:
    """Some whole lines at a time; a line end between quotes ends no line."""
    lines: list[bytes] = []
    quotes = 0
    for part in parts.split(body, b"\n"):
        lines.append(part)
        quotes += part.count(b'"')
        if quotes % 2 == 0:
            yield b"\n".join(lines)
            lines = []
    if lines:
        yield b"\n".join(lines)


def _read_lines(lines: bytes) -> Array:
    """Read lines as JSON if their numbers are spelled so, which is fast, or else with NumPy."""
    array = _by_json(lines)
    if array is not None:
        return array
    several = b"\n" in lines or b"\r" in lines[:-1]  # NumPy takes a \r alone for a line end, too
    if len(lines) < 2 * parts.PART_BYTES or several or b'"' in lines or lines.endswith(b","):
        return _by_numpy(lines)
    # NumPy would take thirty times the memory of a long line.
    return np.concatenate([_by_numpy(part) for part in parts.split(lines, b",")], axis=1)


def _by_json(lines: bytes) -> Array | None:
    listed = as_json(lines)
    array = None if listed is None else parsers.arrays(listed)
    if not isinstance(array, np.ndarray) or (not array.all() and has_minus_zero(lines)):
        return None
    return array


def as_json(lines: bytes) -> bytes | None:
    """Lines as JSON, if that is JSON; None for what may not be lines of its numbers."""
    # A search for two bytes takes as long as parsing; one is found at once.
    bare = (lines.replace(b"\r\n", b"\n") if b"\r" in lines else lines).rstrip(b"\n")
    if b"[" in bare or b"\r" in bare:
        return None
    return b"[[" + bare.replace(b"\n", b"],[") + b"]]"


def has_minus_zero(lines: bytes) -> bool:
    """Whether there is a zero whose minus sign JSON would lose."""
    return _MINUS_ZERO.search(lines) is not None


def _by_numpy(lines: bytes) -> Array:
    text = io.StringIO(lines.decode("utf-8", "surrogatepass"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about an empty text, which the caller reports
        return np.loadtxt(text, np.float32, comments=None, delimiter=",", ndmin=2, quotechar='"')


def _problem(body: str) -> str:
    """Describe the first value that is not a number, or the first line of another length."""
    first_start = len(body) - len(body.lstrip("\r\n"))
    first = body[first_start : body.find("\n", first_start) + 1 or len(body)]
    start, end = _first_misfit(body, first_start, first)
    line = body.count("\n", 0, start) + 1
    cells, columns = _cells_of_line(body[start:end]), len(_cells_of_line(first))
    for column, cell in enumerate(cells, 1):
        if not _is_number(cell):
            return f"line {line}, column {column}: {cell[:40]!r} is not a number"
    if cells and len(cells) != columns:
        first_line = body.count("\n", 0, first_start) + 1
        values = count(len(cells), "value")
        return f"line {line} has {values}, line {first_line} has {columns}"
    return ""


def _first_misfit(body: str, start: int, first: str) -> tuple[int, int]:
    """Find the first line that is not numbers, or not as many as the line ``first``.

    NumPy reads each half of the text that is left, in a tenth of the time of a loop over the lines.

    Returns:
        Where the line starts and ends.  The search begins at ``start``.
    """
    end = len(body)
    while True:
        middle = body.rfind("\n", start, (start + end) // 2) + 1 or body.find("\n", start, end) + 1
        if middle in (0, end):
            return start, end
        try:
            _read((first + body[start:middle]).encode("utf-8", "surrogatepass"))
            start = middle
        except ValueError:
            end = middle


def _cells_of_line(line: str) -> list[str]:
    bare = line.rstrip("\r\n")
    try:
        # Not str.split: a quoted cell may contain a comma.
        return next(csv.reader([bare]), [])
    except csv.Error:  # a field too large to be a number, or a line end in a field
        return [bare]


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return cell.isascii() and "_" not in cell  # float() also reads 1_000 and other alphabets


def encode(value: Any) -> bytes:
    """Write a line per row, flattened, or a line per item of a list.

    Lines end in CRLF.  A float32 has the shortest text that reads back as the same number.
    """
    if is_several(value):
        return b"".join(
            _lines(item[None] if isinstance(item, np.ndarray) else [item]) for item in value
        )
    rows = value if isinstance(value, (list, tuple)) else np.atleast_1d(np.asarray(value))
    return _lines(rows)


def _lines(rows: Any) -> bytes:
    """A line for each of ``rows``, flattened."""
    if isinstance(rows, np.ndarray) and rows.size:
        body = compiled.write_csv(rows)
        if body is not None:
            return body
        flat_rows = rows.reshape(len(rows), -1)
        array = digits.encode_floats(flat_rows, rows.dtype.type, lambda numbers: map(str, numbers))
        if array is not None:
            return array[2:-2].replace(b"],[", b"\r\n") + b"\r\n"
    out = io.StringIO()
    writer = csv.writer(out)
    for row in rows:
        writer.writerow(_cells(row))
    return out.getvalue().encode()


def _cells(row: Any) -> list[Any]:
    """All values in ``row``, from lists and arrays of any depth, as the cells of one line."""
    if isinstance(row, (list, tuple)):
        return [cell for item in row for cell in _cells(item)]
    cells = np.ravel(row)
    if cells.dtype.kind == "O":
        raise TypeError("a cell can only hold a number or a text")
    return list(cells)
