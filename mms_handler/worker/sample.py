"""Answer the packed sample before a worker is ready: to warm up, and to try faster graphs."""

from __future__ import annotations

import contextlib
import logging
import time
from typing import Any, NamedTuple, Sequence, Tuple

from mms_handler import models
from mms_handler.errors import Failed, attempt
from mms_handler.worker.pipeline import Steps
from mms_handler.worker.request import Request
from mms_handler.worker.whole import Whole

log = logging.getLogger(__name__)

#: A model, and the arrays that it is called with.
Call = Tuple[Any, Sequence[Any]]

#: A sample slower than this is not tried in batches: a worker takes such requests one by one
#: (plane.py, 3 ms).  Doubled because first runs are slow.
HEAVY_S = 6e-3

#: Seconds that warming up for each batch size may take.
WARM_UP_S = 0.5


class Prepared(NamedTuple):
    """What was seen of a sample.

    Attributes:
        request_s: the processor seconds that such a request takes; None if it has no answer.
        reply: the Reply to it; None likewise.
    """

    request_s: float | None = None
    reply: Any = None


def prepare(
    pipeline: Whole | Steps,
    sample: Request | None,
    batch_size: int,
    *,
    faster: bool,
    int8: models.PackedInt8 | None = None,
) -> Prepared:
    """Answer a sample request, to warm up and to find the fastest way to serve others like it.

    Args:
        pipeline: answers the requests.
        sample: the request; None: nothing is tried.
        batch_size: how many requests may come together.
        faster: whether to try faster graphs of the model.
        int8: the archive's int8 graph, to be tried too.

    Returns:
        What was seen of the sample.
    """
    if sample is None:
        if pipeline.passes and not pipeline.predictor:
            log.warning(
                "batch_predict has no effect: without a packed sample request it cannot be tried"
            )
        return Prepared()
    start_s = time.thread_time()
    with _recorded_calls(pipeline.model) as calls:
        (reply,) = pipeline.answer([sample])
    if isinstance(reply, Failed):
        text = f"{type(reply.exc).__name__}: {reply.exc}"
        log.warning("the sample request fails, so nothing is warmed up: %.200s", text)
        return Prepared()
    request_s = time.thread_time() - start_s
    if faster:
        failure = attempt(_try_with_sample, pipeline, sample, calls, int8)
        if isinstance(failure, Failed):  # the model answers, so it is served without one
            log.warning("no faster graph: %s: %s", type(failure.exc).__name__, failure.exc)
    if pipeline.predictor:  # no function of the script is called for the sample again
        start_s, start_cpu_s = time.monotonic(), time.thread_time()
        pipeline.answer([sample])
        request_s = time.thread_time() - start_cpu_s
        if time.monotonic() - start_s > HEAVY_S:
            # If such requests come in a batch after all, they are tried then.
            return Prepared(request_s, reply)
    if isinstance(pipeline, Steps) and pipeline.passes:
        _try_batches(pipeline, sample)
        _warm_up(pipeline, sample, batch_size)
    return Prepared(request_s, reply)


def _recorded_calls(model: Any) -> Any:
    """As ``models.recorded_calls``, which imports MXNet, if the model has Blocks."""
    blocks = models.blocks(model)
    return models.recorded_calls(blocks) if blocks else contextlib.nullcontext([])


def _try_with_sample(
    pipeline: Any, sample: Request, calls: Sequence[Call], int8: models.PackedInt8 | None
) -> None:
    try_faster(pipeline, pipeline.read(sample) if pipeline.predictor else None, calls, int8)


def try_faster(
    pipeline: Any,
    data: Any,
    calls: Sequence[Call],
    int8: models.PackedInt8 | None = None,
    patience: float = 1,
) -> tuple[list[tuple[Any, models.FasterGraph]], bool]:
    """Try faster graphs for the Blocks of a request's calls, or for the Module.

    Args:
        pipeline: answers the requests.
        data: what the default predict_fn gets; None if the script has its own.
        calls: the first call of each Block.
        int8: the archive's int8 graph, to be tried too.
        patience: how many times as long as at a load a run, and its timing, may take.

    Returns:
        The graph of each Block that is faster, and whether the Module is faster without fusion.
    """
    predictor = pipeline.predictor
    graphs, unfused = [], False
    for block, arrays in calls:
        straight = predictor is not None and predictor.is_straight(data)
        graph = models.try_graph(block, arrays, straight, patience)
        graphs += [(block, graph)] if graph else []
        if int8:
            models.try_int8(block, arrays, int8)
    if predictor and models.is_module(pipeline.model):
        unfused = predictor.try_unfused(data, patience)
        if int8:
            predictor.try_int8(data, int8)
    return graphs, unfused


def _try_batches(pipeline: Steps, sample: Request) -> None:
    """Find out whether requests like the sample get the same predictions together as alone."""
    data = pipeline.read(sample)
    if pipeline.predictor:
        pipeline.passes.may_share(data)
        return
    pipeline.passes.shared = pipeline.passes.proven(data)
    if not pipeline.passes.shared:
        log.warning(
            "batch_predict has no effect: the sample and requests like it get other predictions "
            "together than alone, so requests are predicted one by one"
        )


def _warm_up(pipeline: Steps, sample: Request, batch_size: int) -> None:
    """Answer batches of 2, 3, ... up to ``batch_size`` requests, for WARM_UP_S at most."""
    end = time.monotonic() + WARM_UP_S
    for count in range(2, batch_size + 1):
        if time.monotonic() >= end:
            return
        pipeline.answer([sample] * count)
