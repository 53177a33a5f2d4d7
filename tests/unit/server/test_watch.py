"""watch: which starts of workers follow a death, and when there were too many."""

from __future__ import annotations

import pytest

from mms_handler.server.watch import WINDOW_S, Watch

LOADED = "18:00:01 model iris is loaded"
FAILED = "18:00:01 cannot load model iris: model_fn: ValueError: weights are gone"


def seen(watch, *lines):
    for line in lines:
        watch.see(line)
    return watch.too_many()


def test_starts_that_were_asked_for_are_no_deaths():
    """Three workers on purpose, and no death is borne."""
    watch = Watch(0)
    watch.expect("iris", 2)
    watch.expect("iris", 1)
    assert seen(watch, LOADED, LOADED, LOADED) == {}


def test_one_death_more_than_is_borne():
    """Two are borne, the third is too many; another model's are its own."""
    watch = Watch(2)
    watch.expect("iris", 1)
    assert seen(watch, LOADED, LOADED, LOADED, "model rose is loaded") == {}
    assert seen(watch, LOADED) == {"iris": ""}


def test_the_reason_of_a_start_that_failed_is_kept():
    """What the last failing worker said is what is known of why."""
    watch = Watch(1)
    assert seen(watch, FAILED, LOADED) == {
        "iris": "model_fn: ValueError: weights are gone",
    }


def test_what_is_forgotten_is_not_counted():
    """A model that was unregistered starts anew."""
    watch = Watch(0)
    watch.see(LOADED)
    watch.forget("iris")
    assert watch.too_many() == {}


def test_deaths_of_long_ago_are_forgotten(monkeypatch):
    """A death an hour does not end a server."""
    watch, now = Watch(1), 1_000.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    watch.see(LOADED)
    now += WINDOW_S + 1
    assert seen(watch, LOADED) == {}
    now += WINDOW_S - 1
    assert seen(watch, LOADED) == {"iris": ""}


@pytest.mark.parametrize(
    "line", ["", "model is loaded", "iris is loaded", "a model iris is loaded!"]
)
def test_other_lines_mean_nothing(line):
    """Only the handler's own two sentences count."""
    assert seen(Watch(0), line) == {}
