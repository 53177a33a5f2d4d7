"""End a worker's process when MMS is done with it, and not before.

MMS leaves processes behind: a worker that it gave up, a busy worker whose front end died, and the
listener that forked it.  This module has the kernel kill them, even if they are stopped or run
native code:

worker ──socket──▶ front end     closes the socket of a busy worker: the worker is killed
listener ──stdin─▶ front end     dies, which closes the pipe: the listener is killed
worker ──timer                   the batch's time is long over: the worker is killed

MMS's own code ends an idle worker, which reads that its socket was closed.

The kernel cannot tell the end of a connection from data, and it may report data late: it wakes the
reader first, and the sender may lose its processor before it sends the signal.  By then the worker
has read the whole request and is busy, and the signal would kill it.  So the kernel watches a
socket only for requests that have taken _WATCH_S or longer.
"""

from __future__ import annotations

import contextlib
import fcntl
import math
import multiprocessing
import os
import select
import signal
import stat
import sys
import threading
import time
from types import FrameType
from typing import Any

from mms_handler.worker.mms.kill_timer import KillTimer

#: Seconds after which the kernel watches the connection of a busy worker: between one and two of
#: these.  A signal for data is late by far less, even on a machine with many busy processes.
_WATCH_S = 0.5

#: Milliseconds without a batch after which a worker rests.
IDLE_MS = int(_WATCH_S * 1e3)

#: Seconds after MMS's own limit: MMS should be the one that ends a worker in time.
_GRACE_S = 1


def attach() -> Lifeline | None:
    """Bind this process to its front end; None if it is not a worker of MMS.

    Afterwards SIGTERM ends the process at once.  Neither its end nor that of a child process
    breaks what the next worker needs.
    """
    worker, connection = _mms()
    if connection is None:
        return None
    # MMS's own handler removes the listener's socket and continues: the model could never get
    # another worker (model_service_worker.py:158-163).
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    _forget_fifos(worker)
    if sys.platform == "linux":
        listener = multiprocessing.parent_process()
        if listener and listener.pid == os.getppid():
            _kill_with_front_end(listener.pid)
        line = Lifeline(connection.fileno(), connection)
    else:
        line = Lifeline(None, connection)
    os.register_at_fork(after_in_child=line.close_unless_handed_on)
    return line


def worker() -> Any:
    """MMS's worker object of this process; None outside MMS."""
    return _mms()[0]


def in_listener() -> bool:
    """Whether this process is MMS's listener (preload_model=true); loading is left to a worker.

    The registration of a model that fails to load in the listener would never be answered.
    """
    worker, connection = _mms()
    if worker is None or connection is not None:
        return False
    worker.preload = False
    return True


class Lifeline:
    """A worker's connection.  In a ``with`` block the worker is busy; then its end kills it.

    It does so within twice _WATCH_S, and at once for what has taken longer.  Native code that
    holds the interpreter's lock from the start has until the time limit.
    """

    def __init__(self, descriptor: int | None, connection: Any = None) -> None:
        """``descriptor`` is that of the ``connection``; None where the kernel cannot watch it."""
        self._descriptor = descriptor
        self._batches = 0  # odd while the worker is busy
        self._watched: int | None = None
        self._started_s = -math.inf  # when the timer was started that still runs
        self._lock = threading.Lock()
        self.connection = connection
        self._is_handed_on = False
        if descriptor is not None:
            self._idle = fcntl.fcntl(descriptor, fcntl.F_GETFL)
        self._attach()

    def _attach(self) -> None:
        """Let the end of the connection be that of this process."""
        self._process = os.getpid()
        self._timer = KillTimer()
        if self._descriptor is not None:
            self.add(self._descriptor)
        self.resume()

    def resume(self) -> None:
        """Look at the worker again, after ``pause``."""
        self._pause = threading.Event()
        self._thread = threading.Thread(target=self._keep_watching, daemon=True)
        if self._descriptor is not None:
            self._thread.start()

    def pause(self) -> None:
        """Look no more, without a thread."""
        self._pause.set()
        if self._descriptor is not None:
            self._thread.join()

    def fork(self) -> int:
        """Fork a process and hand the connection on to it; returns as ``os.fork``.

        This is for a process that is paused, and idle.  The new one is attached.
        """
        self._is_handed_on = True
        pid = os.fork()
        self._is_handed_on = False
        if pid:
            self.connection.close()
        else:
            self._attach()
        return pid

    def close_unless_handed_on(self) -> None:
        """Close the connection in a child process of a script.

        If it ran MMS's exit code it would shut the connection down, and if it outlived this process
        it would keep it open.
        """
        if not self._is_handed_on:
            self.connection.close()

    def add(self, descriptor: int) -> None:
        """Let this connection be one that can be watched, too."""
        if self._descriptor is not None:
            _kill_on_event(descriptor, os.getpid())

    def watch(self, descriptor: int) -> None:
        """The next requests come on this connection: its end kills the worker that has them."""
        if self._descriptor is not None:
            self._descriptor = descriptor

    def limit(self, timeout_s: float) -> None:
        """Let no batch take longer than MMS waits for it, and a second."""
        self._timer.limit(timeout_s + _GRACE_S)

    def __enter__(self) -> None:
        self._batches += 1
        self._timer.start()

    def __exit__(self, *exc: object) -> None:
        if os.getpid() != self._process:
            os._exit(1)  # a child that the script forked has returned here; it has no connection
        self.end()
        self.rest()

    def begin(self) -> None:
        """Begin a batch in which no Python of a script runs; the timer may be of one before.

        So the kernel changes the timer once in _WATCH_S.  ``rest`` must follow within that time,
        or another batch.
        """
        self._batches += 1
        now_s = time.monotonic()
        if now_s - self._started_s > _WATCH_S:
            self._timer.start()
            self._started_s = now_s

    def end(self) -> None:
        """End the batch; the timer goes on."""
        with self._lock:
            self._batches += 1
            if self._watched is not None:
                fcntl.fcntl(self._watched, fcntl.F_SETFL, self._idle)
                self._watched = None

    def rest(self) -> None:
        """Stop the timer: there is no batch."""
        self._timer.stop()
        self._started_s = -math.inf

    def _keep_watching(self) -> None:
        """Have the kernel watch the socket while the worker takes long for a batch."""
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())  # they are the script's
        previous = 0
        while not self._pause.wait(_WATCH_S):
            batch = self._batches
            if batch % 2 and batch == previous:
                with self._lock:
                    descriptor = self._descriptor
                    if batch == self._batches and descriptor is not None:
                        fcntl.fcntl(descriptor, fcntl.F_SETFL, self._idle | os.O_ASYNC)
                        self._watched = descriptor
                        if _is_closed(descriptor):  # before the kernel watched it
                            os.kill(os.getpid(), signal.SIGKILL)
            previous = batch


def _is_closed(descriptor: int) -> bool:
    """Whether the other end of a socket is closed."""
    poll = select.poll()
    poll.register(descriptor, select.POLLRDHUP)
    return bool(poll.poll(0))


def _mms() -> tuple[Any, Any]:
    """MMS's worker object and its connection, which the listener lacks; None outside MMS."""
    frame: FrameType | None = sys._getframe()
    while frame:
        code = frame.f_code
        if code.co_filename.endswith("model_service_worker.py"):
            if code.co_name == "handle_connection":
                return frame.f_locals["self"], frame.f_locals["cl_socket"]
            if code.co_name == "run_server":
                return frame.f_locals["self"], None
        frame = frame.f_back
    return None, None


def _forget_fifos(worker: Any) -> None:
    """Remove the names of the worker's FIFOs as soon as both sides have opened them."""
    remap = worker._remap_io

    def remap_and_remove() -> None:
        remap()
        for name in (worker.out, worker.err):
            with contextlib.suppress(OSError):
                os.remove(name)

    worker._remap_io = remap_and_remove


def _kill_with_front_end(listener: int) -> None:
    """Have the kernel kill the listener when its stdin closes, unless another worker has done so.

    This process inherited that stdin: a pipe whose other end only the front end holds.
    """
    if stat.S_ISFIFO(os.fstat(0).st_mode) and not fcntl.fcntl(0, fcntl.F_GETOWN):
        _kill_on_event(0, listener)
        fcntl.fcntl(0, fcntl.F_SETFL, fcntl.fcntl(0, fcntl.F_GETFL) | os.O_ASYNC)


def _kill_on_event(descriptor: int, process: int) -> None:
    """While O_ASYNC is set, any event at the other end of ``descriptor`` kills ``process``.

    Source: fcntl(2), F_SETOWN and F_SETSIG.
    """
    fcntl.fcntl(descriptor, fcntl.F_SETOWN, process)
    fcntl.fcntl(descriptor, fcntl.F_SETSIG, signal.SIGKILL)
