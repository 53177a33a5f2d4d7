"""phases: a clock that the test moves."""

from __future__ import annotations

import pytest

from mms_handler.worker import phases
from mms_handler.worker.phases import DECODE, ENCODE, PREDICT, Phases


@pytest.fixture
def clock(monkeypatch):
    """Nanoseconds in a list of one."""
    now_ns = [5 * 10**9]
    monkeypatch.setattr(phases, "perf_counter_ns", lambda: now_ns[0])
    return now_ns


def batch(clock, measured, *steps):
    """The microseconds of a batch of steps: a phase and its nanoseconds; the first is decoding."""
    measured.begin()
    for phase, ns in steps:
        measured.enter(phase)
        clock[0] += ns
    return measured.end_us()


def test_phases_of_one_request(clock):
    steps = (DECODE, 3_999), (PREDICT, 20_000), (ENCODE, 1_000)
    assert batch(clock, Phases(), *steps) == [3, 20, 1]


def test_requests_one_by_one_add_up(clock):
    steps = 3 * ((DECODE, 1_500), (PREDICT, 20_000), (ENCODE, 2_000))
    assert batch(clock, Phases(), *steps) == [4, 60, 6]


def test_a_step_that_fails_counts_until_the_next_one(clock):
    steps = (DECODE, 1_000), (DECODE, 2_000), (PREDICT, 7_000)
    assert batch(clock, Phases(), *steps) == [3, 7, 0]


def test_each_batch_begins_anew(clock):
    measured = Phases()
    batch(clock, measured, (DECODE, 9_000), (ENCODE, 9_000))
    clock[0] += 10**9  # until the next batch comes
    assert batch(clock, measured, (DECODE, 1_000)) == [1, 0, 0]


def test_more_than_a_field_can_have(clock):
    assert batch(clock, Phases(), (PREDICT, 10**16)) == [0, 2**32 - 1, 0]


def test_so_far(clock):
    """Nothing counts twice, and the batch goes on."""
    measured = Phases()
    measured.begin()
    clock[0] += 2_000
    assert measured.so_far_us() == [2, 0, 0]
    measured.enter(PREDICT)
    clock[0] += 5_000
    assert measured.so_far_us() == [2, 5, 0]
    clock[0] += 1_000
    assert measured.end_us() == [2, 6, 0]
