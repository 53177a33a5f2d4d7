"""lifeline: the kernel ends who lost the other end.  Real processes, sockets and pipes."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
import time

import pytest

from mms_handler.worker.mms import lifeline
from mms_handler.worker.mms.lifeline import Lifeline

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the kernel does it, on Linux")


class Child:
    """A forked process that runs ``doing`` with its end of a socket pair; we have the other."""

    def __init__(self, doing, pair=None):
        self.ours, theirs = pair or socket.socketpair()
        self.pid = os.fork()
        if not self.pid:
            try:
                self.ours.close()
                doing(theirs)
            finally:
                os._exit(0)
        theirs.close()
        self.ours.recv(1)  # it is as far as it says

    def ended(self, within_s=2.0):
        """How it ended: a signal, or 0 for an exit; None if it lives."""
        deadline = time.monotonic() + within_s
        while time.monotonic() < deadline:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                return os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
            time.sleep(0.01)
        return None


@pytest.fixture
def child():
    """Fork children; those that live are killed afterwards."""
    made = []

    def make(*arguments):
        made.append(Child(*arguments))
        return made[-1]

    yield make
    for one in made:
        with contextlib.suppress(ProcessLookupError, ChildProcessError):
            os.kill(one.pid, signal.SIGKILL)
            os.waitpid(one.pid, 0)
        one.ours.close()


def spin(theirs):
    """Busy, for ever."""
    with Lifeline(theirs.fileno()):
        theirs.send(b"!")
        while True:
            pass


def tcp():
    with socket.create_server(("127.0.0.1", 0)) as server:
        ours = socket.create_connection(server.getsockname())
        return ours, server.accept()[0]


@pytest.mark.parametrize("pair", [socket.socketpair, tcp])
def test_a_busy_worker_dies_with_its_connection(child, pair):
    """Whatever it runs, and whatever kind of socket MMS was told to use."""
    worker = child(spin, pair())
    assert worker.ended(0.1) is None
    worker.ours.close()
    assert worker.ended() == signal.SIGKILL


def test_a_stopped_worker_dies_with_its_connection(child):
    """It need not run for that."""
    worker = child(spin)
    os.kill(worker.pid, signal.SIGSTOP)
    worker.ours.close()
    assert worker.ended() == signal.SIGKILL


def test_an_idle_worker_takes_requests_and_reads_the_end(child):
    """What comes while it is idle does not kill it, and neither does the end."""

    def serve(theirs):
        line = Lifeline(theirs.fileno())
        theirs.send(b"!")
        while theirs.recv(1):
            with line:
                pass
            theirs.send(b"a")

    worker = child(serve)
    for _ in range(3):
        worker.ours.send(b"q")
        assert worker.ours.recv(1) == b"a"
    worker.ours.close()
    assert worker.ended() == 0


def test_the_answer_may_be_large(child):
    """The other side reads it while the next request is already being answered."""

    def serve(theirs):
        line = Lifeline(theirs.fileno())
        theirs.send(b"!")
        while theirs.recv(1):
            with line:
                answer = b"a" * 3_000_000
            theirs.sendall(answer)

    worker = child(serve)
    for _ in range(3):
        worker.ours.send(b"q")
        left = 3_000_000
        while left:
            left -= len(worker.ours.recv(65_536))
    assert worker.ended(0.1) is None


def test_a_child_that_comes_back_ends(child):
    """It has no business with MMS; its parent goes on."""

    def fork(theirs):
        with Lifeline(theirs.fileno()):
            forked = os.fork()
            if forked:
                _, status = os.waitpid(forked, 0)
        theirs.send(b"%d" % os.WEXITSTATUS(status))
        theirs.recv(1)

    worker = child(fork)
    assert worker.ended(0.1) is None


def test_a_listener_dies_with_the_pipe_that_is_its_stdin(child):
    """Told to the kernel by a worker, and kept when the worker has gone."""
    reading, writing = os.pipe()

    def listen(theirs):
        os.close(writing)
        os.dup2(reading, 0)
        worker = os.fork()
        if not worker:
            lifeline._kill_with_front_end(os.getppid())
            os._exit(0)
        os.waitpid(worker, 0)
        theirs.send(b"!")
        while True:
            time.sleep(1)

    listener = child(listen)
    os.close(reading)
    assert listener.ended(0.1) is None
    os.close(writing)
    assert listener.ended() == signal.SIGKILL


def test_a_process_that_is_no_worker():
    """Nothing is changed in it."""
    before = signal.getsignal(signal.SIGTERM)
    assert (lifeline.attach(), lifeline.in_listener()) == (None, False)
    assert signal.getsignal(signal.SIGTERM) is before
