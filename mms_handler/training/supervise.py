"""Run a training's process until it ends, another host is lost, or a signal stops the job.

command ──▶ process ──▶ exit code 0
                    ├─▶ ScriptFailed   with its report, else with the end of its standard error
                    └─▶ Stopped        by SIGTERM or SIGINT, which the process gets too

``output`` passes on what it prints.
"""

from __future__ import annotations

import contextlib
import signal
import subprocess
import time
from pathlib import Path
from typing import Callable, Iterator, Mapping, NamedTuple, Sequence

from mms_handler import processes
from mms_handler.errors import TrainingError
from mms_handler.script.report import STACKS, Report, read_phase, read_report
from mms_handler.training.cluster import Member
from mms_handler.training.output import TAIL_LINES, Output
from mms_handler.training.phases import Stopped, phase
from mms_handler.training.stalls import Stalls, innermost

#: Seconds from SIGTERM until a script is killed; SageMaker kills the container after 120.
GRACE_S = 110

#: Seconds without processor time after which a script that got a signal only waits for a host that
#: is lost.
LOST_S = 5


def last_line(lines: Sequence[str]) -> str:
    """The reason of a process that says it at the end."""
    return lines[-1]


class Command(NamedTuple):
    """A process to run, and where it writes why it failed."""

    words: list[str]
    variables: Mapping[str, str]  # in addition to the environment's
    cwd: Path
    code_dir: Path  # of the script, whose lines tell where it is
    # Of mms_handler.script.report, in a folder of the job's own; without it standard error tells.
    report: Path | None = None
    reports_success: bool = False  # a process that ends with 0 and without a report has failed
    reason: Callable[[Sequence[str]], str] = last_line  # from the lines of its standard error
    peers_reason_s: float = 0  # if it runs on all hosts: seconds for another host's reason


class ScriptFailed(TrainingError):
    """The script failed.  ``details`` follow the first line of the failure file."""

    def __init__(self, line: str, details: str) -> None:
        super().__init__(line)
        self.details = details


def run(
    command: Command,
    environment: Mapping[str, str],
    member: Member | None,
    *,
    host: str = "algo-1",
    stall_s: float | None = None,
    output: Output | None = None,
) -> None:
    """Run ``command`` to its end.  An exception has the phase that the script was in.

    Args:
        command: what to run.
        host: the name of this host.
        stall_s: seconds without any processor time after which the script has failed.
        environment: of the process; the variables of ``command`` and ``member`` override it.
        member: this host's part in a cluster, if the job has one.
        output: passes on what the process prints; by default to this one's standard output and
            error, as it is.

    Raises:
        ScriptFailed: the process ended with an exit code other than 0, or too early.
        Stopped: this process got SIGTERM or SIGINT, and the other one did not end with 0.
        TrainingError: another host was lost.
    """
    env = {**environment, **command.variables, **(member.variables if member else {})}
    output = output or Output()
    pipes = output.pipes()
    with phase(lambda: read_phase(command.report) or "the script"):
        with signals_received() as signals, processes.group(
            command.words,
            env=env,
            cwd=command.cwd,
            folder=command.report and command.report.parent,
            **pipes.arguments,
        ) as process:
            printed = output.follow(host, process, pipes)
            stalls = Stalls(host, process.pid, lambda: _place(command), stall_s)
            _wait(process, member, signals, stalls)
            code = process.poll()
            printed.join()
            report = read_report(command.report)
            succeeded = code == 0 and not (command.reports_success and report is None)
            if command.peers_reason_s and report:  # orted may end with 0 all the same
                succeeded = False
            if succeeded and member and not signals:
                with phase("waiting for the other hosts"):
                    _wait_for_peers(member, signals)
            if member and not succeeded and not report:
                _wait_for_reason(member, signals, command.peers_reason_s)
        printed.join()  # no process of the group holds its output open any more
        if succeeded:
            return
        if signals:
            raise Stopped(signals[0])
        raise _failure(command, code, report, printed.tail.text())


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


def _place(command: Command) -> str:
    """Where the command's script is, as far as it writes that down."""
    if command.report is None:
        return ""
    try:
        stacks = (command.report.parent / STACKS).read_text()
    except OSError:  # a program that is not Python
        return ""
    return innermost(stacks, command.code_dir)


def _wait(
    process: subprocess.Popen[bytes], member: Member | None, signals: Sequence[int], stalls: Stalls
) -> None:
    """Wait until the process ends.  Pass a signal on to it, and then wait GRACE_S at most.

    After a signal, a process that waits for a host that is lost is not waited for: it can run no
    Python, and so handle no signal.

    Raises:
        TrainingError: another host was lost, or the script has stalled.
    """
    deadline = None
    while process.poll() is None:
        stalls.look()
        if signals and deadline is None:
            deadline = time.monotonic() + GRACE_S
            process.send_signal(signals[0])
        if deadline is not None and time.monotonic() > deadline:
            return
        lost = member.lost() if member else None
        if lost and not signals:
            raise TrainingError(lost)
        if lost and stalls.idle_s > LOST_S:
            return
        time.sleep(0.05)


def _wait_for_peers(member: Member, signals: Sequence[int]) -> None:
    try:
        member.finished(stop=lambda: bool(signals))
    except TrainingError:
        if signals:
            raise Stopped(signals[0]) from None
        raise


def _wait_for_reason(member: Member, signals: Sequence[int], limit_s: float) -> None:
    """Give another host the time to say why the job fails.

    Raises:
        TrainingError: it has said so.
    """
    deadline = time.monotonic() + limit_s
    while time.monotonic() < deadline and not signals:
        member.check()
        time.sleep(0.05)


def _failure(command: Command, code: int | None, report: Report | None, text: str) -> ScriptFailed:
    """Why the process failed.  The first line is the exception, which SageMaker shows."""
    tail = [line.rstrip() for line in text.splitlines()[-TAIL_LINES:]]
    details = "\n".join([f"ExitCode {code}", f"Command {' '.join(command.words)}", *tail])
    lines = [line for line in tail if line.strip()]
    if report:
        return ScriptFailed(str(report["line"]), report["details"] or details)
    if code == 0:
        line = (
            "the script ended its process with exit code 0 before train and save had returned; "
            "remove os._exit from it"
        )
    else:
        line = _fatal_error(text, command.code_dir)
    if not line and code is not None and code < 0:
        line = f"killed by {signal.Signals(-code).name}"
    elif not line:
        line = command.reason(lines) if lines else f"ended with exit code {code}"
    return ScriptFailed(line, details)


def _fatal_error(text: str, code_dir: Path) -> str:
    """The error in native code that faulthandler wrote, with its place; "" if there is none."""
    _, fatal, rest = text.rpartition("Fatal Python error: ")
    if not fatal:
        return ""
    stack = rest.partition("Current thread 0x")[2].partition("\n\n")[0]
    place = innermost(stack, code_dir)
    return f"{fatal}{rest.splitlines()[0]}" + (f" ({place})" if place else "")
