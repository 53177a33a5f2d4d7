"""Closed loop: each client sends its next request when it has the answer to the last.

wrk makes the load: it costs the server's two cores next to nothing, where a client in Python would
take most of one core.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

from benchmarks.reading import Reading, Traffic

_SCRIPT = Path(__file__).with_suffix(".lua")


def measure(url: str, traffic: Traffic, clients: int, seconds: float) -> Reading:
    """Put ``url`` under load from ``clients`` clients.  Only answers with a 2xx status count."""
    command = ["wrk", "-t1", f"-c{clients}", f"-d{seconds}s", "--timeout", "60s"]
    script_arguments = [traffic.content_type, *map(str, traffic.files)]
    process = subprocess.run(
        [*command, "-s", str(_SCRIPT), url, "--", *script_arguments],
        capture_output=True,
        check=True,
    )
    summary = json.loads(process.stdout.splitlines()[-1])
    return Reading(
        rate=summary["requests"] / summary["seconds"],
        p50_ms=summary["p50_ms"],
        p99_ms=summary["p99_ms"],
        errors=summary["errors"],
        seconds=summary["seconds"],
    )
