"""Arrays of floats to text by orjson, spelled as Python spells doubles and NumPy float32.

All of them write the digits that it takes, and no more.  They differ in where exponents begin
(0.00001 or 1e-05) and in how those look (1e-8 or 1e-08; 1e16, by version, or 1e+16).
"""

from __future__ import annotations

import re
from itertools import chain, zip_longest
from typing import Callable, Iterable

import numpy as np

from mms_handler.codecs.arrays import Array
from mms_handler.codecs.parsers import orjson

#: Numbers from which a plain array takes less time here than one by one, measured.
_MANY = 32

#: Below the first, orjson has exponents, too; between the others nobody has.
_BOUNDS = {np.float64: (1e-5, 1e-4, 1e15), np.float32: (1e-6, 1e-4, 1e7)}

#: Before an exponent of one digit, which Python and NumPy write with two.
_SHORT = re.compile(rb"e-(?=\d[,\]])")


def text(
    array: Array,
    dtype: type[np.float32] | type[np.float64],
    spell: Callable[[Array], Iterable[str]],
) -> bytes | None:
    """``array`` in JSON's brackets and commas, without blanks.

    Args:
        array: of any kind.
        dtype: the type whose digits are wanted.
        spell: gives the texts of those numbers, as ``dtype``, that orjson spells otherwise.

    Returns:
        None where it is not of float32 or float64, is too small to be worth it, or there is no
        orjson.
    """
    plain = type(array) is np.ndarray and array.dtype.char in "fd"
    if orjson is None or not plain or array.size < _MANY:
        return None
    numbers = np.array(array, dtype, order="C")
    small, least, end = _BOUNDS[dtype]
    size = np.abs(numbers)
    odd = ~((size < small) | (size > least) & (size < end))  # also what is not finite
    spelled = [one.encode() for one in spell(numbers[odd])]
    numbers[odd] = np.nan
    written: bytes = orjson.dumps(numbers, option=orjson.OPT_SERIALIZE_NUMPY)
    if ((size < small) & (size > 0)).any():
        written = _SHORT.sub(b"e-0", written)
    pieces = zip_longest(written.split(b"null"), spelled, fillvalue=b"")
    return b"".join(chain.from_iterable(pieces))
