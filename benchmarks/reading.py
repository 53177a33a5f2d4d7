"""The records that all measurements share: what is sent, and what one measurement found."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

TYPES = {"json": "application/json", "npy": "application/x-npy", "csv": "text/csv"}


class Traffic(NamedTuple):
    """Bodies of one kind, which are sent in turn, and MXNet's own answer to each."""

    content_type: str
    files: tuple[Path, ...]
    answers: Any

    def bodies(self) -> list[bytes]:
        return [path.read_bytes() for path in self.files]

    def right(self, number: int, reply: bytes, tolerance: float) -> bool:
        """Return whether ``reply`` to body ``number`` is MXNet's answer.

        A value may differ by ``tolerance`` times the answer's largest value.
        """
        answer = self.answers[number]
        try:
            array = np.array(json.loads(reply), np.float32)
        except (ValueError, TypeError):
            return False
        atol = tolerance * float(abs(answer).max()) + 1e-6
        return array.shape == answer.shape and bool(np.allclose(array, answer, rtol=0, atol=atol))


def traffic(folder: Path, kind: str) -> Traffic:
    """Return the bodies of one kind that benchmarks.probes.writing wrote to a folder."""
    files = tuple(sorted(folder.glob(f"[0-9]*.{kind}")))
    return Traffic(TYPES[kind], files, np.load(folder / "answers.npy"))


class Reading(NamedTuple):
    """One measurement of a server."""

    rate: float  # good answers per second
    p50_ms: float
    p99_ms: float
    errors: int  # requests without an answer, or with a status other than 2xx
    seconds: float  # how long it was
    checked: int = 0  # answers that a client beside the load compared with MXNet's
    wrong: int = 0  # those that differed, or did not come
    cpu_us: float = 0.0  # processor time of all the server's processes for each good answer
    arrivals: float = 0.0  # requests a second in an open loop
