"""Turn what a worker prints into lines that MMS can read: text, or records of the log.

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
from typing import Any, Mapping

import mms

from mms_handler import names
from mms_handler.errors import LoadError
from mms_handler.log_records import Record, RecordHandler, as_json, make_record
from mms_handler.settings import Settings

#: Bytes of a line.  The rest is left out, and the line says how many bytes that was.
MAX_LINE = 8_000

#: Where the front end, with Java's Scanner, ends a line.
_BREAKS = re.compile(rb"\r\n|[\n\r]|\xc2\x85|\xe2\x80[\xa8\xa9]")

#: The first bytes of a letter, or of a line end, whose last byte is missing.
_CUT_LETTER = re.compile(rb"(?:[\xc2-\xdf]|[\xe0-\xef][\x80-\xbf]?|[\xf0-\xf4][\x80-\xbf]{0,2})\Z")

#: The logger of MMS's metrics, which are commands.
_METRICS = "mms.service"

#: Where MMS's own code is: as Python imports it, and without links, as serve starts it.
_MMS = tuple(
    os.path.join(find(mms.__path__[0]), "") for find in (os.path.abspath, os.path.realpath)
)

#: Commands to the front end at the start of a line.  After a blank they are plain text.
_COMMANDS = (b"[PID]", b"[METRICS]", b"MMS worker started.")


class Output:
    """This process's stdout, stderr and log.  Nothing changes until ``clean`` is called.

    With ``records``, each line becomes a record of the log, as JSON: for serve, which writes it in
    the format of its log, or for whoever reads the log of MMS.
    """

    def __init__(self, mms_name: str, settings: Settings) -> None:
        """``mms_name`` is MMS's name of the model that this process serves."""
        self._level = settings.log_level
        self._records = settings.supervised or settings.log_format == "json"
        self._fields = {
            "source": "worker",
            "model": names.of_model(mms_name),
            "version": names.version_in(mms_name),
            "worker": os.getpid(),
        }
        self._streams: list[_Stream] = []

    def renew(self) -> None:
        """Write as this process, which was forked from the one that made this."""
        self._fields["worker"] = os.getpid()

    def clean(self) -> None:
        """Make stdout, stderr and the log of this process write lines that MMS can read."""
        stdout = sys.stdout
        outputs = (self._lines(1, logging.INFO), self._lines(2, logging.WARNING))
        self._streams = [_Stream(lines) for lines in outputs]
        sys.stdout, sys.stderr = self._streams
        root = logging.getLogger()
        root.setLevel(self._level.upper())
        logging.getLogger(_METRICS).setLevel(logging.INFO)
        for handler in list(root.handlers):
            if getattr(handler, "stream", None) is stdout:
                _divide(handler, self._printing(handler.formatter, outputs[0]))

    def _lines(self, descriptor: int, level: int) -> Lines:
        if not self._records:
            return TextLines(descriptor)
        is_written = level >= logging.getLevelName(self._level.upper())
        return RecordLines(descriptor, level, self._fields, is_written)

    def _printing(self, formatter: logging.Formatter | None, lines: Lines) -> logging.Handler:
        """What prints the records of Python's logging."""
        if isinstance(lines, RecordLines):
            return RecordHandler(lines.send, self._fields)
        handler = logging.StreamHandler(sys.stdout)
        handler.setFormatter(formatter)
        return handler

    def tag(self, request_id: str) -> None:
        """Add this request's id to all output from now on; "" for none."""
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


def _divide(handler: Any, printing: logging.Handler) -> None:
    """Leave MMS's own metrics, which are commands, to ``handler``, and the rest to ``printing``.

    MMS's traceback at the end of an idle worker is left out: the front end knows why it ended it.
    So is that of a model that cannot be loaded, which the service has logged.  What MMS says about
    its sockets is for debugging.
    """
    printing.addFilter(lambda record: not _is_metric(record) and not _is_known_end(record))
    printing.addFilter(lambda record: record.levelno > logging.INFO or not _is_of_mms(record))
    handler.addFilter(_is_metric)
    logging.getLogger().addHandler(printing)


def _is_of_mms(record: logging.LogRecord) -> bool:
    debugging = logging.getLogger().isEnabledFor(logging.DEBUG)
    return record.pathname.startswith(_MMS) and not debugging


def _is_metric(record: logging.LogRecord) -> bool:
    return record.name == _METRICS and record.msg == "[METRICS]%s"  # service.py:149


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
        self._request_id = ""
        self._rest = b""  # the part of an unfinished line that is not written yet
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

    def tag(self, request_id: str) -> None:
        """Lines are of this request from now on; an unfinished line ends here."""
        with self._lock:
            self._end_line()
            self._request_id = request_id

    def _end_line(self) -> None:
        """Write an unfinished line."""
        raise NotImplementedError

    def _send(self, text: bytes) -> None:
        try:
            while text:
                text = text[os.write(self._descriptor, text) :]
        except OSError:
            pass  # the reader is gone; a request must not fail because of that


class TextLines(Lines):
    """Lines of text that begin with the id of their request."""

    def __init__(self, descriptor: int) -> None:
        super().__init__(descriptor)
        self._begun, self._length = False, 0  # whether a part of it was written, and its bytes

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

    def _end_line(self) -> None:
        if self._begun or self._rest:
            piece, self._rest = self._rest, b""
            self._send(self._piece(piece) + self._end())

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
        if piece and self._request_id:
            return f"request {self._request_id}: ".encode()
        may_become = piece != b"" and any(command.startswith(piece) for command in _COMMANDS)
        return b" " if may_become or piece.startswith(_COMMANDS) else b""

    def _end(self) -> bytes:
        left_out = self._length - MAX_LINE
        self._begun, self._length = False, 0
        return b" [and %d bytes more]\n" % left_out if left_out > 0 else b"\n"


class RecordLines(Lines):
    """A record for each line.  Empty lines have none, and an unfinished line waits for its end."""

    def __init__(
        self, descriptor: int, level: int, fields: Mapping[str, Any], is_written: bool
    ) -> None:
        """Records of lines have ``level``; without ``is_written`` they are dropped."""
        super().__init__(descriptor)
        self._level, self._fields = logging.getLevelName(level), fields
        self._is_written = is_written
        self._left_out = 0  # bytes of the unfinished line that will not be written

    def write(self, data: Any) -> int:
        with self._lock:
            *whole, self._rest = _BREAKS.split(self._rest + bytes(data))
            for line in whole:
                self._send_line(line)
            self._left_out += max(0, len(self._rest) - MAX_LINE)
            self._rest = self._rest[:MAX_LINE]
        return len(data)

    def flush(self) -> None:
        """Do nothing: MMS reads whole lines."""

    def _end_line(self) -> None:
        line, self._rest = self._rest, b""
        self._send_line(line)

    def _send_line(self, line: bytes) -> None:
        left_out, self._left_out = self._left_out + max(0, len(line) - MAX_LINE), 0
        if not self._is_written or not line.strip():
            return
        piece = _CUT_LETTER.sub(b"", line[:MAX_LINE]) if left_out else line
        note = f" [and {left_out} bytes more]" if left_out else ""
        text = piece.decode("utf-8", "backslashreplace") + note
        self.send(make_record(self._level, text, **self._fields))

    def send(self, record: Record) -> None:
        """Write a record of the current request; its texts are shortened."""
        with self._lock:
            for key in ("message", "traceback"):
                if len(record.get(key, "")) > 2 * MAX_LINE:
                    left_out = len(record[key]) - MAX_LINE
                    record[key] = f"{record[key][:MAX_LINE]} [and {left_out} characters more]"
            if self._request_id:
                record["request_id"] = self._request_id
            self._send(as_json(record).encode() + b"\n")
