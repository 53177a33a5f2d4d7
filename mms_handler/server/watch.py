"""How often a model's workers died, from what they print: when it is too often, it is over."""

from __future__ import annotations

import re
import threading
import time
from collections import deque
from typing import NamedTuple

#: Seconds after which a death is forgotten.
WINDOW_S = 60

# What mms_handler.worker.service prints, once for each worker that loads a model or fails to.
_LOADED = re.compile(r"model (\S+) is loaded$")
_FAILED = re.compile(r"cannot load model (\S+): (.*)")


class Death(NamedTuple):
    """A worker that was started again, and why it could not be, if it could not."""

    at_s: float
    reason: str


class Watch:
    """Counts the starts of workers that nobody asked for: each follows a death."""

    def __init__(self, limit: int) -> None:
        """``limit``: deaths of one model within WINDOW_S that are still borne."""
        self._limit = limit
        self._asked: dict[str, int] = {}
        self._deaths: dict[str, deque[Death]] = {}
        self._lock = threading.Lock()

    def expect(self, name: str, starts: int) -> None:
        """So many workers of ``name`` are about to be started on purpose."""
        with self._lock:
            self._asked[name] = self._asked.get(name, 0) + starts

    def forget(self, name: str) -> None:
        with self._lock:
            self._asked.pop(name, None)
            self._deaths.pop(name, None)

    def see(self, line: str) -> None:
        """Take a line that the front end or a worker printed."""
        loaded, failed = _LOADED.search(line), _FAILED.search(line)
        if not (loaded or failed):
            return
        name, reason = (loaded[1], "") if loaded else failed.groups() if failed else ("", "")
        with self._lock:
            if self._asked.get(name, 0) > 0:
                self._asked[name] -= 1
            else:
                deaths = self._deaths.setdefault(name, deque(maxlen=self._limit + 1))
                deaths.append(Death(time.monotonic(), reason))

    def too_many(self) -> dict[str, str]:
        """The models whose workers die again and again, each with what is known of why."""
        oldest = time.monotonic() - WINDOW_S
        with self._lock:
            return {
                name: next((one.reason for one in reversed(deaths) if one.reason), "")
                for name, deaths in self._deaths.items()
                if len(deaths) > self._limit and deaths[0].at_s > oldest
            }
