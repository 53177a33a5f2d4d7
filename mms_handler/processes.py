"""Child processes that never outlive this one.

this process ──▶ command ──▶ its own children            one session
     └─── pipe ──▶ guard: ends the session when the pipe closes
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import tempfile
import threading
import time
from pathlib import Path
from typing import Any, Iterator, Mapping, NoReturn, Sequence

_GUARD = """\
read -r _
kill -s TERM -- "-$1"
sleep 2
kill -s KILL -- "-$1"
for stat in /proc/[0-9]*/stat; do
    read -r line < "$stat" || continue
    set -- "$1" "$2" ${line##*)}
    [ "$6" != "$1" ] || kill -s KILL "${line%% *}"
done
[ -z "$2" ] || rm -rf -- "$2"
"""

_FOLDER_GUARD = """\
read -r _
rm -rf -- "$1"
"""


@contextlib.contextmanager
def group(
    command: Sequence[str],
    *,
    env: Mapping[str, str],
    cwd: Path,
    folder: Path | None = None,
    limit_s: float = 5,
    **streams: Any,
) -> Iterator[subprocess.Popen[bytes]]:
    """Run ``command`` for the length of a ``with`` block.  After it, its whole session is gone.

    The group gets a signal, and time to end.  Processes of the session in other groups, such as
    those that mpirun runs, are ended by the command; what it leaves is killed.

    Args:
        command: runs in a session and process group of its own.
        env: its environment.
        cwd: its working directory.
        folder: removed if this process is killed; otherwise the caller removes it.
        limit_s: seconds that the group may take to end before it is killed.
        streams: stdin (by default /dev/null), stdout and stderr, as for ``subprocess.Popen``.
    """
    process = subprocess.Popen(
        list(command),
        env=dict(env),
        cwd=cwd,
        start_new_session=True,
        **{"stdin": subprocess.DEVNULL, **streams},
    )
    guard = None
    try:
        guard = _guard(_GUARD, str(process.pid), str(folder or ""))
        yield process
    finally:
        with _signals_ignored():
            stop(process, limit_s)
            if guard:
                guard.kill()
                guard.wait()
        if guard and guard.stdin:
            guard.stdin.close()


@contextlib.contextmanager
def _signals_ignored() -> Iterator[None]:
    """Ignore a second Ctrl-C or SIGTERM; only the main thread can do that."""
    handlers = {}
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, signal.SIGTERM):
            handlers[number] = signal.signal(number, signal.SIG_IGN)
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def temporary_folder() -> Iterator[Path]:
    """Yield a new folder for the length of a ``with`` block.

    It is removed after the block, and also if this process is killed.
    """
    with tempfile.TemporaryDirectory(prefix="mms-handler-") as path:
        guard = _guard(_FOLDER_GUARD, path)
        try:
            yield Path(path)
        finally:
            guard.kill()
            guard.communicate()


def _guard(script: str, *arguments: str) -> subprocess.Popen[bytes]:
    """Start the process that cleans up with a shell script if this process is killed.

    It waits on a pipe that only this process holds open, so it notices however this one ends.
    """
    return subprocess.Popen(
        ["/bin/sh", "-c", script, "mms-handler-guard", *arguments],
        env={"PATH": "/usr/bin:/bin"},
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def stop(process: subprocess.Popen[bytes], limit_s: float) -> None:
    """End the group of ``process`` with SIGTERM, and after ``limit_s`` its session with SIGKILL."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
        deadline = time.monotonic() + limit_s
        while time.monotonic() < deadline:
            process.poll()  # reap the leader, or the group never empties
            os.killpg(process.pid, 0)
            time.sleep(0.05)
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    for pid, _ in _session(process.pid):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def session_cpu_s(leader: int) -> float:
    """The processor seconds of all processes of the session that ``leader`` started.

    Those that have ended count once their parent has waited for them, if it is in the session.
    """
    ticks = sum(sum(map(int, fields[11:15])) for _, fields in _session(leader))
    return ticks / os.sysconf("SC_CLK_TCK")


def _session(leader: int) -> Iterator[tuple[int, list[str]]]:
    """The processes of a session: their ids, and the fields of /proc/PID/stat from the state on."""
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it has just ended
            fields = path.read_text(errors="replace").rpartition(")")[2].split()
            if int(fields[3]) == leader:
                yield int(path.parent.name), fields


#: prctl(2): whether a core file may be written, and thereby who may read the process's /proc files.
_PR_SET_DUMPABLE = 4


def make_private() -> None:
    """Let no other process of this user read this one's memory and environment in /proc.

    Children of ``os.fork`` are private too; a program that they execute is not.
    """
    ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0)


#: prctl(2): the signal that a process gets when the thread that forked it ends.
_PR_SET_PDEATHSIG = 1


def die_with_parent(parent: int) -> None:
    """Let this process be killed when its parent ends, which has the id ``parent``."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it has ended already
        os.kill(os.getpid(), signal.SIGKILL)


def leave_pid_1() -> None:
    """If this process is a container's first, continue in a child, and make the first an init.

    PID 1 inherits orphans, and signals that it does not handle never reach it.  As an init it reaps
    every child, passes signals on, and ends with the exit code of the child that continues.
    """
    if os.getpid() == 1:
        as_child()


#: The signals that the init passes on to its child.
_PASSED_ON = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)


def as_child() -> None:
    """Return in a child of this process, which then only reaps children and passes signals on."""
    # Signals stay blocked until the handlers are set.
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, _PASSED_ON)
    child = os.fork()
    if child:
        for number in _PASSED_ON:
            signal.signal(number, lambda number, frame: os.kill(child, number))
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    if child:
        _reap_until(child)


def _reap_until(child: int) -> NoReturn:
    """Reap every child that ends.  When ``child`` ends, end with its exit code."""
    while True:
        pid, status = os.wait()
        if pid == child:
            os._exit(os.WEXITSTATUS(status) if os.WIFEXITED(status) else 128 + os.WTERMSIG(status))
