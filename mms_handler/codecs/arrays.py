"""Arrays of numbers, made from nested lists or from a prediction's outputs."""

from __future__ import annotations

import warnings
from json import dumps
from typing import TYPE_CHECKING, Any, Dict, Union

import numpy as np

from mms_handler.errors import TooLarge

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[Any]
else:
    Array = np.ndarray  # numpy.typing takes each worker's start 5 ms
Arrays = Union[Array, Dict[str, Array]]

#: The limit of what a body's arrays take, where no other is set.
MAX_ARRAY_BYTES = 2**28

#: The limit of named arrays in a body.  No model has so many inputs, and a name takes few bytes.
MAX_ARRAYS = 256

#: The limit of an array's dimensions: NumPy's.
MAX_DIMENSIONS = 32

#: The types of a number in JSON; null is NaN.
_NUMBERS = {int, float, bool, type(None)}


def numbers(value: Any, place: str = "") -> Array:
    """Make a float32 array from nested lists of numbers; None becomes NaN.

    Args:
        value: a value as the JSON parser returns it.
        place: where in the body it stands, for messages; "" for the top level.

    Raises:
        ValueError: names the first place that is not a number, or whose length differs from its
            siblings'.
    """
    shape = shape_of_first(value)
    if len(shape) > MAX_DIMENSIONS:
        raise ValueError(f"lists are nested more than {MAX_DIMENSIONS} deep")
    path = misfit(value, shape)
    if path is not None:
        raise ValueError(_problem(value, shape, path, place))
    try:
        return as_float32(value)
    except OverflowError:
        raise ValueError("an integer is too large") from None


def as_float32(value: Any) -> Array:
    """Make the array that ``numbers`` makes, from nested lists that contain no text.

    Integers become doubles first.

    Raises:
        ValueError, TypeError, OverflowError: the values are not numbers, or their lists do not
            have the shape of an array.
    """
    return np.asarray(value, np.float64).astype(np.float32)


def _problem(value: Any, shape: tuple[int, ...], path: list[int], root: str) -> str:
    """Describe the place at ``path``, where ``value`` does not fit into an array of ``shape``."""
    item, place = value, root
    for index in path:
        item, place = item[index], f"{place}[{index}]"
    if len(path) == len(shape):
        return f"{dumps(item)[:40]} at {place or 'the top level'} is not a number"
    if not isinstance(item, list):
        return f"{dumps(item)[:40]} at {place} is not a list, but its siblings are"
    items = count(len(item), "item")
    return f"the list at {place} has {items}, its siblings have {shape[len(path)]}"


def shape_of_first(value: Any) -> tuple[int, ...]:
    """The length of nested lists on each level, of the first list on each."""
    shape: list[int] = []
    while isinstance(value, list):
        shape.append(len(value))
        value = value[0] if value else None
    return tuple(shape)


def misfit(value: Any, shape: tuple[int, ...]) -> list[int] | None:
    """The path of indices to the first item that does not fit into an array of ``shape``.

    None if ``value`` is nested lists of numbers of that shape.
    """
    if not shape:
        return None if type(value) in _NUMBERS else []
    if not isinstance(value, list) or len(value) != shape[0]:
        return []
    if len(shape) == 1 and set(map(type, value)) <= _NUMBERS:
        return None
    inner = shape[1:]
    for index, item in enumerate(value):
        path = misfit(item, inner)
        if path is not None:
            return [index, *path]
    return None


def check_bytes(array_bytes: int, limit_bytes: int) -> None:
    """Check what a body's arrays take as float32, before memory is allocated for them.

    Raises:
        TooLarge: they take more than the limit.
    """
    if array_bytes > limit_bytes:
        raise TooLarge(
            f"the arrays take {array_bytes} bytes as float32; the limit is {limit_bytes}"
        )


def count(number: int, noun: str) -> str:
    """``1 item``, ``2 items``."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def numeric(value: Any) -> Array:
    """Make an array from one output, or from several outputs of one shape.

    Raises:
        ValueError: it is not an array of numbers, or its outputs have different shapes.
    """
    if isinstance(value, np.ndarray):
        array = value
    else:
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
