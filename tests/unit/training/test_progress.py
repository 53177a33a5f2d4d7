"""training.progress: what a person sees while a job runs, and what is known at its end."""

from __future__ import annotations

import contextlib
import logging
import subprocess
import sys
from types import SimpleNamespace

import pytest

from mms_handler.errors import TrainingError
from mms_handler.training import progress
from mms_handler.training.progress import Progress, Watching


def line(newest, seconds=0.0):
    shown = Progress(SimpleNamespace(newest=newest))
    shown._started_at -= seconds
    return shown.line()


def test_the_live_line():
    """The time, and the newest values; the hosts have their names if there are several."""
    values = {"epoch": 3, "values": {"accuracy": 0.5, "loss": 0.123456}}
    assert line({}, 3_601) == "1:00:01  "
    assert line({"a": values}).split() == ["0:00:00", *"epoch 3 loss 0.1235 accuracy 0.5".split()]
    several = line({"a": values, "b": {"epoch": None, "values": {"loss": 1.0}}, "c": {}})
    assert " | b loss 1" in several
    assert several.split()[1:3] == ["a", "epoch"]
    assert "c" not in several.split()
    assert " epoch 0 " in line({"a": {"epoch": 0, "values": {"loss": 1.0}}})


def run(watching, **options):
    """Run a program that prints a metric, on a host."""
    words = [sys.executable, "-c", "print('Epoch[0] Train-accuracy=0.5')"]
    with progress.shown(["algo-1"], watching, **options) as output:
        pipes = output.pipes()
        with subprocess.Popen(words, **pipes.arguments) as process:
            output.follow("algo-1", process, pipes).join()


def test_a_job_that_is_watched(capfd, tmp_path):
    """Its output passes, and its metrics are reported at the end, however it ends."""
    reported = []
    run(Watching(reported.extend, file=tmp_path / "metrics"))
    assert [(curve.host, curve.name) for curve in reported] == [("algo-1", "Train-accuracy")]
    assert '"Train-accuracy"' in (tmp_path / "metrics").read_text()
    assert capfd.readouterr().out == "Epoch[0] Train-accuracy=0.5\n"


def test_a_job_that_is_not_watched(capfd):
    run(None, named=True)
    assert capfd.readouterr().out.split() == ["[algo-1]", "Epoch[0]", "Train-accuracy=0.5"]


def test_what_is_checked_before_a_job(tmp_path, caplog):
    """The files can be written and read, and the picture can be drawn."""
    (tmp_path / "definitions").write_text('[{"Name": "acc", "Regex": "acc=(.*)"}]')
    curves = []
    watching = progress.watching(
        file=tmp_path / "metrics",
        definitions=tmp_path / "definitions",
        picture=tmp_path / "curve.svg",
        report=curves.append,
    )
    assert [definition.name for definition in watching.definitions] == ["acc"]
    assert watching.file == tmp_path / "metrics"
    watching.report([])
    assert curves == [[]]
    assert "curve.svg was not drawn" in caplog.text
    for wrong in (
        {"picture": tmp_path / "curve.pdf"},
        {"file": tmp_path},
        {"definitions": tmp_path / "none"},
    ):
        with pytest.raises(TrainingError):
            progress.watching(**wrong)


@pytest.mark.parametrize(
    ("live", "terminals", "escapes", "drawn"),
    [
        (True, {1, 2}, True, [[2, 1]]),
        (True, {2}, True, [[2]]),
        (True, {1}, True, []),
        (True, {1, 2}, False, []),
        (True, set(), True, []),
        (False, {1, 2}, True, []),
    ],
)
def test_where_a_live_line_is_drawn(monkeypatch, live, terminals, escapes, drawn):
    """If it is wanted, and standard error is a terminal that understands it."""
    made = []

    class Live:
        hold = write = end = None

        def __init__(self, line, terminals):
            made.append(terminals)

        shown = staticmethod(contextlib.nullcontext)

    monkeypatch.setattr(progress, "Live", Live)
    monkeypatch.setattr(progress.os, "isatty", lambda descriptor: descriptor in terminals)
    monkeypatch.setattr(progress, "_terminal_abilities", lambda: (escapes, escapes))
    monkeypatch.setattr(progress.Observer, "running", lambda self: contextlib.nullcontext())
    with progress.shown(["a"], Watching(lambda curves: None, live=live)) as output:
        assert isinstance(output._screen, Live) is bool(drawn)
    assert made == drawn


def test_lines_of_the_log_go_above_the_live_line(monkeypatch):
    """Only those for standard error, and only while there is one."""
    mine, other = logging.StreamHandler(sys.stderr), logging.StreamHandler(sys.stdout)
    monkeypatch.setattr(logging.getLogger(), "handlers", [mine, other])
    with contextlib.suppress(KeyError), progress._log_above(SimpleNamespace()):
        assert isinstance(mine.stream, progress.LogStream)
        assert other.stream is sys.stdout
        raise KeyError
    assert mine.stream is sys.stderr


@pytest.mark.parametrize(
    ("colours", "is_dumb", "no_color", "abilities"),
    [
        ("256", False, False, (True, True)),
        ("256", False, True, (True, False)),
        ("256", True, False, (False, False)),
        (None, False, False, (False, False)),
    ],
)
def test_what_a_terminal_understands(monkeypatch, colours, is_dumb, no_color, abilities):
    """A person may want no colours; a dumb terminal has no escape sequences."""
    console = SimpleNamespace(color_system=colours, is_dumb_terminal=is_dumb, no_color=no_color)
    monkeypatch.setattr("rich.console.Console", lambda stderr: console)
    assert progress._terminal_abilities() == abilities
