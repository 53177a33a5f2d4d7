"""training.stalls: what a script does that uses no processor time, and where it is."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from mms_handler import processes
from mms_handler.errors import TrainingError
from mms_handler.training.stalls import Stalls, innermost


@pytest.fixture
def session():
    """Start a program that leads a session."""
    started = []

    def start(*words):
        process = subprocess.Popen(words, stdout=subprocess.PIPE, start_new_session=True)
        started.append(process)
        return process

    yield start
    for process in started:
        processes.stop(process, 0)
        process.stdout.close()


BURN = "import time\nwhile time.process_time() < {}: pass\n"


def test_the_processor_time_of_a_session(session):
    """That of children counts, running or ended; that of other sessions does not."""
    program = f"import subprocess, sys\n{BURN.format(0.3)}" + (
        "child = [sys.executable, '-S', '-c', sys.argv[1]]\n"
        "subprocess.run(child)\n"
        "child[-1] += 'print(flush=True); time.sleep(60)'\n"
        "waiting = subprocess.Popen(child, stdout=subprocess.PIPE)\n"
        "waiting.stdout.readline()\n"
        "print(flush=True); time.sleep(60)\n"
    )
    process = session(sys.executable, "-S", "-c", program, BURN.format(0.4))
    process.stdout.readline()
    assert 1.0 <= processes.session_cpu_s(process.pid) < 2.5
    assert processes.session_cpu_s(2**22) == 0


class Watched:
    """A script of another machine: its processor time, and a clock."""

    def __init__(self, monkeypatch, **options):
        self.now = self.cpu_s = 0.0
        monkeypatch.setattr(processes, "session_cpu_s", lambda pid: self.cpu_s)
        self.stalls = Stalls("algo-1", 7, lambda: "", clock=lambda: self.now, **options)

    def wait(self, seconds, busy=0.0):
        """Let seconds pass, in each of which it uses so much of a processor."""
        for _ in range(20 * seconds):
            self.now += 0.05
            self.cpu_s += busy / 20
            self.stalls.look()


def test_a_line_each_minute(monkeypatch, caplog):
    """While nothing happens; the time starts again when something does."""
    watched = Watched(monkeypatch)
    watched.wait(100, busy=0.5)
    assert caplog.messages == []
    watched.wait(130)
    watched.wait(2, busy=0.04)
    watched.wait(61)
    assert caplog.messages == [
        f"algo-1: no processor time used for {seconds} s" for seconds in (60, 120, 60)
    ]


def test_the_limit(monkeypatch):
    """Reached, the job fails."""
    watched = Watched(monkeypatch, limit_s=30)
    watched.wait(25)
    watched.wait(1, busy=1)
    watched.wait(28)
    reason = r"^no processor time used for 30 s \(--stall-s 30\)$"
    with pytest.raises(TrainingError, match=reason):
        watched.wait(3)


def test_a_script_that_sleeps(session):
    """A real one; one that works is not said to sleep."""
    working = session(sys.executable, "-S", "-c", "while True: pass")
    sleeping = session("sleep", "60")
    stalls = [
        Stalls("algo-1", working.pid, str, 30),
        Stalls("algo-2", sleeping.pid, lambda: "a.py, line 1, in f", 2),
    ]

    def look():
        while True:
            for each in stalls:
                each.look()

    reason = "^no processor time used for [2-9] s; it is at a.py, line 1, in f "
    with pytest.raises(TrainingError, match=reason):
        look()


SCRIPT = """
import faulthandler, sys, threading, time
import helper
def other():
    time.sleep(60)
def step():
    helper.wait()
threading.Thread(target=other, daemon=True).start()
faulthandler.dump_traceback_later(0.2, repeat=True, file=open(sys.argv[1], "w"))
threading.Timer(2.5, print, [""], {"flush": True}).start()
step()
"""


def test_where_the_main_thread_is(session, tmp_path):
    """In the script's code, whatever other threads do; else in a library's."""
    (tmp_path / "helper.py").write_text("import time\ndef wait():\n    time.sleep(60)\n")
    (tmp_path / "train.py").write_text(SCRIPT)
    stacks = tmp_path / "stacks"
    process = session(sys.executable, str(tmp_path / "train.py"), str(stacks))
    process.stdout.readline()
    assert innermost(stacks.read_text(), tmp_path) == "helper.py, line 3, in wait"
    elsewhere = innermost(stacks.read_text(), Path("/elsewhere"))
    assert elsewhere == f"{tmp_path}/helper.py, line 3, in wait"
    assert innermost("", tmp_path) == ""
