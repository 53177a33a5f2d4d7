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


def test_trials_of_another_model_do_not_count(path):
    assert State(path, {"model": "b"}).trials == []
