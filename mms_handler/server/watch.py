"""Count worker deaths for each model from the log, and report the models above the limit."""

from __future__ import annotations

import re
import threading
import time
from collections import deque
from typing import NamedTuple

#: Seconds after which a death no longer counts.
WINDOW_S = 60

# mms_handler.worker.service prints one of these for each worker that loads a model or fails to.
_LOADED = re.compile(r"model (\S+) is loaded$")
_FAILED = re.compile(r"cannot load model (\S+): (.*)")


class Death(NamedTuple):
    """A worker that MMS started again, so another one died before it.

    Fields:
        at_s: monotonic time.
        reason: why the new worker could not load the model; "" if it could.
    """

    at_s: float
    reason: str


class WorkerDeaths:
    """Counts the worker starts that nobody requested: each follows a death."""

    def __init__(self, limit: int) -> None:
        """Tolerate ``limit`` deaths of one model within WINDOW_S."""
        self._limit = limit
        self._expected_starts: dict[str, int] = {}
        self._deaths: dict[str, deque[Death]] = {}
        self._lock = threading.Lock()

    def expect(self, name: str, starts: int) -> None:
        """Do not count the next ``starts`` workers of a model: they are started on purpose."""
        with self._lock:
            self._expected_starts[name] = self._expected_starts.get(name, 0) + starts

    def forget(self, name: str) -> None:
        with self._lock:
            self._expected_starts.pop(name, None)
            self._deaths.pop(name, None)

    def read(self, line: str) -> None:
        """Read a line that the front end or a worker printed."""
        match = _LOADED.search(line) or _FAILED.search(line)
        if not match:
            return
        name, reason = match[1], match[2] if match.re is _FAILED else ""
        with self._lock:
            if self._expected_starts.get(name, 0) > 0:
                self._expected_starts[name] -= 1
            else:
                deaths = self._deaths.setdefault(name, deque(maxlen=self._limit + 1))
                deaths.append(Death(time.monotonic(), reason))

    def above_limit(self) -> dict[str, str]:
        """The models with more deaths than the limit, each with the latest reason, or ""."""
        oldest_s = time.monotonic() - WINDOW_S
        with self._lock:
            return {
                name: next((death.reason for death in reversed(deaths) if death.reason), "")
                for name, deaths in self._deaths.items()
                if len(deaths) > self._limit and deaths[0].at_s > oldest_s
            }
