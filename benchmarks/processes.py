"""Run processes for the length of a ``with`` block, and measure their processor time and memory."""

from __future__ import annotations

import contextlib
import os
import random
import socket
import subprocess
import time
from pathlib import Path
from typing import Callable, Iterator, Mapping, Sequence

import psutil

from mms_handler.server import java_variables


class NotServing(Exception):
    """A system did not start.  The message is the end of its output."""


@contextlib.contextmanager
def running(
    command: Sequence[object], folder: Path, env: Mapping[str, str]
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a program in ``folder`` for the length of a ``with`` block.

    Its output goes to ``folder``/log.  Afterwards the program and its children are gone.
    """
    (folder / "tmp").mkdir(parents=True)
    with open(folder / "log", "wb") as log:
        process = subprocess.Popen(
            list(map(str, command)),
            cwd=folder,
            env={**environment(folder), **env},
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        end(process)


def environment(folder: Path) -> dict[str, str]:
    """Return every system's environment: this shell's PATH, a Java, its own temporary folder."""
    names = ("PATH", "HOME", "JAVA_HOME", "LANG")
    env = {name: os.environ[name] for name in names if name in os.environ}
    return {
        **env,
        **java_variables(env),
        "TEMP": str(folder / "tmp"),
        "TMPDIR": str(folder / "tmp"),
    }


def end(process: subprocess.Popen[bytes]) -> None:
    """Terminate a process, then kill it and its children if they are still there."""
    members = family(process.pid)
    process.terminate()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(timeout=40)
    for member in members:
        with contextlib.suppress(psutil.NoSuchProcess):
            member.kill()  # psutil checks that the id is still this process's
    process.wait()
    psutil.wait_procs(members, timeout=10)


def family(pid: int) -> list[psutil.Process]:
    """Return a process and all its descendants."""
    try:
        parent = psutil.Process(pid)
        return [parent, *parent.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def wait_for(
    condition: Callable[[], bool],
    process: subprocess.Popen[bytes],
    folder: Path,
    pause_s: float = 0.02,
) -> None:
    """Return as soon as ``condition()`` is true, which is tried again after each pause.

    Raises:
        NotServing: the process ended, or 120 seconds passed.
    """
    deadline = time.monotonic() + 120
    while not condition():
        if process.poll() is not None or time.monotonic() > deadline:
            raise NotServing((folder / "log").read_text(errors="replace")[-2_000:])
        time.sleep(pause_s)


def free_ports() -> tuple[int, int]:
    """Return two free loopback ports below 32,767, which is MMS's limit."""
    with contextlib.ExitStack() as sockets:
        ports: list[int] = []
        for port in random.sample(range(20_000, 32_767), 200):
            with contextlib.suppress(OSError):
                sockets.enter_context(socket.create_server(("127.0.0.1", port)))
                ports.append(port)
            if len(ports) == 2:
                break
        return ports[0], ports[1]


def cpu_seconds(processes: Sequence[psutil.Process]) -> dict[psutil.Process, float]:
    """Return the processor seconds that each process has used so far; one that is gone has none."""
    seconds = {}
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            seconds[process] = times.user + times.system
    return seconds


def used_since(
    before: Mapping[psutil.Process, float], processes: Sequence[psutil.Process]
) -> float:
    """Return the processor seconds of processes since ``before``; one that has ended has none."""
    now = cpu_seconds(processes)
    return sum(seconds - before.get(process, 0.0) for process, seconds in now.items())


def pss_mb(processes: Sequence[psutil.Process]) -> float:
    """Return the memory of processes in MB; a page that several share is divided among them."""
    return float(sum(process.memory_full_info().pss for process in processes)) / 2**20
