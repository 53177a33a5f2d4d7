"""What the front end and its workers print: handed on as records, and read while Java starts."""

from __future__ import annotations

import threading
import time
from collections import deque
from typing import IO, Callable

from mms_handler.log_records import Record
from mms_handler.server import java_log


def ignore(line: str) -> None:
    """Do nothing."""


class ProcessLog:
    """What the front end and its workers print."""

    def __init__(
        self, put: Callable[[Record], None], put_access: Callable[[str], None] = ignore
    ) -> None:
        """Call ``put`` with each record, but ``put_access`` with the lines of the access log.

        They may not raise: Java would block on a full pipe.
        """
        self._put, self._put_access = put, put_access
        self._first: deque[str] | None = deque(maxlen=500)

    def follow(self, stream: IO[bytes]) -> None:
        """Read ``stream`` to its end, in a thread that ends with it."""

        def copy() -> None:
            with stream:
                for line in stream:
                    self._take(line.decode("utf-8", "replace").rstrip())

        threading.Thread(target=copy, daemon=True).start()

    def _take(self, line: str) -> None:
        if line.startswith(java_log.ACCESS):
            self._put_access(line)
            return
        record = java_log.record_of(line)
        if record is None:
            return
        first = self._first
        if first is not None:
            first += [*record["message"].splitlines(), *record.get("traceback", "").splitlines()]
        self._put(record)

    def forget(self) -> None:
        """Keep no line any more.  Java listens: from now on clients and scripts choose the words.

        The log is for people.  Nothing in it may count, since anyone could print it.
        """
        self._first = None

    def text_after(self, words: str, within_s: float = 2) -> str | None:
        """What follows ``words`` in the latest line of Java's start; None if no line has them."""
        deadline = time.monotonic() + within_s
        while True:
            for line in reversed(list(self._first or ())):
                if words in line:
                    return line.partition(words)[2]
            if self._first is None or time.monotonic() > deadline:
                return None
            time.sleep(0.05)
