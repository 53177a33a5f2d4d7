"""Open loop: requests arrive at random times, whether or not earlier ones were answered.

    arrivals at random ──▶ queue ──▶ a free connection ──▶ server

Latency counts from the arrival, so it shows when a server falls behind; a closed loop would only
send fewer requests.  The arrivals are a Poisson process with a fixed seed, so that every system
gets the same bursts.

python -m benchmarks.open_loop URL RATE SECONDS CONTENT_TYPE FILE...
"""

from __future__ import annotations

import asyncio
import collections
import itertools
import json
import random
import selectors
import subprocess
import sys
import time
import urllib.parse
from pathlib import Path
from typing import Deque, Protocol

from benchmarks.reading import Reading, Traffic

#: Limit of connections.  A request that arrives while all are busy waits, and its latency counts.
CONNECTIONS = 128

#: How long to wait for the last answers; those that are missing then count as errors.
PATIENCE_S = 10


def measure(url: str, traffic: Traffic, rate: float, seconds: float) -> Reading:
    """Send ``rate`` requests a second from a process of their own, and return what they met."""
    arguments = [url, str(rate), str(seconds), traffic.content_type, *map(str, traffic.files)]
    command = [sys.executable, "-m", "benchmarks.open_loop", *arguments]
    root = Path(__file__).parents[1]
    process = subprocess.run(command, capture_output=True, check=True, cwd=root)
    return Reading(**json.loads(process.stdout))


class Arrivals:
    """One run: the requests that wait, the free connections, and the latencies."""

    def __init__(self, url: str, content_type: str, bodies: list[bytes]) -> None:
        """Prepare the requests; nothing is sent yet."""
        self._address = urllib.parse.urlsplit(url)
        self._requests = itertools.cycle([request(self._address, content_type, b) for b in bodies])
        self._waiting: Deque[float] = collections.deque()
        self._free: list[Connection] = []
        self._open = 0
        self._opening: set[asyncio.Task[None]] = set()  # asyncio itself holds no reference
        self.latencies: list[float] = []
        self.errors = 0

    async def run(self, times: list[float]) -> None:
        """Send a request at each of ``times``, in seconds from now, and wait for the answers."""
        loop = asyncio.get_running_loop()
        start = loop.time() + 0.05
        for arrival in times:
            delay = start + arrival - loop.time()
            if delay > 0:
                await asyncio.sleep(delay)
            self._waiting.append(start + arrival)
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
        await loop.create_connection(lambda: Connection(self), host, int(port))

    def release(self, connection: Connection) -> None:
        self._free.append(connection)
        self._send()

    def remove(self, connection: Connection) -> None:
        self._open -= 1
        if connection in self._free:
            self._free.remove(connection)


class Run(Protocol):
    """What uses connections: it gets each one back when it is free, and hears when one is gone."""

    latencies: list[float]
    errors: int

    def release(self, connection: Connection) -> None: ...

    def remove(self, connection: Connection) -> None: ...


class Connection(asyncio.Protocol):
    """One keep-alive connection with one request at a time."""

    def __init__(self, run: Run) -> None:
        """``run`` gets this connection as soon as it is open."""
        self._run, self._buffer, self._since = run, b"", 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._run.release(self)

    def send(self, request: bytes, since: float) -> None:
        self._since = since
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, separator, body = self._buffer.partition(b"\r\n\r\n")
        if separator and len(body) >= _length(head):
            self._buffer = b""
            self._record(succeeded=head.split(b" ", 2)[1].startswith(b"2"))
            if b"connection: close" in head.lower():
                self._transport.close()
            else:
                self._run.release(self)

    def _record(self, succeeded: bool) -> None:
        if succeeded:
            self._run.latencies.append(asyncio.get_running_loop().time() - self._since)
        else:
            self._run.errors += 1
        self._since = 0.0

    def connection_lost(self, exc: Exception | None) -> None:
        if self._since:
            self._record(succeeded=False)
        self._run.remove(self)


def request(address: urllib.parse.SplitResult, content_type: str, body: bytes) -> bytes:
    """Return the bytes of a request."""
    head = (
        f"POST {address.path} HTTP/1.1\r\nHost: {address.netloc}\r\n"
        f"Content-Type: {content_type}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def _length(head: bytes) -> int:
    _, _, after = head.lower().partition(b"content-length:")
    return int(after.split(b"\r\n", 1)[0])


def _times(rate: float, seconds: float) -> list[float]:
    """Return the arrivals of a Poisson process, in seconds from its start."""
    generator, arrival, times = random.Random(7), 0.0, []
    while (arrival := arrival + generator.expovariate(rate)) < seconds:
        times.append(arrival)
    return times


def _main(url: str, rate: str, seconds: str, content_type: str, *files: str) -> None:
    run = Arrivals(url, content_type, [Path(name).read_bytes() for name in files])
    # asyncio's own choice, epoll, has timers of whole milliseconds: requests would be late.
    loop = asyncio.SelectorEventLoop(selectors.SelectSelector())
    loop.run_until_complete(run.run(_times(float(rate), float(seconds))))
    print(json.dumps({**percentiles(run, float(seconds)), "arrivals": float(rate)}))


def percentiles(run: Run, seconds: float) -> dict[str, float]:
    """Return the fields of a Reading: what a run of this length met."""
    in_order = sorted(run.latencies) or [0.0]
    return {
        "rate": len(run.latencies) / seconds,
        "p50_ms": 1e3 * in_order[len(in_order) // 2],
        "p99_ms": 1e3 * in_order[len(in_order) * 99 // 100],
        "errors": run.errors,
        "seconds": seconds,
    }


if __name__ == "__main__":
    _main(*sys.argv[1:])
