"""Records of the log: each is a line of JSON, or text for people.

A record is a dict.  Its keys: time (RFC 3339, local), level (Python's name), source
(serve, mms, worker or access), model, version, worker (process id), request_id, logger, message,
traceback; access records have others.  Keys without a value are left out.
"""

from __future__ import annotations

import json
import logging
import re
import time
from typing import Any, Callable, Dict, Mapping

Record = Dict[str, Any]

#: Characters that could move a terminal's cursor or begin a line; tabs and line ends are left.
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")

#: What needs no quotes in a line of text.
_WORD = re.compile(r"[\w.:/+=@-]+", re.ASCII)

_COLOURS = {"WARNING": "\x1b[33m", "ERROR": "\x1b[31m", "CRITICAL": "\x1b[31m"}
_PLAIN = "\x1b[0m"


def timestamp(seconds: float) -> str:
    """A time in seconds since 1970 as RFC 3339 has it, in local time and with milliseconds."""
    local = time.localtime(seconds)
    text = time.strftime("%Y-%m-%dT%H:%M:%S%z", local)
    zone = f"{text[19:22]}:{text[22:]}" if local.tm_gmtoff else "Z"
    return f"{text[:19]}.{int(seconds % 1 * 1000):03}{zone}"


def make_record(level: str, message: str, **fields: Any) -> Record:
    """A record of now."""
    traceback = fields.pop("traceback", "")
    filled = {key: value for key, value in fields.items() if value not in ("", None)}
    record = {"time": timestamp(time.time()), "level": level, **filled, "message": message}
    return {**record, "traceback": traceback} if traceback else record


def as_json(record: Record) -> str:
    """One line of ASCII, so that no character can end it."""
    return json.dumps(record, separators=(",", ":"))


def as_text(record: Record, width: int = 0, colours: bool = False) -> str:
    """Text for people; further lines of a record are indented, so that none looks like another one.

    Args:
        record: of any source.
        width: of the column that says who wrote it.
        colours: whether to colour warnings and errors, for a terminal.
    """
    level = f"{record['level']:<7}"
    if colours and record["level"] in _COLOURS:
        level = f"{_COLOURS[record['level']]}{level}{_PLAIN}"
    time_text = f"{record['time'][:10]} {record['time'][11:23]}"
    request = f"request {_word(record['request_id'])}: " if "request_id" in record else ""
    message = record["message"] if "message" in record else _access(record)
    text = "\n".join(filter(None, [message, record.get("traceback")]))
    lines = [_CONTROL.sub(_escaped, line) for line in text.replace("\r\n", "\n").split("\n")]
    head = f"{time_text} {level} {writer_of(record):<{width}}  {request}{lines[0]}"
    return "\n    ".join([head, *lines[1:]])


def writer_of(record: Record) -> str:
    """Who wrote a record, in a word: MODEL/PROCESS for a worker."""
    if "model" not in record:
        return str(record["source"])
    worker = f"/{record['worker']}" if "worker" in record else ""
    return f"{_word(str(record['model']))}{worker}"


def _access(record: Record) -> str:
    """The fields of an access record in words."""
    subject = " ".join(filter(None, [record.get("method"), record.get("path")]))
    words = [f"in {record['bytes_in']} B", f"out {record['bytes_out']} B"]
    times = {"queue": "queue_ms", "predict": "predict_ms", "total": "total_ms"}
    words += [f"{name} {record[key]:.1f} ms" for name, key in times.items() if key in record]
    words += [f"batch {record['batch_size']}"] if "batch_size" in record else []
    words += [f"version {_word(record['version'])}"] if "version" in record else []
    return f"{record['status']} {subject or 'malformed'}, {', '.join(words)}"


def _word(text: str) -> str:
    return text if _WORD.fullmatch(text) else json.dumps(text)


def _escaped(match: re.Match[str]) -> str:
    return match[0].encode("unicode_escape").decode()


def log_with_traceback(logger: logging.Logger, level: int, text: str, traceback: str) -> None:
    """Log a text and a traceback below it, which a record has apart; "" for none."""
    message = "\n".join(filter(None, [text, traceback]))
    logger.log(level, "%s", message, extra={"traceback": traceback}, stacklevel=2)


class RecordHandler(logging.Handler):
    """Turns what Python's logging emits into records."""

    def __init__(self, write: Callable[[Record], None], fields: Mapping[str, Any]) -> None:
        """Call ``write`` with each record, to which ``fields`` are added."""
        super().__init__()
        self._write, self._fields = write, fields

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record."""
        try:
            message, traceback = record.getMessage(), getattr(record, "traceback", "")
            if traceback and message.endswith(f"\n{traceback}"):
                message = message[: -len(traceback) - 1]
            elif record.exc_info:
                traceback = logging.Formatter().formatException(record.exc_info)
            fields = {**self._fields, "logger": record.name, "traceback": traceback}
            self._write(make_record(record.levelname, message, **fields))
        except Exception:
            self.handleError(record)
