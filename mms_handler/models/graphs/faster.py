"""Try, when a model is loaded, whether its graph runs faster bound and fused; keep what is right.

A Module gets MXNet's fusion on a CPU by itself, a Block does not: that is a factor of four to six
for MobileNet.  A HybridBlock's own ``forward`` is replaced, so that scripts which call their
model have it too; what the graph does not take, or gives otherwise, the Block answers as before.
"""

from __future__ import annotations

import contextlib
import logging
import time
from typing import Any, Callable, Iterator, NamedTuple, Sequence

import mxnet as mx
import numpy as np

from mms_handler.errors import Failed, attempt
from mms_handler.models.arrays import as_ndarray, leaves, rows, stack
from mms_handler.models.evidence import graphs_agree, pairs
from mms_handler.models.graphs.executors import Executors, affordable
from mms_handler.models.graphs.graph import _listened, swappable, traced
from mms_handler.models.graphs.in_place import Swapped, filled, install
from mms_handler.models.mx import first_line

log = logging.getLogger(__name__)

#: How many times as fast a graph must be to be kept.
GAIN = 1.1

#: Seconds, and runs of each, for timing two graphs.
TIMING_S, RUNS = 0.25, 5

#: Seconds of a run that is too slow for trying others.
SLOW_S = 1.0

#: Seconds of a Block from which on the same operators in a graph are hardly faster.
UNFUSED_S = 0.03

Run = Callable[[Sequence[Any]], Any]

Same = Callable[[Any, Any], bool]


class Probe(NamedTuple):
    """What a model does, as a measure for its graphs."""

    data: list[Any]  # arrays; and others like them, below them where rows are even
    wanted: list[Any]  # what the model gives for each, or Failed
    seconds: float  # for the first


def probe(plain: Run, arrays: Sequence[Any]) -> Probe:
    """Run ``plain`` on ``arrays``, and on rows of both them and others like them."""
    (first, other), _ = next(pairs(list(arrays)))
    start = time.perf_counter()
    wanted = attempt(plain, first)
    seconds = time.perf_counter() - start
    if isinstance(wanted, Failed) or seconds > SLOW_S:
        return Probe([first], [wanted], seconds)
    even = not isinstance(attempt(rows, [first, other]), Failed)
    both = stack([first, other]) if even else other
    return Probe([first, both], [wanted, attempt(plain, both)], seconds)


class Tried(NamedTuple):
    """How a graph did."""

    gain: float | None  # times as fast; 0: not right; None: not tried
    told: str  # in words for the log


def compare(measure: Probe, plain: Run, graph: Run, same: Same = graphs_agree) -> Tried:
    """Whether a graph gives what the model gave, and how fast."""
    if measure.seconds > SLOW_S:
        return Tried(None, f"not tried, a run takes {measure.seconds:.1f} s")
    for arrays, wanted in zip(measure.data, measure.wanted):
        if isinstance(wanted, Failed):
            continue
        found = attempt(graph, arrays)
        if isinstance(found, Failed):
            return Tried(0, f"cannot be run: {first_line(found.exc)}")
        if not same(wanted, found):
            return Tried(0, "gives other values")
    before, after = _seconds(plain, graph, measure.data[0])
    told = f"{before / after:.2f} times as fast ({before * 1e3:.2f} ms, {after * 1e3:.2f} ms)"
    return Tried(before / after, told)


def _seconds(plain: Run, graph: Run, arrays: Sequence[Any]) -> tuple[float, float]:
    """Of the fastest run of each, by turns: others may be at work."""
    start = time.perf_counter()
    times: list[tuple[float, float]] = []
    while len(times) < RUNS and time.perf_counter() - start < TIMING_S:
        times.append((_second(plain, arrays), _second(graph, arrays)))
    return min(first for first, _ in times), min(second for _, second in times)


def _second(run: Run, arrays: Sequence[Any]) -> float:
    start = time.perf_counter()
    run(arrays)
    return time.perf_counter() - start


# --- Modules ---------------------------------------------------------------------------------


def fuse(bound: Executors, arrays: Sequence[Any]) -> Executors:
    """A Module's graph without MXNet's fusion, unless that is right and faster."""
    graph = bound.graph
    if graph.device.device_type != "cpu" or not affordable(graph, [one.shape for one in arrays]):
        return bound
    plain = Executors(bound.graph, bound.most, fused=False)
    found = compare(probe(plain, arrays), plain, bound)
    log.info("fused graph of the Module: %s", found.told)
    return bound if found.gain is None or found.gain >= GAIN else plain


# --- Blocks ----------------------------------------------------------------------------------


def blocks(model: Any) -> list[Any]:
    """The HybridBlocks that a model is, or that are in its tuple or list; with MXNet's forward."""
    members = model if isinstance(model, (list, tuple)) else [model]
    found = {id(one): one for one in members if isinstance(one, mx.gluon.HybridBlock)}
    return [one for one in found.values() if "forward" not in vars(one)]


@contextlib.contextmanager
def recorded_calls(found: Sequence[Any]) -> Iterator[list[tuple[Any, tuple[Any, ...]]]]:
    """Note each Block of ``found`` that is called within, with the arguments of its first call."""
    calls: list[tuple[Any, tuple[Any, ...]]] = []
    for block in found:
        block.forward = _noting(block, calls)
    try:
        yield calls
    finally:
        for block in found:
            del block.forward


def _noting(block: Any, calls: list[tuple[Any, tuple[Any, ...]]]) -> Callable[..., Any]:
    forward = block.forward

    def noting(*args: Any, **kwargs: Any) -> Any:
        first = all(block is not other for other, _ in calls)
        if first and not kwargs and not any(map(_listened, block._children.values())):
            calls.append((block, args))
        return forward(*args, **kwargs)

    return noting


def try_graph(block: Any, args: Sequence[Any], straight: bool = False) -> None:
    """Let a Block run as a graph from now on, if that is right and faster for these arguments.

    Only HybridBlocks through and through: Python in another's forward may do more than compute.

    Args:
        block: what is called.
        args: NDArrays.
        straight: it will be called with ndarrays, for ndarrays; as ``in_place.straight`` does.
    """
    if not swappable(block, args):
        return
    straight = straight and all(one.dtype == np.float32 for one in args)
    graph = attempt(traced, block, args)
    if isinstance(graph, Failed):
        log.info("the Block has no graph: %s", first_line(graph.exc))
        return
    arrays = [one.asnumpy() for one in args]
    plain = between_ndarrays(block.forward) if straight else computing(block.forward)
    given = arrays if straight else args
    measure = probe(plain, given)
    if isinstance(measure.wanted[0], Failed):
        return
    shapes = [one.shape for one in args]
    slow = measure.seconds > UNFUSED_S and _second(plain, given) > UNFUSED_S
    ways = [True] * affordable(graph, shapes) + [False] * (not slow)
    if not ways:
        log.info("no graph of the Block is tried: too large to fuse, too slow to gain otherwise")
    for fused in ways:
        bound = Executors(graph, None, fused)
        swapped = Swapped(block.forward, bound, measure.wanted[0])
        found = compare(measure, plain, swapped.run if straight else swapped.compute)
        log.info("%s graph of the Block: %s", "fused" if fused else "unfused", found.told)
        if found.gain and found.gain >= GAIN:
            if bound.independent(arrays):
                bound.most = graph.most(shapes)
            swapped.trust(args)
            install(block, swapped)
            return


def between_ndarrays(forward: Callable[..., Any]) -> Run:
    """``forward`` for float32 ndarrays, with what it gives as ndarrays."""

    def run(arrays: Sequence[Any]) -> Any:
        prediction = forward(*[as_ndarray(one, mx.cpu()) for one in arrays])
        return filled(prediction, (one.asnumpy() for one in leaves(prediction)))

    return run


def computing(forward: Callable[..., Any]) -> Run:
    """``forward`` for arguments in a list, when its prediction is computed."""

    def run(args: Sequence[Any]) -> Any:
        prediction = forward(*args)
        for one in leaves(prediction):
            one.wait_to_read()
        return prediction

    return run
