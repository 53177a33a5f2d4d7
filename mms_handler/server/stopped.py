"""End workers whose processes are stopped, as by SIGSTOP, and fork servers.

To MMS such a worker is idle or slow.  It is given the next request, and MMS waits for the answer as
long as a request may take.  A fork server that is stopped forks no worker.
"""

from __future__ import annotations

import contextlib
import logging

import psutil

from mms_handler.server import model_processes

log = logging.getLogger(__name__)

#: Looks in a row, half a second apart, that a worker may be stopped.  Looks are counted, not
#: seconds: while ``serve`` is stopped too, it does not look.
_LOOKS = 4


class StoppedWorkers:
    """The workers that were stopped at the latest look."""

    def __init__(self, java_pid: int) -> None:
        """Look at the workers of Java's process group."""
        self._java_pid = java_pid
        self._looks: dict[psutil.Process, int] = {}

    def look(self) -> None:
        """Kill the workers that have been stopped for too long; MMS starts others.

        A server that is stopped as a whole is left alone, and so are processes that a script has
        started, and those that a debugger has stopped.
        """
        stopped = [p for p in model_processes.of_all_models(self._java_pid) if _is_stopped(p)]
        if stopped and _is_stopped(psutil.Process(self._java_pid)):
            stopped = []
        self._looks = {process: self._looks.get(process, 0) + 1 for process in stopped}
        late = {process for process, looks in self._looks.items() if looks >= _LOOKS}
        workers = set(model_processes.workers(self._java_pid)) if late else set()
        for process in late:
            if model_processes.is_fork_server(process):
                kind = "fork server"
            elif process in workers:
                kind = "worker"
            else:
                continue
            log.warning("%s %d is stopped, so it is killed; another one starts", kind, process.pid)
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()


def _is_stopped(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        return bool(process.status() == psutil.STATUS_STOPPED)
    return False
