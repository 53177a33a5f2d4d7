"""Arrays of numbers, made from nested lists or from a prediction's outputs."""

from __future__ import annotations

import warnings
from json import dumps
from typing import Any, Dict, Union

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Arrays = Union[Array, Dict[str, Array]]

#: The limit of what a body may unpack to.  A compressed or sparse kilobyte can claim terabytes.
MAX_UNPACKED_BYTES = 2**28

#: The limit of named arrays in a body.  No model has so many inputs, and a name takes few bytes.
MAX_ARRAYS = 256


def numbers(value: Any, place: str = "") -> Array:
    """Make a float32 array from nested lists of numbers; None becomes NaN.

    Args:
        value: a value as the JSON parser returns it.
        place: where in the body the value is, for messages; "" for the top level.

    Raises:
        ValueError: names the first place that is not a number, or whose length differs from its
            siblings'.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # ragged lists are only a warning to numpy 1.23
        try:
            array = np.array(value)
        except (ValueError, Warning):
            raise ValueError(_problem(value, place)) from None
    if array.dtype.kind in "biuf":
        return as_float32(array)
    if array.dtype.kind == "O":  # None, large integers, or texts, which NumPy would convert
        types = set(map(type, array.ravel().tolist()))
        if types <= {int, float, bool, type(None)}:
            try:
                return as_float32(array)
            except OverflowError:
                raise ValueError("an integer is too large") from None
    raise ValueError(_problem(value, place))


def as_float32(value: Any) -> Array:
    """Make the array that ``numbers`` makes, from nested lists that contain no text.

    Integers become doubles first.

    Raises:
        ValueError, TypeError, OverflowError: the values are not numbers, or their lists do not
            have the shape of an array.
    """
    return np.asarray(value, np.float64).astype(np.float32)


def _problem(value: Any, root: str) -> str:
    """Describe the first place where ``value`` is not an array of numbers."""
    shape: list[int] = []
    probe = value
    while isinstance(probe, list):
        shape.append(len(probe))
        probe = probe[0] if probe else None

    def search(item: Any, depth: int, place: str) -> str | None:
        if depth == len(shape):
            if item is None or isinstance(item, (int, float)):
                return None
            return f"{dumps(item)[:40]} at {place or 'the top level'} is not a number"
        if not isinstance(item, list):
            return f"{dumps(item)[:40]} at {place} is not a list, but its siblings are"
        if len(item) != shape[depth]:
            items = count(len(item), "item")
            return f"the list at {place} has {items}, its siblings have {shape[depth]}"
        problems = (search(child, depth + 1, f"{place}[{i}]") for i, child in enumerate(item))
        return next(filter(None, problems), None)

    return search(value, 0, root) or "not an array of numbers"


def count(number: int, noun: str) -> str:
    """``1 item``, ``2 items``."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def numeric(value: Any) -> Array:
    """Make an array from one output, or from several outputs of one shape.

    Raises:
        ValueError: it is not an array of numbers, or its outputs have different shapes.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            array = np.asarray(value)
        except Warning:
            raise ValueError("its outputs have different shapes") from None
    if array.dtype.kind not in "biuf":
        raise ValueError("it is not an array of numbers")
    return array


def is_several(value: Any) -> bool:
    """Whether ``value`` is a list of outputs, and not one output in nested lists."""
    return isinstance(value, (list, tuple)) and any(isinstance(item, np.ndarray) for item in value)


def is_named(value: Any) -> bool:
    """Whether ``value`` is a dict of outputs by name."""
    return (
        isinstance(value, dict)
        and bool(value)
        and all(isinstance(name, str) for name in value)
        and all(isinstance(item, np.ndarray) for item in value.values())
    )


def common_rows(arrays: list[Array]) -> int:
    """The number of rows N of arrays that are all (N, ...).

    Raises:
        ValueError: they have different numbers of rows, or one has no rows.
    """
    lengths = {len(array) if array.ndim else None for array in arrays}
    (length, *others) = lengths
    if others or length is None:
        raise ValueError("its outputs have different numbers of rows")
    return length
