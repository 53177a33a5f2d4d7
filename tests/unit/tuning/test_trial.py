"""tuning.trial: what was measured is kept, also by a run that is killed."""

from __future__ import annotations

import pytest

from mms_handler.tuning.candidate import Candidate
from mms_handler.tuning.trial import State, Trial

FIRST = Trial(Candidate(), 0, clients=8, rate=100.5, p99_ms=3.2, mb=250)
SECOND = Trial(Candidate(workers=2), 1, reason="p99 51.0 ms")


@pytest.fixture
def path(tmp_path):
    state = State(tmp_path / "state", {"model": "a"})
    state.add(FIRST)
    state.add(SECOND)
    return tmp_path / "state"


def test_trials_are_there_again(path):
    state = State(path, {"model": "a"})
    assert state.trials == [FIRST, SECOND]
    assert state.find(Candidate(), 0) == FIRST
    assert state.find(Candidate(), 1) is None
    for _ in range(2):  # it may be gone
        state.remove()
    assert not path.exists()
    assert Trial(Candidate(), 0) == (Candidate(), 0, 0, 0, 0, 0, "")


def test_a_line_that_was_cut_is_left_out(path):
    """Its trial is measured again."""
    path.write_text(path.read_text()[:-9])
    state = State(path, {"model": "a"})
    assert state.trials == [FIRST]
    state.add(SECOND)
    assert State(path, {"model": "a"}).trials == [FIRST, SECOND]


def test_the_lines_of_a_file(tmp_path):
    """As they are on disks."""
    path = tmp_path / "state"
    candidate = '{"workers": 2, "threads": null, "batch_size": 8, "core": null, "optimize": null}'
    line = (
        f'{{"candidate": {candidate}, "round": 1, "clients": 8, "rate": 9.5, "p99_ms": 3.25, '
        '"mb": 250.0, "reason": ""}'
    )
    text = f'{{"tune": {{"model": "a"}}}}\n{line}\n'
    path.write_text(text)
    state = State(path, {"model": "a"})
    assert state.trials == [Trial(Candidate(workers=2, batch_size=8), 1, 8, 9.5, 3.25, 250.0, "")]
    assert path.read_text() == text


def test_trials_of_another_model_do_not_count(path):
    assert State(path, {"model": "b"}).trials == []
