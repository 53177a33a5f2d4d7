"""What a worker prints, as lines that MMS can take.

print ─▶ sys.stdout ─bytes─▶ Lines ─▶ descriptor 1 ─▶ MMS's log        stderr and logging likewise

MMS reads its workers' output line by line.  A line of a megabyte holds the worker up for seconds,
some words at the start of one are commands, and after a bad one nobody reads, so that every print
fails (WorkerLifeCycle.java:228-270).  What native code writes to the descriptors itself does not
come by here.
"""

from __future__ import annotations

import io
import logging
import os
import re
import sys
import threading
from typing import Any

#: Bytes of a line; the rest is left out, and the line says how much that was.
MAX_LINE = 8_000

#: Where the front end's Scanner ends a line.
_BREAKS = re.compile(rb"\r\n|[\n\r]|\xc2\x85|\xe2\x80[\xa8\xa9]")

#: What the front end obeys at the start of a line; behind a blank it does not.
_COMMANDS = (b"[PID]", b"[METRICS]", b"MMS worker started.")


class Output:
    """The three ways in which this process prints; nothing is changed until ``clean``."""

    def __init__(self) -> None:
        self._streams: list[_Stream] = []

    def clean(self) -> None:
        """From here on stdout, stderr and the log of this process give lines that MMS can take."""
        old = sys.stdout
        self._streams = [_Stream(Lines(1)), _Stream(Lines(2))]
        sys.stdout, sys.stderr = self._streams
        for handler in list(logging.getLogger().handlers):
            if getattr(handler, "stream", None) is old:
                _divide(handler)

    def of(self, request_id: str) -> None:
        """What is printed from here on is of this request; of none, if it is empty."""
        for stream in self._streams:
            stream.flush()
            stream.lines.of(request_id)


class _Stream(io.TextIOWrapper):
    """Text over Lines; open whatever a script does, for others print too."""

    def __init__(self, lines: Lines) -> None:
        super().__init__(lines, "utf-8", "backslashreplace", line_buffering=True)
        self.lines = lines

    def close(self) -> None:
        self.flush()


def _divide(handler: Any) -> None:
    """Leave to ``handler`` MMS's own metrics, which are commands, and print the rest as lines."""
    ours = logging.StreamHandler(sys.stdout)
    ours.setFormatter(handler.formatter)
    ours.addFilter(lambda record: not _is_metric(record))
    handler.addFilter(_is_metric)
    logging.getLogger().addHandler(ours)


def _is_metric(record: logging.LogRecord) -> bool:
    return record.name == "mms.service" and record.msg == "[METRICS]%s"  # service.py:149


class Lines(io.BufferedIOBase):
    """Bytes in, lines out: short, of one request, and no commands.  Never fails."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor, self.name = descriptor, f"<{descriptor}>"
        self._request_id = b""
        self._rest = b""  # of the line that has no end yet: what was not written
        self._begun, self._length = False, 0  # of that line: what was
        self._lock = threading.RLock()  # a signal's handler may print while we do
        os.register_at_fork(after_in_child=self._unlock)

    def _unlock(self) -> None:
        self._lock = threading.RLock()  # who held it is not in this child

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._descriptor

    def isatty(self) -> bool:
        return False

    def write(self, data: Any) -> int:
        with self._lock:
            *whole, self._rest = _BREAKS.split(self._rest + bytes(data))
            text = b"".join(self._piece(line) + self._end() for line in whole)
            if len(self._rest) > MAX_LINE:
                text += self._take_rest()
            self._send(text)
        return len(data)

    def flush(self) -> None:
        if self._rest:
            with self._lock:
                self._send(self._take_rest())

    def of(self, request_id: str) -> None:
        """What is written from here on is of this request; an unfinished line ends here."""
        with self._lock:
            if self._begun or self._rest:
                self._send(self._take_rest() + self._end())
            self._request_id = request_id.encode()

    def _take_rest(self) -> bytes:
        piece, self._rest = self._rest, b""
        return self._piece(piece)

    def _piece(self, piece: bytes) -> bytes:
        """As much of the next ``piece`` of a line as may be written."""
        start = b"" if self._begun else self._start(piece)
        room = max(0, MAX_LINE - self._length)
        self._begun, self._length = True, self._length + len(piece)
        return start + (piece if len(piece) <= room else _whole_letters(piece[:room]))

    def _start(self, piece: bytes) -> bytes:
        if piece and self._request_id and self._request_id not in piece:
            return b"request " + self._request_id + b": "
        return b" " if piece.startswith(_COMMANDS) or _may_become(piece) else b""

    def _end(self) -> bytes:
        left_out = self._length - MAX_LINE
        self._begun, self._length = False, 0
        return b" [and %d bytes more]\n" % left_out if left_out > 0 else b"\n"

    def _send(self, text: bytes) -> None:
        try:
            while text:
                text = text[os.write(self._descriptor, text) :]
        except OSError:
            pass  # nobody reads any more; a request does not fail for that


def _whole_letters(piece: bytes) -> bytes:
    return piece.decode("utf-8", "ignore").encode()


def _may_become(piece: bytes) -> bool:
    """Whether more of the line could make a command of ``piece``."""
    return piece != b"" and any(one.startswith(piece) for one in _COMMANDS)
