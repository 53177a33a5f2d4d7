"""A file that is split: its bytes, and the place of the record that is read."""

from __future__ import annotations

from typing import BinaryIO, Iterator, NamedTuple, Sequence, Union

#: Bytes that are read at once of what is skipped, or of a record whose length is not certain.
CHUNK_BYTES = 2**20


class Record(NamedTuple):
    """What one record has.

    Attributes:
        number: of the line, or of the record, counted from 1.
        offset: of its first byte in the unpacked file.
        data: without what the file puts around it.
        pieces: together, the record as it is in the file: a line with its line end, or whole
            frames.
    """

    number: int
    offset: int
    data: bytes
    pieces: Sequence[bytes]

    @property
    def framed(self) -> bytes:
        """The record as it is in the file."""
        return b"".join(self.pieces)

    @property
    def framed_bytes(self) -> int:
        """How many bytes it has in the file."""
        return sum(map(len, self.pieces))


class BadRecord(NamedTuple):
    """A record that cannot be read; ``problem`` says why, and goes on from the record's place."""

    number: int
    offset: int
    problem: str


Split = Iterator[Union[Record, BadRecord]]


def too_large(limit_bytes: int) -> str:
    """The problem of a record with more data than the limit."""
    return f"it is larger than the payload limit of {limit_bytes} bytes"


class Source:
    """A stream, and the place of the record that is read."""

    def __init__(self, stream: BinaryIO, number: int, offset: int) -> None:
        self._stream = stream
        self._ahead = b""  # from _ahead_at on, it was read and is to be read again
        self._ahead_at = 0
        self._at = offset
        self._number, self._offset = number - 1, offset

    def begin(self) -> None:
        """What is read next is a record."""
        self._number += 1
        self._offset = self._at

    def record(self, data: bytes, *pieces: bytes) -> Record:
        """The record that was read."""
        return Record(self._number, self._offset, data, pieces)

    def bad(self, problem: str) -> BadRecord:
        """The record that could not be read."""
        return BadRecord(self._number, self._offset, problem)

    def line(self, limit_bytes: int) -> bytes:
        """The rest of a line with its line end, or so many bytes of it."""
        line = self._stream.readline(limit_bytes)
        self._at += len(line)
        return line

    def read(self, size: int) -> bytes:
        """So many bytes, or all that are left; a size that a file claims allocates nothing."""
        ahead = self._ahead[self._ahead_at : self._ahead_at + size]
        self._ahead_at += len(ahead)
        pieces, missing = [ahead] if ahead else [], size - len(ahead)
        while missing:
            piece = self._stream.read(min(missing, CHUNK_BYTES))
            if not piece:
                break
            pieces.append(piece)
            missing -= len(piece)
        data = b"".join(pieces)
        self._at += len(data)
        return data

    def unread(self, data: bytes) -> None:
        """Let ``data``, the last that were read, be read again."""
        if self._ahead_at < len(self._ahead):  # so that is where they are from
            self._ahead_at -= len(data)
        else:
            self._ahead, self._ahead_at = data, 0
        self._at -= len(data)

    def skip(self, size: int) -> bool:
        """Pass over so many bytes; whether there were so many."""
        while size:
            piece = self.read(min(size, CHUNK_BYTES))
            if not piece:
                return False
            size -= len(piece)
        return True
