"""Child processes that end with us: each with its own group, all of it gone when we are.

we ──▶ command ──▶ what it starts                        one process group
└─ pipe ─▶ guard: when the pipe closes, the group is ended
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
import time
from pathlib import Path
from typing import Any, Iterator, Mapping, NoReturn, Sequence

_GUARD = """\
read -r _
kill -s TERM -- "-$1"
sleep 2
kill -s KILL -- "-$1"
[ -z "$2" ] || rm -rf -- "$2"
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
    """Run ``command`` for the length of a ``with`` block; afterwards its whole group is gone.

    Args:
        command: what to run, in a session and process group of its own.
        env: its environment.
        cwd: its working directory.
        folder: removed should we be killed; otherwise it is the caller's.
        limit_s: how long the group may take to end before it is killed.
        streams: stdout and stderr, as ``subprocess.Popen`` takes them.
    """
    process = subprocess.Popen(
        list(command),
        env=dict(env),
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        start_new_session=True,
        **streams,
    )
    guard = None
    try:
        guard = _guard(process.pid, folder)
        yield process
    finally:
        with _undisturbed():
            stop(process, limit_s)
            if guard:
                guard.kill()
                guard.wait()
        if guard and guard.stdin:
            guard.stdin.close()


@contextlib.contextmanager
def _undisturbed() -> Iterator[None]:
    """No second Ctrl-C or SIGTERM cuts the end short; only a main thread can be told."""
    numbers = (signal.SIGINT, signal.SIGTERM)
    ours = threading.current_thread() is threading.main_thread()
    before = {one: signal.signal(one, signal.SIG_IGN) for one in numbers} if ours else {}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _guard(number: int, folder: Path | None) -> subprocess.Popen[bytes]:
    """A process that ends the group ``number`` and removes ``folder`` should we be killed.

    It waits on a pipe that only we hold open, so no way to end us escapes it.
    """
    return subprocess.Popen(
        ["/bin/sh", "-c", _GUARD, "mms-handler-guard", str(number), str(folder or "")],
        env={"PATH": "/usr/bin:/bin"},
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def stop(process: subprocess.Popen[bytes], limit_s: float) -> None:
    """Ask the whole group of ``process`` to end, wait until it has, insist after the limit."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
        deadline = time.monotonic() + limit_s
        while time.monotonic() < deadline:
            process.poll()  # reap the leader, or the group never empties
            os.killpg(process.pid, 0)
            time.sleep(0.05)
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def leave_pid_1() -> None:
    """In a container's first process, go on in a child of it; the first does what an init does.

    PID 1 is left what others do not wait for, and a signal it does not handle never reaches it:
    it reaps every child, passes signals on, and ends as we end.
    """
    if os.getpid() == 1:
        as_child()


#: What an init passes on.
_PASSED_ON = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)


def as_child() -> None:
    """Return in a child of this process, which from here on only reaps and passes signals on."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _PASSED_ON)  # until there is who hears them
    child = os.fork()
    if child:
        for number in _PASSED_ON:
            signal.signal(number, lambda number, frame: os.kill(child, number))
    signal.pthread_sigmask(signal.SIG_SETMASK, before)
    if child:
        _reap_until(child)


def _reap_until(child: int) -> NoReturn:
    """Wait for whatever ends; end as ``child`` does."""
    while True:
        gone, status = os.wait()
        if gone == child:
            os._exit(os.WEXITSTATUS(status) if os.WIFEXITED(status) else 128 + os.WTERMSIG(status))
