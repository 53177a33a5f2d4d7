"""Read the arrays of large bodies a part at a time, so that no list or parser holds a whole body.

[[1, 2], [3, 4]] ──▶ brackets and commas  [[,],[,]] ──▶ shape (2, 2)
                 └─▶ numbers and commas  1, 2, 3, 4 ──▶ a part at a time ──▶ float32
"""

from __future__ import annotations

import json
import re
from typing import AnyStr, Iterator

import numpy as np

from mms_handler.codecs import parsers
from mms_handler.codecs.arrays import MAX_ARRAYS, MAX_DIMENSIONS, Array, Arrays

#: A body of at least this many bytes is read in parts.
LARGE_BYTES = 2**16

#: The size of a part.  The parser takes some twelve times as much for it.
PART_BYTES = 2**17

#: Makes a 0 of all that is neither a bracket nor a comma.
_MARKS = bytes(code if code in b"[,]" else ord("0") for code in range(256))
_NOT_STRUCTURE = bytes(set(range(256)) - set(b"[,]"))
_WITHOUT_BRACKETS = bytes.maketrans(b"[]", b"  ")
_BLANKS = b" \t\r\n"

#: The name of an array, and what is around it.
_NAME = re.compile(rb'[{,][ \t\r\n]*("[^"\\]*(?:\\.[^"\\]*)*")[ \t\r\n]*:', re.DOTALL)


def split(text: AnyStr, separator: AnyStr) -> Iterator[AnyStr]:
    """The text in parts; the separators between two parts belong to none."""
    start = 0
    while start < len(text):
        end = text.find(separator, start + PART_BYTES)
        end = len(text) if end == -1 else end
        yield text[start:end]
        start = end + 1


def arrays(body: bytes) -> Arrays | None:
    """Read nested lists of numbers as an array, and an object of them as arrays by name.

    Returns:
        What ``numbers`` makes of json's result, to the last bit.  None if json or ``numbers``
        refuses the body, or if this is unsure.
    """
    try:
        body = body.strip(_BLANKS)
        return _named(body) if body.startswith(b"{") else _array(body)
    except (ValueError, TypeError, OverflowError, RecursionError):
        return None


def _named(body: bytes) -> dict[str, Array]:
    """The arrays of an object in which all texts are names."""
    if not body.endswith(b"}") or body.count(b'"') > 4 * MAX_ARRAYS:
        raise ValueError
    arrays: dict[str, Array] = {}
    end = 0
    while end < len(body) - 1:
        match = _NAME.match(body, end)
        if match is None:
            raise ValueError
        # A bracket before the comma in front of a next name, if there is one, ends the array.
        end = body.find(b'"', match.end())
        end = len(body) - 1 if end == -1 else body.rfind(b",", match.end(), end)
        name = json.loads(match[1])
        if end == -1 or name in arrays:
            raise ValueError
        arrays[name] = _array(body[match.end() : end])
    if len(arrays) > MAX_ARRAYS:
        raise ValueError
    return arrays


def _array(text: bytes) -> Array:
    if b'"' in text:  # NumPy would read "1" as 1
        raise ValueError
    shape = _shape(text)
    flat = np.empty(int(np.prod(shape)), np.float32)
    end = 0
    for part in split(text.translate(_WITHOUT_BRACKETS), b","):
        numbers = parsers.numbers_between_commas(part)
        start, end = end, end + len(numbers)
        flat[start:end] = numbers  # ValueError if these are too many
    if end != flat.size:
        raise ValueError
    return flat.reshape(shape)


def _shape(text: bytes) -> list[int]:
    """The shape of nested lists, from their brackets and commas.

    Raises:
        ValueError: lists have different lengths, or a bracket is where none may be.
    """
    marks = text.translate(_MARKS, _BLANKS)
    if b"0[" in marks or b"]0" in marks:
        raise ValueError
    structure = text.translate(None, _NOT_STRUCTURE)
    depth = len(structure) - len(structure.lstrip(b"["))
    if not 0 < depth <= MAX_DIMENSIONS:
        raise ValueError
    shape: list[int] = []
    unit = b""  # the structure of an item
    for level in range(1, depth + 1):
        # The first list on this level ends at the first place with so many brackets.
        list_bytes = structure.find(b"]" * level) + level - (depth - level)
        size = (list_bytes - 1) // (len(unit) + 1)
        shape.insert(0, size)
        unit = b"[" + (unit + b",") * (size - 1) + unit + b"]"
    if unit != structure:  # also if a size is not whole, or none
        raise ValueError
    return shape
