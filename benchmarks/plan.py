"""How much is measured, the paths, the order of a round, and what there is time for."""

from __future__ import annotations

import contextlib
import sys
import time
from pathlib import Path
from typing import Callable, NamedTuple, Sequence, TypeVar

from benchmarks import environments, packing, servers
from benchmarks.reading import Traffic, traffic
from benchmarks.servers import Server, System

T = TypeVar("T")

#: A run that is late still measures this many rounds.
LEAST_ROUNDS = 3


class Plan(NamedTuple):
    """One run of all benchmarks."""

    rounds: int
    seconds: int  # of one measurement
    image_seconds: int  # of one measurement with images, whose requests take long
    warm_s: int
    models: Path  # what benchmarks.probes.writing wrote
    work: Path
    environments: Path
    python: Path  # the Python whose mms_handler is measured
    log: Callable[[str], None]

    @classmethod
    def standalone(cls, work: Path, rounds: int, seconds: int = 3) -> Plan:
        """Return the plan of a program that measures by itself, in the peers' usual folder."""
        peers = Path(__file__).parent.resolve() / ".venvs"
        paths = (packing.models(), work, peers, Path(sys.executable))
        return cls(rounds, seconds, seconds, seconds, *paths, logger())

    def model(self, name: str) -> Path:
        return self.models / name / "model"

    def traffic(self, model: str, rows: int, kind: str) -> Traffic:
        return traffic(self.models / model / f"rows-{rows}", kind)

    def serving(self, system: System, model: str) -> contextlib.AbstractContextManager[Server]:
        return servers.serving(system, self.model(model), self.work, self.environments)

    def peer_python(self) -> Path:
        return environments.python(self.environments / "peer")


class Step(NamedTuple):
    """A part of a run, and about how long it takes: ``once_s`` and ``round_s`` for each round."""

    name: str
    once_s: float
    round_s: float

    def total_s(self, rounds: int) -> float:
        return self.once_s + rounds * self.round_s


def rounds(steps: Sequence[Step], wanted: int, left_s: float) -> int:
    """Return how many rounds of the first of ``steps`` there is time for.

    Each later step shall still have LEAST_ROUNDS, and so shall this one, however late it is.
    """
    least = min(wanted, LEAST_ROUNDS)
    later_s = sum(step.total_s(least) for step in steps[1:])
    possible = int((left_s - later_s - steps[0].once_s) / steps[0].round_s)
    return max(least, min(wanted, possible))


def rotated(items: Sequence[T], number: int) -> list[T]:
    """Order the items for round ``number``: each starts elsewhere, odd ones run backwards."""
    start = number % len(items)
    order = [*items[start:], *items[:start]]
    return order[::-1] if number % 2 else order


def logger() -> Callable[[str], None]:
    """Return a function that prints a line after the seconds since now."""
    start = time.monotonic()

    def log(line: str) -> None:
        print(f"{time.monotonic() - start:5.0f} s  {line}", file=sys.stderr, flush=True)

    return log
