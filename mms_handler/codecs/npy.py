"""NPY (application/x-npy): one array, as numpy.save writes it."""

from __future__ import annotations

import io
import math
import tokenize
from functools import lru_cache
from typing import Any

import numpy as np

from mms_handler.codecs.arrays import Array, numeric

#: The limit of a header's length.  The header is a Python literal, and a long one would cost the
#: parser time and stack.
MAX_HEADER_BYTES = 10_000


def decode(body: bytes) -> Array:
    """Read an array without pickle and without trusting the size in its header.

    Raises:
        ValueError: the body is not NPY 1.0 or 2.0, not numbers, or not as long as its header says.
    """
    start = _start(body)
    shape, fortran, dtype = _header(body[:start])
    if dtype.kind not in "biuf":
        raise ValueError(f"values of dtype {dtype} are not numbers")
    expected, actual = dtype.itemsize * math.prod(shape), len(body) - start
    if actual != expected or any(length < 0 for length in shape):
        raise ValueError(
            f"shape {shape} of {dtype} takes {expected} bytes, but {actual} follow the header"
        )
    array = np.frombuffer(body, dtype, offset=start) if actual else np.empty(0, dtype)
    array = array.reshape(shape, order="F" if fortran else "C")
    return np.ascontiguousarray(array, np.float32).reshape(shape)


def _start(body: bytes) -> int:
    """Where the data starts, behind the header."""
    width = 2 if body[6:7] == b"\1" else 4  # bytes of the header's length: NPY 1.0, and later
    return 8 + width + int.from_bytes(body[8 : 8 + width], "little")


# NumPy's reader takes a tenth of a millisecond, and a client mostly repeats its header.
@lru_cache(maxsize=64)
def _header(head: bytes) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    npy: Any = np.lib.format
    readers = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
    stream = io.BytesIO(head)
    version = npy.read_magic(stream)
    if version not in readers:
        raise ValueError(f"NPY version {version} is not 1.0 or 2.0")
    length = int.from_bytes(head[8:10] if version == (1, 0) else head[8:12], "little")
    if length > MAX_HEADER_BYTES:
        raise ValueError(f"the header has {length} bytes; the limit is {MAX_HEADER_BYTES}")
    try:
        shape, fortran, dtype = readers[version](stream)
    except ValueError as exc:
        reason = str(exc).partition(";")[0]  # without NumPy's advice for programmers
        raise ValueError(reason) from exc
    except (SyntaxError, tokenize.TokenError, MemoryError) as exc:
        # Python 3.8 raises MemoryError for too many brackets.
        raise ValueError(f"the header cannot be read: {exc}") from exc
    return shape, fortran, dtype


def encode(value: Any) -> bytes:
    """Write one array in its dtype; several outputs are stacked.

    Raises:
        ValueError: the value is not an array of numbers, or its outputs have different shapes.
    """
    out = io.BytesIO()
    np.save(out, numeric(value), allow_pickle=False)
    return out.getvalue()
