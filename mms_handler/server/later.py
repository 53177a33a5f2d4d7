"""Changes of models that are carried out after their request was answered: synchronous=false."""

from __future__ import annotations

import contextlib
import logging
import threading
from typing import Callable

from mms_handler.errors import HandlerError, Unavailable

log = logging.getLogger(__name__)

#: Changes at one time.  Each has a thread, and may have a model that is loading.
_MAX_CHANGES = 100


class LaterChanges:
    """Carries out changes, each in a thread of its own that does not keep the process alive."""

    def __init__(self) -> None:
        """There is no change yet."""
        self._free = threading.Semaphore(_MAX_CHANGES)
        self._ended = False

    def start(
        self, subject: str, change: Callable[[], object], held: contextlib.ExitStack | None = None
    ) -> None:
        """Carry out ``change`` from now on; log it if it fails.

        Args:
            subject: what failed, for the log.
            change: may raise.
            held: closed after the change.  If this method raises, it stays the caller's.

        Raises:
            Unavailable: too many changes are being carried out, or the server ends.
        """
        if self._ended:
            raise Unavailable("the server ends")
        if not self._free.acquire(blocking=False):
            raise Unavailable(f"{_MAX_CHANGES} changes are being carried out; try again later")
        rest = held.pop_all() if held else contextlib.ExitStack()

        def run() -> None:
            try:
                with rest:
                    change()
            except Exception as exc:
                self._log(subject, exc)
            finally:
                self._free.release()

        try:
            threading.Thread(target=run, daemon=True).start()
        except RuntimeError as exc:  # the system has no thread for it
            rest.close()
            self._free.release()
            raise Unavailable("the server cannot start a thread; try again later") from exc

    def _log(self, subject: str, exc: Exception) -> None:
        if self._ended:  # so has what the change needs
            return
        if isinstance(exc, HandlerError):
            log.error("%s failed: %s", subject, exc)
        else:
            log.error("%s failed", subject, exc_info=exc)

    def end(self) -> None:
        """Start and log no change any more, and wait for none: the server ends."""
        self._ended = True
