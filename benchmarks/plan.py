"""How much is measured, the paths, and the order of a round."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Callable, NamedTuple, Sequence, TypeVar

from benchmarks import environments, servers
from benchmarks.reading import Traffic, traffic
from benchmarks.servers import Server, System

T = TypeVar("T")


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


def rotated(items: Sequence[T], number: int) -> list[T]:
    """Order the items for round ``number``: each starts elsewhere, odd ones run backwards."""
    start = number % len(items)
    order = [*items[start:], *items[:start]]
    return order[::-1] if number % 2 else order
