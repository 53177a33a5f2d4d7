"""Name the phase of a job in which an exception was raised.

phase ──▶ exception ──▶ describe: "train: ValueError: ..." ──▶ other hosts
                                └─▶ first_line: "algo-1: train: ValueError: ..." ──▶ failure
"""

from __future__ import annotations

import contextlib
import signal
from typing import Callable, Iterator

from mms_handler.causes import cause
from mms_handler.errors import HandlerError, SettingsError, TrainingError

#: Characters of a description, and how many of them are its end if it is cut: an exception's place
#: is there.  SageMaker shows 1,024 characters of a failure file.
DESCRIPTION_CHARS = 900
END_CHARS = 100


class JobFailed(TrainingError):
    """A job failed.  The text is the first line of the failure file: "HOST: PHASE: REASON".

    ``exit_code`` is the command's.
    """

    exit_code = 1


class Stopped(TrainingError):
    """The signal ``number`` stopped the job."""

    def __init__(self, number: int) -> None:
        super().__init__(f"stopped by {signal.Signals(number).name}")
        self.number = number


@contextlib.contextmanager
def phase(name: str | Callable[[], str]) -> Iterator[None]:
    """Note on an exception that leaves the ``with`` block in which phase it was raised.

    If a block in this one has noted its phase, that stays.

    Args:
        name: the phase; a function is called when there is an exception.
    """
    try:
        yield
    except BaseException as exc:
        if phase_of(exc) is None:
            exc.phase = name if isinstance(name, str) else name()  # type: ignore[attr-defined]
        raise


def phase_of(exc: BaseException) -> str | None:
    """The phase that is noted on an exception, or None."""
    name: str | None = getattr(exc, "phase", None)
    return name


def describe(exc: BaseException) -> str:
    """An exception in one line: its phase, if that is noted, and its reason."""
    lines = str(exc).strip().splitlines()
    known = lines and isinstance(exc, (HandlerError, OSError))
    line = lines[0] if known else cause(exc, "/dev/null")  # a place is for the script's own errors
    name = phase_of(exc)
    return _shorten(f"{name}: {line}" if name else line)


def first_line(host: str, exc: BaseException) -> str:
    """The first line of a failure file: the host, the phase and the reason."""
    return str(exc) if isinstance(exc, JobFailed) else f"{host}: {describe(exc)}"


def as_job_failed(line: str, exc: BaseException) -> JobFailed:
    """The exception of a job that ended with the first line ``line``, because of ``exc``."""
    failed = JobFailed(line)
    if isinstance(exc, Stopped):
        failed.exit_code = 128 + exc.number
    elif isinstance(exc, SettingsError):
        failed.exit_code = 2
    return failed


def _shorten(line: str) -> str:
    if len(line) <= DESCRIPTION_CHARS:
        return line
    return f"{line[: DESCRIPTION_CHARS - END_CHARS - 5]} ... {line[-END_CHARS:]}"
