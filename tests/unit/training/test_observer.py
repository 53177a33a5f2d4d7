"""training.series and training.observer: metrics while a job runs, and at its end."""

from __future__ import annotations

import io
import json
import logging
import math
import os
import signal
import time

import psutil
import pytest

from mms_handler.errors import TrainingError
from mms_handler.training import metrics, observer, series
from mms_handler.training.observer import Observer, check_writable
from mms_handler.training.series import HEADER, Observed, Point, Series, pieces


def values(observed):
    return {key: each.last for key, each in observed.series.items()}


def test_lines_in_pieces():
    """Wherever they are cut; each host has its own, and its own epoch."""
    observed = Observed(["a", "b"])
    text = b"noise\nEpoch 3/9\r 1/2 [=>..] - loss: 0.5\r 2/2 [===] - loss: 0.25\nEpoch[1] acc=0."
    for index in range(len(text)):
        observed.add("a", text[index : index + 1], 5.0)
        observed.add("b", b"Epoch[1] Train-accuracy=0.5\n" if index == 9 else b"x", 5.0)
    observed.add("a", b"5", 5.0)
    observed.add("a", b"", 5.0)
    assert values(observed) == {
        ("a", "loss"): Point(3, 2, 0.25),
        ("a", "acc"): Point(1, None, 0.5),
    }
    observed.add("b", b"\nEpoch[1] Train-accuracy=0.5\n", 5.0)
    assert values(observed)["b", "Train-accuracy"] == Point(1, None, 0.5)
    assert observed.newest() == {
        "newest": {
            "a": {"epoch": 1, "values": {"loss": 0.25, "acc": 0.5}},
            "b": {"epoch": 1, "values": {"Train-accuracy": 0.5}},
        },
        "warnings": [],
    }


def test_a_long_line():
    """Its beginning counts, and no more of it is kept."""
    observed = Observed(["a"])
    observed.add("a", b"Epoch[1] acc=0.5 ", 0)
    for _ in range(20):
        observed.add("a", b"x" * 1_000_000, 0)
    assert len(observed._incomplete["a"]) == series.LINE_BYTES
    observed.add("a", b" acc=0.7\n", 0)
    assert values(observed) == {("a", "acc"): Point(1, None, 0.5)}


def test_json_lines():
    """One for each value; a value that JSON cannot hold is a text."""
    file = io.BytesIO()
    observed = Observed(["a"], (), file)
    observed.add("a", b"Epoch[1] Batch [20]\tacc=0.5\tloss=nan\n", 1234.5678)
    assert [json.loads(line) for line in file.getvalue().splitlines()] == [
        {"time": 1234.568, "host": "a", "epoch": 1, "step": 20, "name": "acc", "value": 0.5},
        {"time": 1234.568, "host": "a", "epoch": 1, "step": 20, "name": "loss", "value": "nan"},
    ]


def test_a_file_that_cannot_be_written():
    """A warning says so, once; the metrics are followed on."""
    with open("/dev/full", "wb", buffering=0) as file:
        observed = Observed(["a"], (), file)
        for _ in range(3):
            observed.add("a", b"Epoch[1] acc=0.5\n", 0)
        (warning,) = observed.warnings
        assert warning.startswith("the metrics can no longer be written: ")
        assert values(observed) == {("a", "acc"): Point(1, None, 0.5)}


@pytest.mark.parametrize(
    ("name", "best"), [("loss", 0.25), ("accuracy", 0.75), ("gamma", math.nan)]
)
def test_the_best_value(name, best):
    """The lowest or the highest, as the name says; none if it does not."""
    curve = Series(name)
    for epoch, value in enumerate((0.5, math.nan, 0.75, 0.25, 0.3)):
        curve.add(Point(epoch, None, value))
    assert curve.last == Point(4, None, 0.3)
    assert repr(curve.best.value) == repr(best)


def test_memory_is_bounded():
    """Of many values some are kept, evenly; of many metrics the first."""
    curve = Series("loss")
    for step in range(100_000):
        curve.add(Point(0, step, step))
    assert 900 < len(curve.points) <= series.MAX_POINTS + 1
    steps = [point.step for point in curve.points]
    assert len({after - before for before, after in zip(steps, steps[1:])}) == 1
    assert steps[-1] > 99_000
    observed = Observed(["a"])
    for number in range(2 * series.MAX_METRICS):
        observed.add("a", b"epoch 1: m%d=1\n" % number, 0)
    assert len(observed.series) == series.MAX_METRICS


def test_a_regex_that_never_ends(monkeypatch):
    """It is dropped with a warning that names it; the others go on."""
    monkeypatch.setattr(series, "REGEX_S", 0.2)
    definitions = [
        metrics.definition({"Name": "bad", "Regex": "(a+)+b"}),
        metrics.definition({"Name": "good", "Regex": "x=([0-9]+)"}),
    ]
    before = signal.signal(signal.SIGALRM, series._time_is_up)
    try:
        observed = Observed(["a"], definitions)
        for number in range(3):
            observed.add("a", b"epoch %d: " % number + b"a" * 60 + b" x=%d\n" % number, 0)
    finally:
        signal.signal(signal.SIGALRM, before)
    assert values(observed) == {("a", "good"): Point(2, None, 2)}
    (warning,) = observed.warnings
    assert warning.startswith("the metric bad is no longer looked for: its Regex took more than")


def test_pieces():
    """As they come, also in parts; None while there is nothing."""
    reader, writer = os.pipe()
    data = HEADER.pack(1.5, 1, 3) + b"abc" + HEADER.pack(2.5, 0, 0)
    os.write(writer, data[:10])
    stream = pieces(reader, 0.01)
    assert next(stream) is None
    os.write(writer, data[10:])
    assert next(stream) == (1.5, 1, b"abc")
    assert next(stream) == (2.5, 0, b"")
    os.close(writer)
    assert list(stream) == []
    os.close(reader)


# --- the process -----------------------------------------------------------------------------


def children_with(word):
    return [child for child in psutil.Process().children() if word in child.cmdline()]


def test_a_job_is_observed(tmp_path):
    """The newest values while it runs, the file too; all at its end, whoever asks it to end."""
    file = tmp_path / "metrics.jsonl"
    watch = Observer(["algo-1", "algo-2"], (), file)
    with watch.running():
        watch.feed("algo-2", b"Epoch[0] Train-loss=0.5\nEpoch[1] Train-loss=0.25\n")
        deadline = time.monotonic() + 60
        while not watch.newest["algo-2"].get("values"):
            assert time.monotonic() < deadline
            time.sleep(0.02)
        assert watch.newest["algo-2"] == {"epoch": 1, "values": {"Train-loss": 0.25}}
        assert len(file.read_text().splitlines()) == 2
        (process,) = children_with("train-observe")
        for number in (signal.SIGINT, signal.SIGTERM):  # as a terminal or SageMaker sends to all
            process.send_signal(number)
        watch.feed("algo-2", b"Epoch[2] Train-loss=0.75")
        watch.feed("algo-2", b"")
    (curve,) = watch.curves
    assert curve[:4] == ("algo-2", "Train-loss", Point(2, None, 0.75), Point(1, None, 0.25))
    assert [point.value for point in curve.points] == [0.5, 0.25, 0.75]


def test_a_process_that_does_not_keep_up(monkeypatch, caplog):
    """What comes is never held up, and takes no more memory; the oldest is given up."""
    monkeypatch.setattr(observer, "QUEUE_BYTES", 100_000)
    watch = Observer(["a"])
    for number in range(100):  # before it runs
        watch.feed("a", b"x" * 9_990 + b"\nEpoch[%d] acc=1\n" % number)
    assert watch._queued_bytes <= 100_000
    with watch.running():
        watch.feed("a", b"")
    (curve,) = watch.curves
    assert curve.last == Point(99, None, 1)
    assert "1 MB of the output were not searched for metrics" in caplog.text


def test_a_process_that_ends_early(monkeypatch, caplog):
    """The job goes on; a warning says that the metrics are not complete."""
    watch = Observer(["a"], (), None)
    watch._settings = "{"
    with watch.running():
        for _ in range(1000):
            watch.feed("a", b"x" * 10_000)
    assert watch.curves == []
    assert "the metrics are not complete" in caplog.text


def test_its_warnings_are_logged(tmp_path, caplog):
    """With definitions, which are checked before."""
    caplog.set_level(logging.WARNING)
    bad = metrics.definition({"Name": "bad", "Regex": "(a+)+b"})
    good = metrics.definition({"Name": "good", "Regex": "(c)?x=([0-9]+)"})
    watch = Observer(["a"], [bad, good])
    with watch.running():
        watch.feed("a", b"a" * 60 + b"x=1\n")
    assert "the metric bad is no longer looked for" in caplog.text


def test_a_file_that_cannot_be_made(tmp_path):
    """It is known before anything runs."""
    check_writable(tmp_path / "new" / "metrics.jsonl")
    (tmp_path / "file").touch()
    with pytest.raises(TrainingError, match="cannot be written"):
        check_writable(tmp_path / "file" / "metrics.jsonl")
