"""Say how a worker died: its signal or exit code, its memory, and the requests that it had.

MMS says nothing.  Its listener reaps a dead worker when it starts the next one, a second later, and
ours some seconds later (fork_server.py).  Until then the kernel has the way in which it ended.
"""

from __future__ import annotations

import contextlib
import math
import os
import re
import signal
import time
from collections import Counter
from pathlib import Path
from typing import Callable, NamedTuple

import psutil

from mms_handler import worker_files
from mms_handler.server import machine, model_processes

#: Seconds for which an end is kept: the plug-in counts a death when MMS starts the next worker.
_KEPT_S = 30


class _Worker(NamedTuple):
    """A worker, as it was when it was last seen alive."""

    model: str
    rss_bytes: int


class _End(NamedTuple):
    """How a worker ended.

    Fields:
        at_s: when that was seen, monotonic.
        pid: of its process.
        model: that it served.
        status: of waitpid(2); None if it was reaped before it was seen.
        rss_bytes: that it had at last.
        requests: the ids of those that it had.
        memory: whether the system may have killed it because memory ran out.
    """

    at_s: float
    pid: int
    model: str
    status: int | None
    rss_bytes: int
    requests: list[str]
    memory: bool

    def sentence(self, title: str) -> str:
        """How it ended; ``title`` is what people call the model."""
        number = len(self.requests)
        had = f"it had request{'s' * (number > 1)} {', '.join(self.requests)}" if number else ""
        return f"worker {self.pid} of {title} {self.words()}; {had or 'it had no request'}"

    @property
    def cause(self) -> str:
        """One of few words: memory, a signal's name, signal, exit or unknown."""
        if self.status is None:
            return "unknown"
        if os.WIFEXITED(self.status):
            return "exit"
        if self.memory and os.WTERMSIG(self.status) == signal.SIGKILL:
            return "memory"
        with contextlib.suppress(ValueError):
            return signal.Signals(os.WTERMSIG(self.status)).name
        return "signal"

    def words(self) -> str:
        """How it ended, with the memory that it had, if that is known."""
        if self.status is None:
            return "died"
        if os.WIFEXITED(self.status):
            return f"ended with exit code {os.WEXITSTATUS(self.status)}"
        number = os.WTERMSIG(self.status)
        size = f" (worker {self.rss_bytes / 1e6:,.0f} MB)" if self.rss_bytes else ""
        if number == signal.SIGKILL:
            return f"was killed{', perhaps by the system for memory' * self.memory}{size}"
        with contextlib.suppress(ValueError):
            return f"died of {signal.Signals(number).name}{size}"
        return f"died of signal {number}{size}"


class EndedWorkers:
    """The workers of all models, and how those that are gone ended."""

    def __init__(self, java_pid: int, folder: Callable[[str], Path]) -> None:
        """Watch the workers of Java's process group.

        Args:
            java_pid: the group.
            folder: the folder of a model, by its name, in which a worker writes its requests.
        """
        self._java_pid, self._folder = java_pid, folder
        self._seen: set[int] = set()  # the group at the last look
        self._alive: dict[psutil.Process, _Worker] = {}
        self._ends: list[_End] = []
        self._killed = _killed_for_memory()
        self._killed_at_s = -math.inf  # when the last look at it saw more than the one before
        #: How many workers of each model have died, by cause.
        self.causes: dict[str, Counter[str]] = {}

    def look(self) -> None:
        """See which workers there are, and which have ended since the last look."""
        group = {process.pid for process in model_processes.of_all_models(self._java_pid)}
        if group != self._seen:
            self._seen = group
            for process in model_processes.workers(self._java_pid):
                model = model_processes.model_of(process)
                if model and process not in self._alive:
                    self._alive[process] = _Worker(model, 0)
        killed = _killed_for_memory()
        for process, worker in list(self._alive.items()):
            if model_processes.is_alive(process):
                with contextlib.suppress(psutil.Error):
                    self._alive[process] = worker._replace(rss_bytes=process.memory_info().rss)
                continue
            del self._alive[process]
            self._ends.append(self._end_of(process.pid, worker, killed > self._killed))
        self._forget_unseen()
        now_s = time.monotonic()
        if killed > self._killed:
            self._killed, self._killed_at_s = killed, now_s
        self._ends = [end for end in self._ends if now_s - end.at_s < _KEPT_S]

    def _forget_unseen(self) -> None:
        """Remove the files of workers that have lived between two looks."""
        for model in {worker.model for worker in self._alive.values()}:
            for pid in worker_files.with_requests(self._folder(model)):
                if not _is_alive(pid):
                    worker_files.take_requests(self._folder(model), pid)

    def _end_of(self, pid: int, worker: _Worker, killed: bool) -> _End:
        return _End(
            at_s=time.monotonic(),
            pid=pid,
            model=worker.model,
            status=_status(pid),
            rss_bytes=worker.rss_bytes,
            requests=worker_files.take_requests(self._folder(worker.model), pid),
            memory=killed or worker.rss_bytes > machine.this_machine().memory_bytes / 2,
        )

    def sentences(self, model: str, title: str, deaths: int, recent: int) -> list[str]:
        """A sentence for each of the latest deaths of a model's workers.

        Args:
            model: its name.
            title: what people call it.
            deaths: how many workers have died, as the plug-in counts.  Others may have ended
                because they were told to.
            recent: how many died within the last minute.
        """
        ends = self._ends_of(model, deaths)
        if len(ends) < deaths:  # one may have died since the last look, and been replaced at once
            self.look()
            ends = self._ends_of(model, deaths)
        self._ends = [end for end in self._ends if end not in ends]
        unseen = ["unknown"] * (deaths - len(ends))
        self.causes.setdefault(model, Counter()).update([*(end.cause for end in ends), *unseen])
        texts = [end.sentence(title) for end in ends]
        texts += [f"a worker of {title} died"] * (deaths - len(ends))
        return [f"{text}; deaths of {title} in the last minute: {recent}" for text in texts]

    def listener_sentence(self, model: str, title: str, exit_value: int | None) -> str:
        """Count the death of a model's listener, without which there are no new workers.

        Args:
            model: its name.
            title: what people call it.
            exit_value: its exit code, or 128 and the number of a signal; None: unknown.
        """
        end = _End(
            at_s=time.monotonic(),
            pid=0,
            model=model,
            status=None if exit_value is None else _wait_status(exit_value),
            rss_bytes=0,
            requests=[],
            memory=time.monotonic() - self._killed_at_s < _KEPT_S,
        )
        self.causes.setdefault(model, Counter())[end.cause] += 1
        return f"the listener of {title} {end.words()}; the model is loaded again"

    def _ends_of(self, model: str, latest: int) -> list[_End]:
        return [end for end in self._ends if end.model == model][-latest:]


def _wait_status(exit_value: int) -> int:
    """The status of waitpid(2) for what Java says about a process that has ended."""
    return exit_value - 128 if exit_value > 128 else exit_value << 8


def _is_alive(pid: int) -> bool:
    try:
        return model_processes.is_alive(psutil.Process(pid))
    except psutil.NoSuchProcess:
        return False


def _status(pid: int) -> int | None:
    """The status of a process that has ended and is not reaped yet (proc(5), exit_code)."""
    with contextlib.suppress(OSError, IndexError, ValueError):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        if fields[0] == "Z":
            return int(fields[49])
    return None


def _killed_for_memory() -> int:
    """How many processes the system has killed because memory ran out; 0 if it does not count."""
    with contextlib.suppress(OSError):
        match = re.search(r"^oom_kill (\d+)$", Path("/proc/vmstat").read_text(), re.MULTILINE)
        if match:
            return int(match[1])
    return 0
