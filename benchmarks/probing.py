"""Probes: programs that run under a system's own Python and measure one thing on request."""

from __future__ import annotations

import contextlib
import json
import subprocess
from pathlib import Path
from typing import Iterator, Mapping, NamedTuple

from benchmarks.processes import end, environment

_ROOT = Path(__file__).parents[1]


class Probe(NamedTuple):
    """One running program of benchmarks.probes."""

    process: subprocess.Popen[bytes]

    def start(self, seconds: float) -> None:
        """Start a measurement of about ``seconds`` seconds."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{seconds}\n".encode())
        self.process.stdin.flush()

    def result(self) -> dict[str, float]:
        """Wait for the measurement, and return it.

        Raises:
            RuntimeError: the program ended.
        """
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self.process.args!r} ended before it measured; see its log")
        result: dict[str, float] = json.loads(line)
        return result

    def measure(self, seconds: float) -> dict[str, float]:
        self.start(seconds)
        return self.result()


@contextlib.contextmanager
def probing(
    python: Path, module: str, *arguments: object, work: Path, env: Mapping[str, str]
) -> Iterator[Probe]:
    """Run a module of benchmarks.probes for the length of a ``with`` block, ready to measure.

    Its standard error goes to ``work``/MODULE.log.
    """
    command = [python, "-m", f"benchmarks.probes.{module}", *arguments]
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
        probe.result()
        yield probe
    finally:
        end(process)
