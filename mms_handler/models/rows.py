"""Fit the arrays of a request to a model's inputs: as rows, and by name.  MXNet is not needed."""

from __future__ import annotations

import math
from typing import Any, Dict, Iterable, Mapping, Sequence, Tuple

import numpy as np

from mms_handler.errors import BadInput, UnsupportedShape
from mms_handler.models.arrays import Arrays, Stack, is_array
from mms_handler.models.kinds import is_ndarray

Shape = Tuple[int, ...]

#: Shapes of bodies' arrays that are remembered.
_SHAPES = 1_000


class ModuleInputs:
    """Takes decoded bodies as rows for the inputs of a Module.

    Attributes:
        input_names: of the arrays, in their order.
    """

    def __init__(self, names: Sequence[str]) -> None:
        """``names`` are those of the inputs, in their order."""
        self.input_names = list(names)
        #: The shapes that single arrays of a body get for the only input, by their own.
        self._fitted: Dict[Shape, Shape] = {}

    def fixed_shapes(self) -> Sequence[Shape] | None:
        """The shapes of the inputs, with any number of rows; None if they may have any."""
        raise NotImplementedError

    def take(self, value: Any) -> Any:
        """Take decoded arrays, which ``arrays`` gets, without a copy: nothing else has them."""
        fitted = self._fitted.get(value.shape) if isinstance(value, np.ndarray) else None
        if fitted:
            return Arrays([value.reshape(fitted)])
        arrays = self.arrays(value)
        if isinstance(value, np.ndarray) and len(self._fitted) < _SHAPES:
            self._fitted[value.shape] = arrays[0].shape
        return arrays

    def stack(self, rows: Any, counts: Sequence[int]) -> Stack | None:
        """Take the rows of several decoded bodies; None if that is not what each of them is alone.

        Raises:
            BadInput, UnsupportedShape: the Module does not take one of them.
        """
        sample = rows.shape[1:]
        for count in set(counts):
            alone = self._fitted.get((count, *sample)) or self.take(rows[:count])[0].shape
            if alone[0] != count:
                return None
        return Stack(Arrays([rows.reshape(len(rows), *alone[1:])]), counts)

    def fitted(self, shape: Shape) -> Shape | None:
        """The shape that a body's only array of ``shape`` gets; None if none has been taken yet."""
        return self._fitted.get(shape)

    def arrays(self, value: Any) -> Any:
        """An ndarray (N, *sample) for each input; a value without arrays is returned unchanged.

        Raises:
            BadInput, UnsupportedShape: the model does not take these arrays.
        """
        if isinstance(value, Arrays) or not is_array(value):
            return value
        rows = rows_by_input(value, self.input_names, self.fixed_shapes())
        return Arrays(map(_plain, rows.values()))


def _plain(value: Any) -> Any:
    """An ndarray: a client's values in float32, a script's NDArray in its own type."""
    return value.asnumpy() if is_ndarray(value) else np.asarray(value, np.float32)


# --- rows ------------------------------------------------------------------------------------


def rows_by_input(
    value: Any, names: list[str], shapes: Sequence[tuple[int, ...]] | None
) -> dict[str, Any]:
    """``value`` as (N, *sample) for each input of a Module, in the order of its inputs.

    Args:
        value: an array, or a dict of arrays.
        names: of the inputs.
        shapes: of the inputs, in their order; None if they may have any.

    Raises:
        BadInput: the values do not divide into samples, or the names are not the inputs'.
        UnsupportedShape: the Module has several inputs and the body is one array.
    """
    arrays = by_name(value, names)
    if shapes is None:
        rows = {name: arrays[name] for name in names}
    else:
        rows = {
            name: _as_rows(arrays[name], shape[1:], f" as {name}" if len(shapes) > 1 else "")
            for name, shape in zip(names, shapes)
        }
    counts = {name: array.shape[0] if array.shape else 0 for name, array in rows.items()}
    if len(set(counts.values())) > 1:
        raise BadInput(f"the inputs have different numbers of rows: {counts}")
    if 0 in counts.values():
        raise BadInput("the body has no rows; the model takes one or more")
    return rows


def _as_rows(value: Any, sample: tuple[int, ...], role: str) -> Any:
    """``value`` as (N, *sample).  The values of two rows are never mixed."""
    shape, size = tuple(value.shape), math.prod(sample)
    if shape and shape[0] and math.prod(shape[1:]) == size:
        return value.reshape((shape[0], *sample))
    is_sample = len(shape) == 1 or [d for d in shape if d != 1] == [d for d in sample if d != 1]
    if shape and is_sample and math.prod(shape) == size:
        return value.reshape((1, *sample))
    expected = ", ".join(map(str, ("N", *sample)))
    raise BadInput(f"the model takes ({expected}){role}, the body has {shape}")


# --- several inputs --------------------------------------------------------------------------


def in_order(value: Any, names: list[str]) -> list[Any]:
    """An array, or a dict of arrays, in the order of a forward's parameters.

    Raises:
        BadInput: the body has other names.
        UnsupportedShape: the body is one array and the forward takes several.
    """
    if len(names) < 2:
        return [single_array(value) if isinstance(value, dict) else value]
    arrays = by_name(value, names)
    return [arrays[name] for name in names]


def by_name(value: Any, names: list[str]) -> dict[str, Any]:
    """``value`` as a dict by input.  If the model has one input, the body may call it anything.

    Raises:
        BadInput: an input is missing, or the body has one that the model does not have.
        UnsupportedShape: the body is one array and the model has several inputs.
    """
    if not isinstance(value, dict):
        if len(names) > 1:
            raise UnsupportedShape(
                f"the model has {len(names)} inputs ({', '.join(names)}), the body has one"
            )
        return {names[0]: value}
    if len(names) == 1:
        return {names[0]: single_array(value)}
    if set(value) != set(names):
        raise BadInput(f"the model's inputs are {', '.join(names)}, the body's {_quoted(value)}")
    return value


def single_array(value: Mapping[str, Any]) -> Any:
    """The array of a body that has one array, by any name.

    Raises:
        BadInput: the body has several arrays.
    """
    if len(value) != 1:
        raise BadInput(f"the model takes one array, the body has {_quoted(value)}")
    return next(iter(value.values()))


def _quoted(names: Iterable[str]) -> str:
    return ", ".join(map(repr, names))[:200]  # a client's names may be long
