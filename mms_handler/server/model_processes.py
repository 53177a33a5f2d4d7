"""The processes of each model: MMS's listener, a fork server where there is one, and the workers.

The listener forks the fork server, and one of the two forks the workers.  All of them are in Java's
process group, even an orphaned worker, which is not Java's descendant.
"""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path
from typing import Sequence

import psutil

from mms_handler import names

#: Seconds that the processes of an unregistered model may take to end.
_END_S = 10

#: Seconds between two looks at processes that are to end.
_LOOK_S = 0.01


def of_all_models(java_pid: int) -> list[psutil.Process]:
    """The listeners and workers of every model."""
    group = (process for process in psutil.process_iter() if _group_of(process) == java_pid)
    return [process for process in group if process.pid != java_pid]


def of_model(java_pid: int, name: str) -> list[psutil.Process]:
    """The listener, the fork server and the workers of one model."""
    return [process for process in of_all_models(java_pid) if _serves(process, name)]


def listener(java_pid: int, name: str) -> psutil.Process | None:
    """The process that forks a model's workers.  If it dies, MMS does not start another one."""
    for process in of_model(java_pid, name):
        with contextlib.suppress(psutil.Error):
            if process.ppid() == java_pid:
                return process
    return None


def workers(java_pid: int) -> list[psutil.Process]:
    """The workers of every model, without the processes that scripts have forked from them."""
    parents = {}
    for process in of_all_models(java_pid):
        with contextlib.suppress(psutil.NoSuchProcess):
            if _option(process, "--model-name"):
                parents[process] = process.ppid()
    servers = {process.pid for process in parents if is_fork_server(process)}
    forking = {
        process.pid
        for process, parent in parents.items()
        # A worker has its parent's name for a moment.
        if parent == java_pid or (process.pid in servers and parent not in servers)
    }
    others = {process.pid for process in parents} - forking
    # A worker's parent is one that forks, or no process of a model once that has ended.
    return [p for p, parent in parents.items() if p.pid in others and parent not in others]


def is_fork_server(process: psutil.Process) -> bool:
    """Whether the workers of a model are forked from a process that has loaded it."""
    with contextlib.suppress(psutil.Error):
        return bool(process.name() == names.FORK_SERVER)
    return False


def forked(processes: Sequence[psutil.Process]) -> list[psutil.Process]:
    """Those of the processes that a fork server among them has forked."""
    servers = {process.pid for process in processes if is_fork_server(process)}
    return [process for process in processes if _parent_of(process) in servers]


def _parent_of(process: psutil.Process) -> int:
    with contextlib.suppress(psutil.Error):
        return int(process.ppid())
    return 0


def model_of(process: psutil.Process) -> str | None:
    """The model that a listener or a worker serves."""
    return _option(process, "--model-name")


def is_alive(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    return False


def remove_sockets(java_pid: int, folder: Path) -> None:
    """Remove the sockets in ``folder`` on which no process of a model listens any more.

    MMS leaves them, and never uses their names again.  A process has its socket's name from its
    start on, so a model that is loading keeps its own.
    """
    processes = of_all_models(java_pid)
    used = {Path(path).name for path in (_option(p, "--sock-name") for p in processes) if path}
    for path in folder.glob(".mms.sock.*"):
        if path.name not in used:
            path.unlink(missing_ok=True)


def wait_for_end(processes: list[psutil.Process], busy_s: float) -> None:
    """Return when ``processes`` have ended; MMS has told them to, and they answer what they have.

    Those that have not ended ``busy_s`` and a few seconds later are killed.
    """
    kill(_alive_after(busy_s + _END_S, processes))


def kill(processes: list[psutil.Process]) -> None:
    """Return when ``processes`` have ended, by force."""
    for process in processes:
        with contextlib.suppress(psutil.Error):
            process.kill()
    _alive_after(_END_S, processes)


def _alive_after(limit_s: float, processes: list[psutil.Process]) -> list[psutil.Process]:
    """The processes that are still alive after some seconds; returns earlier if none is.

    Zombies are not alive, and use no memory: whoever has to reap them may take a second or two.
    """
    deadline = time.monotonic() + limit_s
    while (alive := [each for each in processes if is_alive(each)]) and time.monotonic() < deadline:
        time.sleep(_LOOK_S)
    return alive


def _group_of(process: psutil.Process) -> int:
    with contextlib.suppress(OSError):
        return os.getpgid(process.pid)
    return 0


def _serves(process: psutil.Process, name: str) -> bool:
    return _option(process, "--model-name") == name


def _option(process: psutil.Process, name: str) -> str | None:
    """An option of a listener's command line, which its workers share; None if it has none."""
    with contextlib.suppress(psutil.Error):
        words: list[str] = process.cmdline()
        if name in words[:-1]:
            return words[words.index(name) + 1]
    return None
