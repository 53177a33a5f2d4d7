"""What a trial found, and the file that keeps what all trials found."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any, Mapping, NamedTuple

from mms_handler.tuning.candidate import Candidate


class Trial(NamedTuple):
    """A candidate that was measured.

    Fields:
        candidate: the settings.
        round: 0 for a short trial; from 1 on the rounds that confirm.
        clients: the number of clients with the most replies a second within the limits.
        rate: these replies a second; 0 if no number of clients was within the limits.
        p99_ms: with these clients.
        mb: memory of front end and workers.
        reason: why it is not within the limits; "" if it is.
    """

    candidate: Candidate
    round: int
    clients: int = 0
    rate: float = 0
    p99_ms: float = 0
    mb: float = 0
    reason: str = ""


class State:
    """A file with a line for each trial, so that a run that was ended can go on."""

    def __init__(self, path: Path, key: Mapping[str, Any]) -> None:
        """Read what there is for this key; a file for another one is begun anew.

        Args:
            path: the file.
            key: what is measured, and how: trials of another model or machine do not count.
        """
        self._path = path
        self.trials: list[Trial] = []
        head = json.dumps({"tune": key})
        lines = path.read_text().splitlines() if path.is_file() else []
        if lines[:1] == [head]:
            for line in lines[1:]:
                with contextlib.suppress(ValueError, TypeError):  # a line that was cut
                    fields = json.loads(line)
                    candidate = Candidate(**fields.pop("candidate"))
                    self.trials.append(Trial(candidate, **fields))
        text = "".join(f"{line}\n" for line in [head, *map(_encode, self.trials)])
        path.write_text(text)

    def find(self, candidate: Candidate, number: int) -> Trial | None:
        """The trial of a candidate in a round, if there was one."""
        for trial in self.trials:
            if (trial.candidate, trial.round) == (candidate, number):
                return trial
        return None

    def add(self, trial: Trial) -> None:
        self.trials.append(trial)
        with self._path.open("a") as file:
            file.write(f"{_encode(trial)}\n")

    def remove(self) -> None:
        self._path.unlink(missing_ok=True)


def _encode(trial: Trial) -> str:
    return json.dumps({**trial._asdict(), "candidate": trial.candidate._asdict()})
