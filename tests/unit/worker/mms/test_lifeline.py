"""lifeline: the kernel kills a process that lost its other end.

The tests use real processes, sockets and pipes.
"""

from __future__ import annotations

import contextlib
import ctypes
import multiprocessing
import os
import signal
import socket
import sys
import time
from pathlib import Path

import pytest

from mms_handler.worker.mms import kill_timer, lifeline
from mms_handler.worker.mms.lifeline import Lifeline

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux's kernel does this")


class Child:
    """A forked process that runs ``program`` with its end of a socket pair."""

    def __init__(self, program, pair=None):
        self.socket, child_socket = pair or socket.socketpair()
        self.pid = os.fork()
        if not self.pid:
            try:
                self.socket.close()
                program(child_socket)
            finally:
                os._exit(0)
        child_socket.close()
        assert self.socket.recv(1), "it ended before it was ready"

    def end(self, limit_s=20.0):
        """Wait for its end, and return the signal, or 0 for an exit; None if it is still alive."""
        deadline = time.monotonic() + limit_s
        while time.monotonic() < deadline:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                return os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
            time.sleep(0.01)
        return None


@pytest.fixture
def child():
    """Fork children; those that are still alive are killed afterwards."""
    children = []

    def fork(*arguments):
        children.append(Child(*arguments))
        return children[-1]

    yield fork
    for child in children:
        with contextlib.suppress(ProcessLookupError, ChildProcessError):
            os.kill(child.pid, signal.SIGKILL)
            os.waitpid(child.pid, 0)
        child.socket.close()


def spin(connection):
    """Be busy for ever."""
    with Lifeline(connection.fileno()):
        connection.send(b"!")
        while True:
            pass


def tcp():
    with socket.create_server(("127.0.0.1", 0)) as server:
        client = socket.create_connection(server.getsockname())
        return client, server.accept()[0]


def spin_in_lane(connection):
    """Be busy for ever in a batch of the lane."""
    line = Lifeline(connection.fileno())
    line.begin()
    connection.send(b"!")
    while True:
        pass


@pytest.mark.parametrize("program", [spin, spin_in_lane])
@pytest.mark.parametrize("pair", [socket.socketpair, tcp])
def test_a_busy_worker_dies_with_its_connection(child, pair, program):
    """The kernel kills it, whatever it runs, with each kind of socket that MMS can use."""
    worker = child(program, pair())
    assert worker.end(0.1) is None
    worker.socket.close()
    assert worker.end() == signal.SIGKILL


def test_a_stopped_worker_dies_with_its_connection(child):
    """The kernel kills a process that is not running, once it watches the connection."""
    worker = child(spin)
    time.sleep(3 * lifeline._WATCH_S)
    os.kill(worker.pid, signal.SIGSTOP)
    worker.socket.close()
    assert worker.end() == signal.SIGKILL


def test_a_late_signal_does_not_kill_a_worker(child):
    """The signal for a request may come when the worker is busy with it already.

    The kernel wakes the reader before it sends the signal.  Here the byte that comes while the
    worker is busy stands for such a signal: it has the same effect.
    """

    def serve(connection):
        line = Lifeline(connection.fileno())
        connection.send(b"!")
        for _ in range(5):
            connection.recv(1)
            with line:
                connection.send(b"b")
                time.sleep(0.05)
            connection.recv(1)
            connection.send(b"a")

    worker = child(serve)
    for _ in range(5):
        worker.socket.send(b"q")
        assert worker.socket.recv(1) == b"b"
        worker.socket.send(b"l")
        assert worker.socket.recv(1) == b"a"
    assert worker.end() == 0


def block():
    """Block for ever, with the interpreter's lock held."""
    mutex = ctypes.create_string_buffer(64)
    lock = ctypes.PyDLL(None).pthread_mutex_lock
    return lock(mutex) or lock(mutex)


def test_the_timer_of_a_batch_may_be_that_of_one_before(child):
    """An idle worker rests, and lives; the next batch starts the timer again."""

    def serve(connection):
        line = Lifeline(connection.fileno())
        line.limit(1 - lifeline._GRACE_S)
        for _ in range(20):
            line.begin()
            time.sleep(0.1)
            line.end()
        line.rest()
        time.sleep(1.5)
        connection.send(b"!")
        line.begin()
        block()

    worker = child(serve)
    assert worker.end() == signal.SIGKILL


@pytest.mark.parametrize(
    "program",
    [
        pytest.param(block, id="blocked native code"),
        pytest.param(lambda: os.kill(os.getpid(), signal.SIGSTOP), id="a stopped process"),
    ],
)
def test_a_time_limit_that_needs_no_interpreter(child, program):
    """A worker that cannot react dies a second after its limit; only batches count."""

    def serve(connection):
        line = Lifeline(connection.fileno())
        line.limit(0.3 - lifeline._GRACE_S)
        for _ in range(2):
            with line:
                time.sleep(0.01)
            time.sleep(0.5)  # idle
        with line:
            connection.send(b"!")
            program()

    worker = child(serve)
    assert worker.end() == signal.SIGKILL


def test_an_idle_worker_reads_requests_and_the_end(child):
    """Neither a request nor the end of the connection kills a worker that is idle."""

    def serve(connection):
        line = Lifeline(connection.fileno())
        connection.send(b"!")
        while connection.recv(1):
            with line:
                pass
            connection.send(b"a")

    worker = child(serve)
    for _ in range(3):
        worker.socket.send(b"q")
        assert worker.socket.recv(1) == b"a"
    worker.socket.close()
    assert worker.end() == 0


def test_a_large_answer_does_not_kill_a_worker(child):
    """It does not fit into the socket, so the worker sends while the other side reads."""

    def serve(connection):
        line = Lifeline(connection.fileno())
        connection.send(b"!")
        while connection.recv(1):
            with line:
                answer = b"a" * 3_000_000
            connection.sendall(answer)

    worker = child(serve)
    for _ in range(3):
        worker.socket.send(b"q")
        remaining = 3_000_000
        while remaining:
            remaining -= len(worker.socket.recv(65_536))
    assert worker.end(0.1) is None


def test_a_forked_child_that_returns_is_ended(child):
    """It has no connection to MMS.  The worker that forked it goes on."""

    def fork(connection):
        with Lifeline(connection.fileno()):
            forked = os.fork()
            if forked:
                _, status = os.waitpid(forked, 0)
        connection.send(b"%d" % os.WEXITSTATUS(status))
        connection.recv(1)

    worker = child(fork)
    assert worker.end(0.1) is None


def test_a_listener_dies_with_the_pipe_that_is_its_stdin(child):
    """A worker sets this up in the kernel, and it outlives the worker."""
    reading, writing = os.pipe()

    def listen(connection):
        os.close(writing)
        os.dup2(reading, 0)
        worker = os.fork()
        if not worker:
            lifeline._kill_with_front_end(os.getppid())
            os._exit(0)
        os.waitpid(worker, 0)
        connection.send(b"!")
        while True:
            time.sleep(1)

    listener = child(listen)
    os.close(reading)
    assert listener.end(0.1) is None
    os.close(writing)
    assert listener.end() == signal.SIGKILL


def test_a_process_that_is_not_a_worker_is_not_changed():
    """It keeps its handler of SIGTERM."""
    handler = signal.getsignal(signal.SIGTERM)
    assert (lifeline.attach(), lifeline.in_listener()) == (None, False)
    assert signal.getsignal(signal.SIGTERM) is handler


MMS = """
def run_server(self):
    return find()

def handle_connection(self, cl_socket):
    return run_server_of_another_file()

def other(self):
    return find()
"""


def test_mms_is_found_by_its_functions():
    """In a worker and in the listener; a script's functions of these names are others."""
    own, foreign = {"find": lifeline._mms}, {"find": lifeline._mms}
    exec(compile(MMS, "/site/mms/model_service_worker.py", "exec"), own)
    exec(compile(MMS, "/code/inference.py", "exec"), foreign)
    own["run_server_of_another_file"] = lambda: foreign["run_server"]("the script's")
    assert own["run_server"]("MMS's") == ("MMS's", None)
    assert own["handle_connection"]("MMS's", "a socket") == ("MMS's", "a socket")
    assert own["other"]("MMS's") == (None, None)
    assert foreign["run_server"]("the script's") == (None, None)


ATTACH = """
def handle_connection(self, cl_socket):
    return attach()
"""


class Worker:
    """MMS's worker object: it opens its FIFOs when the front end does."""

    def __init__(self, folder):
        self.out, self.err = str(folder / "out"), str(folder / "err")

    def _remap_io(self):
        for name in (self.out, self.err):
            open(name, "w").close()


def attached(worker, connection):
    """Attach to MMS as one of its workers does."""
    scope = {"attach": lifeline.attach}
    exec(compile(ATTACH, "/site/mms/model_service_worker.py", "exec"), scope)
    return scope["handle_connection"](worker, connection)


def test_a_worker_of_mms_is_bound_to_its_connection(child, tmp_path):
    """MMS's handler of SIGTERM is gone, a script's child has no connection, no FIFO stays."""
    signal_handler = signal.getsignal(signal.SIGTERM)

    def serve(connection):
        signal.signal(signal.SIGTERM, lambda *_: connection.send(b"MMS goes on"))
        worker = Worker(tmp_path)
        line = attached(worker, connection)
        worker._remap_io()
        assert list(tmp_path.iterdir()) == []
        forked = os.fork()
        if not forked:
            os._exit(0 if connection.fileno() == -1 else 1)
        assert os.waitpid(forked, 0)[1] == 0
        connection.send(b"!")
        with line:
            connection.send(b"b")
            while True:
                pass

    worker = child(serve)
    assert worker.socket.recv(1) == b"b"
    os.kill(worker.pid, signal.SIGTERM)
    assert worker.end() == signal.SIGTERM
    worker = child(serve)
    assert worker.socket.recv(1) == b"b"
    worker.socket.close()
    assert worker.end() == signal.SIGKILL
    assert signal.getsignal(signal.SIGTERM) is signal_handler


def test_the_listener_loads_no_model():
    """With preload_model it would, and MXNet does not survive a fork."""
    scope = {"find": lifeline.in_listener}
    exec(compile(MMS, "/site/mms/model_service_worker.py", "exec"), scope)
    listener = type("Listener", (), {"preload": True})()
    assert scope["run_server"](listener) is True
    assert listener.preload is False


def test_signals_are_the_scripts(child):
    """The thread that watches gets none: one would not interrupt what the script waits for."""

    def blocked(thread):
        (line,) = (
            line
            for line in (thread / "status").read_text().splitlines()
            if line.startswith("SigBlk:")
        )
        return int(line.split()[1], 16)

    def serve(connection):
        connection.send(b"!")
        line = Lifeline(connection.fileno())
        deadline = time.monotonic() + 20
        masks = set()
        while time.monotonic() < deadline and len(masks) < 2:
            masks = set(map(blocked, Path("/proc/self/task").iterdir()))
            time.sleep(0.01)
        bits = {1 << number - 1 for number in (signal.SIGTERM, signal.SIGALRM, signal.SIGUSR1)}
        connection.send(b"y" if all(max(masks) & bit for bit in bits) and not min(masks) else b"n")
        del line

    assert child(serve).socket.recv(1) == b"y"


def test_a_worker_binds_its_listener_to_the_front_end(child, tmp_path):
    """MMS starts a worker with multiprocessing; the listener's stdin is the front end's pipe."""
    reading, writing = os.pipe()

    def listen(connection):
        os.close(writing)
        os.dup2(reading, 0)
        ours, theirs = socket.socketpair()
        worker = multiprocessing.get_context("fork").Process(
            target=attached, args=(Worker(tmp_path), theirs)
        )
        worker.start()
        worker.join()
        connection.send(b"!")
        while ours:
            time.sleep(1)

    listener = child(listen)
    os.close(reading)
    assert listener.end(0.1) is None
    os.close(writing)
    assert listener.end() == signal.SIGKILL


@pytest.mark.parametrize("error", [OSError("no librt"), AttributeError("timer_create")])
def test_a_system_without_timers(monkeypatch, caplog, error):
    """MMS's own time limit is left, and the log says so once."""

    def fail(*_, **__):
        raise error

    monkeypatch.setattr(kill_timer.ctypes, "CDLL", fail)
    timer = kill_timer.KillTimer()
    timer.limit(0.01)
    timer.start()
    timer.stop()
    assert caplog.messages == [
        "there are no timers; native code that does not return has MMS's time limit"
    ]
