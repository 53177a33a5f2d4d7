"""Run a transform job: its parts go to workers, and come back into the outputs, in their order."""

from __future__ import annotations

import contextlib
import gzip
import threading
import zlib
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Callable, Deque, Generator, Iterator, Mapping, Sequence

from mms_handler import errors
from mms_handler.errors import HandlerError, TransformError
from mms_handler.transform.cutting import cut, part_bytes
from mms_handler.transform.inputs import Input, opened
from mms_handler.transform.journal import Journal
from mms_handler.transform.outputs import Outputs
from mms_handler.transform.part import DonePart, Options, Part
from mms_handler.transform.report import FailedInput, Report
from mms_handler.transform.splitting import BadRecord, place
from mms_handler.transform.state import State

#: Makes a generator of done parts from an iterator over parts, in any order, as ``processed`` does.
Executor = Callable[[Iterator[Part]], Generator[DonePart, None, None]]

#: Outputs of a single part that are finished at a time.
_FINISHING = 8


class Job:
    """A job, from its inputs to its outputs."""

    def __init__(
        self,
        inputs: Sequence[Input],
        outputs: Outputs,
        state: State,
        options: Options,
        report: Report,
        *,
        fail_fast: bool,
    ) -> None:
        """Make one; ``report`` gets what it does."""
        self._inputs, self._outputs, self._state = inputs, outputs, state
        self._options, self._report, self._fail_fast = options, report, fail_fast
        self._by_name = {each.name: each for each in inputs}
        self._finishing: Deque[Future[None]] = deque()
        self._lock = threading.Lock()  # of the two that follow
        self._journals: dict[str, Journal] = {}  # of the inputs that are under way
        self._parts: dict[str, int] = {}  # of those that were read to their end, how many

    def run(self, execute: Executor) -> None:
        """Do what is not done yet.

        Raises:
            HandlerError: the job cannot go on, or a record failed and must not; what is done stays.
        """
        try:
            parts = self._cut_all()
            with ThreadPoolExecutor(_FINISHING, "transform-output") as pool, contextlib.closing(
                parts
            ), contextlib.closing(execute(parts)) as all_done:
                for done in all_done:
                    self._keep(done)
                    self._finish_whole(pool)
                self._finish_whole(pool)
                self._wait_for(0)
        except OSError as exc:
            if errors.disk_is_full(exc):
                raise TransformError(
                    f"the disk is full: {exc.filename or 'the output'} cannot be written; free "
                    "some space and run the same command again, which goes on from here"
                ) from exc
            raise
        finally:
            self._report.end()
            for journal in self._journals.values():
                journal.close()

    # --- parts ---

    def _cut_all(self) -> Generator[Part, None, None]:
        """The parts that are not done yet, of one input after another."""
        for source in self._inputs:
            counts = self._state.finished(source)
            if counts:
                self._report.took_up(counts, source.size_bytes)
                self._deliver(source)
                self._report.finished[source.name] = counts
                continue
            try:
                yield from self._cut(source)
            except (OSError, EOFError, zlib.error, HandlerError) as exc:
                if errors.disk_is_full(exc):
                    raise
                self._fail(source, exc)

    def _cut(self, source: Input) -> Iterator[Part]:
        gzipped = self._options.is_gzipped(source.name)
        with opened(source, gzipped) as begin:
            size = part_bytes(begin.stream, self._options)
        journal = self._state.journal(source)
        with self._lock:
            self._journals[source.name] = journal
        content_type = self._options.content_type or source.content_type()
        count = journal.written
        with opened(source, gzipped, journal.position.offset) as begin:
            read_bytes = min(begin.raw.tell(), source.size_bytes)
            self._report.took_up(journal.counts, read_bytes)
            arguments = content_type, self._options, size, journal.position
            for part in cut(begin.stream, source.name, *arguments):
                count = part.number + 1
                if not journal.has(part):
                    now_bytes = begin.raw.tell()
                    self._report.read(now_bytes - read_bytes)
                    read_bytes = now_bytes
                    yield part
        with self._lock:
            self._parts[source.name] = count

    def _fail(self, source: Input, exc: Exception) -> None:
        """Note that an input has no output; what is done of it stays, for a later run."""
        reason = str(exc)
        if isinstance(exc, OSError) and exc.strerror:
            reason = f"it cannot be read: {exc.strerror}"
        if isinstance(exc, (gzip.BadGzipFile, EOFError, zlib.error)):
            reason = f"the gzip data are damaged: {exc}"
        self._report.failed.append(FailedInput(source.name, reason))
        if self._fail_fast:
            raise TransformError(f"{source.place}: {reason}") from exc

    # --- done parts ---

    def _keep(self, done: DonePart) -> None:
        if done.errors and self._fail_fast:
            first = done.errors[0]
            where = place(
                done.input, self._options.split_type, BadRecord(first.record, first.offset, "")
            )
            raise TransformError(f"{where}: {first.status} {first.message}")
        self._journals[done.input].add(done)
        self._report.did(done)

    def _finish_whole(self, pool: ThreadPoolExecutor) -> None:
        """Finish the outputs that have all their parts.

        One of a single part is finished by ``pool``: many small ones would wait for the disk, or
        for S3, one after another.
        """
        with self._lock:
            whole = [
                name for name, count in self._parts.items() if self._journals[name].written == count
            ]
            journals = {name: self._journals.pop(name) for name in whole}
            for name in whole:
                del self._parts[name]
        for name, journal in journals.items():
            if journal.written > 1:
                self._finish(name, journal)
            else:
                self._finishing.append(pool.submit(self._finish, name, journal))
        self._wait_for(2 * _FINISHING)

    def _finish(self, name: str, journal: Journal) -> None:
        source = self._by_name[name]
        self._state.finish(source, journal)
        self._deliver(source)
        self._report.finished[name] = journal.counts

    def _wait_for(self, count: int) -> None:
        """Wait until at most so many outputs are being finished."""
        while len(self._finishing) > count:
            self._finishing.popleft().result()

    def _deliver(self, source: Input) -> None:
        files = self._state.undelivered(source)
        if files:
            self._outputs.deliver(source, *files)
        self._state.delivered(source)


def facts(model: str, options: Options, version: str) -> Mapping[str, str]:
    """What must be the same for two runs to be of one job, by name.

    Args:
        model: its checksum, or its URL.
        options: of the job.
        version: of this package, which may write predictions differently.
    """
    named = {name.replace("_", "-"): str(value) for name, value in options._asdict().items()}
    return {"model": model, **named, "mms-handler": version}
