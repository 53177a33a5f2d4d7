"""Workers on this machine: processes in which the model is loaded, replaced when they die."""

from __future__ import annotations

import contextlib
import multiprocessing
import threading
from typing import Any

from mms_handler.archive.child import ending
from mms_handler.errors import LoadError, TransformError
from mms_handler.transform import process
from mms_handler.transform.answering import failed
from mms_handler.transform.cutting import records_of
from mms_handler.transform.handover import Files, ReadyPart
from mms_handler.transform.part import DonePart, Part, done
from mms_handler.transform.process import Setup
from mms_handler.transform.splitting import BadRecord, place

#: A job ends when so many processes have died in turn with nothing done between.
_MAX_DEATHS = 5


class ProcessDied(Exception):
    """A model's process died; the text says how."""


class LocalWorker:
    """A process with the model, and the next one if it dies."""

    def __init__(self, setup: Setup, files: Files) -> None:
        """Start it, and wait until the model is loaded.

        Args:
            setup: what the process needs.
            files: for the records of a part that go one by one.

        Raises:
            LoadError: the model does not load.
        """
        self._setup, self._lock, self._closed = setup, threading.Lock(), False
        self._deaths, self._files = 0, files
        self._process: Any = None
        self._connection: Any = None
        self._start()

    def process(self, part: ReadyPart) -> DonePart:
        """Process a part, and close it.

        One that a process dies of is tried again, then record by record.

        Raises:
            LoadError: a new process does not load the model.
            TransformError: one process after another dies.
        """
        with contextlib.closing(part):
            for _ in range(2):
                with contextlib.suppress(ProcessDied):
                    return self._processed(part)
            return self._singly(part.part)

    def _singly(self, part: Part) -> DonePart:
        """Process the records of a part alone, and give those that a process dies of an error."""
        options, parts = self._setup.options, []
        for record in records_of(part, options):
            if isinstance(record, BadRecord):
                single = part._replace(first=record.number, offset=record.offset, data=b"",
                                    problem=record.problem)  # fmt: skip
                parts.append(failed(single, options, 400, record.problem))
                continue
            single = part._replace(
                first=record.number, offset=record.offset, data=record.framed, problem=""
            )
            try:
                with contextlib.closing(self._files.ready(single)) as ready:
                    parts.append(self._processed(ready))
            except ProcessDied as exc:
                parts.append(failed(single, options, 500, f"the model's process {exc}"))
        output = b"".join(each.output for each in parts)
        errors = tuple(error for each in parts for error in each.errors)
        return done(part, sum(each.records for each in parts), output, errors)

    def _processed(self, part: ReadyPart) -> DonePart:
        """Process a part in the process.

        Raises:
            ProcessDied: it died; the next call has a new one.
        """
        if self._process is None:
            self._start()
        try:
            part.send(self._connection)
            result: DonePart = self._connection.recv()
        except (EOFError, OSError) as exc:
            death = self._death()
            self._deaths += 1
            if self._deaths >= _MAX_DEATHS:
                raise TransformError(
                    f"{_MAX_DEATHS} processes died in turn, the last one {death}; see what the "
                    f"model does with {self._place(part.head)}"
                ) from exc
            raise ProcessDied(death) from exc
        self._deaths = 0
        return result

    def _place(self, part: Part) -> str:
        """Where a part begins, for a person."""
        first = BadRecord(part.first, part.offset, "")
        return place(part.input, self._setup.options.split_type, first)

    def _start(self) -> None:
        spawn = multiprocessing.get_context("spawn")
        connection, remote = spawn.Pipe()
        started = spawn.Process(target=process.main, args=(remote, self._setup), daemon=True)
        with self._lock:
            if self._closed:
                raise TransformError("the job was stopped")
            started.start()
            remote.close()
            self._process, self._connection = started, connection
        try:
            reason, traceback = connection.recv()
        except (EOFError, OSError) as exc:
            raise LoadError(f"the process that loaded the model {self._death()}") from exc
        if reason:
            raise LoadError(reason, traceback)

    def _death(self) -> str:
        """How the process ended, which has closed its pipe."""
        with self._lock:
            if self._closed:
                raise TransformError("the job was stopped")
            ended, self._process = self._process, None
            self._connection.close()
        ended.join(5)
        if ended.exitcode is None:
            ended.kill()
            ended.join()
        return ending(ended.exitcode)

    def close(self) -> None:
        """End the process."""
        with self._lock:
            self._closed = True
            running, self._process = self._process, None
        if running is not None:
            running.kill()
            running.join()
            self._connection.close()
