"""How a job goes and how it went: for a person, and as JSON."""

from __future__ import annotations

import time
from typing import Any, NamedTuple

from mms_handler.transform.journal import Counts
from mms_handler.transform.part import DonePart, RecordError

#: Errors of records that a report has; an output's file of errors has all of its own.
MAX_ERRORS = 100


class FailedInput(NamedTuple):
    """An input without an output, and why."""

    name: str
    reason: str


class Report:
    """What a job has done.

    Attributes:
        finished: what each finished output has, by its input's name.
        failed: the inputs that have no output.
        errors: the first errors of records, by inputs and records, that this run met, each with its
            input's name.
        earlier: the records that earlier runs of the job have done.
        records: those that this run has done; ``error_count`` of them have no prediction.
    """

    def __init__(self, total_bytes: int, inputs: int) -> None:
        """``total_bytes`` is the size of all inputs, and ``inputs`` their number."""
        self.finished: dict[str, Counts] = {}
        self.failed: list[FailedInput] = []
        self.errors: list[tuple[str, RecordError]] = []
        self.records = self.error_count = self.earlier = self.earlier_errors = self.parts = 0
        self._inputs, self._total_bytes = inputs, total_bytes
        self._read_bytes = self._earlier_bytes = 0
        self._cut = 0  # parts that were read
        self._start = time.monotonic()
        self._first = self._start  # when the first part was read
        self._ended: float | None = None

    def took_up(self, counts: Counts, read_bytes: int) -> None:
        """Count what earlier runs have done of an input, of which they have read so much."""
        self.earlier += counts.records
        self.earlier_errors += counts.errors
        self._earlier_bytes += read_bytes

    def read(self, count: int) -> None:
        """Count the bytes of an input that were read for a part."""
        if not self._cut:
            self._first = time.monotonic()
        self._cut += 1
        self._read_bytes += count

    def did(self, done: DonePart) -> None:
        """Count a done part."""
        self.parts += 1
        self.records += done.records
        self.error_count += len(done.errors)
        if done.errors:  # parts are done in any order, and the report is the same
            errors = [(done.input, error) for error in done.errors[:MAX_ERRORS]]
            self.errors = sorted(self.errors + errors)[:MAX_ERRORS]

    def end(self) -> None:
        """The job has ended."""
        self._ended = time.monotonic()

    @property
    def seconds(self) -> float:
        """Seconds since the beginning of this run."""
        return (self._ended or time.monotonic()) - self._start

    @property
    def complete(self) -> bool:
        """Whether every input has its output."""
        return len(self.finished) == self._inputs

    def line(self) -> str:
        """How it goes, in one line."""
        if not self.records:
            return f"{self.earlier:,} records; waiting for the first part"
        seconds = time.monotonic() - self._first
        done_bytes = self._read_bytes * self.parts / max(1, self._cut)
        part = (self._earlier_bytes + done_bytes) / max(1, self._total_bytes)
        errors = self.error_count + self.earlier_errors
        words = [
            f"{self.earlier + self.records:,} records",
            f"{self.records / max(seconds, 1e-9):,.0f} a second",
            f"{errors:,} {'error' if errors == 1 else 'errors'}",
            f"{min(1, part):.0%}",
        ]
        remaining = self._total_bytes - self._earlier_bytes - done_bytes
        if done_bytes and remaining > 0:
            words.append(f"{_duration(seconds * remaining / done_bytes)} to go")
        return ", ".join(words)

    def rows(self) -> list[tuple[str, str]]:
        """What was done, as names and values for a person."""
        errors = self.error_count + self.earlier_errors
        rows = [
            ("outputs", f"{len(self.finished):,} of {self._inputs:,}"),
            ("records", f"{self.earlier + self.records:,}, {errors:,} of them with an error"),
        ]
        if self.earlier:
            rows.append(("of an earlier run", f"{self.earlier:,} records"))
        rate = f", {self.records / self.seconds:,.0f} a second" if self.records else ""
        rows.append(("time", f"{_duration(self.seconds)}{rate}"))
        return rows

    def as_dict(self) -> dict[str, Any]:
        """The report as JSON has it."""
        return {
            "complete": self.complete,
            "inputs": self._inputs,
            "outputs": {name: counts._asdict() for name, counts in sorted(self.finished.items())},
            "failed": [each._asdict() for each in self.failed],
            "records": self.earlier + self.records,
            "errors": self.error_count + self.earlier_errors,
            "records_of_earlier_runs": self.earlier,
            "parts": self.parts,
            "seconds": round(self.seconds, 3),
            "records_per_second": round(self.records / max(self.seconds, 1e-9), 1),
            "first_errors": [{"input": name, **error._asdict()} for name, error in self.errors],
        }


def _duration(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes = seconds / 60
    return f"{minutes:.0f} min" if minutes < 100 else f"{minutes / 60:.1f} h"
