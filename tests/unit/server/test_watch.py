"""watch: which deaths count, and when there are too many."""

from __future__ import annotations

import pytest

from mms_handler.server.watch import WINDOW_S, WorkerDeaths


@pytest.fixture
def deaths():
    """Two deaths of iris are tolerated."""
    deaths = WorkerDeaths(2)
    deaths.follow("iris")
    return deaths


def test_one_death_above_the_limit(deaths):
    """Two deaths are tolerated, the third is too many; models are counted apart."""
    deaths.follow("rose")
    deaths.read(lambda: {"iris": 2, "rose": 1})
    assert deaths.above_limit() == []
    deaths.read(lambda: {"iris": 3, "rose": 1})
    assert deaths.above_limit() == ["iris"]


def test_a_count_is_counted_once(deaths):
    """The plug-in's count is a total: only what was added since the last reading is new."""
    for _ in range(5):
        deaths.read(lambda: {"iris": 2})
    assert deaths.above_limit() == []


def test_new_deaths(deaths):
    """Each is returned once; those within the window are counted."""
    assert deaths.within_window("iris") == 0
    assert deaths.read(lambda: {"iris": 1}) == {"iris": 1}
    assert deaths.read(lambda: {"iris": 1}) == {}
    assert deaths.read(lambda: {"iris": 3}) == {"iris": 2}
    assert deaths.within_window("iris") == 3


def test_a_registration_begins_at_zero(deaths):
    """A model that is registered again keeps its deaths, and the plug-in counts from 0 again."""
    deaths.read(lambda: {"iris": 2})
    deaths.follow("iris")
    assert deaths.above_limit() == []
    deaths.read(lambda: {"iris": 1})
    assert deaths.above_limit() == ["iris"]


def test_a_count_from_before_the_registration(deaths):
    """A reading that began before a model was registered again has the count of the old one."""

    def restarts():
        deaths.forget("iris")
        deaths.follow("iris")
        return {"iris": 3}

    deaths.read(restarts)
    assert deaths.above_limit() == []
    deaths.read(lambda: {"iris": 3})
    assert deaths.above_limit() == ["iris"]


def test_deaths_that_the_plug_in_does_not_see(deaths):
    """A model that lost its listener has no worker that MMS could start again."""
    deaths.add("iris")
    deaths.read(lambda: {"iris": 1})
    assert deaths.above_limit() == []
    deaths.add("iris")
    assert deaths.above_limit() == ["iris"]


def test_forgotten_deaths_do_not_count(deaths):
    """The count of an unregistered model starts again at zero."""
    deaths.read(lambda: {"iris": 3})
    deaths.forget("iris")
    assert deaths.above_limit() == []
    deaths.read(lambda: {"iris": 9, "rose": 9})  # neither is followed
    assert deaths.above_limit() == []


def test_old_deaths_do_not_count(monkeypatch):
    """One death an hour does not end a server."""
    deaths, now = WorkerDeaths(1), 1_000.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    deaths.follow("iris")
    deaths.read(lambda: {"iris": 1})
    now += WINDOW_S + 1
    deaths.read(lambda: {"iris": 2})
    assert deaths.above_limit() == []
    now += WINDOW_S - 1
    deaths.read(lambda: {"iris": 3})
    assert deaths.above_limit() == ["iris"]


def test_no_count_is_no_death(deaths):
    """While Java does not answer there is no count; the next one has all deaths."""
    deaths.read(lambda: {"iris": 2})
    deaths.read(dict)
    deaths.read(lambda: {"iris": 2})
    assert deaths.above_limit() == []
