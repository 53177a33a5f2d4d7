"""How much is measured, where everything lies, and the order of a round."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Callable, NamedTuple, Sequence, TypeVar

from benchmarks import environments, servers
from benchmarks.reading import Traffic, traffic
from benchmarks.servers import Server, System

T = TypeVar("T")


class Plan(NamedTuple):
    """One run of everything."""

    rounds: int
    seconds: int  # of one measurement
    image_seconds: int  # likewise, where a request takes long
    warm_s: int
    models: Path  # what benchmarks.probes.writing wrote
    work: Path
    environments: Path
    python: Path  # ours
    say: Callable[[str], None]

    def model(self, name: str) -> Path:
        return self.models / name / "model"

    def traffic(self, model: str, rows: int, kind: str) -> Traffic:
        return traffic(self.models / model / f"rows-{rows}", kind)

    def serving(
        self, system: System, model: str, kind: str = "json"
    ) -> contextlib.AbstractContextManager[Server]:
        return servers.serving(system, self.model(model), self.work, self.environments, kind)

    def peer_python(self) -> Path:
        return environments.python(self.environments / "peer")


def turned(items: Sequence[T], number: int) -> list[T]:
    """The items in another order each round: from another start, every second time backwards."""
    start = number % len(items)
    order = [*items[start:], *items[:start]]
    return order[::-1] if number % 2 else order
