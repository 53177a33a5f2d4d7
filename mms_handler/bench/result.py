"""What a load met: latencies, errors, wrong replies, and what it cost the server."""

from __future__ import annotations

import collections
import importlib.util
from typing import TYPE_CHECKING, Any, Counter, NamedTuple

from mms_handler.bench.order import Load
from mms_handler.errors import ServerError

if TYPE_CHECKING:
    from mms_handler.bench.usage import Used

#: The percentiles that are shown, by name.
PERCENTILES = {"p50": 50.0, "p90": 90.0, "p99": 99.0, "p99.9": 99.9, "max": 100.0}

#: The longest latency in microseconds, and the digits of one that are kept.
_LONGEST, _DIGITS = 3_600_000_000, 3

#: A generator that is busier than this is itself the limit.
BUSY = 0.8

#: Of the requests of an open loop one percent may be sent so late, in milliseconds.
LATE_MS = 2.0


def check_has_histogram() -> None:
    """Check that HdrHistogram is installed.

    Raises:
        ServerError: it is not.
    """
    if importlib.util.find_spec("hdrh") is None:
        raise ServerError(
            "this needs hdrhistogram, which is not installed: pip install 'mms_handler[bench]'"
        )


def histogram() -> Any:
    """An empty HdrHistogram of microseconds."""
    from hdrh.histogram import HdrHistogram

    return HdrHistogram(1, _LONGEST, _DIGITS)


class Measured:
    """What is known of a load until now.

    Attributes:
        load: the load.
        latencies: an HdrHistogram of the right replies, in microseconds.
        late: likewise of how late requests of an open loop were sent.
        in_time: right replies that came before the load was over.
        failures: requests without a good reply, by reason.
        wrong: replies that are not the expected one.
        example: the first of them.
        generator_cpu_s: of each process of the load.
    """

    def __init__(self, load: Load) -> None:
        self.load = load
        self.latencies, self.late = histogram(), histogram()
        self.in_time, self.wrong, self.example = 0, 0, ""
        self.failures: Counter[str] = collections.Counter()
        self.generator_cpu_s: dict[int, float] = {}

    def ms(self, percentile: float) -> float:
        """The latency in milliseconds that so many percent of the right replies did not exceed."""
        return float(self.latencies.get_value_at_percentile(percentile)) / 1e3

    @property
    def errors(self) -> int:
        return sum(self.failures.values())


class Result(NamedTuple):
    """A load, and what it met.

    Fields:
        measured: what was counted.
        seconds: how long requests counted.
        used: what the server used; None if it is not on this machine.
        limited: why the load itself was the limit; "" if it was not.
    """

    measured: Measured
    seconds: float
    used: Used | None = None
    limited: str = ""

    @property
    def rate(self) -> float:
        """Right replies a second."""
        return self.measured.in_time / self.seconds if self.seconds else 0.0

    @property
    def is_good(self) -> bool:
        """Whether there were right replies and no others."""
        measured = self.measured
        return bool(measured.latencies.total_count and not measured.errors and not measured.wrong)

    def as_json(self) -> dict[str, Any]:
        measured, used = self.measured, self.used
        return {
            "clients": measured.load.clients or None,
            "rate": measured.load.rate or None,
            "seconds": round(self.seconds, 3),
            "replies_per_second": round(self.rate, 1),
            "replies": measured.latencies.total_count,
            "latency_ms": {name: measured.ms(p) for name, p in PERCENTILES.items()},
            "errors": dict(measured.failures),
            "wrong_replies": measured.wrong,
            "wrong_reply": measured.example or None,
            "server": used._asdict() if used else None,
            "limited_by_generator": self.limited or None,
            "histogram": measured.latencies.encode().decode(),
        }


def limited(measured: Measured, seconds: float) -> str:
    """Why the load itself was the limit, as a sentence; "" if it was not."""
    busy = max(measured.generator_cpu_s.values(), default=0.0) / max(seconds, 1e-9)
    if busy > BUSY:
        return f"the load itself took {busy:.0%} of a core: the server may be faster than this"
    late_ms = float(measured.late.get_value_at_percentile(99)) / 1e3
    if measured.late.total_count and late_ms > LATE_MS:
        return (
            f"one request in a hundred was sent {late_ms:.1f} ms late or later: the machine is too "
            "busy for exact latencies"
        )
    return ""
