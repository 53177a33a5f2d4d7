"""training.supervise: how a training's process ends, and what is said about it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import threading
import time

import psutil
import pytest

from mms_handler.errors import TrainingError
from mms_handler.script.report import STACKS
from mms_handler.training import supervise
from mms_handler.training.phases import Stopped, phase_of
from mms_handler.training.supervise import Command, ScriptFailed


class Member:
    """A host's part in a cluster whose other hosts do this."""

    variables = {"DMLC_ROLE": "worker"}

    def __init__(self, finished: Exception | None = None) -> None:
        self._finished = finished
        self.waited: list[bool] = []

    def lost(self) -> str | None:
        return None

    def finished(self, stop) -> None:
        self.waited.append(stop())
        if self._finished:
            raise self._finished


@pytest.fixture
def run(tmp_path):
    """Run a shell script as a training; ``$PWD`` is tmp_path."""

    def run(script, *, environment=None, variables=None, member=None, report=None, **more):
        command = Command(["/bin/sh", "-c", script], variables or {}, tmp_path, tmp_path, report)
        command = command._replace(**more)
        environment = {"PATH": os.environ["PATH"], **(environment or {})}
        supervise.run(command, environment, member)

    return run


def test_a_process_that_ends_well(run, tmp_path):
    """Its variables: the environment's, then the command's, then the cluster's."""
    environment = {"A": "1", "B": "1", "DMLC_ROLE": "1"}
    member = Member()
    run(
        "echo $A $B $DMLC_ROLE $PWD > out; echo warning >&2",
        environment=environment,
        variables={"B": "2", "DMLC_ROLE": "2"},
        member=member,
    )
    assert (tmp_path / "out").read_text() == f"1 2 worker {tmp_path}\n"
    assert member.waited == [False]


def test_its_standard_error_is_copied(run, capfdbinary):
    """As it is, also what is no text."""
    run("printf 'a\\n\\377b\\n' >&2")
    assert capfdbinary.readouterr().err == b"a\n\xffb\n"


def test_what_is_printed_just_after_the_end(run, capfdbinary):
    """By a process that the script leaves behind; the group is ended only then."""
    run("(sleep 0.3; echo late) & echo early")
    assert capfdbinary.readouterr().out == b"early\nlate\n"


def test_a_process_that_fails(run):
    """The last line that is not empty is the reason; the details have the last 50 lines."""
    member = Member()
    with pytest.raises(ScriptFailed) as caught:
        run("seq 60 >&2; printf 'Error: no\\n\\n' >&2; exit 3", member=member)
    assert str(caught.value) == "Error: no"
    code, words, *tail = caught.value.details.split("\n")
    assert code == "ExitCode 3"
    assert words.startswith("Command /bin/sh -c seq 60 >&2; ")
    assert tail[-50:] == [*(str(number) for number in range(13, 61)), "Error: no", ""]
    assert member.waited == []


def test_a_process_that_fails_silently(run):
    with pytest.raises(ScriptFailed, match="^ended with exit code 4$"):
        run("echo ' ' >&2; exit 4")


def test_a_process_that_is_killed(run):
    """Its last line is not the reason."""
    with pytest.raises(ScriptFailed, match="^killed by SIGKILL$") as caught:
        run("echo working >&2; kill -KILL $$")
    assert caught.value.details.startswith("ExitCode -9\n")
    assert phase_of(caught.value) == "the script"


def test_the_phase_of_a_process_that_is_killed(run, tmp_path):
    """It has written it down."""
    with pytest.raises(ScriptFailed) as caught:
        run("printf save > phase; kill -KILL $$", report=tmp_path / "report.json")
    assert phase_of(caught.value) == "save"


@pytest.mark.parametrize(
    "end", ["", "; echo 'Segmentation fault: 11'; exit 255"], ids=["", "mxnet"]
)
def test_an_error_in_native_code(run, tmp_path, end):
    """The reason is the one that faulthandler wrote, with the innermost line of the script."""
    (tmp_path / "train.py").write_text(
        "import faulthandler, threading, time\n"
        "faulthandler.enable()\n"
        "threading.Thread(target=time.sleep, args=(60,), daemon=True).start()\n"
        "def step(): faulthandler._sigsegv()\n"
        "step()\n"
    )
    with pytest.raises(ScriptFailed) as caught:
        run(f"{sys.executable} train.py{end}" if end else f"exec {sys.executable} train.py")
    assert str(caught.value) == (
        "Fatal Python error: Segmentation fault (train.py, line 4, in step)"
    )
    assert "Current thread 0x" in caught.value.details


def test_a_report(run, tmp_path):
    """Says more than standard error."""
    report = tmp_path / "report.json"
    report.write_text(json.dumps({"line": "ValueError: no", "details": "a traceback"}))
    with pytest.raises(ScriptFailed, match="^ValueError: no$") as caught:
        run("echo other >&2; exit 1", report=report)
    assert caught.value.details == "a traceback"
    with pytest.raises(ScriptFailed, match="^other$"):
        run("echo other >&2; exit 1", report=tmp_path / "not_there.json")


class OtherHost(Member):
    """A host in a cluster in which another one fails after the first question."""

    def check(self) -> None:
        if self.waited:
            raise TrainingError("host algo-2 was lost: no data")
        self.waited.append(False)


@pytest.mark.parametrize(
    ("text", "seconds", "reason"),
    [
        pytest.param("", 30, "^host algo-2 was lost: no data$", id="which it waits for"),
        pytest.param("", 0, "^aborted by mpirun$", id="which it does not wait for"),
        pytest.param('{"line": "mine", "details": ""}', 30, "^mine$", id="its own comes first"),
    ],
)
def test_the_reason_of_another_host(run, tmp_path, text, seconds, reason):
    """A process that runs on all hosts may end because of one that failed on another host."""
    report = tmp_path / "report.json"
    if text:
        report.write_text(text)
    with pytest.raises(TrainingError, match=reason):
        run(
            "echo what else; echo aborted by mpirun >&2; exit 1",
            member=OtherHost(),
            report=report,
            peers_reason_s=seconds,
        )


def test_a_process_of_this_host_has_failed(run, tmp_path):
    """Although the one that runs it, orted, ends with 0."""
    report = tmp_path / "report.json"
    report.write_text('{"line": "ValueError: no", "details": ""}')
    with pytest.raises(ScriptFailed, match="^ValueError: no$"):
        run("exit 0", member=Member(), report=report, peers_reason_s=30)


def test_a_process_that_ends_well_beside_others(run, tmp_path):
    """It has no report, though it would wait for others' reasons."""
    member = Member()
    run("exit 0", member=member, report=tmp_path / "report.json", peers_reason_s=30)
    assert member.waited == [False]


def test_a_reason_among_other_lines(run):
    """A command that does not say it last finds it."""
    with pytest.raises(ScriptFailed, match="^no data$"):
        run("echo no data >&2; echo ------ >&2; exit 1", reason=lambda lines: lines[-2])


def test_a_lost_host(run, tmp_path):
    """The process is ended at once."""
    pid = tmp_path / "pid"
    member = Member()
    member.lost = lambda: "host algo-2 was lost: it was silent" if pid.exists() else None
    with pytest.raises(TrainingError, match="^host algo-2 was lost: it was silent$"):
        run("echo $$ > pid~; mv pid~ pid; exec sleep 60", member=member)
    assert not psutil.pid_exists(int(pid.read_text()))


def test_a_host_that_is_lost_at_the_end(run):
    """This one has ended, the other has not."""
    with pytest.raises(TrainingError, match="^lost late$") as caught:
        run("exit 0", member=Member(finished=TrainingError("lost late")))
    assert phase_of(caught.value) == "waiting for the other hosts"


@contextlib.contextmanager
def sending(number, path):
    """Send this process a signal as soon as ``path`` exists.  Yields an event: it was sent."""
    ended, sent = threading.Event(), threading.Event()

    def send():
        while not ended.wait(0.01):
            if path.exists():
                os.kill(os.getpid(), number)
                sent.set()
                return

    thread = threading.Thread(target=send)
    thread.start()
    try:
        yield sent
    finally:
        ended.set()
        thread.join()


READY = "touch ready; while true; do sleep 0.02; done"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_reaches_the_process(run, tmp_path, number):
    """It may save what it has; a job that ends with 0 was not stopped."""
    handlers = [signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGINT)]
    name = number.name[3:]
    with sending(number, tmp_path / "ready"), pytest.raises(
        Stopped, match=f"^stopped by {number.name}$"
    ) as caught:
        run(f"trap 'touch saved; exit 1' {name}; {READY}")
    assert caught.value.number == number
    assert (tmp_path / "saved").exists()
    (tmp_path / "ready").unlink()
    member = Member()
    with sending(number, tmp_path / "ready"):
        run(f"trap 'exit 0' {name}; {READY}", member=member)
    assert member.waited == []
    assert [signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGINT)] == handlers


def test_a_process_that_ignores_signals(run, tmp_path, monkeypatch):
    """After the grace period its group is ended as every group is, first with SIGTERM."""
    monkeypatch.setattr(supervise, "GRACE_S", 0.2)
    with sending(signal.SIGTERM, tmp_path / "ready"), pytest.raises(
        Stopped, match="^stopped by SIGTERM$"
    ):
        run(f"trap 'trap - TERM' TERM; echo $$ > pid; {READY}")
    assert not psutil.pid_exists(int((tmp_path / "pid").read_text()))


def test_a_signal_and_a_lost_host(run, tmp_path, monkeypatch):
    """A process that waits for a lost host cannot handle a signal: it is not waited for."""
    monkeypatch.setattr(supervise, "LOST_S", 0.1)
    member = Member()
    ready = tmp_path / "ready"
    started_s = time.monotonic()
    with sending(signal.SIGTERM, ready) as sent:
        member.lost = lambda: "host algo-2 was lost" if sent.is_set() else None
        with pytest.raises(Stopped):
            run("trap '' TERM; touch ready; sleep 60", member=member)
    assert time.monotonic() - started_s < supervise.GRACE_S / 2


def test_a_signal_while_the_others_are_waited_for(run):
    """It is the reason, whatever the other hosts do."""

    class Interrupted(Member):
        def finished(self, stop):
            os.kill(os.getpid(), signal.SIGTERM)
            while not stop():
                pass
            raise TrainingError("lost")

    with pytest.raises(Stopped, match="^stopped by SIGTERM$"):
        run("exit 0", member=Interrupted())


def test_a_grandchild_that_holds_standard_error(run):
    """It ends with the group, so the job is not kept waiting for it."""
    with pytest.raises(ScriptFailed, match="^no$"):
        run(f"{sys.executable} -S -c 'import time; time.sleep(60)' & echo no >&2; exit 1")


def test_a_process_that_ends_too_early(tmp_path):
    """Exit code 0 without a report is no success for a command that reports it."""
    words = ["/bin/sh", "-c", "exit 0"]
    command = Command(words, {}, tmp_path, tmp_path, tmp_path / "report", reports_success=True)
    with pytest.raises(ScriptFailed, match="^the script ended its process with exit code 0 before"):
        supervise.run(command, {}, None)


def test_where_a_script_is(tmp_path):
    """As far as it writes that down; a program that is not Python does not."""
    command = Command([], {}, tmp_path, tmp_path / "code", tmp_path / "report")
    assert supervise._place(command._replace(report=None)) == ""
    assert supervise._place(command) == ""
    (tmp_path / STACKS).write_text(
        "Timeout (0:00:01)!\nThread 0x01 (most recent call first):\n"
        f'  File "/lib/a.py", line 9 in wait\n  File "{tmp_path}/code/train.py", line 3 in step\n'
    )
    assert supervise._place(command) == "train.py, line 3, in step"
