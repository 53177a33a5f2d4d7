"""The process that looks for metrics in the output of a job's hosts.

standard input: pieces of output ──▶ lines ──▶ metrics ──▶ FILE, as JSON Lines
                                                       └─▶ standard output: the newest, then all

It is a process of its own, because a regular expression can take for ever on an unlucky line, and
holds Python's lock for as long.
"""

from __future__ import annotations

import json
import math
import os
import re
import select
import signal
import struct
import time
from typing import Any, BinaryIO, Iterator, NamedTuple, NoReturn, Sequence, TextIO

from mms_handler.training import metrics

#: A piece of output: when it came, the number of its host, and its length in bytes.
HEADER = struct.Struct("<dHI")

#: Bytes of a line that are read; metrics are at its beginning.
LINE_BYTES = 1 << 12

#: Seconds in which a metric definition must be done with a line.
REGEX_S = 1.0

#: Seconds between two messages with the newest metrics.
NEWEST_S = 0.2

#: Metrics that are kept, and points of each for the learning curve: if there are more, every second
#: one is dropped.
MAX_METRICS = 200
MAX_POINTS = 2_000

_LINE_ENDS = re.compile(rb"[\r\n\x08]+")


class Point(NamedTuple):
    """A value, and to which epoch and step it belongs."""

    epoch: int | None
    step: int | None
    value: float


class Series:
    """A metric of a host: its last and its best value, and points for a curve."""

    def __init__(self, name: str) -> None:
        self.last = self.best = Point(None, None, math.nan)
        self.points: list[Point] = []
        self._direction = metrics.better(name)
        self._stride, self._count = 1, 0

    def add(self, point: Point) -> None:
        self.last = point
        best, value = self.best.value, point.value
        improves = value > best if self._direction == "higher" else value < best
        if self._direction and (math.isnan(best) or improves):
            self.best = point
        if self._count % self._stride == 0:
            self.points.append(point)
        self._count += 1
        if len(self.points) > MAX_POINTS:
            self.points = self.points[::2]
            self._stride *= 2


class Observed:
    """The metrics of all hosts, from pieces of their output.

    Args:
        hosts: the names.
        definitions: metric definitions; without any, the usual patterns count.
        file: gets a JSON line for each value; it must have no buffer.
    """

    def __init__(
        self,
        hosts: Sequence[str],
        definitions: Sequence[metrics.Definition] = (),
        file: BinaryIO | None = None,
    ) -> None:
        self.series: dict[tuple[str, str], Series] = {}
        self.epochs: dict[str, int] = {}
        self.warnings: list[str] = []
        self._hosts, self._definitions, self._file = hosts, list(definitions), file
        self._usual = not definitions
        self._incomplete = dict.fromkeys(hosts, b"")

    def add(self, host: str, data: bytes, now: float) -> None:
        """Look for metrics in the lines that ``data`` completes; b"" completes the last one."""
        data, ended = self._incomplete[host] + data, not data
        if self._usual and not ended and not metrics.has_hint(data):
            data = data[max(data.rfind(b"\n"), data.rfind(b"\r")) + 1 :]
        *lines, rest = _LINE_ENDS.split(data)
        if ended:
            lines, rest = [rest], b""
        self._incomplete[host] = rest[:LINE_BYTES]
        if self._usual:
            lines = [line for line in lines if metrics.has_hint(line[:LINE_BYTES])]
        for line in lines:
            text = line[:LINE_BYTES].decode("utf-8", "replace")
            for name, point in self._points(host, text):
                self._record(host, name, point, now)

    def _points(self, host: str, line: str) -> Iterator[tuple[str, Point]]:
        epoch = self.epochs.get(host)
        if self._usual:
            reading = metrics.usual(line, epoch)
        else:
            own_epoch = metrics.epoch_of(line)
            reading = metrics.Reading(epoch if own_epoch is None else own_epoch, None, [])
            for definition in list(self._definitions):
                reading.values.extend(self._defined(definition, line))
        if reading.epoch is not None:
            self.epochs[host] = reading.epoch
        for name, value in reading.values:
            yield name, Point(reading.epoch, reading.step, value)

    def _defined(self, definition: metrics.Definition, line: str) -> list[tuple[str, float]]:
        """The values by a definition, which is dropped if it takes too long."""
        try:
            signal.setitimer(signal.ITIMER_REAL, REGEX_S)
            try:
                return metrics.defined(definition, line)
            finally:
                signal.setitimer(signal.ITIMER_REAL, 0)
        except TimeoutError:
            self._definitions.remove(definition)
            self.warnings.append(
                f"the metric {definition.name} is no longer looked for: its Regex took more than "
                f"{REGEX_S:g} s on one line; avoid nested repetitions such as (a+)+"
            )
            return []

    def _record(self, host: str, name: str, point: Point, now: float) -> None:
        if (host, name) not in self.series:
            if len(self.series) == MAX_METRICS:
                return
            self.series[host, name] = Series(name)
        self.series[host, name].add(point)
        if self._file is None:
            return
        entry = {"time": round(now, 3), "host": host, "epoch": point.epoch, "step": point.step}
        value = point.value if math.isfinite(point.value) else str(point.value)
        try:
            line = json.dumps({**entry, "name": name, "value": value})
            self._file.write(f"{line}\n".encode())
        except OSError as exc:
            self.warnings.append(f"the metrics can no longer be written: {exc}")
            self._file = None

    def newest(self) -> dict[str, Any]:
        """The epoch and the last values of each host, and warnings since the last call."""
        warnings, self.warnings = self.warnings, []
        hosts: dict[str, Any] = {host: {"epoch": self.epochs.get(host)} for host in self._hosts}
        for (host, name), series in self.series.items():
            hosts[host].setdefault("values", {})[name] = series.last.value
        return {"newest": hosts, "warnings": warnings}

    def all(self) -> dict[str, Any]:
        """Every metric of each host, with its last and best value and its points."""
        return {
            "series": [
                {"host": host, "name": name, "last": series.last, "best": series.best,
                 "points": series.points}
                for (host, name), series in self.series.items()
            ],
            "warnings": self.warnings,
        }  # fmt: skip


def pieces(descriptor: int, pause_s: float) -> Iterator[tuple[float, int, bytes] | None]:
    """The pieces of output in a stream: when they came, the number of the host, the bytes.

    None if nothing came for ``pause_s`` seconds.
    """
    buffer = b""
    while True:
        ready, _, _ = select.select([descriptor], [], [], pause_s)
        if not ready:
            yield None
            continue
        data = os.read(descriptor, 1 << 16)
        if not data:
            return
        buffer, start = buffer + data, 0
        while len(buffer) - start >= HEADER.size:
            now, host, length = HEADER.unpack_from(buffer, start)
            end = start + HEADER.size + length
            if len(buffer) < end:
                break
            yield now, host, buffer[start + HEADER.size : end]
            start = end
        buffer = buffer[start:]


def _time_is_up(number: int, frame: object) -> NoReturn:
    raise TimeoutError


def main(job: str, descriptor: int, answers: TextIO) -> None:
    """Look for metrics until the stream ends.

    Args:
        job: JSON with ``hosts``, ``definitions`` and ``file``.
        descriptor: of a stream of pieces of output.
        answers: gets JSON lines: now and then the newest metrics, at the end all.
    """
    signal.signal(signal.SIGALRM, _time_is_up)
    for number in (signal.SIGINT, signal.SIGTERM):  # the stream ends when the job does
        signal.signal(number, signal.SIG_IGN)
    values = json.loads(job)
    definitions = [metrics.definition(entry) for entry in values["definitions"]]
    file = open(values["file"], "wb", buffering=0) if values["file"] else None  # noqa: SIM115
    observed = Observed(values["hosts"], definitions, file)
    answered_at, last = 0.0, ""
    for piece in pieces(descriptor, NEWEST_S):
        if piece:
            now, host, data = piece
            observed.add(values["hosts"][host], data, now)
        if time.monotonic() - answered_at > NEWEST_S:
            answered_at = time.monotonic()
            answer = json.dumps(observed.newest())
            if answer != last:
                _answer(answers, answer)
            last = answer
    _answer(answers, json.dumps(observed.all()))


def _answer(answers: TextIO, text: str) -> None:
    answers.write(f"{text}\n")
    answers.flush()
