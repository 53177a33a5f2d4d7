"""Fork a model's workers from a process that has loaded the model and answered its sample.

    listener ──forks──▶ the first process: loads the model, answers the sample
        └──connections──▶ the fork server, which it then becomes ──forks──▶ workers

So a model is loaded once, its workers share its memory, and one that died is replaced at once.
Where a process cannot be forked, it becomes a worker, and the listener forks other workers that
load the model each, as in plain MMS.  A load that fails does so in a worker, before MMS, in either
case.  If the fork server dies, the next worker loads the model and becomes another one.

The listener and the first process share a socket.  The first process says, once, what becomes of
it; then the listener sends it the connections that MMS's front end opens, one for each worker.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import multiprocessing
import os
import socket
import sys
import time
from multiprocessing import reduction
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Callable, NoReturn

from mms_handler.names import FORK_SERVER
from mms_handler.settings import Settings, environment
from mms_handler.worker.mms import memory
from mms_handler.worker.mms.lifeline import Lifeline

log = logging.getLogger(__name__)

#: What the first process says: send connections to me, or let workers load the model each.
_FORKS, _LOADS = b"f", b"l"

_USES_GPU = "MXNet uses a GPU"
_HAS_THREADS = "MXNet has threads of its own (MXNET_ENGINE_TYPE)"
_HAS_ONNX = "ONNX Runtime has threads of its own (ORT_DISABLE_TELEMETRY)"

#: Seconds for which a process that has ended is not reaped: serve looks how it ended (deaths.py).
_KEPT_S = 2

#: MMS's ``start_worker``, which serves a connection of its front end.
_StartWorker = Callable[[socket.socket], None]


class Listener:
    """Starts a worker for each connection of MMS's front end, in MMS's listener."""

    def __init__(self) -> None:
        self._server: socket.socket | None = None
        self._said = b""
        self._children = Children()

    def Process(self, target: _StartWorker, args: tuple[socket.socket]) -> Any:
        """Stands for ``multiprocessing.Process`` in MMS's code, which calls its ``start``."""
        return SimpleNamespace(start=functools.partial(self.start, target, *args))

    def start(self, start_worker: _StartWorker, connection: socket.socket) -> None:
        """Start a worker; until the first process has loaded the model, this waits for it."""
        while self._said != _LOADS:
            if self._server is None:
                self._server, end = socket.socketpair()
                with end:
                    self._children.start(self._load, start_worker, connection, end)
                return
            with contextlib.suppress(OSError):
                self._said = self._said or self._server.recv(1)  # nothing if it has ended
                if self._said == _FORKS:
                    reduction.sendfds(self._server, [connection.fileno()])
                    return
            self._server.close()
            self._server, self._said = None, self._said.replace(_FORKS, b"")
        self._children.start(start_worker, connection)

    def _load(
        self, start_worker: _StartWorker, connection: socket.socket, end: socket.socket
    ) -> None:
        """Serve a connection as MMS does, in a process that may become the fork server."""
        assert self._server
        self._server.close()
        _first.append(First(end))
        start_worker(connection)


def install() -> None:
    """Have MMS's listener, which this process is, start workers as this module says.

    Its code uses its global ``multiprocessing`` for nothing else (model_service_worker.py:213).
    """
    main: Any = sys.modules["__main__"]
    main.multiprocessing = Listener()


class Children:
    """Forks processes, and reaps them some time after their end."""

    def __init__(self, *pids: int) -> None:
        """``pids`` are of those that have been forked already."""
        self._ended_s: dict[int, float | None] = dict.fromkeys(pids)  # when its end was seen

    def start(self, function: Callable[..., None], *args: Any) -> None:
        """Call ``function`` in a new process, which ends as MMS's workers do."""
        self._reap()
        process: Any = multiprocessing.Process(target=function, args=args)
        process.start()
        multiprocessing.process._children.discard(process)  # type: ignore[attr-defined]
        self._ended_s[process.pid] = None

    def _reap(self) -> None:
        now_s = time.monotonic()
        for pid, ended_s in list(self._ended_s.items()):
            if os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT):
                self._ended_s[pid] = ended_s or now_s
                if ended_s and now_s - ended_s > _KEPT_S:
                    os.waitpid(pid, 0)
                    del self._ended_s[pid]


class First:
    """The first process, until it is known whether it becomes the fork server."""

    def __init__(self, listener: socket.socket) -> None:
        from mms_handler.worker.mms import forkable, seeds  # the listener does without them

        self._listener, self._forkable = listener, forkable
        self._base: Any = None  # its state once MXNet is imported, and no script
        self._seeds = seeds.Seeds()

    @property
    def has_base(self) -> bool:
        """Whether it has been looked at."""
        return self._base is not None

    def look_at_base(self) -> str:
        """Look at what this process has before its script is imported; returns an obstacle."""
        self._seeds.watch()
        self._base = self._forkable.State.now()
        if self._base.native_threads():
            return _HAS_ONNX if "onnxruntime" in sys.modules else _HAS_THREADS
        return _USES_GPU if self._base.has_gpu() else ""

    def look(self) -> str:
        """Look at what the script has done; returns an obstacle."""
        return self._forkable.obstacle(self._base) if self._base else ""

    def refuse(self, reason: str) -> None:
        """Let workers load the model each; the log says why, if there is a reason to give."""
        if reason:
            log.info("workers load the model each: %s", reason)
        self._seeds.forget()
        with self._listener, contextlib.suppress(OSError):
            self._listener.send(_LOADS)

    def become_server(self, line: Lifeline, start_worker: _StartWorker) -> None:
        """Become the fork server; returns in the worker with this process's connection."""
        name = _NAME.read_text().rstrip("\n")
        self._seeds.keep()
        memory.trim()

        def begin() -> None:
            """Differ from the fork server as processes do that load the model each."""
            self._listener.close()
            _NAME.write_text(name)
            self._seeds.renew()

        def work(connection: socket.socket) -> None:
            global has_model
            has_model = True
            begin()
            start_worker(connection)

        pid = line.fork()
        if pid:
            self._serve(work, Children(pid))
        begin()

    def _serve(self, work: _StartWorker, children: Children) -> NoReturn:
        """Fork a worker for each connection, until the listener ends."""
        _NAME.write_text(FORK_SERVER)
        memory.unmap_files()  # it hardly uses any
        with contextlib.suppress(OSError, EOFError):
            self._listener.send(_FORKS)
            while True:
                (descriptor,) = reduction.recvfds(self._listener, 1)
                with socket.socket(fileno=descriptor) as connection:
                    children.start(work, connection)
        os._exit(0)


#: What the system calls this process.
_NAME = Path("/proc/self/comm")

#: The first process has one.
_first: list[First] = []

#: Whether MMS's load of the model in this process has its result already.
has_model = False


def begin(settings: Settings, gpu_id: int | None) -> None:
    """Decide, before the load, whether workers can be forked, as far as it is known by then.

    If they cannot, the others need not wait for what this process finds out.

    Args:
        settings: this process's.
        gpu_id: the GPU that the model shall use; None: the CPU.
    """
    if not settings.supervised or settings.fork == "off":
        _decide(" ")
    elif settings.threads != 1:
        _decide("each has several threads (OMP_NUM_THREADS)")
    elif gpu_id is not None:
        _decide(_USES_GPU)
    elif environment().get("MXNET_ENGINE_TYPE", "NaiveEngine") != "NaiveEngine":
        _decide(_HAS_THREADS)


def end_phase(name: str) -> None:
    """Look whether workers can be forked after a phase of loading, to know early if not."""
    for first in list(_first):
        is_base = name == "mxnet" and not first.has_base
        _decide(first.look_at_base() if is_base else first.look())


def _decide(reason: str) -> None:
    if reason and _first:
        _first.pop().refuse(reason.strip())


def share(line: Lifeline, worker: Any) -> bool:
    """Fork this process's worker, and all others, if it is the first and can be forked.

    Returns in a worker: True in the fork, and False in this process if it cannot be forked.

    Args:
        line: this process's.
        worker: MMS's.
    """
    for first in list(_first):
        line.pause()
        _decide(first.look())
        if _first:
            _first.clear()
            first.become_server(line, worker.start_worker)
            return True
        line.resume()
    return False
