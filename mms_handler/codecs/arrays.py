"""Arrays of numbers: out of nested lists and out of what a prediction is made of."""

from __future__ import annotations

import warnings
from json import dumps
from typing import Any, Dict, Union

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Arrays = Union[Array, Dict[str, Array]]

#: What a body may unpack to: a compressed or sparse one of a kilobyte can claim terabytes.
MAX_UNPACKED_BYTES = 2**28

#: Named arrays in a body; no model has so many inputs, and a few bytes can name one more.
MAX_ARRAYS = 256


def numbers(value: Any, place: str = "") -> Array:
    """Nested lists of numbers as a float32 array; ``null`` is NaN.

    Args:
        value: as JSON has it.
        place: where in the body it stands, for messages; "" is the top.

    Raises:
        ValueError: names the first place that is not a number or not as long as its siblings.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # ragged lists are only a warning to numpy 1.23
        try:
            array = np.array(value)
        except (ValueError, Warning):
            raise ValueError(_odd_place(value, place)) from None
    if array.dtype.kind in "biuf":
        return doubles(array)
    if array.dtype.kind == "O":  # null, or integers beyond 64 bits; NumPy would read texts, too
        kinds = set(map(type, array.ravel().tolist()))
        if kinds <= {int, float, bool, type(None)}:
            try:
                return doubles(array)
            except OverflowError:
                raise ValueError("an integer is too large") from None
    raise ValueError(_odd_place(value, place))


def doubles(value: Any) -> Array:
    """As ``numbers``, for nested lists without a text: an integer is a double first.

    Raises:
        ValueError, TypeError, OverflowError: they are no numbers, or not in the shape of an array.
    """
    return np.asarray(value, np.float64).astype(np.float32)


def _odd_place(value: Any, root: str) -> str:
    """Where ``value`` stops being an array of numbers, in words."""
    shape: list[int] = []
    probe = value
    while isinstance(probe, list):
        shape.append(len(probe))
        probe = probe[0] if probe else None

    def find(item: Any, depth: int, place: str) -> str | None:
        if depth == len(shape):
            if item is None or isinstance(item, (int, float)):
                return None
            return f"{_short(item)} at {place or 'the top'} is not a number"
        if not isinstance(item, list):
            return f"{_short(item)} at {place} is not a list, its siblings are"
        if len(item) != shape[depth]:
            return f"{count(len(item), 'item')} at {place}, {shape[depth]} in its siblings"
        found = (find(child, depth + 1, f"{place}[{i}]") for i, child in enumerate(item))
        return next(filter(None, found), None)

    return find(value, 0, root) or "not an array of numbers"


def _short(item: Any) -> str:
    return dumps(item)[:40]


def count(number: int, noun: str) -> str:
    """``1 item``, ``2 items``."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def numeric(value: Any) -> Array:
    """One output as an array of numbers.

    Raises:
        ValueError: it is something else, or arrays of different shapes.
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
    """Whether ``value`` is the outputs of a model that has several, not one in pieces."""
    return isinstance(value, (list, tuple)) and any(isinstance(one, np.ndarray) for one in value)


def is_named(value: Any) -> bool:
    """Whether ``value`` is outputs by name."""
    return (
        isinstance(value, dict)
        and bool(value)
        and all(isinstance(name, str) for name in value)
        and all(isinstance(one, np.ndarray) for one in value.values())
    )


def common_rows(arrays: list[Array]) -> int:
    """N, for arrays that are all (N, ...).

    Raises:
        ValueError: they are not.
    """
    lengths = {len(array) if array.ndim else None for array in arrays}
    (length, *others) = lengths
    if others or length is None:
        raise ValueError("its outputs differ in their number of rows")
    return length
