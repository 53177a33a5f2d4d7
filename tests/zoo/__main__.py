"""Print the table of docs/export.md: how far and how fast ONNX Runtime is, beside MXNet.

    python -m tests.zoo [--fast] [NAME...]    --fast: no proof

Each engine has one thread, as a worker has.  Times are the fastest of several runs of one row.
"""

from __future__ import annotations

import os
import sys
import time

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MXNET_SUBGRAPH_VERBOSE", "0")

import mxnet as mx

from mms_handler.models.graphs.executors import Executors
from mms_handler.models.graphs.graph import graph_of
from mms_handler.models.onnx import convert, prove, session
from tests.zoo.networks import LARGE, network, words

NETWORKS = {
    **{name: lambda name=name: network(name, LARGE[name], 1000) for name in LARGE},
    "LSTM": lambda: words(mx.gluon.rnn.LSTM),
    "GRU": lambda: words(mx.gluon.rnn.GRU),
}

SECONDS, RUNS = 3, 30


def fastest_ms(run) -> float:
    times = []
    end = time.perf_counter() + SECONDS
    while len(times) < 3 or (len(times) < RUNS and time.perf_counter() < end):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return min(times) * 1e3


def row(name: str, proves: bool) -> str:
    net, array = NETWORKS[name]()
    graph = graph_of(net, [mx.nd.array(array)])
    converted = convert(graph, [array.shape], ["data"], ["output"])
    difference = prove(converted, graph, [array]).differences[0].largest if proves else float("nan")
    content = converted.model.SerializeToString()
    executors, run = Executors(graph), session(content, threads=1).run
    executors([array])
    mxnet_ms = fastest_ms(lambda: executors([array]))
    onnx_ms = fastest_ms(lambda: run(None, {"data": array}))
    cells = f"{difference:.1e}", f"{len(content) / 1e6:.1f}", f"{onnx_ms:.1f}", f"{mxnet_ms:.1f}"
    return f"| {name} | {' | '.join(cells)} | {mxnet_ms / onnx_ms:.1f} |"


if __name__ == "__main__":
    names = [word for word in sys.argv[1:] if word != "--fast"]
    print("| network | largest difference | MB | ms, ONNX Runtime | ms, MXNet | times as fast |")
    print("|---|---|---|---|---|---|")
    for name in names or NETWORKS:
        print(row(name, "--fast" not in sys.argv), flush=True)
