"""What is sent, what is right, and what one measurement found: the records that all share."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

TYPES = {"json": "application/json", "npy": "application/x-npy", "csv": "text/csv"}


class Traffic(NamedTuple):
    """Bodies of one kind, sent in turn, and MXNet's own answer to each."""

    content_type: str
    files: tuple[Path, ...]
    answers: Any

    def bodies(self) -> list[bytes]:
        return [path.read_bytes() for path in self.files]

    def right(self, number: int, reply: bytes, tolerance: float) -> bool:
        """Whether ``reply`` to body ``number`` is MXNet's, within a part of its largest value."""
        answer = self.answers[number]
        try:
            given = np.array(json.loads(reply), np.float32)
        except (ValueError, TypeError):
            return False
        near = tolerance * float(abs(answer).max()) + 1e-6
        return given.shape == answer.shape and bool(np.allclose(given, answer, rtol=0, atol=near))


def traffic(folder: Path, kind: str) -> Traffic:
    """Bodies that benchmarks.probes.writing wrote to a folder."""
    files = tuple(sorted(folder.glob(f"[0-9]*.{kind}")))
    return Traffic(TYPES[kind], files, np.load(folder / "answers.npy"))


class Reading(NamedTuple):
    """What one measurement of a server found."""

    rate: float  # good answers a second
    p50_ms: float
    p99_ms: float
    errors: int  # answers that were none, or not 2xx
    checked: int = 0  # bodies of a client beside the load that were compared with MXNet's
    wrong: int = 0
