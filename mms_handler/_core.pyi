"""The compiled core: what core/ is built to.  It is not there without a C++ compiler.

The functions return exactly what the codecs' Python makes of the same, or None where they are not
sure.  Numbers are float32 in row-major order.
"""

from __future__ import annotations

from typing import Any, Sequence

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
