"""Which shapes a graph takes, by MXNet's inference alone: nothing is computed."""

from __future__ import annotations

import time
from typing import Any, Iterator, Mapping, NamedTuple, Optional, Sequence, Tuple

import mxnet as mx

from mms_handler.errors import Failed, attempt
from mms_handler.models.graphs.graph import Graph, is_hybrid, traced
from mms_handler.models.graphs.in_place import GraphForward
from mms_handler.models.mx import first_line

Shape = Tuple[int, ...]

#: A shape; None is a dimension of any size.
Pattern = Tuple[Optional[int], ...]

#: Seconds of processor time that looking for a shape may take.
SEARCH_S = 0.5

#: Sides of pictures, and lengths of sequences, that are tried.
_COMMON_SIDES = (32, 224, 299)
_SIDES = (*_COMMON_SIDES, *range(1, 257))

#: Sides in a row of which the roundest is taken.
_ROW = 8


class ShapeRules(NamedTuple):
    """A symbol, and what decides which shapes it takes.

    Fields:
        symbol: the graph.
        names: of its inputs.
        parameters: the shapes of its parameters.
        exact: whether a call computes just this symbol.  Python code may do something else for
            other shapes; then the symbol only tells what to try.
    """

    symbol: Any
    names: Sequence[str]
    parameters: Mapping[str, Shape]
    exact: bool = True

    @classmethod
    def of_block(cls, block: Any, inputs: int) -> ShapeRules | None:
        """The rules of a Block that is called with this many arrays; None if it has no graph."""
        forward = vars(block).get("forward")
        if isinstance(forward, GraphForward):
            return cls.of_graph(forward.executors.graph)
        trace = attempt(traced, block, inputs)
        if isinstance(trace, Failed):
            return None
        symbol, names = trace
        arrays = {
            name: attempt(parameter.list_data) for name, parameter in block.collect_params().items()
        }
        if any(isinstance(copies, Failed) for copies in arrays.values()):
            return None  # one has no values yet
        shapes = {name: copies[0].shape for name, copies in arrays.items()}
        return cls(symbol, names, shapes, is_hybrid(block))

    @classmethod
    def of_graph(cls, graph: Graph) -> ShapeRules:
        """The rules of a graph.  Labels and initial states have a value for each row."""
        sizes = {
            name: array.shape
            for name, array in graph.parameters.items()
            if not name.endswith("label") and "begin_state" not in name
        }
        return cls(graph.symbol, graph.names, sizes)

    def refusal(self, shapes: Sequence[Shape]) -> str | None:
        """Why the graph does not take inputs of these shapes; None if it does."""
        arguments = set(self.symbol.list_inputs())
        sizes = {name: size for name, size in self.parameters.items() if name in arguments}
        try:  # infer_shape itself prints all arguments before it raises
            self.symbol.infer_shape_partial(**{**sizes, **dict(zip(self.names, shapes))})
        except mx.base.MXNetError as exc:
            return first_line(exc)
        return None

    def take(self, *shapes: Shape) -> bool:
        """Whether the graph takes inputs of these shapes."""
        return self.refusal(shapes) is None

    def search(self) -> tuple[Shape, Pattern] | None:
        """A shape that the graph takes, and the pattern of all such shapes.

        None if no shape was seen to work, or if the graph has several inputs.
        """
        if len(self.names) != 1:
            return None
        end = time.thread_time() + SEARCH_S
        for shape in self._candidates():
            if self.take(shape):
                rounder = self._rounder(shape)
                return rounder, self._pattern(rounder)
            if time.thread_time() > end:
                break
        return None

    def _candidates(self) -> Iterator[Shape]:
        """Shapes that the graph may take, the likeliest first."""
        weights = [size for size in self.parameters.values() if len(size) > 1]
        # The first weight's inputs are its second dimension, in Dense and in convolutions.
        widths = list(dict.fromkeys(side for size in weights for side in (size[1], *size)))[:20]
        dimensions = [len(size) for size in weights[:1] if len(size) > 2]
        for count in dict.fromkeys([*dimensions, 2, 3, 4]):
            if count == 2:
                yield from ((1, width) for width in widths)
                yield from ((1, side) for side in _SIDES)
                continue
            for width in widths[:3]:
                for side in _SIDES:
                    sides = (side,) * (count - 2)
                    yield (1, width, *sides)
                    yield (1, *sides, width)

    def _rounder(self, shape: Shape) -> Shape:
        """The roundest of the sizes of pictures that the graph takes: pooling ignores a border."""
        side = shape[-1]
        if len(shape) < 4 or set(shape[2:]) != {side} or side in _COMMON_SIDES:
            return shape
        sides = [side]
        while self.take((*shape[:2], *(sides[-1] + 1,) * (len(shape) - 2))) and len(sides) < _ROW:
            sides.append(sides[-1] + 1)
        best = max(sides, key=lambda number: number & -number)  # its largest power of two
        return (*shape[:2], *(best,) * (len(shape) - 2))

    def _pattern(self, shape: Shape) -> Pattern:
        def is_free(place: int) -> bool:
            side = shape[place]
            others = (side + 1, 2 * side + 3)
            return all(self.take((*shape[:place], other, *shape[place + 1 :])) for other in others)

        return tuple(None if is_free(place) else side for place, side in enumerate(shape))
