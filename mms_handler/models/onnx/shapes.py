"""Shapes in which the number of rows is free, as MXNet's inference shows them.

MXNet infers lengths only as numbers.  So it is asked for several numbers of rows, and a length that
follows them is a multiple of the rows, plus a constant.
"""

from __future__ import annotations

import itertools
from typing import Any, Iterator, NamedTuple, Optional, Sequence, Tuple

import mxnet as mx

from mms_handler.errors import Failed, ModelError, attempt
from mms_handler.models.graphs.graph import Graph
from mms_handler.models.mx import first_line

#: Numbers of rows for which the lengths are inferred.
ROWS = (2, 3, 7)

#: The place of the rows in an input's shape; None: it has none.
Axis = Optional[int]

#: Inputs up to which all places of the rows are tried; beyond, only the first dimension of each.
_TRIED_INPUTS = 4


class Length(NamedTuple):
    """A dimension: ``times`` numbers for each row, and ``fixed`` more."""

    fixed: int
    times: int = 0

    def of(self, rows: int) -> int:
        """The length for a number of rows."""
        return self.fixed + self.times * rows

    def __str__(self) -> str:
        """As ONNX names it: ``N``, ``4*N``, ``N+1``, ``10``."""
        if not self.times:
            return str(self.fixed)
        name = "N" if self.times == 1 else f"{self.times}*N"
        return f"{name}+{self.fixed}" if self.fixed else name


Lengths = Tuple[Length, ...]


class Rows(NamedTuple):
    """Where the rows are in a graph's inputs.

    Fields:
        axes: the place in each input's shape; None: it is the same for any number of rows.
        sample: the inputs' shapes, whose other lengths are fixed.
    """

    axes: Tuple[Axis, ...]
    sample: Tuple[Tuple[int, ...], ...]

    @property
    def free(self) -> bool:
        """Whether the graph takes any number of rows."""
        return any(axis is not None for axis in self.axes)

    def shapes(self, rows: int) -> list[tuple[int, ...]]:
        """The inputs' shapes for a number of rows."""
        return [
            shape if axis is None else (*shape[:axis], rows, *shape[axis + 1 :])
            for axis, shape in zip(self.axes, self.sample)
        ]

    def lengths(self) -> list[Lengths]:
        """The inputs' shapes."""
        return [
            tuple(Length(0, 1) if place == axis else Length(side) for place, side in enumerate(s))
            for axis, s in zip(self.axes, self.sample)
        ]


class Inferred(NamedTuple):
    """The shapes and types of everything that a graph computes.

    Fields:
        rows: where the rows are.
        shapes: of each output of each node, in the order of the symbol's internals; None: unknown.
        types: likewise.
    """

    rows: Rows
    shapes: Sequence[Optional[Lengths]]
    types: Sequence[Any]


class FixedRows(ModelError):
    """An operator takes one number of rows, which MXNet's inference did not show."""


def infer(graph: Graph, sample: Sequence[Sequence[int]], *, free: bool = True) -> Inferred:
    """The shapes and types in a graph, for any number of rows if it takes any.

    Args:
        graph: the graph.
        sample: shapes of the inputs, which the graph takes.
        free: whether the number of rows may be free.

    Raises:
        ModelError: it does not take them.
    """
    shapes = tuple(tuple(shape) for shape in sample)
    internals = graph.symbol.get_internals()
    nowhere: tuple[Axis, ...] = (None,) * len(shapes)
    for axes in _candidates(shapes) if free else [nowhere]:
        rows = Rows(axes, shapes)
        lengths = attempt(_lengths, graph, internals, rows)
        if not isinstance(lengths, Failed):
            return Inferred(rows, lengths, _types(graph, internals))
    reason = first_line(lengths.exc)
    raise ModelError(f"MXNet infers no shapes from inputs of {_listed(shapes)}: {reason}")


def _listed(shapes: Sequence[Sequence[int]]) -> str:
    return ", ".join(map(str, shapes))


def _candidates(shapes: Sequence[Sequence[int]]) -> Iterator[tuple[Axis, ...]]:
    """Where the rows may be: first in each input, then elsewhere in some, then nowhere."""
    first = tuple(0 if shape else None for shape in shapes)
    nowhere: tuple[Axis, ...] = (None,) * len(shapes)
    yield first
    if len(shapes) <= _TRIED_INPUTS:
        places = [[*range(min(2, len(shape))), None] for shape in shapes]
        yield from (axes for axes in itertools.product(*places) if axes not in (first, nowhere))
    yield nowhere


def _lengths(graph: Graph, internals: Any, rows: Rows) -> list[Lengths | None]:
    """The shapes of all that the graph computes.

    Raises:
        MXNetError: the graph does not take these inputs with other numbers of rows.
    """
    counts = ROWS if rows.free else ROWS[:1]
    inferred = [_shapes(graph, internals, rows.shapes(count)) for count in counts]
    return [_affine(counts, shapes) for shapes in zip(*inferred)]


def _shapes(graph: Graph, internals: Any, shapes: Sequence[Any]) -> Sequence[tuple[int, ...]]:
    inputs = dict(zip(graph.names, map(tuple, shapes)))
    # Not infer_shape, which prints before it raises.
    arguments, _, states = graph.symbol.infer_shape_partial(**inputs)
    names = [*graph.symbol.list_arguments(), *graph.symbol.list_auxiliary_states()]
    for name, shape in zip(names, [*arguments, *states]):
        array = graph.parameters.get(name)
        if array is not None and array.shape != shape and not is_zero_state(name, array):
            raise mx.base.MXNetError(f"{name} has shape {array.shape}, these rows need {shape}")
    outputs: Sequence[tuple[int, ...]] = internals.infer_shape_partial(**inputs)[1]
    return outputs


def is_zero_state(name: str, array: Any) -> bool:
    """Whether a parameter stands for zeros of any shape: a label, or a state before the first row.

    ``Executors`` treats them alike.
    """
    return name.endswith("label") or not array.asnumpy().any()


def _affine(counts: Sequence[int], shapes: Sequence[tuple[int, ...]]) -> Lengths | None:
    if any(not shape or 0 in shape for shape in shapes) or len({len(s) for s in shapes}) > 1:
        return None
    return tuple(_length(counts, sides) for sides in zip(*shapes))


def _length(counts: Sequence[int], sides: Sequence[int]) -> Length:
    """The length that is ``sides`` for ``counts`` rows.

    Raises:
        MXNetError: it is not a multiple of the rows and a constant.
    """
    times = (sides[-1] - sides[0]) // ((counts[-1] - counts[0]) or 1)
    length = Length(sides[0] - times * counts[0], times)
    if [length.of(count) for count in counts] != list(sides):
        raise mx.base.MXNetError(f"a dimension is {list(sides)} for {list(counts)} rows")
    return length


def _types(graph: Graph, internals: Any) -> Sequence[Any]:
    known = dict(zip(graph.names, graph.dtypes))
    arguments = set(graph.symbol.list_inputs())
    known.update((n, array.dtype) for n, array in graph.parameters.items() if n in arguments)
    types: Sequence[Any] = internals.infer_type_partial(**known)[1]
    return types
