"""Write arrays of floats as text with orjson, spelled as Python spells doubles and NumPy float32.

All three write the shortest digits that read back as the same number.  They differ in where
exponents begin (0.00001 or 1e-05) and in how those look (1e-8 or 1e-08; 1e16, by version, or
1e+16).
"""

from __future__ import annotations

import re
from itertools import chain, zip_longest
from typing import Callable, Iterable

import numpy as np

from mms_handler.codecs.arrays import Array
from mms_handler.codecs.parsers import orjson

#: An array of at least this many values is written faster here than value by value (measured).
_MIN_VALUES = 32

#: Bounds of absolute values, by type.  Below the first, all three write exponents; between the
#: second and the third, none does.  Elsewhere they may differ.
_BOUNDS = {np.float64: (1e-5, 1e-4, 1e15), np.float32: (1e-6, 1e-4, 1e7)}

#: The start of an exponent of one digit, which Python and NumPy write with two.
_SHORT_EXPONENT = re.compile(rb"e-(?=\d[,\]])")


def encode_floats(
    array: Array,
    dtype: type[np.float32] | type[np.float64],
    spell: Callable[[Array], Iterable[str]],
) -> bytes | None:
    """Write ``array`` with JSON's brackets and commas, without blanks.

    Args:
        array: of any kind.
        dtype: the type whose digits are written.
        spell: called with the numbers that orjson may spell differently; returns their texts.

    Returns:
        None if the array is not float32 or float64, if it is too small to gain time, or if
        orjson is not installed.
    """
    plain = type(array) is np.ndarray and array.dtype.char in "fd"
    if orjson is None or not plain or array.size < _MIN_VALUES:
        return None
    numbers = np.array(array, dtype, order="C")
    small, start, end = _BOUNDS[dtype]
    size = np.abs(numbers)
    different = ~((size < small) | (size > start) & (size < end))  # NaN and infinity too
    texts = [number.encode() for number in spell(numbers[different])]
    numbers[different] = np.nan
    written: bytes = orjson.dumps(numbers, option=orjson.OPT_SERIALIZE_NUMPY)
    if ((size < small) & (size > 0)).any():
        written = _SHORT_EXPONENT.sub(b"e-0", written)
    pieces = zip_longest(written.split(b"null"), texts, fillvalue=b"")
    return b"".join(chain.from_iterable(pieces))
