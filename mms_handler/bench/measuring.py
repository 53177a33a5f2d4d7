"""Put a server under a load by several processes, and put together what they report."""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import subprocess
import sys
import time
from typing import IO, Any, Callable, Iterator, Mapping, NamedTuple, Sequence

import numpy as np

from mms_handler import settings
from mms_handler.bench.order import Load, Order, Timing
from mms_handler.bench.result import Measured, Result, limited
from mms_handler.bench.usage import Meter, listener
from mms_handler.errors import ServerError

#: Seconds from the moment when all processes of the load are ready to its begin.
_START_S = 0.05

#: The most connections of an open loop.
CONNECTIONS = 256

_ENDED = "a process of the load ended early; its error is above"

#: A process of the load for so many cores.
_CORES = 4


class Target(NamedTuple):
    """A server, and the request for it.

    Fields:
        host: its name or address.
        port: its port.
        request: the bytes of each request.
        expected: the right reply, as archive.packed_reply writes it.
    """

    host: str
    port: int
    request: bytes
    expected: Mapping[str, Any] | None


def default_processes() -> int:
    """How many processes make the load: few, for they share the machine with the server."""
    return max(1, len(os.sched_getaffinity(0)) // _CORES)


def measure(
    target: Target,
    load: Load,
    timing: Timing,
    *,
    processes: int = 1,
    watch: Callable[[Measured], None] = lambda measured: None,
) -> tuple[Result, bool]:
    """Put a server under a load.

    Args:
        target: the server and the request.
        load: the load.
        timing: how long it lasts.
        processes: how many processes make it.
        watch: called with what is known, whenever there is something new.

    Returns:
        What the load met, and whether it was measured to its end: Ctrl-C ends it early.

    Raises:
        ServerError: a process of the load failed.
    """
    orders = _orders(target, load, timing, max(1, processes))
    front = listener(target.host, target.port)
    run = _Run(Measured(load), Meter(front) if front else None, timing)
    whole = True
    with contextlib.ExitStack() as stack:
        try:
            streams = stack.enter_context(_started(orders, run.begin))
            watch(run.measured)
            run.read(streams, watch)
        except KeyboardInterrupt:
            whole = False
    return run.result(), whole


def _orders(target: Target, load: Load, timing: Timing, processes: int) -> list[Order]:
    """The part of the load for each process."""
    count = min(processes, load.clients or processes)
    return [
        Order(
            *target,
            clients=load.clients // count + (number < load.clients % count),
            rate=load.rate / count,
            connections=max(1, CONNECTIONS // count),
            first_s=number / load.rate if load.rate else 0.0,
            timing=timing,
        )
        for number in range(count)
    ]


@contextlib.contextmanager
def _started(orders: Sequence[Order], begin: Callable[[float], None]) -> Iterator[list[IO[bytes]]]:
    """Start a process for each order; yields their outputs.  They are gone after the block.

    Args:
        orders: an order for each process.
        begin: called with the time at which all of them will begin.
    """
    command = [sys.executable, "-m", "mms_handler.bench.generator"]
    with contextlib.ExitStack() as stack:
        started = []
        for order in orders:
            process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env=settings.environment(),
            )
            stack.callback(_end, process)
            assert process.stdin is not None
            assert process.stdout is not None
            _tell(process.stdin, order.encode())
            started.append((process.stdin, process.stdout))
        for _, output in started:
            if not output.readline():
                raise ServerError(_ENDED)
        begin_s = time.monotonic() + _START_S
        for stdin, _ in started:
            _tell(stdin, b"%r\n" % begin_s)
        begin(begin_s)
        yield [output for _, output in started]


def _tell(stdin: IO[bytes], line: bytes) -> None:
    stdin.write(line)
    stdin.flush()


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.communicate()


class _Run:
    """A load that is being measured."""

    def __init__(self, measured: Measured, meter: Meter | None, timing: Timing) -> None:
        self.measured = measured
        self._meter, self._timing, self._counts_s = meter, timing, 0.0
        self._cpu_at_start: dict[int, float] = {}
        self._counted_s = 0.0

    def begin(self, begin_s: float) -> None:
        """Know when the load begins."""
        self._counts_s = begin_s + self._timing.warmup_s

    def read(self, streams: Sequence[IO[bytes]], watch: Callable[[Measured], None]) -> None:
        """Read all reports."""
        seconds, end_s = self._timing.seconds, self._counts_s + self._timing.seconds
        with selectors.DefaultSelector() as selector:
            for number, stream in enumerate(streams):
                selector.register(stream, selectors.EVENT_READ, number)
            started = ended = False
            while selector.get_map():
                for key, _ in selector.select(0.1):
                    if self._take(key.data, key.fileobj):
                        selector.unregister(key.fileobj)
                now = time.monotonic()
                self._counted_s = min(max(0.0, now - self._counts_s), seconds)
                if self._meter and now >= self._counts_s and not started:
                    self._meter.start()
                    started = True
                if self._meter and now >= end_s and not ended:
                    self._meter.end()
                    ended = True
                watch(self.measured)

    def _take(self, number: int, stream: Any) -> bool:
        """Take one report; returns whether it was the process's last."""
        line = stream.readline()
        if not line:
            raise ServerError(_ENDED)
        report, measured = json.loads(line), self.measured
        _record(measured.latencies, stream.read(4 * report["latencies"]))
        _record(measured.late, stream.read(4 * report["late"]))
        measured.in_time += report["in_time"]
        measured.failures.update(report["failures"])
        measured.wrong += report["wrong"]
        measured.example = measured.example or report["example"]
        if time.monotonic() < self._counts_s:
            self._cpu_at_start[number] = report["cpu_s"]
        used = report["cpu_s"] - self._cpu_at_start.get(number, 0.0)
        measured.generator_cpu_s[number] = used
        return bool(report["last"])

    def result(self) -> Result:
        used = None
        if self._meter and self._counts_s:
            if self._counted_s < self._timing.seconds:  # it was ended early
                self._meter.end()
            used = self._meter.read()
        seconds = self._counted_s
        return Result(self.measured, seconds, used, limited(self.measured, seconds))


def _record(histogram: Any, data: bytes) -> None:
    values, counts = np.unique(np.frombuffer(data, np.uint32), return_counts=True)
    for value, count in zip(values.tolist(), counts.tolist()):
        histogram.record_value(max(1, value), count)
