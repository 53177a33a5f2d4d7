"""watch: which worker starts follow a death, and when there are too many."""

from __future__ import annotations

import pytest

from mms_handler.server.watch import WINDOW_S, WorkerDeaths

LOADED = "18:00:01 model iris is loaded"
FAILED = "18:00:01 cannot load model iris: model_fn: ValueError: weights are gone"


def above_limit(deaths, *lines):
    for line in lines:
        deaths.read(line)
    return deaths.above_limit()


def test_expected_starts_are_no_deaths():
    """Three workers are started on purpose; even one death would be too many."""
    deaths = WorkerDeaths(0)
    deaths.expect("iris", 2)
    deaths.expect("iris", 1)
    assert above_limit(deaths, LOADED, LOADED, LOADED) == {}


def test_one_death_above_the_limit():
    """Two deaths are tolerated, the third is too many; models are counted apart."""
    deaths = WorkerDeaths(2)
    deaths.expect("iris", 1)
    assert above_limit(deaths, LOADED, LOADED, LOADED, "model rose is loaded") == {}
    assert above_limit(deaths, LOADED) == {"iris": ""}


def test_the_reason_of_a_failed_start():
    """The reason is what the latest failed worker printed."""
    deaths = WorkerDeaths(1)
    assert above_limit(deaths, FAILED, LOADED) == {
        "iris": "model_fn: ValueError: weights are gone",
    }


def test_forgotten_deaths_do_not_count():
    """The count of an unregistered model starts again at zero."""
    deaths = WorkerDeaths(0)
    deaths.read(LOADED)
    deaths.forget("iris")
    assert deaths.above_limit() == {}


def test_old_deaths_do_not_count(monkeypatch):
    """One death an hour does not end a server."""
    deaths, now = WorkerDeaths(1), 1_000.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    deaths.read(LOADED)
    now += WINDOW_S + 1
    assert above_limit(deaths, LOADED) == {}
    now += WINDOW_S - 1
    assert above_limit(deaths, LOADED) == {"iris": ""}


@pytest.mark.parametrize(
    "line", ["", "model is loaded", "iris is loaded", "a model iris is loaded!"]
)
def test_other_lines_do_not_count(line):
    """Only the handler's own two lines count."""
    assert above_limit(WorkerDeaths(0), line) == {}
