"""JSON Lines (application/jsonlines): a record per line in, a row per line out."""

from __future__ import annotations

import json
from typing import Any, Callable

import numpy as np

from mms_handler.codecs import parsers
from mms_handler.codecs.arrays import (
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
from mms_handler.codecs.json import check_names, dumps, floats, loads


def decode(body: str) -> Arrays:
    """Stack the lines to an array (N, ...), or to one per key if they are objects.

    Raises:
        ValueError: names the line, counted from 1.
    """
    records = [_record(line, number) for number, line in enumerate(_lines(body), 1)]
    return _arrays(records, _stacked)


def quick(body: bytes) -> Arrays | None:
    """Return what ``decode`` makes of this body's text, to the last bit, or None if unsure.

    Raises:
        ValueError: as ``decode``.
    """
    if parsers.orjson is None:
        return None
    try:
        records = [parsers.orjson.loads(line) for line in _lines(body.decode())]
    except (ValueError, RecursionError):
        return None
    names = sum(len(record) for record in records if type(record) is dict)
    if body.count(b'"') == 2 * names:  # all that is quoted are names: there is no text
        try:
            return _arrays(records, lambda values, key: as_float32(values))
        except (ValueError, TypeError, OverflowError):
            pass
    return _arrays(records, _stacked)


def _arrays(records: list[Any], stacked: Callable[[list[Any], str], Array]) -> Arrays:
    """Stack the records with ``stacked``, which takes the values of one key and the key."""
    if not any(isinstance(record, dict) for record in records):
        return stacked(records, "")
    keys = records[0].keys() if isinstance(records[0], dict) else None
    for number, record in enumerate(records, 1):
        if keys is None or not isinstance(record, dict):
            line = number if keys is not None else 1
            raise ValueError(f"line {line} is not an object, but other lines are")
        if record.keys() != keys:
            names = ", ".join(sorted(record.keys() ^ keys))[:80]
            raise ValueError(f"line {number} differs from line 1 in the keys {names}")
    try:
        check_names(records[0])
    except ValueError as exc:
        raise ValueError(f"line 1: {exc}") from None
    return {key: stacked([record[key] for record in records], key) for key in records[0]}


def _lines(body: str) -> list[str]:
    lines = body.split("\n")
    while lines and not lines[-1].strip():
        lines.pop()
    return lines


def _record(line: str, number: int) -> Any:
    if not line.strip():
        raise ValueError(f"line {number} is blank, but more lines follow")
    try:
        return loads(line)
    except json.JSONDecodeError as exc:
        raise ValueError(f"line {number}, column {exc.colno}: {exc.msg}") from None
    except ValueError as exc:
        raise ValueError(f"line {number}: {exc}") from None
    except RecursionError:
        raise ValueError(f"line {number} is nested too deeply") from None


def _stacked(values: list[Any], key: str) -> Array:
    """Stack the values of all lines to (N, ...)."""
    try:
        return numbers(values)
    except ValueError as exc:
        raise ValueError(_problem(values, key)) from exc


def _problem(values: list[Any], key: str) -> str:
    """Describe the first line that is not an array of numbers, or has not the first one's shape."""
    name = json.dumps(key)[:40] if key else ""
    first_shape = shape_of_first(values[0])
    if len(first_shape) >= MAX_DIMENSIONS:
        return f"line 1: lists are nested more than {MAX_DIMENSIONS - 1} deep"
    path = misfit(values, (len(values), *first_shape))
    index = path[0] if path else _too_large(values)
    try:
        shape = numbers(values[index], name).shape
    except ValueError as exc:
        return f"line {index + 1}: {exc}"
    place = f"{name} in line {index + 1}" if name else f"line {index + 1}"
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
    start, end = b"[" * (value.ndim - 1), b"]" * (value.ndim - 1)
    return written[1:-1].replace(end + b", " + start, end + b"\n" + start) + b"\n"


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
