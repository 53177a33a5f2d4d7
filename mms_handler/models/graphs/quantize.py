"""Make a graph of eight-bit whole numbers from a model's own, and judge it beside that.

    requests' arrays ─two of three─▶ ranges of each operator's values ──▶ int8 graph
                     └─the third───▶ what both graphs give ──▶ Agreement

The int8 graph computes on the model's own parameters: it holds no others.
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

#: Of how many requests one is kept for judging; the others say which values come.
JUDGED = 3

#: Operators that MXNet quantizes only with weights of their own, where they are not fused, or
#: that compute nothing; its one-dimensional convolution cannot even be bound then.
_LEFT = ["Convolution", "FullyConnected", "Embedding"]

_BACKEND = "MKLDNN_QUANTIZE"


class Agreement(NamedTuple):
    """How an int8 graph's predictions are beside the model's own.

    Attributes:
        rows: of scores, that were compared.
        top: of these, how many have their largest score at the same place.
        mean: difference, in parts of the largest value of a prediction.
        largest: likewise.
    """

    rows: int
    top: int
    mean: float
    largest: float

    @property
    def part(self) -> float:
        """1 where both say the same; NaN where the int8 graph's are no numbers."""
        off = 1 - self.mean  # NaN stays
        return self.top / self.rows if self.rows and off == off else off


class Int8Graph(NamedTuple):
    """An int8 graph, and what is known of it."""

    symbol: Any
    operators: int  # that compute in eight bits
    of: int  # operators of the fused graph
    inputs: int  # requests
    agreement: Agreement
    speed: str  # in words


def quantize(graph: Graph, inputs: Sequence[Sequence[Array]]) -> Int8Graph:
    """The int8 graph of ``graph``, for values as in ``inputs``.

    Args:
        graph: on a CPU.
        inputs: arrays in the order of its names, one list a request.

    Raises:
        ModelError: MXNet quantizes none of it, or fails.
    """
    judging = list(inputs[JUDGED - 1 :: JUDGED]) or list(inputs)
    learning = [one for place, one in enumerate(inputs) if place % JUDGED != JUDGED - 1]
    with _words("it cannot be quantized"):
        fused = graph.symbol.get_backend_symbol(_BACKEND)
        symbol = _ranged(graph, fused, learning).get_backend_symbol(_BACKEND)
    done, of = _quantized(symbol), len(_operators(fused))
    if not done:
        named = sorted({node["op"] for node in _operators(fused)})
        raise ModelError(f"MXNet quantizes none of the graph's operators: {', '.join(named)}")
    plain, quick = Executors(graph, sys.maxsize), Executors(on(graph, symbol), sys.maxsize)
    with _words("its int8 graph cannot be run"):
        agreement = judged([(plain(arrays), quick(arrays)) for arrays in judging])
        speed = _speed(plain, quick, judging[0])
    return Int8Graph(symbol, done, of, len(inputs), agreement, speed)


@contextlib.contextmanager
def _words(what: str) -> Iterator[None]:
    try:
        yield
    except mx.base.MXNetError as exc:
        raise ModelError(f"{what}: {first_line(exc)}") from exc


def on(graph: Graph, symbol: Any) -> Graph:
    """``symbol`` with the inputs and parameters of the graph that it was made of.

    Raises:
        ModelError: it has others.
    """
    known = set(graph.symbol.list_inputs())
    others = [name for name in symbol.list_inputs() if name not in known]
    if others:
        raise ModelError(f"the int8 graph has a parameter {others[0]!r}, the model has not")
    return graph._replace(symbol=symbol)


def _ranged(graph: Graph, fused: Any, inputs: Sequence[Sequence[Array]]) -> Any:
    """``fused`` in eight bits, each operator for the values that it has on ``inputs``.

    With a range for each channel of a weight MXNet leaves all weights to the operators, which
    quantize them when they are bound; with one range for all it wants some quantized before.
    """
    arguments, states = (
        {name: graph.parameters[name] for name in names if name in graph.parameters}
        for names in (fused.list_arguments(), fused.list_auxiliary_states())
    )
    how = {"calib_mode": "naive", "quantized_dtype": "auto"}
    symbol, _, _, seen = quantization.quantize_graph(
        fused,
        arguments,
        states,
        excluded_op_names=_LEFT,
        quantize_mode="smart",
        quantize_granularity="channel-wise",
        **how,
    )
    rows = Executors(graph._replace(symbol=fused), sys.maxsize, fused=False)
    for arrays in inputs:
        executor = rows.executor(tuple(array.shape for array in arrays))
        executor.set_monitor_callback(seen.collect, monitor_all=True)
        rows(arrays)
    symbol, _, _ = quantization.calib_graph(symbol, arguments, states, seen, **how, logger=None)
    return symbol


def _operators(symbol: Any) -> list[Any]:
    return [node for node in json.loads(symbol.tojson())["nodes"] if node["op"] != "null"]


def _quantized(symbol: Any) -> int:
    """Operators that compute in eight bits, without those that only go there and back."""
    told = [(one["op"], one.get("attrs", {}).get("quantized", "")) for one in _operators(symbol)]
    return sum(
        op.startswith("_contrib_quantized_") or attribute.lower() in ("true", "1")
        for op, attribute in told
    )


# --- judging ---------------------------------------------------------------------------------


def judged(pairs: Sequence[tuple[Sequence[Array], Sequence[Array]]]) -> Agreement:
    """How predictions agree: for each request the outputs that are right, and those found."""
    outputs = [both for wanted, found in pairs for both in zip(wanted, found)]
    scores = [both for both in outputs if both[0].ndim == 2 and both[0].shape[1] > 1]
    return Agreement(
        rows=sum(len(wanted) for wanted, _ in scores),
        top=sum(_same_top(*both) for both in scores),
        mean=_rounded(np.mean([_mean(*both) for both in outputs])),
        largest=_rounded(np.max([distance([wanted], [found]) for wanted, found in outputs])),
    )


def _same_top(wanted: Array, found: Array) -> int:
    return int(np.sum(wanted.argmax(axis=1) == found.argmax(axis=1)))


def _mean(wanted: Array, found: Array) -> float:
    return float(np.abs(wanted - found).mean() / (np.abs([wanted, found]).max() or 1))


def _rounded(value: Any) -> float:
    return round(float(value), 6)


def _speed(plain: Executors, quick: Executors, arrays: Sequence[Array]) -> str:
    measure = faster.Probe([arrays], [plain(arrays)], 0)
    quick(arrays)
    return faster.compare(measure, plain, quick, lambda wanted, found: True).told
