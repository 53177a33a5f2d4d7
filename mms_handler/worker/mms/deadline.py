"""Answer a batch before MMS gives up on it: MMS would end the worker and fail all its requests.

SIGALRM interrupts Python code.  Native code that does not return is left to MMS's own limit.
"""

from __future__ import annotations

import inspect
import logging
import math
import signal
import threading
import time
from typing import Any, Callable, cast

from mms_handler.errors import TimedOut

log = logging.getLogger(__name__)

#: Seconds until a script that continues is interrupted again.  The value marks the timer as ours.
_REPEAT_S = 0.9375


#: Returns a signal's handler.  Python's own function takes some microseconds to look for an enum's
#: member, and finds none for a function.
_handler_of = cast(Callable[[int], Any], inspect.unwrap(signal.getsignal))


class _Expired(BaseException):
    """Raised in the script, wherever it is.  An ``except Exception`` there does not catch it."""


class Deadline:
    """A time limit for batches.  Each batch is a ``with`` block."""

    def __init__(self, timeout_s: float) -> None:
        """``timeout_s`` is MMS's limit; ours is a tenth shorter, but at most 2 s."""
        self._limit_s = timeout_s - min(2, timeout_s / 10)
        self._ends_s = 0.0
        self._running = self._expired = self._warned = False
        self._alarm = self._interrupt  # compared by identity; each access makes a new method object
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGALRM, self._alarm)

    def __enter__(self) -> None:
        self._ends_s = time.monotonic() + self._limit_s
        if _handler_of(signal.SIGALRM) is self._alarm:
            _replace_timer((self._limit_s, _REPEAT_S), if_interval=0)

    def __exit__(self, *exc: object) -> None:
        if not _replace_timer((0, 0), if_interval=_REPEAT_S) and not self._warned:
            self._warned = True
            log.warning("the script uses SIGALRM: its requests have only MMS's own time limit")

    def call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Call ``function`` within the batch's time.

        Raises:
            TimedOut: the batch's time was up before the call, or during it.
        """
        if time.monotonic() >= self._ends_s:
            raise TimedOut(f"not started: its batch used up the limit of {self._limit_s:g} s")
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


def _replace_timer(timer: tuple[float, float], if_interval: float) -> bool:
    """Set ``timer``, unless the current one has another interval: then it is the script's."""
    current = signal.setitimer(signal.ITIMER_REAL, *timer)
    if math.isclose(current[1], if_interval, abs_tol=0.01):
        return True
    signal.setitimer(signal.ITIMER_REAL, *current)
    return False
