"""Run a training's process until it ends, another host is lost, or a signal stops the job.

command ──▶ process ──▶ exit code 0
                    ├─▶ ScriptFailed   with its report, else with the end of its standard error
                    └─▶ Stopped        by SIGTERM or SIGINT, which the process gets too
"""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from pathlib import Path
from typing import IO, Iterator, Mapping, NamedTuple, Sequence

from mms_handler import processes
from mms_handler.errors import TrainingError
from mms_handler.script.report import read_report
from mms_handler.training.cluster import Member

#: Seconds from SIGTERM until a script is killed; SageMaker kills the container after 120.
GRACE_S = 110

#: Lines of standard error in a failure file.
TAIL_LINES = 50


class Command(NamedTuple):
    """A process to run, and where it writes why it failed."""

    words: list[str]
    variables: Mapping[str, str]  # in addition to the environment's
    cwd: Path
    report: Path | None = None  # of mms_handler.script.report; without it standard error tells
    reports_success: bool = False  # a process that ends with 0 and without a report has failed


class Stopped(TrainingError):
    """The signal ``number`` stopped the job."""

    def __init__(self, number: int) -> None:
        super().__init__(f"stopped by {signal.Signals(number).name}")
        self.number = number


class ScriptFailed(TrainingError):
    """The script failed.  ``details`` follow the first line of the failure file."""

    def __init__(self, line: str, details: str) -> None:
        super().__init__(line)
        self.details = details


def run(command: Command, environment: Mapping[str, str], member: Member | None) -> None:
    """Run ``command`` to its end.

    Args:
        command: what to run.
        environment: of the process; the variables of ``command`` and ``member`` override it.
        member: this host's part in a cluster, if the job has one.

    Raises:
        ScriptFailed: the process ended with an exit code other than 0, or too early.
        Stopped: this process got SIGTERM or SIGINT, and the other one did not end with 0.
        TrainingError: another host was lost.
    """
    env = {**environment, **command.variables, **(member.variables if member else {})}
    with signals_received() as signals, processes.group(
        command.words, env=env, cwd=command.cwd, stderr=subprocess.PIPE
    ) as process:
        tail = _Tail(process.stderr)
        _wait(process, member, signals)
        code = process.poll()
        tail.join()
        succeeded = code == 0 and not (
            command.reports_success and read_report(command.report) is None
        )
        if succeeded and member and not signals:
            _wait_for_peers(member, signals)
    if succeeded:
        return
    if signals:
        raise Stopped(signals[0])
    raise _failure(command, code, list(tail.lines))


@contextlib.contextmanager
def signals_received() -> Iterator[list[int]]:
    """Collect SIGTERM and SIGINT in a list, instead of ending this process."""
    numbers: list[int] = []
    handlers = {
        number: signal.signal(number, lambda number, frame: numbers.append(number))
        for number in (signal.SIGTERM, signal.SIGINT)
    }
    try:
        yield numbers
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


def _wait(process: subprocess.Popen[bytes], member: Member | None, signals: Sequence[int]) -> None:
    """Wait until the process ends.  Pass a signal on to it, and then wait GRACE_S at most.

    Raises:
        TrainingError: another host was lost.
    """
    deadline = None
    while process.poll() is None:
        if signals and deadline is None:
            deadline = time.monotonic() + GRACE_S
            process.send_signal(signals[0])
        if deadline is not None and time.monotonic() > deadline:
            return
        lost = member.lost() if member and not signals else None
        if lost:
            raise TrainingError(lost)
        time.sleep(0.05)


def _wait_for_peers(member: Member, signals: Sequence[int]) -> None:
    try:
        member.finished(stop=lambda: bool(signals))
    except TrainingError:
        if signals:
            raise Stopped(signals[0]) from None
        raise


class _Tail:
    """Copies a process's standard error to ours as it arrives, and keeps the last lines."""

    def __init__(self, stream: IO[bytes] | None) -> None:
        self.lines: deque[str] = deque(maxlen=TAIL_LINES)
        self._thread = threading.Thread(target=self._follow, args=(stream,), daemon=True)
        self._thread.start()

    def _follow(self, stream: IO[bytes]) -> None:
        with stream:
            for line in stream:
                sys.stderr.buffer.write(line)
                sys.stderr.flush()
                self.lines.append(line.decode("utf-8", "replace").rstrip())

    def join(self) -> None:
        """Wait for the end of the stream, 1 s at most: a grandchild may hold it open."""
        self._thread.join(timeout=1)


def _failure(command: Command, code: int | None, tail: Sequence[str]) -> ScriptFailed:
    """Why the process failed.  The first line is the exception, which SageMaker shows."""
    details = "\n".join([f"ExitCode {code}", f"Command {' '.join(command.words)}", *tail])
    lines = [line for line in tail if line.strip()]
    report = read_report(command.report)
    if report:
        return ScriptFailed(str(report["line"]), report["details"] or details)
    if code == 0:
        return ScriptFailed(
            "the script ended its process with exit code 0 before train and save had returned; "
            "remove os._exit from it",
            details,
        )
    if code is not None and code < 0:
        line = f"the training was killed by {signal.Signals(-code).name}"
    elif code and lines:
        line = lines[-1]
    else:
        line = f"the training ended with exit code {code}"
    return ScriptFailed(line, details)
