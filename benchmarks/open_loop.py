"""Open loop: requests arrive when they do, whether or not those before them were answered.

    arrivals at random ──▶ waiting ──▶ a free connection ──▶ server

Latency counts from the arrival, so a server that falls behind is seen to:
a closed loop just asks it less.  The arrivals are a Poisson process with one seed: everyone meets
the same bursts.

python -m benchmarks.open_loop URL RATE SECONDS CONTENT_TYPE FILE...
"""

from __future__ import annotations

import asyncio
import collections
import itertools
import json
import random
import subprocess
import sys
import time
import urllib.parse
from pathlib import Path
from typing import Deque

from benchmarks.reading import Reading, Traffic

#: Connections at most; what arrives while all are busy waits here, and its time runs.
CONNECTIONS = 128

#: How long the last answers are waited for; those still out are errors.
PATIENCE_S = 10


def measure(url: str, traffic: Traffic, rate: float, seconds: float) -> Reading:
    """What arrivals at ``rate`` a second met, in a process of their own."""
    words = [url, str(rate), str(seconds), traffic.content_type, *map(str, traffic.files)]
    command = [sys.executable, "-m", "benchmarks.open_loop", *words]
    root = Path(__file__).parents[1]
    done = subprocess.run(command, capture_output=True, check=True, cwd=root)
    return Reading(**json.loads(done.stdout))


class Arrivals:
    """One run: who waits, which connections are free, and how long each answer took."""

    def __init__(self, url: str, content_type: str, bodies: list[bytes]) -> None:
        """Nothing is sent yet."""
        self._address = urllib.parse.urlsplit(url)
        self._requests = itertools.cycle([_request(self._address, content_type, b) for b in bodies])
        self._waiting: Deque[float] = collections.deque()
        self._free: list[_Connection] = []
        self._open = 0
        self._opening: set[asyncio.Task[None]] = set()  # asyncio itself holds no reference
        self.latencies: list[float] = []
        self.errors = 0

    async def run(self, times: list[float]) -> None:
        """Send one request at each of ``times``, in seconds from now; wait for the answers."""
        loop = asyncio.get_running_loop()
        start = loop.time() + 0.05
        for at in times:
            delay = start + at - loop.time()
            if delay > 0:
                await asyncio.sleep(delay)
            self._waiting.append(start + at)
            self._send()
        deadline = time.monotonic() + PATIENCE_S
        while self._answered() < len(times) and time.monotonic() < deadline:
            await asyncio.sleep(0.01)
        self.errors += len(times) - self._answered()

    def _answered(self) -> int:
        return len(self.latencies) + self.errors

    def _send(self) -> None:
        while self._waiting and self._free:
            self._free.pop().send(next(self._requests), self._waiting.popleft())
        if self._waiting and self._open < CONNECTIONS:
            self._open += 1
            task = asyncio.ensure_future(self._connect())
            self._opening.add(task)
            task.add_done_callback(self._opening.discard)

    async def _connect(self) -> None:
        loop = asyncio.get_running_loop()
        host, _, port = self._address.netloc.partition(":")
        await loop.create_connection(lambda: _Connection(self), host, int(port))

    def is_free(self, connection: _Connection) -> None:
        self._free.append(connection)
        self._send()

    def is_lost(self, connection: _Connection) -> None:
        self._open -= 1
        if connection in self._free:
            self._free.remove(connection)


class _Connection(asyncio.Protocol):
    """One keep-alive connection with at most one request under way."""

    def __init__(self, run: Arrivals) -> None:
        self._run, self._buffer, self._since = run, b"", 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._run.is_free(self)

    def send(self, request: bytes, since: float) -> None:
        self._since = since
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, found, body = self._buffer.partition(b"\r\n\r\n")
        if found and len(body) >= _length(head):
            self._buffer = b""
            self._note(head.split(b" ", 2)[1].startswith(b"2"))
            self._go_on(b"connection: close" in head.lower())

    def _go_on(self, closing: bool) -> None:
        if closing:
            self._transport.close()
        else:
            self._run.is_free(self)

    def _note(self, good: bool) -> None:
        if good:
            self._run.latencies.append(asyncio.get_running_loop().time() - self._since)
        else:
            self._run.errors += 1
        self._since = 0.0

    def connection_lost(self, exc: Exception | None) -> None:
        if self._since:
            self._note(False)
        self._run.is_lost(self)


def _request(address: urllib.parse.SplitResult, content_type: str, body: bytes) -> bytes:
    head = (
        f"POST {address.path} HTTP/1.1\r\nHost: {address.netloc}\r\n"
        f"Content-Type: {content_type}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def _length(head: bytes) -> int:
    _, _, after = head.lower().partition(b"content-length:")
    return int(after.split(b"\r\n", 1)[0])


def _times(rate: float, seconds: float) -> list[float]:
    draw, at, times = random.Random(7), 0.0, []
    while (at := at + draw.expovariate(rate)) < seconds:
        times.append(at)
    return times


def _main(url: str, rate: str, seconds: str, content_type: str, *files: str) -> None:
    run = Arrivals(url, content_type, [Path(name).read_bytes() for name in files])
    asyncio.run(run.run(_times(float(rate), float(seconds))))
    in_order = sorted(run.latencies) or [0.0]
    told = {
        "rate": len(run.latencies) / float(seconds),
        "p50_ms": 1e3 * in_order[len(in_order) // 2],
        "p99_ms": 1e3 * in_order[len(in_order) * 99 // 100],
        "errors": run.errors,
    }
    print(json.dumps(told))


if __name__ == "__main__":
    _main(*sys.argv[1:])
