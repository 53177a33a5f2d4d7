"""Let a model run as the int8 graph of its archive, where that is near enough and faster.

It takes the place of the best float graph, which stays behind it: what is not near enough, and
what has other shapes, is the float graph's as before.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any, Callable, NamedTuple, Sequence

import mxnet as mx

from mms_handler.errors import Failed, attempt
from mms_handler.models.arrays import plain
from mms_handler.models.evidence import distance
from mms_handler.models.graphs import faster, quantize
from mms_handler.models.graphs.executors import COPIED_BYTES, SIZES, Array, Executors
from mms_handler.models.graphs.faster import Probe, Same
from mms_handler.models.graphs.graph import Graph, graph_of
from mms_handler.models.graphs.in_place import SHAPES, Swapped, install

log = logging.getLogger(__name__)

#: How far a prediction may be from the float graph's: in parts of the largest difference that was
#: seen when the model was packed, and in parts of its own largest value at least.
TIMES, LEAST = 2, 0.01


class PackedInt8(NamedTuple):
    """The int8 graph of an archive."""

    symbol: Path
    max_difference: float  # that was seen when it was packed

    def near(self, wanted: Any, found: Any) -> bool:
        """Whether two predictions differ by no more than was to be expected."""
        shapes = [[one.shape for one in plain(value)] for value in (wanted, found)]
        return shapes[0] == shapes[1] and distance(wanted, found) <= max(
            LEAST, TIMES * self.max_difference
        )

    def rows(self, graph: Graph, arrays: Sequence[Array], most: int | None) -> Executors | None:
        """The int8 graph, bound to no rows yet; None where its weights are too large.

        Args:
            graph: the model's own.
            arrays: of the sample.
            most: rows of a forward of it; None: its rows may meet.
        """
        found = Executors(quantize.on(graph, mx.sym.load(str(self.symbol))), most, fused=True)
        sizes = min(graph.most([one.shape for one in arrays]), SIZES)
        if graph.device.device_type != "cpu" or graph.bytes // 4 * sizes > COPIED_BYTES:
            return None  # a byte for each weight, in each executor
        if most and most > 1 and not found.independent(arrays):
            found.most = 1
        return found


def _does(what: str, arguments: Sequence[Any], best: Any, quick: Any, same: Same) -> bool:
    """Whether the int8 graph is near enough and faster, for a sample that others are like."""
    wanted = best(arguments)
    found = faster.compare(Probe([arguments], [wanted], 0), best, quick, same)
    log.info("int8 graph of the %s: %s", what, found.told)
    return bool(found.gain and found.gain >= faster.GAIN)


# --- Blocks ----------------------------------------------------------------------------------


class Near(Swapped):
    """A Block's forward on the int8 graph, for shapes that were seen to give nearly the same."""

    def __init__(self, plain: Callable[..., Any], bound: Executors, like: Any, near: Same) -> None:
        super().__init__(plain, bound, like)
        self._near = near

    def same(self, wanted: Any, found: Any) -> bool:
        return self._near(wanted, found)

    def forget(self) -> None:
        """The parameters have other values, for which nothing was seen yet."""
        super().forget()
        self._right.clear()


def try_int8(block: Any, args: Sequence[Any], int8: PackedInt8) -> None:
    """Let a Block run as its archive's int8 graph from now on, if that does for its sample.

    Raises:
        ModelError: the graph is not that of this Block.
    """
    forward = block.forward
    swapped = isinstance(forward, Swapped)
    graph = forward.bound.graph if swapped else graph_of(block, args)
    arrays = [one.asnumpy() for one in args]
    if swapped:
        most = forward.bound.most
    else:
        own = Executors(graph)
        most = graph.most([one.shape for one in args]) if own.independent(arrays) else None
    rows = int8.rows(graph, arrays, most)
    if rows is None:
        return
    best = faster.computing(forward)
    found = Near(forward, rows, best(args), int8.near)
    if _does("Block", args, best, found.compute, int8.near):
        found.trust(args)
        install(block, found)


# --- Modules ---------------------------------------------------------------------------------


class NearRows:
    """Runs a Module's int8 graph, for samples of shapes that were seen to give nearly the same."""

    def __init__(self, best: Executors, quick: Executors, near: Same) -> None:
        self._best, self._quick, self._near = best, quick, near
        self._right: dict[Any, bool] = {}

    def __call__(self, arrays: Sequence[Array]) -> list[Array]:
        """Each output, with all rows in their order."""
        shapes = tuple(array.shape[1 if self._quick.most else 0 :] for array in arrays)
        if shapes not in self._right:
            return self._compared(shapes, arrays)
        run = self._quick if self._right[shapes] else self._best
        return run(arrays)

    def _compared(self, shapes: Any, arrays: Sequence[Array]) -> list[Array]:
        found, wanted = attempt(self._quick, arrays), self._best(arrays)
        if len(self._right) < SHAPES:
            right = not isinstance(found, Failed) and self._near(wanted, found)
            self._right[shapes] = right
        return wanted


def replaced(best: Executors, arrays: Sequence[Array], int8: PackedInt8) -> Executors | NearRows:
    """A Module's archived int8 graph, if that does for its sample; else ``best``.

    Raises:
        ModelError: the graph is not that of this Module.
    """
    rows = int8.rows(best.graph, arrays, best.most)
    if rows is None:
        return best
    found = NearRows(best, rows, int8.near)
    found(arrays)  # compared
    return found if _does("Module", arrays, best, rows, int8.near) else best
