"""JSON Lines (application/jsonlines): a record per line in, a row per line out."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from mms_handler.codecs import parsers, parts
from mms_handler.codecs.arrays import (
    MAX_ARRAYS,
    MAX_DIMENSIONS,
    Array,
    Arrays,
    as_float32,
    common_rows,
    is_named,
    is_several,
    misfit,
    numbers,
    shape_of_first,
)
from mms_handler.codecs.json import check_names, dumps, floats


def decode(body: str) -> Arrays:
    """Stack the lines to an array (N, ...), or to one per key if they are objects.

    Raises:
        ValueError: names the line, counted from 1.
    """
    read: list[Arrays] = []
    number = 1  # of a part's first line
    for part in parts.split(_without_blank_end(body), "\n"):
        lines = part.split("\n")
        arrays = _quick(part, lines)
        if arrays is None or (read and not _are_alike(arrays, read[0])):
            arrays = _slow(lines, number, body)
        read.append(arrays)
        number += len(lines)
    return _joined(read)


def _without_blank_end(body: str) -> str:
    end = len(body.rstrip())
    return body[:end] + body[end:].partition("\n")[0] if end else ""


def _quick(part: str, lines: list[str]) -> Arrays | None:
    """The lines of a part as ``_slow`` reads them, to the last bit, or None if unsure."""
    try:
        if len(lines) == 1 and len(part) >= parts.LARGE_BYTES:
            return _of_one_line(parts.arrays(part.encode()))
        records = [parsers.orjson.loads(line) for line in lines]
        # Names are all that is quoted: there is no text, and no name occurs twice.
        names = sum(len(record) for record in records if type(record) is dict)
        if part.count('"') != 2 * names:
            return None
        if not names:
            return as_float32(records)
        keys = records[0].keys()
        if len(keys) > MAX_ARRAYS or any(record.keys() != keys for record in records):
            return None
        return {key: as_float32([record[key] for record in records]) for key in keys}
    except (ValueError, TypeError, AttributeError, OverflowError, RecursionError):
        return None  # AttributeError also if orjson is not installed


def _of_one_line(arrays: Arrays | None) -> Arrays | None:
    if isinstance(arrays, dict):
        return {name: array[None] for name, array in arrays.items()}
    return None if arrays is None else arrays[None]


def _are_alike(arrays: Arrays, first: Arrays) -> bool:
    """Whether lines have the names and shapes of the first ones."""
    if isinstance(arrays, dict) and isinstance(first, dict):
        return arrays.keys() == first.keys() and all(
            array.shape[1:] == first[name].shape[1:] for name, array in arrays.items()
        )
    if isinstance(arrays, dict) or isinstance(first, dict):
        return False
    return arrays.shape[1:] == first.shape[1:]


def _joined(read: list[Any]) -> Arrays:
    """The rows of all parts, which are alike."""
    if not read:
        return np.empty(0, np.float32)
    first: Arrays = read[0]
    if len(read) == 1:
        return first
    if isinstance(first, dict):
        return {name: np.concatenate([part[name] for part in read]) for name in first}
    rows: Array = np.concatenate(read)
    return rows


def _slow(lines: list[str], number: int, body: str) -> Arrays:
    """Stack the lines of a part, the first of which has this number.

    Raises:
        ValueError: a line is not JSON, or unlike the body's first one.
    """
    records = [_record(line, at) for at, line in enumerate(lines, number)]
    if number == 1:
        return _arrays(records, 1)
    first = parsers.loads(body[: body.index("\n")])  # which was read before
    arrays = _arrays([first, *records], number - 1)
    if isinstance(arrays, dict):
        return {name: array[1:] for name, array in arrays.items()}
    return arrays[1:]


def _record(line: str, number: int) -> Any:
    if not line.strip():
        raise ValueError(f"line {number} is blank, but more lines follow")
    try:
        return parsers.loads(line)
    except json.JSONDecodeError as exc:
        raise ValueError(f"line {number}, column {exc.colno}: {exc.msg}") from None
    except ValueError as exc:
        raise ValueError(f"line {number}: {exc}") from None
    except RecursionError:
        raise ValueError(f"line {number} is nested too deeply") from None


def _arrays(records: list[Any], offset: int) -> Arrays:
    """Stack records.  The first is line 1, and the others are ``offset`` beyond their indices."""
    if not any(isinstance(record, dict) for record in records):
        return _stacked(records, "", offset)
    if not isinstance(records[0], dict):
        raise ValueError("line 1 is not an object, but other lines are")
    keys = records[0].keys()
    for number, record in enumerate(records[1:], offset + 1):
        if not isinstance(record, dict):
            raise ValueError(f"line {number} is not an object, but other lines are")
        if record.keys() != keys:
            names = ", ".join(sorted(record.keys() ^ keys))[:80]
            raise ValueError(f"line {number} differs from line 1 in the keys {names}")
    try:
        check_names(keys)
    except ValueError as exc:
        raise ValueError(f"line 1: {exc}") from None
    return {key: _stacked([record[key] for record in records], key, offset) for key in keys}


def _stacked(values: list[Any], key: str, offset: int) -> Array:
    """Stack the values of lines to (N, ...)."""
    try:
        return numbers(values)
    except ValueError as exc:
        raise ValueError(_problem(values, key, offset)) from exc


def _problem(values: list[Any], key: str, offset: int) -> str:
    """Describe the first line that is not an array of numbers, or has not the first one's shape."""
    name = json.dumps(key)[:40] if key else ""
    first_shape = shape_of_first(values[0])
    if len(first_shape) >= MAX_DIMENSIONS:
        return f"line 1: lists are nested more than {MAX_DIMENSIONS - 1} deep"
    path = misfit(values, (len(values), *first_shape))
    index = path[0] if path else _too_large(values)
    line = f"line {offset + index if index else 1}"
    try:
        shape = numbers(values[index], name).shape
    except ValueError as exc:
        return f"{line}: {exc}"
    place = f"{name} in {line}" if name else line
    return f"{place} has shape {shape}, but in line 1 it is {first_shape}"


def _too_large(values: list[Any]) -> int:
    """The index of the first of ``values`` that has an integer beyond any double."""
    start, end = 0, len(values)
    while end - start > 1:
        middle = (start + end) // 2
        try:
            as_float32(values[start:middle])
            start = middle
        except OverflowError:
            end = middle
    return start


def encode(value: Any) -> bytes:
    """Write a line per row.  Of several outputs, each line has the list or object of their rows.

    A value without rows, such as a number or a script's own dict, is one line.  Every line ends
    in a line feed.

    Raises:
        ValueError: several outputs have different numbers of rows.
    """
    written = floats(value) if isinstance(value, np.ndarray) else None
    if written is None:
        return "".join(f"{dumps(row)}\n" for row in _rows(value)).encode()
    end = b"]" * (value.ndim - 1)
    return written[1:-1].replace(end + b", ", end + b"\n") + b"\n"


def _rows(value: Any) -> Any:
    if is_several(value):
        arrays = [np.asarray(item) for item in value]
        return [list(rows) for rows in zip(*arrays)] if common_rows(arrays) else []
    if is_named(value):
        rows = range(common_rows(list(value.values())))
        return [{name: array[row] for name, array in value.items()} for row in rows]
    if isinstance(value, (list, tuple)):
        return value
    return value if isinstance(value, np.ndarray) and value.ndim else [value]
