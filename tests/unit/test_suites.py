"""The suites with faults and with an hour of load judge what they measured as they say."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.chaos.__main__ import Line
from tests.chaos.faults import FAULTS, Fault
from tests.chaos.load import Load, Outcome, Result
from tests.chaos.serving import State
from tests.soak.__main__ import Sample, growths


def line(ends_server: bool = False, **changed: object) -> Line:
    """A line that meets the goal, but for what is changed."""
    fault = Fault("a fault", "faults", lambda scene: None, ends_server)
    good = Line(fault, Counter(good=9), 0.5, 9.9, State(), [])
    return good._replace(**changed)


@pytest.mark.parametrize(
    ("changed", "met"),
    [
        ({}, True),
        ({"kinds": Counter({"good": 9, "5xx": 3})}, True),
        ({"kinds": Counter(good=9, wrong=1)}, False),
        ({"kinds": Counter(good=9, lost=1)}, False),
        ({"kinds": Counter(good=9, lost=1), "ends_server": True}, True),
        ({"kinds": Counter(good=9, wrong=1), "ends_server": True}, False),
        ({"recovery_s": 10}, False),
        ({"recovery_s": float("inf"), "ends_server": True}, False),
        ({"left": State(processes=1)}, False),
        ({"left": State(paths=frozenset({"/x"}))}, False),
        ({"left": State(sockets=1)}, False),
        ({"remarks": ["a hidden request was answered"]}, False),
    ],
)
def test_a_line_meets_the_goal(changed, met):
    """Lost requests are allowed where the server itself died, and 5xx everywhere."""
    assert line(**changed).meets_goal() is met
    assert line(**changed).text().endswith("| met |" if met else "| missed |")


def test_what_is_left_is_what_was_not_there():
    """Another file in the place of one that went is not more."""
    before = State(4, frozenset({"a", "b"}), 2)
    assert State(5, frozenset({"a", "b", "c"}), 1).beyond(before) == State(1, frozenset("c"), 0)
    assert State(4, frozenset({"a", "c"}), 2).beyond(before) == State()


def test_every_fault_has_a_name_of_its_own():
    names = [fault.name for fault in FAULTS]
    assert len(set(names)) == len(names) > 50


def test_failed_and_slow_requests_disturb():
    """Until the last of them has ended."""
    load = Load(port=1, patience_s=1)
    load.note(Outcome(10, 10.1, "good"))
    assert load.disturbed_until(9) == 9
    load.note(Outcome(10, 12.5, "good"))
    assert load.disturbed_until(9) == 12.5
    load.note(Outcome(12, 12.9, "5xx", "503"))
    assert load.disturbed_until(9) == 12.9
    assert load.take().kinds == Counter({"good": 2, "5xx": 1})
    assert load.take() == Result(Counter(), [], Counter())


@pytest.mark.parametrize(("part", "wait_s"), [(0.5, 2), (0.75, 3), (0.99, 4), (1, 4)])
def test_a_wait_is_one_that_was_met(part, wait_s):
    """The smallest that this part of the requests did not exceed."""
    assert Result(Counter(), [1, 2, 3, 4], Counter()).wait_s(part) == wait_s


@pytest.mark.parametrize(
    ("field", "first", "last", "text"),
    [
        ("pss_mb", 400, 429, None),
        ("pss_mb", 400, 431, "pss_mb grew from 400 to 431"),
        ("descriptors", 100, 108, None),
        ("descriptors", 100, 109, "descriptors grew from 100 to 109"),
        ("threads", 50, 55, "threads grew from 50 to 55"),
        ("rss_mb", 400, 900, None),  # it counts shared pages once for each process
    ],
)
def test_growth_is_from_the_second_tenth_to_the_last(field, first, last, text):
    """The first one is warming up."""
    sample = Sample(0, 1, 1, 1, 1, 1, 0, 1, 1, 1, 1)
    values = [1, 1, first, first, *[first] * 14, last, last]
    samples = [sample._replace(**{field: value}) for value in values]
    assert growths(samples) == ([text] if text else [])
