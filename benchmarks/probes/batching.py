"""Measure the CPU time of a worker's Python for each request of a batch.

python -m benchmarks.probes.batching HANDLER MODEL BODY REQUESTS
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

from benchmarks.probes.answering import answer, times
from benchmarks.probes.working import worker


def _main(handler: str, model: str, body: str, count: str) -> None:
    requests = int(count)
    work = worker(handler, model, Path(body), requests)
    if b'"code":' in work():
        raise ValueError(f"{handler} answered {work()!r}")

    def measure(seconds: float) -> dict[str, float]:
        start = time.process_time()
        calls = len(times(work, seconds))
        return {"us": 1e6 * (time.process_time() - start) / calls / requests}

    answer(measure)


if __name__ == "__main__":
    _main(*sys.argv[1:])
