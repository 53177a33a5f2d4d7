"""A probe's conversation: a line with a number of seconds in, a line of JSON with findings out."""

from __future__ import annotations

import json
import os
import statistics
import sys
import time
from typing import Callable, Mapping


def answer(measure: Callable[[float], Mapping[str, float]]) -> None:
    """Answer until the input ends; what libraries print goes to standard error."""
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    print("{}", file=out, flush=True)  # ready
    for line in sys.stdin:
        print(json.dumps(measure(float(line))), file=out, flush=True)


def times(call: Callable[[], object], seconds: float) -> list[float]:
    """How many seconds each of as many calls took as fit, but at least one."""
    found: list[float] = []
    over = time.perf_counter() + seconds
    while not found or time.perf_counter() < over:
        start = time.perf_counter()
        call()
        found.append(time.perf_counter() - start)
    return found


def median_us(call: Callable[[], object], seconds: float) -> float:
    return 1e6 * statistics.median(times(call, seconds))
