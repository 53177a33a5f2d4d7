"""Follow a job's metrics while it runs, without ever holding its output up.

Output ──▶ Observer.feed ──▶ queue ──▶ thread ──▶ process (``series``)
           Observer.newest, summary ◀── thread ◀──┘
"""

from __future__ import annotations

import contextlib
import json
import logging
import math
import subprocess
import sys
import threading
import time
from collections import deque
from pathlib import Path
from typing import Any, Iterator, NamedTuple, Sequence

from mms_handler import processes, settings
from mms_handler.errors import TrainingError
from mms_handler.training.metrics import Definition
from mms_handler.training.series import HEADER, Point

log = logging.getLogger(__name__)

#: Bytes of output that may wait for the process; if more comes, the oldest is not looked at.
QUEUE_BYTES = 1 << 22

#: Seconds that the process may take for the rest when the job has ended.
REST_S = 20


class Curve(NamedTuple):
    """A metric of a host, with its last and best value; the best is nan if it has no direction."""

    host: str
    name: str
    last: Point
    best: Point
    points: list[Point]


class Observer:
    """The metrics of a job's hosts.

    Args:
        hosts: the names.
        definitions: metric definitions; without any, the usual patterns count.
        file: gets each value as a JSON line, while the job runs.
    """

    def __init__(
        self,
        hosts: Sequence[str],
        definitions: Sequence[Definition] = (),
        file: Path | None = None,
    ) -> None:
        self.newest: dict[str, Any] = {host: {} for host in hosts}
        self.curves: list[Curve] = []
        self._numbers = {host: number for number, host in enumerate(hosts)}
        self._settings = json.dumps(
            {
                "hosts": list(hosts),
                "definitions": [{"Name": d.name, "Regex": d.regex.pattern} for d in definitions],
                "file": str(file.resolve()) if file else None,
            }
        )
        self._queue: deque[tuple[float, int, bytes]] = deque()
        self._queued_bytes = self._dropped_bytes = 0
        self._ended = False
        self._changed = threading.Condition()
        self._complete = False

    def feed(self, host: str, data: bytes) -> None:
        """Look for metrics in what a host has printed; b"" is its end.  Returns at once."""
        with self._changed:
            self._queue.append((time.time(), self._numbers[host], data))
            self._queued_bytes += len(data)
            while self._queued_bytes > QUEUE_BYTES:
                _, _, oldest = self._queue.popleft()
                self._queued_bytes -= len(oldest)
                self._dropped_bytes += len(oldest)
            self._changed.notify()

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Look for metrics for the length of a ``with`` block; ``curves`` is set after it."""
        words = [sys.executable, "-m", "mms_handler", "train-observe", self._settings]
        with processes.group(
            words, env=settings.environment(), cwd=Path("/"),
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        ) as process:  # fmt: skip
            threads = [
                threading.Thread(target=function, args=(process,), daemon=True)
                for function in (self._write, self._read)
            ]
            for thread in threads:
                thread.start()
            try:
                yield
            finally:
                with self._changed:
                    self._ended = True
                    self._changed.notify()
                deadline = time.monotonic() + REST_S
                for thread in threads:
                    thread.join(max(0, deadline - time.monotonic()))
        if self._dropped_bytes:
            log.warning(
                "%d MB of the output were not searched for metrics, because it came too fast",
                math.ceil(self._dropped_bytes / 1e6),
            )
        if not self._complete:
            log.warning("the metrics are not complete: the process that looks for them ended early")

    def _write(self, process: subprocess.Popen[bytes]) -> None:
        with contextlib.suppress(OSError), process.stdin:  # type: ignore[union-attr]
            while True:
                with self._changed:
                    while not (self._queue or self._ended):
                        self._changed.wait()
                    if not self._queue:
                        return
                    now, host, data = self._queue.popleft()
                    self._queued_bytes -= len(data)
                process.stdin.write(HEADER.pack(now, host, len(data)) + data)  # type: ignore[union-attr]
                process.stdin.flush()  # type: ignore[union-attr]

    def _read(self, process: subprocess.Popen[bytes]) -> None:
        with process.stdout as stream:  # type: ignore[union-attr]
            for line in stream:
                answer = json.loads(line)
                for warning in answer["warnings"]:
                    log.warning("%s", warning)
                self.newest = answer.get("newest", self.newest)
                if "series" in answer:
                    self._complete = True
                    self.curves = [_curve(entry) for entry in answer["series"]]


def _curve(entry: dict[str, Any]) -> Curve:
    return Curve(
        entry["host"],
        entry["name"],
        Point(*entry["last"]),
        Point(*entry["best"]),
        [Point(*point) for point in entry["points"]],
    )


def check_writable(path: Path) -> None:
    """Make an empty file, so that a job does not run before it is known that this fails.

    Raises:
        TrainingError: it cannot be made.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.open("w").close()
    except OSError as exc:
        raise TrainingError(f"{path} cannot be written: {exc}") from exc
