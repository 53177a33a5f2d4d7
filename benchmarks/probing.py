"""Probes: programs under a system's own Python that measure one thing each time they are asked."""

from __future__ import annotations

import contextlib
import json
import subprocess
from pathlib import Path
from typing import Iterator, Mapping, NamedTuple

from benchmarks.processes import end, environment

_ROOT = Path(__file__).parents[1]


class Probe(NamedTuple):
    """A running program of benchmarks.probes."""

    process: subprocess.Popen[bytes]

    def start(self, seconds: float) -> None:
        """Have it measure, for about so long."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{seconds}\n".encode())
        self.process.stdin.flush()

    def found(self) -> dict[str, float]:
        """What it found, when it has."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self.process.args!r} ended")
        told: dict[str, float] = json.loads(line)
        return told

    def measure(self, seconds: float) -> dict[str, float]:
        self.start(seconds)
        return self.found()


@contextlib.contextmanager
def probing(
    python: Path, module: str, *words: object, work: Path, env: Mapping[str, str]
) -> Iterator[Probe]:
    """Run a module of benchmarks.probes, ready to measure; afterwards it is gone."""
    command = [python, "-m", f"benchmarks.probes.{module}", *words]
    (work / "tmp").mkdir(parents=True, exist_ok=True)
    with open(work / f"{module}.log", "ab") as log:
        process = subprocess.Popen(
            list(map(str, command)),
            cwd=_ROOT,
            env={**environment(work), "OMP_NUM_THREADS": "1", **env},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
        )
    try:
        probe = Probe(process)
        probe.found()
        yield probe
    finally:
        end(process)
