"""Arrays out of JSON by quicker parsers than json, where they are sure to be what json gives.

    text ──pysimdjson──▶ lists ──▶ one flat buffer ──▶ array of the lists' shape

pysimdjson flattens lists of lists and does not see ragged ones: [[1, 2], [3], [4, 5, 6]] becomes
the buffer of a 3x2.  So the lists of each level are asked for their lengths, and the text for how
many there are: one more, and it is where a number should be.
"""

from __future__ import annotations

import threading
from typing import Any

import numpy as np

from mms_handler.codecs.arrays import Array, Arrays

orjson: Any
try:
    import orjson
except ImportError:
    orjson = None
simdjson: Any
try:
    import simdjson
except (ImportError, RuntimeError):  # the latter without its compiled half
    simdjson = None

#: A parser keeps its memory, up to twelve times its largest body; larger ones get their own.
_KEPT_BYTES = 2**23

#: Integers below it are doubles, too, which is how pysimdjson gives them.
_EXACT = 2**53

_MAX_DIMENSIONS = 32  # NumPy's


class _Kept(threading.local):
    """A parser for each thread: what it parsed last is gone when it parses again."""

    def __init__(self) -> None:
        self.parser = simdjson.Parser()


_kept = simdjson and _Kept()


def arrays(body: bytes) -> Arrays | None:
    """Nested lists of numbers in JSON as an array, an object of them as arrays by name.

    Returns:
        What ``numbers`` makes of what json reads, to the last bit.  None for whatever json or
        ``numbers`` refuses, for values that are no lists of numbers (null is none), for integers
        that are no doubles, and where there is no pysimdjson.
    """
    if simdjson is None:
        return None
    parser = _kept.parser if len(body) <= _KEPT_BYTES else simdjson.Parser()
    try:
        return _arrays(parser.parse(body), body)
    except (ValueError, TypeError, LookupError, RuntimeError):  # all that pysimdjson raises
        return None


def _arrays(value: Any, body: bytes) -> Arrays | None:
    # Quicker than count, which looks at each byte; lists are few among their numbers.
    left = len(body) - len(body.replace(b"[", b""))
    named = isinstance(value, simdjson.Object)
    found: dict[str, Array] = {}
    for name, one in _items(value) if named else [("", value)]:
        found[name], lists = _array(one)
        left -= lists
    if left:
        return None
    return found if named else found[""]


def _items(value: Any) -> list[tuple[str, Any]]:
    names = list(value)
    if len(set(names)) < len(names) or "\0" in "".join(names):  # value[name] is not sure to be it
        raise LookupError
    return [(name, value[name]) for name in names]


def _array(value: Any) -> tuple[Array, int]:
    """The numbers in ``value`` in the shape of its lists, and how many lists have that shape.

    Raises:
        ValueError, TypeError, LookupError: there is something else in them, or nothing; siblings
            have different lengths; an integer may be no double.
    """
    if not isinstance(value, simdjson.Array):
        raise TypeError
    flat = np.frombuffer(value.as_buffer(of_type="d"))
    if np.abs(flat).max() >= _EXACT:
        raise ValueError
    shape, lists = _shape(value)
    return flat.astype(np.float32).reshape(shape), lists


def _shape(lists: Any) -> tuple[list[int], int]:
    """The lengths of lists in lists, level by level, and how many lists they are together."""
    shape: list[int] = []
    level, seen = [lists], 0
    while len(shape) < _MAX_DIMENSIONS:
        (length,) = set(map(len, level))
        shape.append(length)
        seen += len(level)
        if not isinstance(level[0][0], simdjson.Array):
            break
        level = [one for siblings in level for one in siblings]
    return shape, seen
