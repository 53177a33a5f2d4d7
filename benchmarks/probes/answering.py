"""A probe's protocol: it reads lines with a number of seconds, and answers each with JSON."""

from __future__ import annotations

import json
import os
import sys
import time
from typing import Callable, Mapping


def answer(measure: Callable[[float], Mapping[str, float]]) -> None:
    """Answer until the input ends.  Output of libraries goes to standard error."""
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    print("{}", file=out, flush=True)  # ready
    for line in sys.stdin:
        print(json.dumps(measure(float(line))), file=out, flush=True)


def times(call: Callable[[], object], seconds: float) -> list[float]:
    """Call for ``seconds`` seconds, at least once, and return the seconds of each call."""
    durations: list[float] = []
    deadline = time.perf_counter() + seconds
    while not durations or time.perf_counter() < deadline:
        start = time.perf_counter()
        call()
        durations.append(time.perf_counter() - start)
    return durations
