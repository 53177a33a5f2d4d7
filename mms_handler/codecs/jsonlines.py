"""JSON Lines (application/jsonlines): a record a line in, a row a line out."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from mms_handler.codecs import parsers
from mms_handler.codecs.arrays import Array, Arrays, common_rows, is_named, is_several, numbers
from mms_handler.codecs.json import dumps, floats


def decode(body: str) -> Arrays:
    """Lines stacked to (N, ...); where they are objects, each key's values are.

    Raises:
        ValueError: names the line, the first being 1.
    """
    return _arrays([_record(line, number) for number, line in enumerate(_lines(body), 1)])


def quick(body: bytes) -> Arrays | None:
    """What ``decode`` makes of this body's text, to the last bit; None where only it can say."""
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
            raise ValueError(
                f"line {number if keys is not None else 1} is not an object, others are"
            )
        if record.keys() != keys:
            names = ", ".join(sorted(record.keys() ^ keys))[:80]
            raise ValueError(f"line {number} has other keys than line 1 ({names})")
    return {key: _stacked([record[key] for record in records], key) for key in records[0]}


def _lines(body: str) -> list[str]:
    lines = body.split("\n")
    while lines and not lines[-1].strip():
        lines.pop()
    return lines


def _record(line: str, number: int) -> Any:
    if not line.strip():
        raise ValueError(f"line {number} is blank, others follow")
    try:
        return json.loads(line)
    except json.JSONDecodeError as exc:
        raise ValueError(f"line {number}, column {exc.colno}: {exc.msg}") from None
    except RecursionError:
        raise ValueError(f"line {number} is nested too deep") from None


def _stacked(values: list[Any], key: str) -> Array:
    """The values of all lines, (N, ...)."""
    try:
        return numbers(values)
    except ValueError as exc:
        raise ValueError(_odd_line(values, key) or str(exc)) from None


def _odd_line(values: list[Any], key: str) -> str:
    """The first line that is not an array of numbers, or not of the first one's shape."""
    named = f"{json.dumps(key)[:40]} in " if key else ""
    shapes: list[tuple[int, ...]] = []
    for number, value in enumerate(values, 1):
        try:
            shapes.append(numbers(value, f"{json.dumps(key)[:40]}" if key else "").shape)
        except ValueError as exc:
            return f"line {number}: {exc}"
        if shapes[-1] != shapes[0]:
            return f"{named}line {number} has shape {shapes[-1]}, in line 1 {shapes[0]}"
    return ""


def encode(value: Any) -> bytes:
    """A line a row, each line ended; of several outputs, a list (or object) of their rows.

    What has no rows (a number, a script's own dict) is one line.

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
        arrays = [np.asarray(one) for one in value]
        return [list(rows) for rows in zip(*arrays)] if common_rows(arrays) else []
    if is_named(value):
        rows = range(common_rows(list(value.values())))
        return [{name: array[row] for name, array in value.items()} for row in rows]
    if isinstance(value, (list, tuple)):
        return value
    return value if isinstance(value, np.ndarray) and value.ndim else [value]
