"""Make an int8 graph from a model's graph, and judge it by the model's predictions.

    requests' arrays ─two of three─▶ range of each operator's values ──▶ int8 graph
                     └─the third───▶ predictions of both graphs ──▶ Agreement

The int8 graph has no parameters of its own: it is computed on the model's.
"""

from __future__ import annotations

import contextlib
import json
import sys
from typing import Any, Iterator, NamedTuple, Sequence

import mxnet as mx
import numpy as np
from mxnet.contrib import quantization

from mms_handler.errors import ModelError
from mms_handler.models.evidence import distance
from mms_handler.models.graphs import faster
from mms_handler.models.graphs.executors import Array, Executors
from mms_handler.models.graphs.graph import Graph
from mms_handler.models.mx import first_line

#: One of this many requests judges the graph; the others show the ranges of values.
JUDGED = 3

#: Operators that stay in floats.  If they were not fused, MXNet quantizes the first two only with
#: additional, quantized weights, and cannot bind a quantized one-dimensional convolution.  An
#: embedding computes nothing.
_EXCLUDED = ["Convolution", "FullyConnected", "Embedding"]

_BACKEND = "MKLDNN_QUANTIZE"


class Agreement(NamedTuple):
    """How an int8 graph's predictions compare with the model's.

    Attributes:
        rows: how many rows of scores were compared.
        top: how many of them have their largest score at the same place.
        mean: the mean difference, relative to the largest value of a prediction.
        largest: the largest such difference.
    """

    rows: int
    top: int
    mean: float
    largest: float

    @property
    def part(self) -> float:
        """The part that agrees, up to 1; NaN if the int8 graph's predictions are not numbers."""
        score = 1 - self.mean  # stays NaN
        return self.top / self.rows if self.rows and score == score else score


class QuantizedGraph(NamedTuple):
    """An int8 graph, and measurements of it."""

    symbol: Any
    quantized_operators: int  # that compute in int8
    operators: int  # of the fused graph
    requests: int
    agreement: Agreement
    speed: str  # for a person


def quantize(graph: Graph, inputs: Sequence[Sequence[Array]]) -> QuantizedGraph:
    """Make the int8 graph of ``graph`` for values like those in ``inputs``.

    Args:
        graph: a graph on a CPU.
        inputs: the arrays of each request, in the order of the graph's names.

    Raises:
        ModelError: the graph is on a GPU, MXNet cannot quantize any of it, or MXNet fails.
    """
    if graph.device.device_type != "cpu":
        raise ModelError(f"the model is on {graph.device}; int8 graphs are only for CPUs")
    judging = list(inputs[JUDGED - 1 :: JUDGED]) or list(inputs)
    calibrating = [arrays for index, arrays in enumerate(inputs) if index % JUDGED != JUDGED - 1]
    with _model_errors("it cannot be quantized"):
        fused = graph.symbol.get_backend_symbol(_BACKEND)
        symbol = _calibrated(graph, fused, calibrating).get_backend_symbol(_BACKEND)
    quantized, operators = _count_quantized(symbol), _operators(fused)
    if not quantized:
        names = ", ".join(sorted({node["op"] for node in operators}))
        raise ModelError(f"MXNet quantizes none of the graph's operators: {names}")
    best = Executors(graph, sys.maxsize)
    quick = Executors(with_symbol(graph, symbol), sys.maxsize)
    with _model_errors("its int8 graph cannot be run"):
        agreement = judge([(best(arrays), quick(arrays)) for arrays in judging])
        arrays = judging[0]
        baseline = faster.Baseline([arrays], [best(arrays)], 0)
        quick(arrays)  # binds it before it is timed
        speed = faster.compare(baseline, best, quick, lambda *_: True).summary
    return QuantizedGraph(symbol, quantized, len(operators), len(inputs), agreement, speed)


@contextlib.contextmanager
def _model_errors(problem: str) -> Iterator[None]:
    try:
        yield
    except mx.base.MXNetError as exc:
        raise ModelError(f"{problem}: {first_line(exc)}") from exc


def with_symbol(graph: Graph, symbol: Any) -> Graph:
    """``graph`` with a symbol that was made from its own, for the same inputs and parameters.

    Raises:
        ModelError: the symbol has other inputs or parameters.
    """
    known = set(graph.symbol.list_inputs())
    unknown = [name for name in symbol.list_inputs() if name not in known]
    if unknown:
        raise ModelError(
            f"the int8 graph belongs to another model: this one has no parameter {unknown[0]!r}"
        )
    return graph._replace(symbol=symbol)


def _calibrated(graph: Graph, fused: Any, inputs: Sequence[Sequence[Array]]) -> Any:
    """``fused`` in int8, each operator for the range of its values on ``inputs``.

    With a range for each channel, the operators quantize all weights when they are bound.  With one
    range for all channels, MXNet would need some weights quantized beforehand.
    """
    arguments, states = (
        {name: graph.parameters[name] for name in names if name in graph.parameters}
        for names in (fused.list_arguments(), fused.list_auxiliary_states())
    )
    mode = {"calib_mode": "naive", "quantized_dtype": "auto"}
    symbol, _, _, collector = quantization.quantize_graph(
        fused,
        arguments,
        states,
        excluded_op_names=_EXCLUDED,
        quantize_mode="smart",
        quantize_granularity="channel-wise",
        **mode,
    )
    executors = Executors(graph._replace(symbol=fused), sys.maxsize, fused=False)
    for arrays in inputs:
        executor = executors.executor(tuple(array.shape for array in arrays))
        executor.set_monitor_callback(collector.collect, monitor_all=True)
        executors(arrays)
    symbol, _, _ = quantization.calib_graph(
        symbol, arguments, states, collector, **mode, logger=None
    )
    return symbol


def _operators(symbol: Any) -> list[Any]:
    return [node for node in json.loads(symbol.tojson())["nodes"] if node["op"] != "null"]


def _count_quantized(symbol: Any) -> int:
    """The number of operators that compute in int8; converting to int8 and back does not count."""
    return sum(
        node["op"].startswith("_contrib_quantized_")
        or node.get("attrs", {}).get("quantized", "").lower() in ("true", "1")
        for node in _operators(symbol)
    )


# --- judging ---------------------------------------------------------------------------------


def judge(predictions: Sequence[tuple[Sequence[Array], Sequence[Array]]]) -> Agreement:
    """Compare predictions.

    Args:
        predictions: for each request, the model's outputs and the int8 graph's.
    """
    outputs = [pair for expected, int8 in predictions for pair in zip(expected, int8)]
    scores = [(e, values) for e, values in outputs if e.ndim == 2 and e.shape[1] > 1]
    means = [np.abs(e - values).mean() / (np.abs([e, values]).max() or 1) for e, values in outputs]
    return Agreement(
        rows=sum(len(e) for e, _ in scores),
        top=sum(int(np.sum(e.argmax(axis=1) == values.argmax(axis=1))) for e, values in scores),
        mean=round(float(np.mean(means)), 6),
        largest=round(float(np.max([distance([e], [values]) for e, values in outputs])), 6),
    )
