"""Closed loop: each client sends its next request when it has the answer to the last.

wrk makes the load: it costs the server's two cores next to nothing, where a client in Python takes
most of one core.  Where wrk is not installed, the client in Python does it all the same, and the
figures of fast systems are too low.

python -m benchmarks.closed_loop URL CLIENTS SECONDS CONTENT_TYPE FILE...      in Python
"""

from __future__ import annotations

import asyncio
import itertools
import json
import shutil
import subprocess
import sys
import urllib.parse
from pathlib import Path
from typing import Any

from benchmarks.open_loop import Connection, percentiles, request
from benchmarks.reading import Reading, Traffic

_SCRIPT = Path(__file__).with_suffix(".lua")


def load() -> str:
    """Return the words for what makes the load."""
    return "wrk" if shutil.which("wrk") else "a client in Python, which takes most of a core"


def measure(url: str, traffic: Traffic, clients: int, seconds: float) -> Reading:
    """Put ``url`` under load from ``clients`` clients.  Only answers with a 2xx status count."""
    files = list(map(str, traffic.files))
    if not shutil.which("wrk"):
        command = [sys.executable, "-m", "benchmarks.closed_loop", url, str(clients), str(seconds)]
        return Reading(**_output([*command, traffic.content_type, *files]))
    command = ["wrk", "-t1", f"-c{clients}", f"-d{seconds}s", "--timeout", "60s"]
    summary = _output([*command, "-s", str(_SCRIPT), url, "--", traffic.content_type, *files])
    rate = summary.pop("requests") / summary["seconds"]
    return Reading(rate=rate, **summary)


def _output(command: list[str]) -> dict[str, Any]:
    root = Path(__file__).parents[1]
    process = subprocess.run(command, capture_output=True, check=True, cwd=root)
    summary: dict[str, Any] = json.loads(process.stdout.splitlines()[-1])
    return summary


class Clients:
    """The connections of one run, each with a request under way until the time is over."""

    def __init__(self, url: str, content_type: str, bodies: list[bytes]) -> None:
        """Prepare the requests; nothing is sent yet."""
        self._address = urllib.parse.urlsplit(url)
        self._requests = itertools.cycle([request(self._address, content_type, b) for b in bodies])
        self._is_over = False
        self.latencies: list[float] = []
        self.errors = 0

    async def run(self, clients: int, seconds: float) -> None:
        """Keep ``clients`` requests under way for ``seconds``."""
        loop = asyncio.get_running_loop()
        host, _, port = self._address.netloc.partition(":")
        for _ in range(clients):
            await loop.create_connection(lambda: Connection(self), host, int(port))
        await asyncio.sleep(seconds)
        self._is_over = True

    def release(self, connection: Connection) -> None:
        if not self._is_over:
            connection.send(next(self._requests), asyncio.get_running_loop().time())

    def remove(self, connection: Connection) -> None:
        """Do without it: a lost connection is an error already."""


def _main(url: str, clients: str, seconds: str, content_type: str, *files: str) -> None:
    run = Clients(url, content_type, [Path(name).read_bytes() for name in files])
    asyncio.run(run.run(int(clients), float(seconds)))
    print(json.dumps(percentiles(run, float(seconds))))


if __name__ == "__main__":
    _main(*sys.argv[1:])
