"""A timer of the kernel that kills this process, whatever it runs, even if it is stopped.

Python has no function for it: ``signal.setitimer`` sends SIGALRM, which needs the interpreter.
"""

from __future__ import annotations

import ctypes
import logging
import signal
import sys
import time
from typing import Any

log = logging.getLogger(__name__)

#: ``struct itimerspec``: seconds and nanoseconds between expirations, and those to the first one.
#: Zeros stop a timer.
_SETTING = ctypes.c_long * 4

#: ``struct sigevent``: a pointer, the signal, how to notify (0: by the signal), and more.
_EVENT = ctypes.c_int * 16


class KillTimer:
    """A timer that sends SIGKILL to this process when it expires.  Forked children have none."""

    def __init__(self) -> None:
        self._set: Any = None
        self._timer: Any = None
        self._on: Any = None
        if sys.platform == "linux":
            self._set, self._timer = _create()
        self._off = ctypes.byref(_SETTING())

    def limit(self, seconds: float) -> None:
        """Expire ``seconds`` after each start.  Without a limit the timer does not start."""
        setting = _SETTING()
        setting[2:] = [int(seconds), int(seconds % 1 * 1e9)]
        self._on = ctypes.byref(setting)

    def start(self) -> None:
        self._change(self._on)

    def stop(self) -> None:
        self._change(self._off)

    def _change(self, setting: Any) -> None:
        if self._on is not None and self._set:
            self._set(self._timer, 0, setting, None)


def _create() -> tuple[Any, Any]:
    """The function that sets a timer, and a timer; None for both if there are no timers.

    Source: timer_create(2).
    """
    timer = ctypes.c_void_p()
    event = _EVENT()
    event[2] = signal.SIGKILL
    try:
        library = ctypes.CDLL("librt.so.1", use_errno=True)  # the timers of each version of glibc
        failed = library.timer_create(
            time.CLOCK_MONOTONIC, ctypes.byref(event), ctypes.byref(timer)
        )
    except (OSError, AttributeError):
        failed = True
    if failed:
        log.warning("there are no timers; native code that does not return has MMS's time limit")
        return None, None
    return library.timer_settime, timer
