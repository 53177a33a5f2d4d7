"""Read arrays from JSON with faster parsers than json, if the result is certain to be the same.

    text ──pysimdjson──▶ lists ──▶ one flat buffer ──▶ array of the lists' shape

pysimdjson flattens nested lists and does not notice ragged ones: [[1, 2], [3], [4, 5, 6]] becomes
the buffer of a 3x2 array.  So each list's length is compared with its siblings', and the number of
lists with the number of brackets in the text: a list in a number's place adds a bracket.
"""

from __future__ import annotations

import json
import re
import threading
from itertools import chain
from typing import Any, Callable, Iterable, Sequence

import numpy as np

from mms_handler.codecs.arrays import MAX_ARRAYS, Array, Arrays

orjson: Any
try:
    import orjson
except ImportError:
    orjson = None
simdjson: Any
try:
    import simdjson
except (ImportError, RuntimeError):  # RuntimeError if its compiled half is missing
    simdjson = None

#: A parser keeps memory of up to twelve times its largest body.  A body larger than this gets a
#: new parser.
_REUSE_BYTES = 2**23

#: pysimdjson returns doubles; integers below this are exact as doubles.
_EXACT = 2**53

#: The sum of the squares of up to this many numbers takes a fifth of the time of their largest.  It
#: is not less than any of the squares.
_FEW, _EXACT_SQUARE = 2**13, float(_EXACT) ** 2

#: Digits of an integer that is read.  The time grows with their square, and doubles end at 309.
_MAX_DIGITS = 1_000
_LONG_INTEGER = re.compile(r"(?<![0-9.])[0-9]{%d}[0-9]*(?![0-9.eE])" % (_MAX_DIGITS + 1))

#: What Python's values take in bytes, for each of these characters in the text: lists with room for
#: four items, dicts of one item, numbers and the pointers to them.
_VALUE_BYTES = {"[": 112, "{": 256, ",": 40}

#: What the values of a text may take: these bytes, or these for each byte of the text if that is
#: more.
_MAX_VALUES_BYTES, _MAX_VALUES_PER_BYTE = 2**25, 20

#: Numbers of a large body.
_MANY = 2**16

#: Lists nested deeper are left to json.
_MAX_LEVELS = 8


class _ThreadParser(threading.local):
    """A parser for each thread.  Parsing a body overwrites the result of the one before."""

    def __init__(self) -> None:
        self.parser = simdjson.Parser()


_thread_parser = simdjson and _ThreadParser()


def loads(text: str) -> Any:
    """Parse JSON with json, unless that would take too much time or memory.

    Raises:
        ValueError: the text is not JSON, or has an integer that is too long, or very many lists or
            objects for its size.
    """
    if len(text) > _MAX_VALUES_BYTES // max(_VALUE_BYTES.values()):
        values_bytes = sum(text.count(mark) * size for mark, size in _VALUE_BYTES.items())
        if values_bytes > max(_MAX_VALUES_BYTES, _MAX_VALUES_PER_BYTE * len(text)):
            raise ValueError("not an array of numbers; it has too many lists to say where")
    if len(text) > _MAX_DIGITS and _LONG_INTEGER.search(text):  # or such a text, or name
        return json.loads(text, parse_int=_short_integer)
    return json.loads(text)


def _short_integer(digits: str) -> int:
    if len(digits) > _MAX_DIGITS:
        raise ValueError("an integer is too large")
    return int(digits)


def document(body: bytes) -> Any:
    """Parse JSON in UTF-8 as ``loads`` does, in less time where the result is certain to be near.

    An integer of more than 64 bits may become a float.

    Raises:
        ValueError: as ``loads``.
    """
    small = len(body) <= _MAX_VALUES_BYTES // max(_VALUE_BYTES.values())
    if orjson is not None and (small or body.count(b"[") + body.count(b"{") < _MAX_DIGITS):
        try:
            return orjson.loads(body)
        except ValueError:  # NaN, an infinity, or what is no JSON
            pass
    return loads(body.decode())


def numbers_between_commas(part: bytes) -> Array:
    """Read numbers as json does; null is NaN.

    Args:
        part: must contain neither brackets nor texts.

    Returns:
        Doubles.

    Raises:
        ValueError, TypeError, OverflowError: there is something else.
    """
    listed = b"[" + part + b"]"
    if simdjson is not None:
        try:
            return _checked(_thread_parser.parser.parse(listed).as_buffer(of_type="d"))
        except (ValueError, TypeError, LookupError, RuntimeError):
            pass
    if orjson is not None:
        try:
            return np.asarray(orjson.loads(listed), np.float64)
        except ValueError:  # NaN or an infinity
            pass
    return np.asarray(loads(listed.decode()), np.float64)


def _checked(doubles: Any) -> Array:
    """The doubles as an array; ValueError if one may have been an integer that is not exact."""
    return _exact(np.frombuffer(doubles))


def _exact(flat: Array) -> Array:
    if flat.size <= _FEW and flat.dot(flat) < _EXACT_SQUARE:
        return flat
    # The absolute values of a large body would take as much memory as its numbers.
    largest = np.abs(flat).max() if flat.size < _MANY else max(flat.max(), -flat.min())
    if largest >= _EXACT:
        raise ValueError
    return flat


def rows(bodies: Sequence[bytes]) -> tuple[Array, list[int]] | None:
    """Read bodies of JSON that hold rows of one length: lists of lists of numbers.

    Returns:
        The rows of all, and how many each body has.  The rows are what ``arrays`` makes of each
        body.  None if it makes something else of one of them.
    """
    if simdjson is None:
        return None
    try:
        return _rows(bodies, _thread_parser.parser.parse)
    except (AttributeError, ValueError, TypeError, LookupError, RuntimeError):
        return None


def _rows(bodies: Sequence[bytes], parse: Callable[[bytes], Any]) -> tuple[Array, list[int]] | None:
    numbers, counts = [], []
    length = 0
    for body in bodies:
        lists = parse(body)
        flat = np.frombuffer(lists.as_buffer(of_type="d"))
        count = len(lists)
        length = length or flat.size // max(count, 1)
        brackets = len(body) - len(body.replace(b"[", b""))
        # The only bracket beside the first is that of the only row.
        ragged = count > 1 and set(map(len, lists)) != {length}
        if brackets != count + 1 or flat.size != count * length or ragged or not flat.size:
            return None
        numbers.append(flat)
        counts.append(count)
        del lists  # the parser must not be used while it exists
    array = _exact(np.concatenate(numbers)).astype(np.float32)
    return array.reshape(-1, length), counts


def arrays(body: bytes) -> Arrays | None:
    """Read nested lists of numbers as an array, and an object of them as arrays by name.

    Returns:
        What ``numbers`` makes of json's result, to the last bit.  None if json or ``numbers``
        refuses the body, for values other than lists of numbers (null is not a number), for
        integers that are not exact as doubles, and if pysimdjson is not installed.
    """
    if simdjson is None:
        return None
    parser = _thread_parser.parser if len(body) <= _REUSE_BYTES else simdjson.Parser()
    try:
        return _arrays(parser.parse(body), body)
    except (ValueError, TypeError, LookupError, RuntimeError):  # all that pysimdjson raises
        return None


def _arrays(value: Any, body: bytes) -> Arrays | None:
    # Faster than bytes.count, which looks at each byte: lists are few among their numbers.
    brackets = len(body) - len(body.replace(b"[", b""))
    named = isinstance(value, simdjson.Object)
    arrays: dict[str, Array] = {}
    for name, item in _items(value) if named else [("", value)]:
        arrays[name], lists = _array(item)
        brackets -= lists
    if brackets:
        return None
    return arrays if named else arrays[""]


def _items(value: Any) -> list[tuple[str, Any]]:
    if len(value) > MAX_ARRAYS:  # value[name] looks through all names before it
        raise LookupError
    names = list(value)
    # If a name occurs twice or contains NUL, value[name] may be another item.
    if len(set(names)) < len(names) or "\0" in "".join(names):
        raise LookupError
    return [(name, value[name]) for name in names]


def _array(value: Any) -> tuple[Array, int]:
    """The numbers in ``value`` as an array of its lists' shape, and the number of its lists.

    Raises:
        ValueError, TypeError, LookupError: ``value`` is empty or has values other than numbers,
            siblings have different lengths, or an integer may not be exact as a double.
    """
    if not isinstance(value, simdjson.Array):
        raise TypeError
    flat = _checked(value.as_buffer(of_type="d"))
    shape, lists = _shape(value)
    return flat.astype(np.float32).reshape(shape), lists


def _shape(lists: Any) -> tuple[list[int], int]:
    """The length of nested lists on each level, and the number of lists on all levels."""
    shape: list[int] = []
    first, total, on_level = lists, 0, 1
    while isinstance(first, simdjson.Array):
        if len(shape) == _MAX_LEVELS:
            raise LookupError
        length = len(first)
        if on_level > 1:
            # Each level is gone through anew: to keep its lists would take 20 bytes for each of
            # the body's.
            level: Iterable[Any] = [lists]
            for _ in shape:
                level = chain.from_iterable(level)
            (length,) = set(map(len, level))
        shape.append(length)
        total += on_level
        on_level *= length
        first = first[0]
    return shape, total
