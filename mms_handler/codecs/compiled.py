"""Read and write numbers in the compiled core, where it is installed and not turned off.

Its results are those of the Python beside it, to the last bit, or None.
"""

from __future__ import annotations

import importlib
import sys
from typing import Any, Sequence

import numpy as np

from mms_handler.codecs.arrays import Array

#: The core's functions and their arguments, as this package calls them.
_INTERFACE = 2

_core: Any
try:
    _core = importlib.import_module("mms_handler._core")
except ImportError:  # it was installed without a compiler
    _core = None
if getattr(_core, "INTERFACE", None) != _INTERFACE:  # an older one, in a checkout that was updated
    _core = None

#: The module ``mms_handler._core``; None where it is not to be used.
core = _core


def use(enabled: bool) -> None:
    """Say whether this process uses the core."""
    global core
    core = _core if enabled else None


def read_json(body: bytes) -> Array | None:
    """Read nested lists of numbers; see ``core.read_json``."""
    return core and _array(core.read_json((body,), sys.maxsize))


def read_csv(body: bytes) -> Array | None:
    """Read lines of numbers; see ``core.read_csv``."""
    return core and _array(core.read_csv((body,), sys.maxsize))


def read_json_rows(bodies: Sequence[bytes], limit_bytes: int) -> tuple[Array, list[int]] | None:
    """Read the rows of several bodies, and how many each has; see ``core.read_json``."""
    return core and _rows(core.read_json(bodies, limit_bytes))


def read_csv_rows(bodies: Sequence[bytes], limit_bytes: int) -> tuple[Array, list[int]] | None:
    """Read the rows of several bodies, and how many each has; see ``core.read_csv``."""
    return core and _rows(core.read_csv(bodies, limit_bytes))


def _rows(result: Any) -> tuple[Array, list[int]] | None:
    if result is None:
        return None
    numbers, counts, inner = result
    return (np.frombuffer(numbers, np.float32).reshape(-1, *inner), counts) if inner else None


def _array(result: Any) -> Array | None:
    if result is None:
        return None
    numbers, lengths, inner = result
    return np.frombuffer(numbers, np.float32).reshape(*lengths, *inner)


def write_json(array: Array) -> bytes | None:
    """Write an array as JSON; see ``core.write_json``."""
    return _body(core.write_json, array) if core and _is_plain(array) else None


def write_csv(array: Array) -> bytes | None:
    """Write an array as CSV; see ``core.write_csv``."""
    return _body(core.write_csv, array) if core and _is_plain(array) else None


def _is_plain(array: Any) -> bool:
    return type(array) is np.ndarray and array.dtype == np.float32 and array.ndim > 0


def _body(write: Any, array: Array) -> bytes | None:
    bodies: list[bytes] | None = write(np.ascontiguousarray(array), array.shape, array.shape[:1])
    return bodies[0] if bodies else None


def write_json_rows(array: Array, counts: Sequence[int]) -> list[bytes] | None:
    """Write the rows of several bodies; see ``core.write_json``."""
    return core.write_json(array, array.shape, counts) if core and _is_plain(array) else None


def write_csv_rows(array: Array, counts: Sequence[int]) -> list[bytes] | None:
    """Write the rows of several bodies; see ``core.write_csv``."""
    return core.write_csv(array, array.shape, counts) if core and _is_plain(array) else None
