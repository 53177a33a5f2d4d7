"""MXNet without a server: one body through a Block again and again.

python -m benchmarks.probes.raw MODEL BODY.npy HOW      HOW: plain or fused
"""

from __future__ import annotations

import statistics
import sys
import time
from typing import Any, Mapping

import mxnet as mx
import numpy as np

from benchmarks.probes.answering import answer, times


def _block(folder: str, how: str, data: Any) -> Any:
    files = f"{folder}/model-symbol.json", f"{folder}/model-0000.params"
    block = mx.gluon.SymbolBlock.imports(files[0], ["data"], files[1])
    if how == "fused":
        block.optimize_for(data, backend="MKLDNN")
    return block


def _main(folder: str, body: str, how: str) -> None:
    data = mx.nd.array(np.load(body))
    block = _block(folder, how, data)

    def measure(seconds: float) -> Mapping[str, float]:
        start = time.perf_counter()
        took = sorted(times(lambda: block(data).asnumpy(), seconds))
        spent = time.perf_counter() - start
        return {
            "rate": len(took) / spent,
            "p50_ms": 1e3 * statistics.median(took),
            "p99_ms": 1e3 * took[len(took) * 99 // 100],
        }

    answer(measure)


if __name__ == "__main__":
    _main(*sys.argv[1:])
