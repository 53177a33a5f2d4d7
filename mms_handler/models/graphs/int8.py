"""Run a model as the int8 graph packed in its archive, if that is near enough and faster.

The int8 graph replaces the best float graph.  The float graph still answers inputs of shapes that
were not compared, or for which the predictions were not near enough.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any, NamedTuple, Sequence

import mxnet as mx

from mms_handler.models.arrays import plain_leaves
from mms_handler.models.evidence import distance
from mms_handler.models.graphs import faster, quantize
from mms_handler.models.graphs.checked import Checked, Run, Same
from mms_handler.models.graphs.executors import COPIED_BYTES, SIZES, Array, Executors
from mms_handler.models.graphs.faster import Baseline
from mms_handler.models.graphs.graph import Graph, graph_of
from mms_handler.models.graphs.in_place import GraphForward, install

log = logging.getLogger(__name__)

#: Allowed difference from the float graph's prediction: TIMES the largest difference measured at
#: packing, and at least MIN_DIFFERENCE.  Both are relative to the prediction's largest value.
TIMES, MIN_DIFFERENCE = 2, 0.01


class PackedInt8(NamedTuple):
    """The int8 graph of an archive.

    Attributes:
        symbol: the file with its symbol.
        max_difference: the largest difference from the float graph, measured at packing.
    """

    symbol: Path
    max_difference: float

    def near(self, expected: Any, prediction: Any) -> bool:
        """Whether two predictions have the same shapes and differ little enough; see TIMES."""
        limit = max(MIN_DIFFERENCE, TIMES * self.max_difference)
        shapes = [[leaf.shape for leaf in plain_leaves(v)] for v in (expected, prediction)]
        return shapes[0] == shapes[1] and distance(expected, prediction) <= limit

    def executors(
        self, graph: Graph, arrays: Sequence[Array], max_rows: int | None
    ) -> Executors | None:
        """Executors for the int8 graph; None if its weights are too large, or not on a CPU.

        Args:
            graph: the model's float graph.
            arrays: a sample.
            max_rows: rows of one forward of the float graph; None if its rows are dependent.

        Raises:
            ModelError: the int8 graph belongs to another model.
        """
        symbol = mx.sym.load(str(self.symbol))
        executors = Executors(quantize.with_symbol(graph, symbol), max_rows, fused=True)
        sizes = min(graph.max_rows([array.shape for array in arrays]), SIZES)
        # Each executor holds a byte for each weight.
        if graph.device.device_type != "cpu" or graph.bytes // 4 * sizes > COPIED_BYTES:
            return None
        if max_rows and max_rows > 1 and not executors.independent(arrays):
            executors.max_rows = 1
        return executors


def try_int8(block: Any, arguments: Sequence[Any], packed: PackedInt8) -> None:
    """From now on run a Block as its int8 graph, if that is near and faster for ``arguments``.

    Raises:
        ModelError: the Block has no graph, or the int8 graph belongs to another model.
    """
    forward = block.forward
    arrays = [argument.asnumpy() for argument in arguments]
    if isinstance(forward, GraphForward):
        graph, max_rows = forward.executors.graph, forward.executors.max_rows
    else:
        graph = graph_of(block, arguments)
        independent = Executors(graph).independent(arrays)
        max_rows = graph.max_rows([array.shape for array in arrays]) if independent else None
    executors = packed.executors(graph, arrays, max_rows)
    if executors is None:
        return
    name, best = "int8 graph of the Block", faster.waiting(forward)
    int8_forward = GraphForward(
        name, forward, executors, best(arguments), packed.near, recheck=True
    )
    if _is_better(name, arguments, best, int8_forward.compute, packed.near):
        int8_forward.checked.trust(arguments)
        install(block, int8_forward)


def checked_int8(
    executors: Executors, arrays: Sequence[Array], packed: PackedInt8
) -> Executors | Checked:
    """A Module's int8 graph, if that is near and faster for ``arrays``; else ``executors``.

    Raises:
        ModelError: the int8 graph belongs to another model.
    """
    int8_executors = packed.executors(executors.graph, arrays, executors.max_rows)
    if int8_executors is None:
        return executors
    name = "int8 graph of the Module"
    if not _is_better(name, arrays, executors, int8_executors, packed.near):
        return executors
    checked = Checked(name, executors, int8_executors, packed.near, int8_executors)
    checked.trust(arrays)
    return checked


def _is_better(name: str, arrays: Sequence[Any], best: Run, quick: Run, same: Same) -> bool:
    """Whether the int8 graph is near and faster for a sample."""
    trial = faster.compare(Baseline([arrays], [best(arrays)], 0), best, quick, same)
    log.info("%s: %s", name, trial.summary)
    return bool(trial.gain and trial.gain >= faster.GAIN)
