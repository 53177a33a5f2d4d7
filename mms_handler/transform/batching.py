"""How many bodies are answered at a time: many together or each alone, whichever is faster."""

from __future__ import annotations

from typing import Sequence

#: Bodies that are answered together: as many as _BODIES that have together at most _BATCH_BYTES.
_BODIES, _BATCH_BYTES = 256, 2**23

#: How often bodies are answered both ways before the faster one is known.
_TRIES = 2


class Ways:
    """The two ways to answer bodies, together or each alone, and how long they take.

    Rows of a small model take far less time together.  Those of a large one take no less, and the
    memory for many of them is slower than the processor's caches.
    """

    def __init__(self, chooses: bool = True) -> None:
        """Begin without times; ``chooses``: whether they decide, else all are answered together."""
        self._chooses = chooses
        self._together_s: list[float] = []  # for each body, of some batches
        self._alone_s: list[float] = []

    def end(self, bodies: Sequence[bytes], start: int) -> int:
        """Where the next batch ends that begins at ``start``."""
        if self._is_alone_next():
            return start + 1
        end, size = start + 1, len(bodies[start])
        while end < min(len(bodies), start + _BODIES):
            size += len(bodies[end])
            if size > _BATCH_BYTES:
                break
            end += 1
        return end

    def _is_alone_next(self) -> bool:
        if not self._chooses or len(self._together_s) < _TRIES:
            return False
        if len(self._alone_s) < _TRIES:
            return True
        return min(self._alone_s) < min(self._together_s)

    def took(self, count: int, seconds: float) -> None:
        """Note how long a batch of so many bodies took."""
        times = self._alone_s if count == 1 else self._together_s
        if len(times) < _TRIES:
            times.append(seconds / count)
