"""processes: groups that end, a container's first process, and one with a private environment."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from mms_handler import processes

# A subreaper inherits the orphans of its descendants, as PID 1 of a container does.
INIT = """\
import ctypes, os, signal, subprocess, sys, time
from mms_handler import processes

ctypes.CDLL(None).prctl(36, 1)
processes.as_child()
orphan = "sleep 0.2; echo orphan $$ > {folder}/orphan"
subprocess.run(["/bin/sh", "-c", f"({{orphan}}) & "])
signal.signal(signal.SIGTERM, lambda *arguments: sys.exit(7))
print("ready", flush=True)
time.sleep({seconds})
sys.exit(3)
"""


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        pytest.param(None, 3, id="the child's exit code"),
        pytest.param(signal.SIGTERM, 7, id="SIGTERM reaches the child"),
        pytest.param(signal.SIGHUP, 128 + signal.SIGHUP, id="a signal that ends the child"),
    ],
)
def test_the_first_process(tmp_path: Path, sent, code):
    """It ends with its child's exit code, whatever else it has reaped before."""
    source = INIT.format(folder=tmp_path, seconds=1 if sent is None else 30)
    with subprocess.Popen([sys.executable, "-c", source], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        if sent is not None:
            process.send_signal(sent)
        assert process.wait(timeout=20) == code
    assert sent is not None or (tmp_path / "orphan").read_text().startswith("orphan ")


PRIVATE = """\
import sys
from mms_handler import processes

if sys.argv[1] == "private":
    processes.make_private()
print("ready", flush=True)
sys.stdin.read()
"""


#: As root, the two processes give up what only root may do, as if they were another user's.
UNPRIVILEGED = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"] if os.geteuid() == 0 else []


@pytest.mark.parametrize("private", [False, True])
def test_a_private_process(private):
    """Other processes of its user cannot read its variables in /proc; by default they can."""
    words = [*UNPRIVILEGED, sys.executable, "-c", PRIVATE, "private" if private else "open"]
    with subprocess.Popen(
        words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env={**os.environ, "TOKEN": "secret"}
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        read = subprocess.run(
            [*UNPRIVILEGED, "cat", f"/proc/{process.pid}/environ"], capture_output=True
        )
        process.communicate()
    assert (b"TOKEN=secret" in read.stdout) is not private
    assert (read.returncode != 0) is private


# --- groups ----------------------------------------------------------------------------------


def members(pid: int, leader_of=os.getpgid) -> list[psutil.Process]:
    """The processes of a group, or of a session with ``os.getsid``, that have not ended."""
    processes = []
    for process in psutil.process_iter():
        with contextlib.suppress(OSError, psutil.Error):
            if leader_of(process.pid) == pid and process.status() != psutil.STATUS_ZOMBIE:
                processes.append(process)
    return processes


def test_a_group_is_gone_after_the_block(tmp_path):
    """With its grandchildren; it has the variables and the folder that were given, and no input."""
    script = "sleep 60 & read line || echo $A in $PWD > out; sleep 60 & echo ready; wait"
    with processes.group(
        ["/bin/sh", "-c", script], env={"A": "1"}, cwd=tmp_path, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout.readline() == b"ready\n"
        assert os.getsid(process.pid) == os.getpgid(process.pid) == process.pid
        assert len(members(process.pid)) == 3
    assert members(process.pid) == []
    assert process.returncode == -signal.SIGTERM
    assert (tmp_path / "out").read_text() == f"1 in {tmp_path}\n"
    process.stdout.close()


def test_a_group_that_ignores_the_first_signal(tmp_path):
    """It is killed after the limit, and not before."""
    script = "trap 'echo ended' TERM; echo ready; while true; do sleep 0.05; done"
    start_s = time.monotonic()
    with processes.group(
        ["/bin/sh", "-c", script], env={}, cwd=tmp_path, limit_s=0.5, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout.readline() == b"ready\n"
        start_s = time.monotonic()
    assert time.monotonic() - start_s >= 0.5
    assert process.returncode == -signal.SIGKILL
    assert b"ended" in process.stdout.read()
    process.stdout.close()


def test_a_group_that_ends_is_not_waited_for(tmp_path):
    """Its limit is for those that do not."""
    with processes.group(["/bin/sleep", "60"], env={}, cwd=tmp_path, limit_s=60):
        start_s = time.monotonic()
    assert time.monotonic() - start_s < 30


def test_a_group_that_has_ended(tmp_path):
    """Is no error, and keeps its exit code."""
    with processes.group(["/bin/sh", "-c", "exit 5"], env={}, cwd=tmp_path) as process:
        process.wait(30)
    assert process.returncode == 5


#: Starts a process in a group of its own, as mpirun does, and is killed.
ABANDONS = """\
import os, signal, subprocess
subprocess.Popen(["sleep", "60"], preexec_fn=lambda: os.setpgid(0, 0))
print(flush=True)
signal.pause()
"""


def test_what_a_killed_process_leaves_in_other_groups(tmp_path):
    """Is killed with the rest of its session."""
    with processes.group(
        [sys.executable, "-c", ABANDONS], env={}, cwd=tmp_path, stdout=subprocess.PIPE
    ) as process:
        process.stdout.readline()
        process.kill()
        process.wait(30)
        assert len(members(process.pid, os.getsid)) == 1
    process.stdout.close()
    wait_until_gone(process.pid)


def wait_until_gone(session: int) -> None:
    deadline = time.monotonic() + 30
    while members(session, os.getsid):
        assert time.monotonic() < deadline, members(session, os.getsid)
        time.sleep(0.02)


def test_an_error_in_the_block(tmp_path):
    """Ends the group too."""
    with pytest.raises(KeyError, match="mine"), processes.group(
        ["sleep", "60"], env=dict(os.environ), cwd=tmp_path
    ) as process:
        raise KeyError("mine")
    assert process.returncode == -signal.SIGTERM


def test_a_group_without_a_guard(tmp_path, monkeypatch):
    """If none can be started, the group ends, and that is what is said."""

    def refuse(*words):
        raise OSError("no more processes")

    monkeypatch.setattr(processes, "_guard", refuse)
    before = psutil.Process().children()
    with pytest.raises(OSError, match="^no more processes$"), processes.group(
        ["sleep", "60"], env=dict(os.environ), cwd=tmp_path
    ):
        pass
    assert set(psutil.Process().children()) <= set(before)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_second_signal_does_not_stop_the_end(tmp_path, number):
    """Of the group.  Afterwards signals are handled as before."""
    received = []
    before = signal.signal(number, lambda number, frame: received.append(number))
    try:
        kill = f"kill -{number.name[3:]} {os.getpid()}"
        script = f"trap '{kill}; exit 3' TERM; echo; while true; do sleep 0.05; done"
        with processes.group(
            ["/bin/sh", "-c", script], env={}, cwd=tmp_path, stdout=subprocess.PIPE
        ) as process:
            process.stdout.readline()
        process.stdout.close()
        assert (process.returncode, received) == (3, [])
        os.kill(os.getpid(), number)
        assert received == [number]
    finally:
        signal.signal(number, before)


GUARDED = """\
import os, pathlib, subprocess, sys
from mms_handler import processes

apart = "import os; os.setpgid(0, 0); print(flush=True); os.execlp('sleep', 'sleep', '60')"
with processes.group(
    ["/bin/sh", "-c", '"$@" & sleep 60 & wait', "sh", sys.executable, "-c", apart],
    env=dict(os.environ),
    cwd=pathlib.Path("/"),
    folder=pathlib.Path(sys.argv[1]),
    stdout=subprocess.PIPE,
) as process:
    process.stdout.readline()
    print(process.pid, flush=True)  # its guard has been started
    sys.stdin.read()
"""


def test_a_group_does_not_outlive_this_process(tmp_path):
    """However it ends; its folder goes too."""
    folder = tmp_path / "private"
    folder.mkdir()
    with subprocess.Popen(
        [sys.executable, "-c", GUARDED, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        group = int(process.stdout.readline())
        assert len(members(group)) == 2
        assert len(members(group, os.getsid)) == 3  # one is in a group of its own
        process.kill()
    wait_until_gone(group)
    deadline = time.monotonic() + 30
    while folder.exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.parametrize("pid", [1, 2])
def test_only_a_containers_first_process_becomes_an_init(monkeypatch, pid):
    """Any other one has a parent that reaps what it leaves."""
    forks = []
    monkeypatch.setattr(processes, "as_child", lambda: forks.append(pid))
    monkeypatch.setattr(processes.os, "getpid", lambda: pid)
    processes.leave_pid_1()
    assert forks == ([1] if pid == 1 else [])


def test_the_processor_time_of_a_session(tmp_path):
    """Of all its processes, and of nothing else that the system says of them."""
    script = "sleep 60 & while [ ! -e stop ]; do :; done; echo ready; wait"
    with processes.group(
        ["/bin/sh", "-c", script], env={"PATH": os.environ["PATH"]}, cwd=tmp_path, stdout=-1
    ) as process:
        deadline = time.monotonic() + 30
        while processes.session_cpu_s(process.pid) < 0.3 and time.monotonic() < deadline:
            time.sleep(0.02)
        (tmp_path / "stop").touch()
        process.stdout.readline()
        used_s = processes.session_cpu_s(process.pid)
        times = psutil.Process(process.pid).cpu_times()
        assert used_s == pytest.approx(times.user + times.system, abs=0.1)
        assert used_s >= 0.3
    process.stdout.close()


# --- temporary folders -----------------------------------------------------------------------

FOLDER = """\
import sys
from mms_handler import processes

with processes.temporary_folder() as folder:
    (folder / "file").touch()
    print(folder, flush=True)
    sys.stdin.read()
"""


@pytest.mark.parametrize("killed", [False, True])
def test_a_temporary_folder(killed):
    """It is gone after the block, and soon after its process is killed."""
    with subprocess.Popen(
        [sys.executable, "-c", FOLDER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        folder = Path(process.stdout.readline().strip())
        assert (folder / "file").exists()
        if killed:
            process.kill()
    deadline = time.monotonic() + (20 if killed else 0)
    while folder.exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)


#: Starts a child that would sleep for long, says which, and waits for a line before it ends.
PARENT = """
import os, sys, time
from mms_handler import processes

parent = os.getpid()
child = os.fork()
if not child:
    if sys.argv[1] == "late":
        sys.stdin.readline()
        parent = 1 << 22
    processes.die_with_parent(parent)
    print(os.getpid(), flush=True)
    time.sleep(1000)
if sys.argv[1] == "late":
    print(child, flush=True)
    os.waitpid(child, 0)
sys.stdin.readline()
"""


@pytest.mark.parametrize("when", ["early", "late"])
def test_a_process_that_dies_with_its_parent(when):
    """Also if the parent has ended before the child says so."""
    words = [sys.executable, "-c", PARENT, when]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as parent:
        child = psutil.Process(int(parent.stdout.readline()))
        assert child.is_running()
        parent.stdin.write(b"\n")
        parent.stdin.flush()
        psutil.wait_procs([child], timeout=20)
        assert not child.is_running() or child.status() == psutil.STATUS_ZOMBIE
        parent.stdin.close()
