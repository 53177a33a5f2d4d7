"""training.phases: an exception in one line, which says in which phase it was raised."""

from __future__ import annotations

import contextlib
import signal

import pytest

from mms_handler.errors import ScriptError, SettingsError, TrainingError
from mms_handler.training import phases
from mms_handler.training.phases import JobFailed, Stopped, describe, first_line, phase


def raised(exc, *names):
    """The exception, as it comes out of these phases; the last one is the innermost."""
    try:
        with contextlib.ExitStack() as stack:
            for name in names:
                stack.enter_context(phase(name))
            raise exc
    except BaseException as caught:
        return caught


@pytest.mark.parametrize(
    ("exc", "names", "text"),
    [
        (TrainingError("no data"), (), "no data"),
        (TrainingError("no data\nmore"), ("train",), "train: no data"),
        (TrainingError("no data"), ("outer", "inner"), "inner: no data"),
        (TrainingError("no data"), (lambda: "by a function",), "by a function: no data"),
        (FileNotFoundError("no file"), ("save",), "save: no file"),
        (TrainingError(""), ("train",), "train: TrainingError"),
        (ValueError("two\nlines"), ("train",), "train: ValueError: two lines"),
        (KeyboardInterrupt(), ("train",), "train: KeyboardInterrupt"),
    ],
)
def test_an_exception_in_a_line(exc, names, text):
    """Its phase is the innermost one; errors that are written for people need no type."""
    assert describe(raised(exc, *names)) == text


def test_the_phase_is_asked_for_only_at_an_exception():
    with phase(lambda: pytest.fail("asked")):
        pass


@pytest.mark.parametrize("length", [900, 901, 5_000])
def test_a_long_reason(length):
    """Its beginning and its end fit into what SageMaker shows."""
    reason = ("a" * 800 + "b" * length)[: length - 1] + "c"
    line = describe(TrainingError(reason))
    assert len(line) == 900
    assert line[:795] == reason[:795]
    assert line[-100:] == reason[-100:]
    assert (" ... " in line) is (length > 900)


def test_the_first_line_of_a_failure_file():
    """A job's own line has its host already."""
    assert first_line("algo-2", raised(ValueError("x"), "train")) == "algo-2: train: ValueError: x"
    assert first_line("algo-2", JobFailed("algo-1: train: x")) == "algo-1: train: x"


@pytest.mark.parametrize(
    ("exc", "code"),
    [
        (TrainingError("x"), 1),
        (ScriptError("x"), 1),
        (SettingsError("x"), 2),
        (Stopped(signal.SIGTERM), 143),
        (Stopped(signal.SIGINT), 130),
    ],
)
def test_the_commands_exit_code(exc, code):
    failed = phases.as_job_failed("algo-1: x", exc)
    assert (str(failed), failed.exit_code) == ("algo-1: x", code)
