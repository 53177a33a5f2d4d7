"""How a job goes, in a line, and how it went."""

from __future__ import annotations

import pytest

from mms_handler.transform import report as module
from mms_handler.transform.journal import Counts
from mms_handler.transform.part import DonePart, RecordError
from mms_handler.transform.report import MAX_ERRORS, Report


@pytest.fixture
def clock(monkeypatch):
    """A clock that a test sets."""

    class Clock:
        now = 100.0

        def monotonic(self):
            return self.now

    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    return clock


def done(records, errors=0):
    return DonePart(
        "in", 0, 1, 0, 9, 9, records, b"", "", (RecordError(1, 0, 400, "bad"),) * errors
    )


def test_a_job_says_how_long_it_will_take(clock):
    report = Report(1_000, 1)
    assert report.line() == "0 records; waiting for the first part"
    clock.now += 7  # the model loads
    report.read(100)
    report.read(100)
    clock.now += 2
    report.did(done(5_000, errors=1))
    assert report.line() == "5,000 records, 2,500 a second, 1 error, 10%, 18 s to go"
    report.did(done(5_000))
    assert report.line() == "10,000 records, 5,000 a second, 1 error, 20%, 8.0 s to go"
    report.read(800)
    report.did(done(1))
    assert report.line() == "10,001 records, 5,000 a second, 1 error, 100%"


def test_earlier_runs_count_but_not_for_the_speed(clock):
    report = Report(1_000, 1)
    report.took_up(Counts(9, 9_000, 2), 600)
    assert report.line() == "9,000 records; waiting for the first part"
    report.read(200)
    clock.now += 2
    report.did(done(100))
    assert report.line() == "9,100 records, 50 a second, 2 errors, 80%, 2.0 s to go"
    report.end()
    clock.now += 60
    assert report.rows() == [
        ("outputs", "0 of 1"),
        ("records", "9,100, 2 of them with an error"),
        ("of an earlier run", "9,000 records"),
        ("time", "2.0 s, 50 a second"),
    ]


def test_a_report_has_a_hundred_errors_at_most():
    report = Report(1, 1)
    report.did(done(500, errors=60))
    report.did(done(500, errors=60))
    told = report.as_dict()
    assert (told["errors"], len(told["first_errors"])) == (120, MAX_ERRORS)
    assert told["first_errors"][0] == {
        "input": "in", "record": 1, "offset": 0, "status": 400, "message": "bad",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        *((0.5, "0.5 s"), (9.9, "9.9 s"), (10, "10 s"), (12, "12 s"), (99, "99 s")),
        *((100, "2 min"), (600, "10 min"), (5_940, "99 min"), (6_000, "1.7 h"), (6_030, "1.7 h")),
        (9_000, "2.5 h"),
    ],
)
def test_long_times_are_in_minutes_and_hours(clock, seconds, text):
    report = Report(1, 1)
    clock.now += seconds
    assert report.rows()[-1] == ("time", text)


def test_a_short_job_has_its_own_speed(clock):
    report = Report(1, 1)
    report.read(1)
    clock.now += 0.5
    report.did(done(100))
    assert report.line() == "100 records, 200 a second, 0 errors, 100%"
    report.end()
    told = report.as_dict()
    assert (told["seconds"], told["records_per_second"]) == (0.5, 200.0)
