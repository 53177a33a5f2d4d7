"""How many bodies are answered at a time: many together or each alone, whichever is faster."""

from __future__ import annotations

import bisect
import itertools
import time
from typing import Callable, Sequence, TypeVar

T = TypeVar("T")

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

    def run(self, sizes: Sequence[int], answer: Callable[[int, int], Sequence[T]]) -> list[T]:
        """Answer bodies batch by batch; returns the replies.

        Args:
            sizes: of the bodies, in bytes.
            answer: called with where a batch begins and ends.
        """
        replies: list[T] = []
        while len(replies) < len(sizes):
            start = len(replies)
            end = self.end(sizes, start)
            start_s = time.perf_counter()
            replies += answer(start, end)
            self.took(end - start, time.perf_counter() - start_s)
        return replies

    def end(self, sizes: Sequence[int], start: int) -> int:
        """Where the next batch ends that begins at ``start``, for bodies of these sizes."""
        if self._is_alone_next():
            return start + 1
        totals = list(itertools.accumulate(sizes[start : start + _BODIES]))
        return start + max(1, bisect.bisect_right(totals, _BATCH_BYTES))

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
