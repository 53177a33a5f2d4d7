"""The log of serve: its own records, Java's and the workers', in one format."""

from __future__ import annotations

import contextlib
import json
import logging
from typing import Callable, Iterator

from mms_handler.log_records import Record, RecordHandler, as_json, as_text, writer_of

#: Above the loggers of the modules of this package.
_LOGGER = "mms_handler.server"

#: The most characters of the column that says who wrote a record.
_MAX_WIDTH = 28


class Log:
    """Writes records as lines."""

    def __init__(
        self, write: Callable[[str], None], form: str, level: str, colours: bool = False
    ) -> None:
        """Call ``write`` with each line.

        Args:
            write: may not raise.
            form: "text" or "json".  Text of one record may have several lines.
            level: the least one that is written.
            colours: whether text may have colours.
        """
        self._write, self._form, self._colours = write, form, colours
        self._level = logging.getLevelName(level.upper())
        self._width = 0

    def put(self, record: Record) -> None:
        """Write a record, if its level is high enough."""
        if self._number(record) >= self._level:
            self._write(self._line(record))

    def put_access(self, line: str) -> None:
        """Write a record of the access log, which is JSON; it has a setting of its own."""
        if self._form == "json":
            self._write(line)
        else:
            self._write(self._line(json.loads(line)))

    def _number(self, record: Record) -> int:
        """The level; a logger of a script can have another one than serve, and its own levels."""
        number = logging.getLevelName(record["level"])
        is_scripts = record["source"] == "worker" and "logger" in record
        return number if isinstance(number, int) and not is_scripts else logging.CRITICAL

    def _line(self, record: Record) -> str:
        if self._form == "json":
            return as_json(record)
        self._width = min(_MAX_WIDTH, max(self._width, len(writer_of(record))))
        return as_text(record, self._width, self._colours)

    @contextlib.contextmanager
    def following(self) -> Iterator[None]:
        """Write what the server logs with Python's logging, and let nobody else do it too."""
        logger, handler = logging.getLogger(_LOGGER), RecordHandler(self.put, {"source": "serve"})
        level, propagate = logger.level, logger.propagate
        logger.addHandler(handler)
        logger.propagate = False
        logger.setLevel(self._level)
        try:
            yield
        finally:
            logger.removeHandler(handler)
            logger.setLevel(level)
            logger.propagate = propagate
