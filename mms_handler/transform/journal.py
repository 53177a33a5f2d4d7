"""One output while it is made: its bytes so far, and a journal of the parts that they hold.

    <folder>/output    the outputs of the parts so far, in their order
    <folder>/journal   a line for each of them, written after its bytes
    <folder>/parts/N   part N, done before an earlier one

Whatever ends this program, and whenever, a part is either there as a whole, with its checksum, or
it is done again.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
from pathlib import Path
from typing import Any, BinaryIO, Iterator, Mapping, NamedTuple

from mms_handler.terminal import write_all
from mms_handler.transform.cutting import Position
from mms_handler.transform.part import DonePart, Part, RecordError, checksum

_CHUNK_BYTES = 2**20


class Counts(NamedTuple):
    """What an output has."""

    parts: int = 0
    records: int = 0
    errors: int = 0


class Journal:
    """The parts of one output.

    Attributes:
        position: where the first part begins that is not in the output.
        counts: what is in the output, or waits for it.
        written: parts that are in the output.
    """

    def __init__(self, folder: Path) -> None:
        """Take up what there is, or begin.

        Raises:
            OSError: the folder cannot be read or written.
        """
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.position, self.counts, self.written = Position(), Counts(), 0
        self._waiting: dict[int, Mapping[str, Any]] = {}
        self._output = _appended(folder / "output")
        self._lines = _appended(folder / "journal")
        self._take_up()

    def close(self) -> None:
        """Close the files; what is written stays."""
        self._output.close()
        self._lines.close()

    # --- what an earlier run has left ---

    def _take_up(self) -> None:
        """Keep the parts that are whole, from the first on."""
        output_bytes = journal_bytes = 0
        with open(self._folder / "output", "rb") as output:
            for line, head in _whole_lines(self._folder / "journal"):
                if _checksum_of(output, head["bytes"]) != head["checksum"]:
                    break
                output_bytes += head["bytes"]
                journal_bytes += len(line)
                self._count(head)
                self._advance(head)
        self._output.truncate(output_bytes)
        self._lines.truncate(journal_bytes)
        with contextlib.suppress(FileNotFoundError):
            for file in (self._folder / "parts").iterdir():
                self._take_up_part(file)
        self._append_waiting()

    def _take_up_part(self, file: Path) -> None:
        head = _read_part(file)[0]
        if head is None or head["number"] < self.written or file.suffix:
            file.unlink()
            return
        self._waiting[head["number"]] = head
        self._count(head)

    def has(self, part: Part) -> bool:
        """Whether a part is done: in the output, or waiting for earlier ones."""
        if part.number < self.written:
            return True
        head = self._waiting.get(part.number)
        if head is None:
            return False
        if (head["first"], head["offset"], head["end"]) == (part.first, part.offset, part.end):
            return True
        self._count(head, -1)  # it was cut otherwise, by another version
        self._drop(part.number)
        return False

    def _drop(self, number: int) -> None:
        del self._waiting[number]
        (self._folder / "parts" / str(number)).unlink()

    # --- what is done ---

    def add(self, done: DonePart) -> None:
        """Keep a done part, in the output if it is the next one.

        Raises:
            OSError: it cannot be written; the disk may be full.
        """
        head = {
            **{name: getattr(done, name) for name in _FIELDS},
            "bytes": len(done.output),
            "errors": [list(error) for error in done.errors],
        }
        self._count(head)
        if done.number == self.written:
            self._append(head, done.output)
            self._append_waiting()
            return
        file = self._folder / "parts" / str(done.number)
        file.parent.mkdir(exist_ok=True)
        temporary = file.with_suffix(".new")
        with temporary.open("wb", buffering=0) as target:
            write_all(target.fileno(), _line(head))
            write_all(target.fileno(), done.output)
        temporary.replace(file)
        self._waiting[done.number] = head

    def _append_waiting(self) -> None:
        while self.written in self._waiting:
            number = self.written
            head, output = _read_part(self._folder / "parts" / str(number))
            if head is None or head["offset"] != self.position.offset:
                self._count(self._waiting[number], -1)
                self._drop(number)
                return
            self._append(head, output)
            self._drop(number)

    def _append(self, head: Mapping[str, Any], output: bytes) -> None:
        write_all(self._output.fileno(), output)
        write_all(self._lines.fileno(), _line(head))
        self._advance(head)

    def _advance(self, head: Mapping[str, Any]) -> None:
        self.written += 1
        self.position = Position(self.written, head["next_first"], head["end"])

    def _count(self, head: Mapping[str, Any], sign: int = 1) -> None:
        parts, records, errors = self.counts
        self.counts = Counts(
            parts + sign,
            records + sign * head["records"],
            errors + sign * len(head["errors"]),
        )

    # --- the whole output ---

    def finish(self) -> None:
        """Close the output, which is whole; its errors are in a file ``errors``, if it has any.

        Raises:
            OSError: they cannot be written.
        """
        os.fsync(self._output.fileno())
        self.close()
        if self.counts.errors:
            with (self._folder / "errors").open("wb") as file:
                for error in self._errors():
                    file.write(_line(error._asdict()))

    def _errors(self) -> Iterator[RecordError]:
        """The errors of the parts that are in the output."""
        for _, head in _whole_lines(self._folder / "journal"):
            for error in head["errors"]:
                yield RecordError(*error)


_FIELDS = ("number", "first", "offset", "end", "next_first", "records", "checksum")


def _line(head: Mapping[str, Any]) -> bytes:
    return json.dumps(head, ensure_ascii=False).encode("utf-8", "backslashreplace") + b"\n"


def _appended(file: Path) -> io.FileIO:
    return file.open("ab", buffering=0)  # so that nothing is left to be written at its end


def _whole_lines(file: Path) -> Iterator[tuple[bytes, Mapping[str, Any]]]:
    """The lines of a journal, up to one that was not written to its end."""
    number = 0
    with file.open("rb") as lines:
        for line in lines:
            head = _parsed(line)
            if head is None or head["number"] != number:
                return
            yield line, head
            number += 1


def _parsed(line: bytes) -> Mapping[str, Any] | None:
    if not line.endswith(b"\n"):
        return None
    with contextlib.suppress(ValueError):
        head = json.loads(line)
        if isinstance(head, dict) and {*_FIELDS, "bytes", "errors"} <= set(head):
            return head
    return None


def _checksum_of(stream: BinaryIO, size: int) -> str:
    digest, remaining = hashlib.sha256(), size
    while remaining:
        piece = stream.read(min(remaining, _CHUNK_BYTES))
        if not piece:
            return ""
        digest.update(piece)
        remaining -= len(piece)
    return digest.hexdigest()


def _read_part(file: Path) -> tuple[Mapping[str, Any] | None, bytes]:
    """The line and the output of a part that waits; None if it is not whole."""
    with file.open("rb") as source:
        head, output = _parsed(source.readline()), source.read()
    whole = head is not None and checksum(output) == head["checksum"]
    return (head if whole else None), output
