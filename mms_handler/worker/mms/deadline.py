"""A batch is answered before MMS gives up on it, which would cost the worker and all its requests.

Python code is interrupted, by SIGALRM.  Native code that does not return is MMS's to give up.
"""

from __future__ import annotations

import logging
import math
import signal
import threading
import time
from typing import Any, Callable

from mms_handler.errors import TimedOut

log = logging.getLogger(__name__)

#: Seconds until a script that goes on is interrupted again; the alarm is known as ours by it.
_AGAIN_S = 0.9375


class _Expired(BaseException):
    """Raised in the script, wherever it is; an ``except Exception`` there does not stop it."""


class Deadline:
    """The time for one batch at a time: a ``with`` block."""

    def __init__(self, timeout_s: float) -> None:
        """``timeout_s`` is MMS's limit; ours is shorter by a tenth, or 2 s."""
        self._limit_s = timeout_s - min(2, timeout_s / 10)
        self._ends_s = 0.0
        self._running = self._expired = self._told = False
        self._alarm = self._interrupt  # a method is another object each time it is asked for
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGALRM, self._alarm)

    def __enter__(self) -> None:
        self._ends_s = time.monotonic() + self._limit_s
        if signal.getsignal(signal.SIGALRM) is self._alarm:
            _replace_timer((self._limit_s, _AGAIN_S), if_it_was=0)

    def __exit__(self, *exc: object) -> None:
        if not _replace_timer((0, 0), if_it_was=_AGAIN_S) and not self._told:
            self._told = True
            log.warning("the script uses SIGALRM: its requests have no time limit but MMS's")

    def call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """What ``function`` gives, if it does so in time.

        Raises:
            TimedOut: the time of the batch was up, before or during the call.
        """
        if time.monotonic() >= self._ends_s:
            raise TimedOut(f"not begun: its batch took the {self._limit_s:g} s that there are")
        self._expired = False
        try:
            try:
                self._running = True
                return function(*arguments)
            finally:
                self._running = False
        except BaseException as exc:
            self._running = False  # the alarm may have come between the two lines above
            if self._expired:
                raise TimedOut(f"the model did not answer within {self._limit_s:g} s") from exc
            raise

    def _interrupt(self, number: int, frame: object) -> None:
        if self._running:
            self._expired = True
            raise _Expired


def _replace_timer(timer: tuple[float, float], if_it_was: float) -> bool:
    """Set ``timer`` and give True; where there is one of another interval, the script's, do not."""
    before = signal.setitimer(signal.ITIMER_REAL, *timer)
    if math.isclose(before[1], if_it_was, abs_tol=0.01):
        return True
    signal.setitimer(signal.ITIMER_REAL, *before)
    return False
