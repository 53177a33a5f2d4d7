"""Write the rows of several arrays at once, and tell afterwards which text is whose."""

from __future__ import annotations

from itertools import islice
from typing import Any, Iterator, Sequence

import numpy as np

from mms_handler.codecs.arrays import Array

#: Values of arrays that are written together; of more, each takes long enough by itself.
MAX_VALUES = 2**16


def alike(values: Sequence[Any]) -> bool:
    """Whether ``values`` are arrays of numbers that can be written together."""
    first = values[0]
    if len(values) == 1 or type(first) is not np.ndarray or first.dtype.kind not in "biuf":
        return False
    dtype, shape = first.dtype, first.shape[1:]
    size = 0
    for value in values:
        if type(value) is not np.ndarray or value.dtype != dtype or value.shape[1:] != shape:
            return False
        if not value.ndim or not value.size:
            return False
        size += value.size
    return size <= MAX_VALUES


def each(text: bytes, between: bytes, arrays: Sequence[Array]) -> Iterator[bytes]:
    """The part of ``text`` for each of ``arrays``.

    Args:
        text: the rows of all arrays, in their order.
        between: what separates two rows.
        arrays: have one row or more.
    """
    texts = iter(text.split(between))
    for array in arrays:
        yield next(texts) if len(array) == 1 else between.join(islice(texts, len(array)))
