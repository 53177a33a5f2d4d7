"""How far the numbers of two replies are apart."""

from __future__ import annotations

import csv
import json
import math
from typing import Any, Iterator, NamedTuple

from mms_handler import media
from mms_handler.archive.packed_reply import ABSOLUTE
from mms_handler.errors import HandlerError

_LINES = (media.JSON_LINES, "application/x-jsonlines", "application/jsonl", "application/x-ndjson")


class Differences(NamedTuple):
    """Differences of numbers: how many numbers, the largest difference, and the sum of all.

    A relative one is a part of the larger number.  It is 0 for numbers that are closer than
    packed_reply.ABSOLUTE, because near 0 it would say nothing.
    """

    values: int = 0
    max_relative: float = 0.0
    sum_relative: float = 0.0
    max_absolute: float = 0.0
    sum_absolute: float = 0.0

    def __add__(self, other: Any) -> Differences:
        return Differences(
            self.values + other.values,
            max(self.max_relative, other.max_relative),
            self.sum_relative + other.sum_relative,
            max(self.max_absolute, other.max_absolute),
            self.sum_absolute + other.sum_absolute,
        )


class _Different(Exception):
    """The replies differ in something that is not a number."""


def differences(then: bytes, now: bytes, content_type: str) -> Differences | None:
    """How far the numbers of two bodies of a content type are apart.

    Returns:
        None if they differ in something else: a text, a shape, a name.
    """
    if then == now:
        return Differences()
    try:
        return _sum(_pairs(then, now, media.main_type(content_type), content_type))
    except (_Different, ValueError, HandlerError, csv.Error):  # or not of this type
        return None


def differences_of_tensors(then: tuple[bytes, str], now: tuple[bytes, str]) -> Differences | None:
    """How far the numbers of two replies by the Open Inference Protocol are apart.

    The names and versions of models do not count.

    Args:
        then: the body, and how many bytes of it are JSON; "" for all.
        now: likewise.

    Returns:
        None if they differ in something else: a text, a shape, a type, a name of a tensor.
    """
    from mms_handler.codecs import tensors  # imports numpy

    try:
        return _sum(_in_tensors(tensors.read_reply(*then), tensors.read_reply(*now)))
    except (_Different, ValueError, TypeError, RecursionError, OverflowError, HandlerError):
        return None


def _sum(pairs: Iterator[tuple[float, float]]) -> Differences:
    total = Differences()
    for then, now in pairs:
        total += _difference(then, now)
    return total


def _difference(then: float, now: float) -> Differences:
    if then == now or (math.isnan(then) and math.isnan(now)):
        return Differences(1)
    absolute = abs(then - now)
    if not math.isfinite(absolute):
        return Differences(1, math.inf, math.inf, math.inf, math.inf)
    relative = 0.0 if absolute <= ABSOLUTE else absolute / max(abs(then), abs(now))
    return Differences(1, relative, relative, absolute, absolute)


def _pairs(
    then: bytes, now: bytes, main_type: str, content_type: str
) -> Iterator[tuple[float, float]]:
    """The numbers that are in the same place of two bodies.

    Raises:
        _Different: something else than a number is not the same.
    """
    if main_type == media.JSON:
        return _in_values(json.loads(then), json.loads(now))
    if main_type in _LINES:
        lines = [[json.loads(line) for line in body.splitlines()] for body in (then, now)]
        return _in_values(*lines)
    if main_type == media.CSV:
        rows = [list(csv.reader(body.decode().splitlines())) for body in (then, now)]
        return _in_values(*([list(map(_cell, row)) for row in table] for table in rows))
    from mms_handler import codecs  # imports numpy

    return _in_arrays(codecs.decode(then, content_type), codecs.decode(now, content_type))


def _cell(text: str) -> Any:
    try:
        return float(text)
    except ValueError:
        return text


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _in_values(then: Any, now: Any) -> Iterator[tuple[float, float]]:
    if _is_number(then) and _is_number(now):
        yield float(then), float(now)
    elif isinstance(then, list) and isinstance(now, list) and len(then) == len(now):
        for first, second in zip(then, now):
            yield from _in_values(first, second)
    elif isinstance(then, dict) and isinstance(now, dict) and then.keys() == now.keys():
        for key in then:
            yield from _in_values(then[key], now[key])
    elif type(then) is not type(now) or then != now:
        raise _Different


def _in_tensors(then: Any, now: Any) -> Iterator[tuple[float, float]]:
    if {name: array.dtype for name, array in then.items()} != {
        name: array.dtype for name, array in now.items()
    }:
        raise _Different
    texts = {name for name, array in then.items() if array.dtype.kind == "O"}
    if any(then[name].tolist() != now[name].tolist() for name in texts):
        raise _Different
    for name in then.keys() - texts:
        yield from _in_arrays(then[name], now[name])


def _in_arrays(then: Any, now: Any) -> Iterator[tuple[float, float]]:
    if isinstance(then, dict) and isinstance(now, dict) and then.keys() == now.keys():
        for key in then:
            yield from _in_arrays(then[key], now[key])
    elif isinstance(then, dict) or isinstance(now, dict) or then.shape != now.shape:
        raise _Different
    else:
        yield from zip(then.ravel().tolist(), now.ravel().tolist())
