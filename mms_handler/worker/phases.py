"""Measure how long the requests of a batch are decoded, predicted and encoded."""

from __future__ import annotations

from time import perf_counter_ns

#: The phases of a request.
DECODE, PREDICT, ENCODE = range(3)

#: Microseconds that a field of a frame can have.
_MOST_US = 2**32 - 1


class Phases:
    """The phase in which a batch is, and the nanoseconds that it was in each.

    All time counts: what follows a failed step belongs to this step's phase.
    """

    def __init__(self) -> None:
        self._ns, self._phase, self._since_ns = [0, 0, 0], DECODE, 0

    def begin(self) -> None:
        """Begin a batch: it is being decoded."""
        self._ns, self._phase, self._since_ns = [0, 0, 0], DECODE, perf_counter_ns()

    def enter(self, phase: int) -> None:
        """Go on with another phase, or with the same one."""
        if phase != self._phase:
            now_ns = perf_counter_ns()
            self._ns[self._phase] += now_ns - self._since_ns
            self._phase, self._since_ns = phase, now_ns

    def so_far_us(self) -> list[int]:
        """The microseconds of each phase until now."""
        now_ns = perf_counter_ns()
        self._ns[self._phase] += now_ns - self._since_ns
        self._since_ns = now_ns
        return [ns // 1000 for ns in self._ns]

    def end_us(self) -> list[int]:
        """End the batch; returns the microseconds of each phase."""
        self._ns[self._phase] += perf_counter_ns() - self._since_ns
        return [min(ns // 1000, _MOST_US) for ns in self._ns]
