"""What a replay has shown: replies that are the same, numbers, statuses and times."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any, Sequence

from mms_handler import media
from mms_handler.client import Answer
from mms_handler.replay.captured import HEADER_LENGTH, Captured
from mms_handler.replay.differences import Differences, differences, differences_of_tensors

#: Predictions whose ids are named.
_MAX_NAMED = 5


class Report:
    """Counts predictions by what has become of them."""

    def __init__(self, tolerance: float) -> None:
        """Replies whose numbers differ by no more than ``tolerance``, relatively, are the same."""
        self.tolerance = tolerance
        self.total = 0
        self.counts: Counter[str] = Counter()
        self.statuses: Counter[str] = Counter()
        self.numbers = Differences()
        self.reason = ""
        self._named: list[tuple[str, str]] = []
        self._then_s: list[float] = []
        self._now_s: list[float] = []

    def add(self, captured: Captured, answer: Answer, latency_s: float) -> None:
        """Count a prediction that was answered."""
        self._now_s.append(latency_s)
        if captured.latency_s is not None:
            self._then_s.append(captured.latency_s)
        kind = self._kind(captured, answer)
        self._count(kind)
        if kind not in ("identical", "close", "unknown"):
            self._name(captured, kind)

    def lost(self, captured: Captured, reason: str) -> None:
        """Count a prediction that got no answer."""
        self._count("unanswered")
        self.reason = self.reason or reason
        self._name(captured, "unanswered")

    def _count(self, kind: str) -> None:
        self.counts[kind] += 1
        self.total += 1

    def _name(self, captured: Captured, kind: str) -> None:
        if captured.id and len(self._named) < _MAX_NAMED:
            self._named.append((captured.id, kind))

    def _kind(self, captured: Captured, answer: Answer) -> str:
        if captured.status != answer.status:
            self.statuses[f"{captured.status} to {answer.status}"] += 1
            return "status"
        if captured.status >= 400:
            return "identical"  # errors have ids of their requests
        if captured.reply is None:
            return "unknown"
        if media.main_type(captured.reply_type) != media.main_type(answer.content_type):
            return "other"
        if captured.reply == answer.body:
            return "identical"
        apart = _apart(captured, captured.reply, answer)
        if apart is None:
            return "other"
        self.numbers += apart
        return "close" if apart.max_relative <= self.tolerance else "apart"

    @property
    def failed(self) -> int:
        """Replies that are not the same as then."""
        return sum(self.counts[kind] for kind in ("apart", "other", "status", "unanswered"))

    def as_dict(self) -> dict[str, Any]:
        """All of it, for JSON."""
        numbers = self.numbers
        return {
            "predictions": self.total,
            "tolerance": self.tolerance,
            "different": self.failed,
            "replies": {kind: self.counts[kind] for kind in _WORDS},
            "statuses": dict(self.statuses),
            "numbers": {
                "count": numbers.values,
                "max_relative": _finite(numbers.max_relative),
                "mean_relative": _finite(_mean(numbers.sum_relative, numbers.values)),
                "max_absolute": _finite(numbers.max_absolute),
                "mean_absolute": _finite(_mean(numbers.sum_absolute, numbers.values)),
            },
            "latency_ms": {"then": _times(self._then_s), "now": _times(self._now_s)},
            "first": [{"id": name, "reply": kind} for name, kind in self._named],
        }

    def rows(self) -> list[tuple[str, str]]:
        """All of it, for people."""
        rows = [("predictions", f"{self.total:,}")]
        rows += [(f"  {kind}", f"{n:,} {_WORDS[kind]}") for kind, n in self.counts.most_common()]
        rows += [("  status", f"{n:,} from {words}") for words, n in self.statuses.most_common()]
        if self.numbers.values:
            numbers = self.numbers
            relative = _mean(numbers.sum_relative, numbers.values)
            absolute = _mean(numbers.sum_absolute, numbers.values)
            rows.append(
                ("numbers", f"{numbers.values:,} in replies that are not identical, at most "
                f"{numbers.max_relative:.3g} apart relatively, {relative:.3g} on average; "
                f"absolutely {numbers.max_absolute:.3g} and {absolute:.3g}")
            )  # fmt: skip
        for name, values in (("then", self._then_s), ("now", self._now_s)):
            if times := _times(values):
                rows.append(
                    (f"latency {name}", f"p50 {times['p50']:g} ms, p99 {times['p99']:g} ms")
                )
        rows += [(f"first {kind}", name) for name, kind in self._named]
        return rows


#: The kinds of replies, in words.
_WORDS = {
    "identical": "are the same to the last byte, or the same error",
    "close": "have numbers within the tolerance",
    "apart": "have numbers beyond the tolerance",
    "other": "differ in a text, a shape or the type",
    "status": "have another status",
    "unanswered": "got no answer",
    "unknown": "cannot be compared, because the reply was not captured",
}


def _apart(captured: Captured, reply: bytes, answer: Answer) -> Differences | None:
    if not captured.tensors:
        return differences(reply, answer.body, answer.content_type)
    now_header_length = answer.headers.get(HEADER_LENGTH.lower(), "")
    return differences_of_tensors(
        (reply, captured.reply_header_length), (answer.body, now_header_length)
    )


def _mean(total: float, count: int) -> float:
    return total / count if count else 0.0


def _finite(number: float) -> float | None:
    """A number for JSON, which has no infinity."""
    return number if math.isfinite(number) else None


def _times(seconds: Sequence[float]) -> dict[str, float]:
    """The 50th and the 99th percentile in milliseconds; none of no times."""
    if not seconds:
        return {}
    ordered = sorted(seconds)
    return {
        name: round(1000 * ordered[math.ceil(share * len(ordered)) - 1], 3)
        for name, share in (("p50", 0.5), ("p99", 0.99))
    }
