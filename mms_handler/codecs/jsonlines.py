"""JSON Lines (application/jsonlines): a record per line in, a row per line out."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from mms_handler.codecs import parsers
from mms_handler.codecs.arrays import Array, Arrays, common_rows, is_named, is_several, numbers
from mms_handler.codecs.json import dumps, floats


def decode(body: str) -> Arrays:
    """Stack the lines to an array (N, ...), or to one per key if they are objects.

    Raises:
        ValueError: names the line, counted from 1.
    """
    return _arrays([_record(line, number) for number, line in enumerate(_lines(body), 1)])


def quick(body: bytes) -> Arrays | None:
    """Return what ``decode`` makes of this body's text, to the last bit, or None if unsure."""
    if parsers.orjson is None:
        return None
    try:
        return _arrays([parsers.orjson.loads(line) for line in _lines(body.decode())])
    except (ValueError, OverflowError, RecursionError):
        return None


def _arrays(records: list[Any]) -> Arrays:
    if not any(isinstance(record, dict) for record in records):
        return _stacked(records, "")
    keys = records[0].keys() if isinstance(records[0], dict) else None
    for number, record in enumerate(records, 1):
        if keys is None or not isinstance(record, dict):
            line = number if keys is not None else 1
            raise ValueError(f"line {line} is not an object, but other lines are")
        if record.keys() != keys:
            names = ", ".join(sorted(record.keys() ^ keys))[:80]
            raise ValueError(f"line {number} differs from line 1 in the keys {names}")
    return {key: _stacked([record[key] for record in records], key) for key in records[0]}


def _lines(body: str) -> list[str]:
    lines = body.split("\n")
    while lines and not lines[-1].strip():
        lines.pop()
    return lines


def _record(line: str, number: int) -> Any:
    if not line.strip():
        raise ValueError(f"line {number} is blank, but more lines follow")
    try:
        return json.loads(line)
    except json.JSONDecodeError as exc:
        raise ValueError(f"line {number}, column {exc.colno}: {exc.msg}") from None
    except RecursionError:
        raise ValueError(f"line {number} is nested too deeply") from None


def _stacked(values: list[Any], key: str) -> Array:
    """Stack the values of all lines to (N, ...)."""
    try:
        return numbers(values)
    except ValueError as exc:
        raise ValueError(_problem(values, key) or str(exc)) from None


def _problem(values: list[Any], key: str) -> str:
    """Describe the first line that is not an array of numbers, or has not the first one's shape."""
    name = json.dumps(key)[:40] if key else ""
    shapes: list[tuple[int, ...]] = []
    for number, value in enumerate(values, 1):
        try:
            shapes.append(numbers(value, name).shape)
        except ValueError as exc:
            return f"line {number}: {exc}"
        if shapes[-1] != shapes[0]:
            place = f"{name} in line {number}" if name else f"line {number}"
            return f"{place} has shape {shapes[-1]}, but in line 1 it is {shapes[0]}"
    return ""


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
