"""End a legacy script's process at SIGTERM, wherever the signal finds it."""

from __future__ import annotations

import signal
import sys
import threading
from typing import Any, NoReturn

#: Seconds after which a signal whose exception Python has dropped is sent again.
AGAIN_S = 0.1


class Terminated(SystemExit):
    """SIGTERM ends this process.  It is no failure of the script."""


def exit_at_sigterm() -> None:
    """Raise Terminated in the main thread at SIGTERM, and again if Python drops the exception.

    It drops what a destructor or a callback of ctypes raises.  Those of MXNet's arrays run all the
    time (NDArrayBase.__del__): in a loop of small steps, three signals in a thousand were lost.
    """
    raised: list[Terminated] = []
    show = sys.unraisablehook

    def end(number: int, frame: object) -> NoReturn:
        raised[:] = [Terminated(128 + number)]
        raise raised[0]

    def look(unraisable: Any) -> None:
        if unraisable.exc_value in raised:
            main = threading.main_thread().ident
            again = threading.Timer(AGAIN_S, signal.pthread_kill, (main, signal.SIGTERM))
            again.daemon = True
            again.start()
        else:
            show(unraisable)

    signal.signal(signal.SIGTERM, end)
    sys.unraisablehook = look
