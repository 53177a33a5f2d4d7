"""Count worker deaths for each model, and report the models above the limit.

The plug-in counts how often MMS started a process for each worker, from MMS's own objects.  The log
does not count: it has text that clients send and scripts print.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from typing import Callable, Mapping

#: Seconds after which a death no longer counts.
WINDOW_S = 60


class _Registration:
    """One registration of a model with MMS.

    Attributes:
        restarts: the plug-in's count when it was last read; it begins at 0 for each registration.
    """

    def __init__(self) -> None:
        self.restarts = 0


class WorkerDeaths:
    """The deaths of each model's workers within the last WINDOW_S.  Thread-safe."""

    def __init__(self, limit: int) -> None:
        """Tolerate ``limit`` deaths of one model within WINDOW_S."""
        self._limit = limit
        self._registrations: dict[str, _Registration] = {}
        self._times: dict[str, deque[float]] = {}  # of the latest deaths, monotonic
        self._lock = threading.Lock()

    def follow(self, name: str) -> None:
        """Count a model's deaths from now on.  MMS has just registered it, perhaps again."""
        with self._lock:
            self._registrations[name] = _Registration()

    def forget(self, name: str) -> None:
        """Forget an unregistered model and its deaths."""
        with self._lock:
            self._registrations.pop(name, None)
            self._times.pop(name, None)

    def add(self, name: str, deaths: int = 1) -> None:
        """Count deaths that the plug-in cannot see."""
        with self._lock:
            self._add(name, deaths)

    def _add(self, name: str, deaths: int) -> None:
        times = self._times.setdefault(name, deque(maxlen=self._limit + 1))
        times.extend([time.monotonic()] * deaths)

    def read(self, restarts: Callable[[], Mapping[str, int]]) -> dict[str, int]:
        """Read the plug-in's counts, by model; return how many deaths are new.

        A model that is registered again during the call is left for the next call, because its
        count may belong to the previous registration.
        """
        with self._lock:
            followed = dict(self._registrations)
        counts, new = restarts(), {}
        with self._lock:
            for name, registration in followed.items():
                count = counts.get(name, 0)
                if self._registrations.get(name) is registration and count > registration.restarts:
                    new[name] = count - registration.restarts
                    self._add(name, new[name])
                    registration.restarts = count
        return new

    def within_window(self, name: str) -> int:
        """How many workers of a model died within WINDOW_S; one more than the limit at most."""
        oldest_s = time.monotonic() - WINDOW_S
        with self._lock:
            return sum(died_s > oldest_s for died_s in self._times.get(name, ()))

    def above_limit(self) -> list[str]:
        """The models with more deaths than the limit."""
        oldest_s = time.monotonic() - WINDOW_S
        with self._lock:
            return [
                name
                for name, times in self._times.items()
                if len(times) > self._limit and times[0] > oldest_s
            ]
