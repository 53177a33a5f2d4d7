"""Turn what a worker prints into lines that MMS can read.

print ─▶ sys.stdout ─bytes─▶ Lines ─▶ descriptor 1 ─▶ MMS's log        stderr and logging likewise

MMS reads its workers' output line by line.  A line of a megabyte delays the worker for seconds.
Some words at the start of a line are commands; after a bad command MMS stops reading, and then
every print fails (WorkerLifeCycle.java:228-270).  Native code writes to the descriptors directly
and does not pass through here.
"""

from __future__ import annotations

import io
import logging
import os
import re
import sys
import threading
from typing import Any

from mms_handler.errors import LoadError

#: Bytes of a line.  The rest is left out, and the line says how many bytes that was.
MAX_LINE = 8_000

#: Where the front end, with Java's Scanner, ends a line.
_BREAKS = re.compile(rb"\r\n|[\n\r]|\xc2\x85|\xe2\x80[\xa8\xa9]")

#: The first bytes of a letter, or of a line end, whose last byte is missing.
_CUT_LETTER = re.compile(rb"(?:[\xc2-\xdf]|[\xe0-\xef][\x80-\xbf]?|[\xf0-\xf4][\x80-\xbf]{0,2})\Z")

#: Commands to the front end at the start of a line.  After a blank they are plain text.
_COMMANDS = (b"[PID]", b"[METRICS]", b"MMS worker started.")


class Output:
    """This process's stdout, stderr and log.  Nothing changes until ``clean`` is called."""

    def __init__(self) -> None:
        self._streams: list[_Stream] = []

    def clean(self) -> None:
        """Make stdout, stderr and the log of this process write lines that MMS can read."""
        stdout = sys.stdout
        self._streams = [_Stream(Lines(1)), _Stream(Lines(2))]
        sys.stdout, sys.stderr = self._streams
        for handler in list(logging.getLogger().handlers):
            if getattr(handler, "stream", None) is stdout:
                _divide(handler)

    def tag(self, request_id: str) -> None:
        """Prefix output with this request's id from now on; "" for no prefix."""
        for stream in self._streams:
            stream.flush()
            stream.lines.tag(request_id)


class _Stream(io.TextIOWrapper):
    """Text over Lines.  It stays open even if a script closes it, because others print too."""

    def __init__(self, lines: Lines) -> None:
        super().__init__(lines, "utf-8", "backslashreplace", line_buffering=True)
        self.lines = lines

    def close(self) -> None:
        self.flush()


def _divide(handler: Any) -> None:
    """Leave MMS's own metrics, which are commands, to ``handler``; print the rest through Lines.

    MMS's traceback at the end of an idle worker is left out: the front end knows why it ended it.
    So is that of a model that cannot be loaded, which the service has logged.
    """
    printing = logging.StreamHandler(sys.stdout)
    printing.setFormatter(handler.formatter)
    printing.addFilter(lambda record: not _is_metric(record) and not _is_known_end(record))
    handler.addFilter(_is_metric)
    logging.getLogger().addHandler(printing)


def _is_metric(record: logging.LogRecord) -> bool:
    return record.name == "mms.service" and record.msg == "[METRICS]%s"  # service.py:149


def _is_known_end(record: logging.LogRecord) -> bool:
    """Whether MMS says that the worker ends, and the log has the reason, or needs none."""
    if record.msg != "Backend worker process died." or not record.exc_info:  # start_worker
        return False
    exc = record.exc_info[1]
    closed = str(exc) == "Frontend disconnected"  # otf_message_handler.py:163
    return closed or isinstance(exc, LoadError)


class Lines(io.BufferedIOBase):
    """Turns bytes into short lines of one request each, never a command.  Writing never fails."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor, self.name = descriptor, f"<{descriptor}>"
        self._request_id = b""
        self._rest = b""  # the part of an unfinished line that is not written yet
        self._begun, self._length = False, 0  # whether a part of it was written, and its bytes
        self._lock = threading.RLock()  # reentrant: a signal handler may print during a print
        os.register_at_fork(after_in_child=self._unlock)

    def _unlock(self) -> None:
        self._lock = threading.RLock()  # the thread that held the old one is not in this child

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

    def tag(self, request_id: str) -> None:
        """Prefix lines with this request's id from now on; an unfinished line ends here."""
        with self._lock:
            if self._begun or self._rest:
                piece, self._rest = self._rest, b""
                self._send(self._piece(piece) + self._end())
            self._request_id = request_id.encode()

    def _take_rest(self) -> bytes:
        """What may be written of the unfinished line; a letter that is cut waits for its end."""
        piece = _CUT_LETTER.sub(b"", self._rest)
        self._rest = self._rest[len(piece) :]
        return self._piece(piece) if piece else b""

    def _piece(self, piece: bytes) -> bytes:
        """The part of the next ``piece`` of a line that may still be written."""
        begun, room = self._begun, max(0, MAX_LINE - self._length)
        self._begun, self._length = True, self._length + len(piece)
        if len(piece) > room:
            piece = _CUT_LETTER.sub(b"", piece[:room])
        return piece if begun else self._prefix(piece) + piece

    def _prefix(self, piece: bytes) -> bytes:
        """The request's id for a line of text; a blank before what is, or may become, a command."""
        if piece and self._request_id and self._request_id not in piece:
            return b"request " + self._request_id + b": "
        may_become = piece != b"" and any(command.startswith(piece) for command in _COMMANDS)
        return b" " if may_become or piece.startswith(_COMMANDS) else b""

    def _end(self) -> bytes:
        left_out = self._length - MAX_LINE
        self._begun, self._length = False, 0
        return b" [and %d bytes more]\n" % left_out if left_out > 0 else b"\n"

    def _send(self, text: bytes) -> None:
        try:
            while text:
                text = text[os.write(self._descriptor, text) :]
        except OSError:
            pass  # the reader is gone; a request must not fail because of that
