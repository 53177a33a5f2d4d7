"""NPY (application/x-npy): one array, as numpy.save writes it."""

from __future__ import annotations

import io
import math
import tokenize
from functools import lru_cache
from typing import IO, Any, NamedTuple

import numpy as np

from mms_handler.codecs.arrays import Array, check_bytes, numeric

#: The limit of a header's length.  The header is a Python literal, and a long one would cost the
#: parser time and stack.
MAX_HEADER_BYTES = 10_000

#: Bytes that hold the longest header, with what precedes it.
HEAD_BYTES = 12 + MAX_HEADER_BYTES

#: Bytes of a stream that are read at a time; a multiple of every number's size.
_WINDOW_BYTES = 2**18


class Header(NamedTuple):
    """What the start of an NPY file says about the array that follows.

    Attributes:
        start: where the values start.
        values: how many there are.
        file_bytes: what the file must have; -1 if a length is negative.
    """

    start: int
    shape: tuple[int, ...]
    values: int
    fortran: bool
    dtype: np.dtype[Any]
    file_bytes: int


def decode(body: bytes, limit_bytes: int) -> Array:
    """Read an array without pickle and without trusting the size in its header.

    Raises:
        ValueError: the body is not NPY 1.0 or 2.0, not numbers, or not as long as its header says.
        TooLarge: the array takes more than ``limit_bytes`` as float32.
    """
    header = read_header(body, len(body))
    check_bytes(4 * header.values, limit_bytes)
    return _array(body, header)


def _array(file: bytes, header: Header) -> Array:
    array = np.frombuffer(file, header.dtype, header.values, header.start)
    array = array.reshape(header.shape, order="F" if header.fortran else "C")
    return np.ascontiguousarray(array, np.float32).reshape(header.shape)


def decode_stream(head: bytes, header: Header, stream: IO[bytes]) -> Array:
    """Read an array from ``head``, of which ``header`` was read, and the stream that follows it.

    Only a window of the stream is in memory at a time.

    Raises:
        ValueError: the stream ends early.
    """
    array, at = np.empty(header.values, np.float32), 0
    window = head[header.start :]
    while window:
        count = len(window) // header.dtype.itemsize
        array[at : at + count] = np.frombuffer(window, header.dtype, count)
        at += count
        window = window[count * header.dtype.itemsize :]
        chunk = stream.read(_WINDOW_BYTES)
        if not chunk:
            break
        window += chunk
    if at != header.values:
        raise ValueError(f"{at} values, but its header says {header.values}")
    array = array.reshape(header.shape, order="F" if header.fortran else "C")
    return np.ascontiguousarray(array).reshape(header.shape)


def read_header(head: bytes, file_bytes: int) -> Header:
    """Read the header of an NPY file.

    Args:
        head: at least the file's first HEAD_BYTES, or all of it if it is shorter.
        file_bytes: the file's size, which the header must agree with.

    Raises:
        ValueError: it is not NPY 1.0 or 2.0, not numbers, or not as long as its header says.
    """
    width = 2 if head[6:7] == b"\1" else 4  # bytes of the header's length: NPY 1.0, and later
    start = 8 + width + int.from_bytes(head[8 : 8 + width], "little")
    header = _header(head[: min(start, HEAD_BYTES)])
    if header.file_bytes != file_bytes:
        expected, actual = header.dtype.itemsize * header.values, file_bytes - header.start
        raise ValueError(
            f"shape {header.shape} of {header.dtype} takes {expected} bytes, "
            f"but {actual} follow the header"
        )
    return header


# NumPy's reader takes a tenth of a millisecond, and a client mostly repeats its header.
@lru_cache(maxsize=64)
def _header(head: bytes) -> Header:
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
    if dtype.kind not in "biuf":
        raise ValueError(f"values of dtype {dtype} are not numbers")
    values = math.prod(shape)
    negative = any(length < 0 for length in shape)
    file_bytes = -1 if negative else len(head) + dtype.itemsize * values
    return Header(len(head), shape, values, fortran, dtype, file_bytes)


def encode(value: Any) -> bytes:
    """Write one array in its dtype; several outputs are stacked.

    Raises:
        ValueError: the value is not an array of numbers, or its outputs have different shapes.
    """
    array = numeric(value)
    fortran = array.flags.f_contiguous and not array.flags.c_contiguous
    return head(array.shape, array.dtype, fortran) + array.tobytes("F" if fortran else "C")


# NumPy's writer takes as long as ten such arrays, and a model mostly repeats its shape.
@lru_cache(maxsize=64)
def head(shape: tuple[int, ...], dtype: np.dtype[Any], fortran: bool) -> bytes:
    """What precedes the values of an array."""
    npy: Any = np.lib.format
    out = io.BytesIO()
    fields = {"descr": npy.dtype_to_descr(dtype), "fortran_order": fortran, "shape": shape}
    npy.write_array_header_1_0(out, fields)
    return out.getvalue()
