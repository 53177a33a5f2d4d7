"""The compiled core: what core/ is built to.  It is not there without a C++ compiler.

The functions return exactly what Python makes of the same, or None where they are not sure.
Numbers are float32 in row-major order.
"""

from __future__ import annotations

from typing import Any, Sequence

INTERFACE: int
"""Which functions there are, with which arguments."""

def read_json(
    bodies: Sequence[bytes | memoryview], limit_bytes: int
) -> tuple[bytearray, list[int], tuple[int, ...]] | None:
    """Read nested lists of numbers, whose inner lists have the same lengths in all bodies.

    Args:
        bodies: in UTF-8.
        limit_bytes: what the numbers may take.

    Returns:
        The numbers of all bodies, the length of each body's outermost list, and the lengths of the
        lists in it.  None for anything else: empty lists, names, texts, null, numbers that are not
        finite as float32, more than eight levels.
    """

def read_csv(
    bodies: Sequence[bytes | memoryview], limit_bytes: int
) -> tuple[bytearray, list[int], tuple[int, ...]] | None:
    """Read lines of as many numbers, spelled as in JSON; as ``read_json``."""

def write_json(array: Any, shape: tuple[int, ...], counts: Sequence[int]) -> list[bytes] | None:
    """Write the rows of several bodies as nested lists.

    Args:
        array: the rows of all bodies.
        shape: of ``array``.
        counts: how many rows each body has.

    Returns:
        None for arrays without values, and for more than eight dimensions.
    """

def write_csv(array: Any, shape: tuple[int, ...], counts: Sequence[int]) -> list[bytes] | None:
    """Write the rows of several bodies as lines; as ``write_json``."""

def read_requests(
    frame: memoryview, forms: dict[bytes, Any], limit_bytes: int, ids: Any
) -> tuple[Any, bytearray, list[int], tuple[int, ...]] | None:
    """Read the bodies of a frame of requests; as ``read_json`` and ``read_csv``.

    Args:
        frame: as the gate sent it, without its length.
        forms: by the three lines of a head that name its Content-Type, Accept and Content-Encoding:
            a tuple that begins with 0 for JSON, 1 for CSV, or 2 for NPY as numpy.save writes it,
            with float32 in C's order; or None.
        limit_bytes: what the numbers may take.
        ids: a buffer to which the ids of the requests are written first, or None.

    Returns:
        What ``forms`` has, and the numbers.  None if the frame is malformed, has parts, has heads
        that are unknown or not alike, or bodies of other things than numbers.
    """

def write_replies(
    numbers: Any,
    shape: tuple[int, ...],
    counts: Sequence[int],
    writer: int,
    head: bytes,
    max_bytes: int,
    start_bytes: int,
) -> bytearray | None:
    """Write the records, heads and bodies of good replies in a frame.

    Args:
        numbers: the rows of all replies.
        shape: of the array that the numbers are.
        counts: how many rows each reply has.
        writer: 0 for JSON, 1 for CSV.
        head: of each reply.
        max_bytes: limit of a body.
        start_bytes: zeros that precede the records, up to 64.
    """

def use_mxnet(copy_from: int, forward: int, copy_to: int) -> None:
    """Give the addresses of MXNet's functions for ``forward``.

    They are MXNDArraySyncCopyFromCPU, MXExecutorForward and MXNDArraySyncCopyToCPU.
    """

def forward(
    executor: int, input: int, output: int, values_in: int, values_out: int, numbers: Any
) -> bytearray | None:
    """Run an executor of MXNet, by the handles of the executor, of its input and of its output.

    The interpreter's lock is released meanwhile.

    Returns:
        The numbers of the output; None if MXNet fails, or if there are not ``values_in`` numbers.
    """
