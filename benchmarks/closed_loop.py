"""Closed loop: a number of clients, each with one request under way, by wrk.

wrk costs the server's two cores next to nothing, where a client in Python would take most of one.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

from benchmarks.reading import Reading, Traffic

_SCRIPT = Path(__file__).with_suffix(".lua")


def measure(url: str, traffic: Traffic, clients: int, seconds: float) -> Reading:
    """What ``clients`` with one request under way each got from ``url``; only 2xx counts."""
    command = ["wrk", "-t1", f"-c{clients}", f"-d{seconds}s", "--timeout", "60s"]
    words = [traffic.content_type, *map(str, traffic.files)]
    done = subprocess.run(
        [*command, "-s", str(_SCRIPT), url, "--", *words], capture_output=True, check=True
    )
    told = json.loads(done.stdout.splitlines()[-1])
    return Reading(
        rate=told["requests"] / told["seconds"],
        p50_ms=told["p50_ms"],
        p99_ms=told["p99_ms"],
        errors=told["errors"],
    )
