"""Processes that end with a ``with`` block, and all that came of them: their logs, their memory."""

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
    """A system that did not start, with the end of what it printed."""


@contextlib.contextmanager
def started(
    command: Sequence[object], folder: Path, env: Mapping[str, str]
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a program in ``folder``, its output in ``folder``/log; afterwards it is gone."""
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
    """What every system gets: this shell's PATH, a Java, and temporary files of its own."""
    kept = ("PATH", "HOME", "JAVA_HOME", "LANG")
    env = {name: os.environ[name] for name in kept if name in os.environ}
    return {
        **env,
        **java_variables(env),
        "TEMP": str(folder / "tmp"),
        "TMPDIR": str(folder / "tmp"),
    }


def end(process: subprocess.Popen[bytes]) -> None:
    """Ask a process to end, and end what is left of it and its children."""
    left = family(process.pid)
    process.terminate()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(timeout=40)
    for one in left:
        with contextlib.suppress(psutil.NoSuchProcess):
            one.kill()  # psutil looks whether the id is still this process's
    process.wait()
    psutil.wait_procs(left, timeout=10)


def family(pid: int) -> list[psutil.Process]:
    """A process and all that came of it."""
    try:
        one = psutil.Process(pid)
        return [one, *one.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def wait_for(met: Callable[[], bool], process: subprocess.Popen[bytes], folder: Path) -> None:
    """Return as soon as ``met()`` is true.

    Raises:
        NotServing: the process ended, or 120 seconds were not enough.
    """
    deadline = time.monotonic() + 120
    while not met():
        if process.poll() is not None or time.monotonic() > deadline:
            raise NotServing((folder / "log").read_text(errors="replace")[-2_000:])
        time.sleep(0.02)


def free_ports() -> tuple[int, int]:
    """Two loopback ports that are free, below 32,767, as MMS wants them."""
    with contextlib.ExitStack() as held:
        ports: list[int] = []
        for port in random.sample(range(20_000, 32_767), 200):
            with contextlib.suppress(OSError):
                held.enter_context(socket.create_server(("127.0.0.1", port)))
                ports.append(port)
            if len(ports) == 2:
                break
        return ports[0], ports[1]


def cpu_seconds(processes: Sequence[psutil.Process]) -> float:
    """What processes have taken of all cores so far; one that is gone counts nothing."""
    found = 0.0
    for one in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            times = one.cpu_times()
            found += times.user + times.system
    return found


def pss_mb(processes: Sequence[psutil.Process]) -> float:
    """Memory of processes; what they share is counted once among all that share it."""
    return float(sum(one.memory_full_info().pss for one in processes)) / 2**20
