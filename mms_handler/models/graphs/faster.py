"""When a model is loaded, try whether its graph is faster bound and fused; use it if it is.

On a CPU MXNet fuses Modules, but not Blocks; fused, MobileNet is four to six times as fast.  The
graph replaces the ``forward`` of a HybridBlock, so scripts that call their model use it too.
"""

from __future__ import annotations

import contextlib
import logging
import time
from typing import Any, Callable, Iterator, NamedTuple, Sequence

import mxnet as mx
import numpy as np

from mms_handler.errors import Failed, attempt
from mms_handler.models.arrays import as_ndarray, filled, leaves, row_count, stack
from mms_handler.models.evidence import graphs_agree, pairs
from mms_handler.models.graphs.checked import Run, Same
from mms_handler.models.graphs.executors import Executors, may_fuse
from mms_handler.models.graphs.graph import any_child_has_hooks, has_graph, of_block
from mms_handler.models.graphs.in_place import GraphForward, install
from mms_handler.models.mx import first_line

log = logging.getLogger(__name__)

#: How many times as fast a graph must be to be used.
GAIN = 1.1

#: Two graphs are timed for TIMING_S seconds, but with at most RUNS runs each.
TIMING_S, RUNS = 0.25, 5

#: No other graph is tried for a model whose run takes longer than this, in seconds.  Where nobody
#: waits for the trying, both times are multiplied by a patience.
SLOW_S = 1.0

#: A Block that takes longer than this, in seconds, gains little from a graph that is not fused.
UNFUSED_S = 0.03


# --- comparing -------------------------------------------------------------------------------


class Baseline(NamedTuple):
    """A model's own predictions, with which its graphs are compared."""

    inputs: list[Any]  # arrays for a run; a second item has other values or more rows
    predictions: list[Any]  # for each of the inputs; or a Failed
    seconds: float  # that the first one took
    patience: float = 1  # TIMING_S and SLOW_S are multiplied by it


def baseline(run: Run, arrays: Sequence[Any], patience: float = 1) -> Baseline:
    """Run a model on ``arrays``, and on similar random ones, stacked with the first if possible."""
    (first, similar), _ = next(pairs(list(arrays)))
    start = time.perf_counter()
    prediction = attempt(run, first)
    seconds = time.perf_counter() - start
    if isinstance(prediction, Failed) or seconds > SLOW_S * patience:
        return Baseline([first], [prediction], seconds, patience)
    stackable = not isinstance(attempt(row_count, [first, similar]), Failed)
    second = stack([first, similar]) if stackable else similar
    return Baseline([first, second], [prediction, attempt(run, second)], seconds, patience)


class Trial(NamedTuple):
    """The result of trying a graph."""

    gain: float | None  # how many times as fast it is; 0: it disagrees; None: it was not tried
    summary: str  # for the log


def compare(model: Baseline, best: Run, graph: Run, same: Same = graphs_agree) -> Trial:
    """Compare a graph's predictions and speed with those of the model, which ``best`` runs."""
    if model.seconds > SLOW_S * model.patience:
        return Trial(None, f"not tried, a run takes {model.seconds:.1f} s")
    for arrays, expected in zip(model.inputs, model.predictions):
        if isinstance(expected, Failed):
            continue
        prediction = attempt(graph, arrays)
        if isinstance(prediction, Failed):
            return Trial(0, f"cannot be run: {first_line(prediction.exc)}")
        if not same(expected, prediction):
            return Trial(0, "gives other values")
    slow, fast = fastest(best, graph, model.inputs[0], TIMING_S * model.patience)
    summary = f"{slow / fast:.2f} times as fast ({slow * 1e3:.2f} ms, {fast * 1e3:.2f} ms)"
    return Trial(slow / fast, summary)


def fastest(best: Run, graph: Run, arrays: Sequence[Any], timing_s: float) -> tuple[float, float]:
    """Seconds of the fastest run of each.  They take turns, because the machine may be busy."""
    start = time.perf_counter()
    times: list[tuple[float, float]] = []
    while len(times) < RUNS and time.perf_counter() - start < timing_s:
        times.append((_seconds(best, arrays), _seconds(graph, arrays)))
    return min(first for first, _ in times), min(second for _, second in times)


def _seconds(run: Run, arrays: Sequence[Any]) -> float:
    start = time.perf_counter()
    run(arrays)
    return time.perf_counter() - start


# --- Modules ---------------------------------------------------------------------------------


def try_unfused(executors: Executors, arrays: Sequence[Any], patience: float = 1) -> Executors:
    """Executors without MXNet's fusion, unless the fused graph gives the same and is faster."""
    graph = executors.graph
    if graph.device.device_type != "cpu" or not may_fuse(graph, [a.shape for a in arrays]):
        return executors
    unfused = Executors(graph, executors.max_rows, fused=False)
    trial = compare(baseline(unfused, arrays, patience), unfused, executors)
    log.info("fused graph of the Module: %s", trial.summary)
    return executors if trial.gain is None or trial.gain >= GAIN else unfused


# --- Blocks ----------------------------------------------------------------------------------


@contextlib.contextmanager
def recorded_calls(hybrid: Sequence[Any]) -> Iterator[list[tuple[Any, tuple[Any, ...]]]]:
    """Record the first call of each of these Blocks in the ``with`` block, with its arguments."""
    calls: list[tuple[Any, tuple[Any, ...]]] = []
    for block in hybrid:
        block.forward = _recording(block, calls)
    try:
        yield calls
    finally:
        for block in hybrid:
            del block.forward


def _recording(block: Any, calls: list[tuple[Any, tuple[Any, ...]]]) -> Callable[..., Any]:
    forward = block.forward

    def recording(*arguments: Any, **keywords: Any) -> Any:
        is_first = all(block is not other for other, _ in calls)
        if is_first and not keywords and not any_child_has_hooks(block):
            calls.append((block, arguments))
        return forward(*arguments, **keywords)

    return recording


class FasterGraph(NamedTuple):
    """A graph that was found to be faster than its Block: all that another process must know.

    Attributes:
        shapes: of the arguments for which it was tried.
        dtypes: of these arguments.
        fused: whether its operators are fused.
        max_rows: the limit of rows in one forward; None if its rows are not independent.
        gain: how many times as fast it is.
    """

    shapes: Sequence[Sequence[int]]
    dtypes: Sequence[str]
    fused: bool
    max_rows: int | None
    gain: float

    def name(self) -> str:
        """What the log calls it."""
        return f"{'fused' if self.fused else 'unfused'} graph of the Block"


def try_graph(
    block: Any, arguments: Sequence[Any], straight: bool = False, patience: float = 1
) -> FasterGraph | None:
    """Let a Block run as its graph from now on, if that agrees and is faster for ``arguments``.

    All Blocks in it must be HybridBlocks, because Python in a forward may do more than compute.

    Args:
        block: the Block.
        arguments: the NDArrays of a call.
        straight: whether ``in_place.straight`` will call it, from ndarrays to ndarrays.
        patience: how many times as long as usual a run, and the timing, may take.
    """
    if not has_graph(block, arguments):
        return None
    graph = attempt(of_block, block, arguments)
    if isinstance(graph, Failed):
        log.info("the Block has no graph: %s", first_line(graph.exc))
        return None
    straight = straight and all(argument.dtype == np.float32 for argument in arguments)
    arrays = [argument.asnumpy() for argument in arguments]
    inputs = arrays if straight else arguments
    run = between_ndarrays(block.forward) if straight else waiting(block.forward)
    model = baseline(run, inputs, patience)
    if isinstance(model.predictions[0], Failed):
        return None
    shapes = [argument.shape for argument in arguments]
    is_slow = model.seconds > UNFUSED_S and _seconds(run, inputs) > UNFUSED_S
    fusions = [True] * may_fuse(graph, shapes) + [False] * (not is_slow)
    if not fusions:
        log.info("no graph of the Block is tried: too large to fuse, too slow to gain otherwise")
    dtypes = [np.dtype(argument.dtype).name for argument in arguments]
    for fused in fusions:
        tried = FasterGraph(shapes, dtypes, fused, None, 0)
        executors = Executors(graph, None, fused)
        forward = GraphForward(tried.name(), block.forward, executors, model.predictions[0])
        trial = compare(model, run, forward.compute_plain if straight else forward.compute)
        log.info("%s: %s", tried.name(), trial.summary)
        if trial.gain and trial.gain >= GAIN:
            if executors.independent(arrays):
                executors.max_rows = graph.max_rows(shapes)
            forward.checked.trust(arguments)
            install(block, forward)
            return tried._replace(max_rows=executors.max_rows, gain=trial.gain)
    return None


def use_graph(block: Any, faster: FasterGraph) -> bool:
    """Let a Block run as the graph that was found to be faster, by another process of the model.

    Its predictions are compared once more, for zeros; nothing is timed.

    Returns:
        Whether it does so from now on.
    """
    arguments = [
        mx.nd.zeros(tuple(shape), dtype=dtype) for shape, dtype in zip(faster.shapes, faster.dtypes)
    ]
    if not has_graph(block, arguments):
        return False
    executors = Executors(of_block(block, arguments), faster.max_rows, faster.fused)
    expected = waiting(block.forward)(arguments)
    forward = GraphForward(faster.name(), block.forward, executors, expected)
    if not graphs_agree(expected, forward.compute(arguments)):
        return False
    forward.checked.trust(arguments)
    install(block, forward)
    return True


def between_ndarrays(forward: Callable[..., Any]) -> Run:
    """``forward`` from float32 ndarrays to ndarrays."""

    def run(arrays: Sequence[Any]) -> Any:
        prediction = forward(*[as_ndarray(array, mx.cpu()) for array in arrays])
        return filled(prediction, (leaf.asnumpy() for leaf in leaves(prediction)))

    return run


def waiting(forward: Callable[..., Any]) -> Run:
    """``forward`` for a list of arguments, which waits until its prediction is computed."""

    def run(arguments: Sequence[Any]) -> Any:
        prediction = forward(*arguments)
        for leaf in leaves(prediction):
            leaf.wait_to_read()
        return prediction

    return run
