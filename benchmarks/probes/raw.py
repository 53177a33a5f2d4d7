"""Run MXNet without a server: the same body through a Block in a loop.

python -m benchmarks.probes.raw MODEL BODY.npy BACKEND      BACKEND: plain or fused
"""

from __future__ import annotations

import statistics
import sys
import time
from typing import Any, Mapping

import mxnet as mx
import numpy as np

from benchmarks.probes.answering import answer, times


def _block(folder: str, backend: str, data: Any) -> Any:
    files = f"{folder}/model-symbol.json", f"{folder}/model-0000.params"
    block = mx.gluon.SymbolBlock.imports(files[0], ["data"], files[1])
    if backend == "fused":
        block.optimize_for(data, backend="MKLDNN")
    return block


def _main(folder: str, body: str, backend: str) -> None:
    data = mx.nd.array(np.load(body))
    block = _block(folder, backend, data)

    def measure(seconds: float) -> Mapping[str, float]:
        start = time.perf_counter()
        durations = sorted(times(lambda: block(data).asnumpy(), seconds))
        total_s = time.perf_counter() - start
        return {
            "rate": len(durations) / total_s,
            "p50_ms": 1e3 * statistics.median(durations),
            "p99_ms": 1e3 * durations[len(durations) * 99 // 100],
        }

    answer(measure)


if __name__ == "__main__":
    _main(*sys.argv[1:])
