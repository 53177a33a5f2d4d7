"""What a target makes of a fuzzer's bytes: choices, numbers, names, and the bytes that are left."""

from __future__ import annotations

from typing import Any, Sequence


class Choices:
    """Takes a fuzzer's bytes apart from the front.  Bytes that are missing are zeros."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    def number(self, limit: int) -> int:
        """A number from 0 to ``limit`` - 1; ``limit`` is at most 256."""
        byte = self._data[self._at] if self._at < len(self._data) else 0
        self._at += 1
        return byte % limit

    def pick(self, values: Sequence[Any]) -> Any:
        """One of at most 256 values; the first one if the bytes are used up."""
        return values[self.number(len(values))]

    def more(self) -> bool:
        """Whether bytes are left."""
        return self._at < len(self._data)

    def take(self, limit: int = 255) -> bytes:
        """Bytes behind a byte with their length."""
        length = min(self.number(256), limit)
        piece = self._data[self._at : self._at + length]
        self._at += length
        return piece

    def text(self, limit: int = 255) -> str:
        """Text; bytes that are not UTF-8 become the letters of Latin-1."""
        piece = self.take(limit)
        try:
            return piece.decode()
        except UnicodeDecodeError:
            return piece.decode("latin-1")

    def rest(self) -> bytes:
        """All bytes that are left."""
        piece = self._data[self._at :]
        self._at = len(self._data)
        return piece

    def repeated(self, limit: int = 2**16) -> bytes:
        """The bytes that are left; a part of them may be repeated, up to ``limit`` bytes.

        A few bytes then make a long body, and what takes time with the square of a length is seen.
        """
        exponent, start = self.number(256), self.number(256)
        rest = self.rest()
        if exponent < 128 or not rest:
            return rest[:limit]
        start %= len(rest)
        end = start + 1 + exponent % 16
        middle = rest[start:end]
        count = 2 ** (exponent // 16 % 8 + 8)
        return (rest[:start] + middle * min(count, limit // len(middle)) + rest[end:])[: limit + 64]
