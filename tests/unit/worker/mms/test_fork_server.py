"""fork_server: whether workers can be forked, as far as it is known before a model is loaded."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from dataclasses import replace
from multiprocessing import reduction

import pytest

from mms_handler.settings import Settings
from mms_handler.worker.mms import fork_server

FORKS = Settings(supervised=True, threads=1)


@pytest.fixture
def listener(monkeypatch):
    """What the listener reads that has forked this process; without waiting for it."""
    listener, end = socket.socketpair()
    monkeypatch.setattr(fork_server, "_first", [fork_server.First(end)])
    monkeypatch.delenv("MXNET_ENGINE_TYPE", raising=False)
    listener.setblocking(False)
    with listener, end:
        yield listener


@pytest.mark.parametrize(
    ("settings", "gpu_id", "engine", "reason"),
    [
        (replace(FORKS, fork="off"), None, None, None),
        (replace(FORKS, supervised=False), None, None, None),
        (replace(FORKS, threads=2), None, None, "each has several threads (OMP_NUM_THREADS)"),
        (FORKS, 0, None, "MXNet uses a GPU"),
        (FORKS, None, "ThreadedEngine", "MXNet has threads of its own (MXNET_ENGINE_TYPE)"),
    ],
)
def test_what_is_known_before_the_load(
    listener, monkeypatch, caplog, settings, gpu_id, engine, reason
):
    """The other workers begin to load at once then."""
    caplog.set_level("INFO")
    if engine:
        monkeypatch.setenv("MXNET_ENGINE_TYPE", engine)
    fork_server.begin(settings, gpu_id)
    assert listener.recv(2) == b"l"
    assert caplog.messages == ([f"workers load the model each: {reason}"] if reason else [])


@pytest.mark.parametrize("engine", [None, "NaiveEngine"])
def test_what_is_not_known_before_the_load(listener, monkeypatch, engine):
    """The listener waits."""
    if engine:
        monkeypatch.setenv("MXNET_ENGINE_TYPE", engine)
    fork_server.begin(FORKS, None)
    with pytest.raises(BlockingIOError):
        listener.recv(1)


def test_the_listener_imports_little():
    """Its memory cannot be shared with workers for long."""
    program = (
        "import sys, mms_handler.service; print({'numpy', 'mms_handler.codecs'} & {*sys.modules})"
    )
    command = [sys.executable, "-c", program]
    assert subprocess.run(command, capture_output=True, text=True).stdout == "set()\n"


# --- the listener ----------------------------------------------------------------------------


@pytest.fixture
def started():
    """Start workers as MMS's listener does; returns what each says of itself on its connection."""
    listener = fork_server.Listener()

    def start(target):
        ours, theirs = socket.socketpair()
        ours.settimeout(30)
        with ours, theirs:
            listener.Process(target=target, args=(theirs,)).start()
            theirs.close()
            return ours.recv(100)

    yield start
    if listener._server:
        listener._server.close()
    for pid in listener._children._ended_s:
        os.waitpid(pid, 0)


def says(word):
    """A worker that loads the model by itself."""
    return lambda connection: connection.sendall(word)


def first(answer, forks=0):
    """The first worker: it answers the listener, and forks so many others."""

    def work(connection):
        end = fork_server._first[-1]._listener
        end.send(answer)
        connection.sendall(b"first")
        for left in reversed(range(forks)):
            (descriptor,) = reduction.recvfds(end, 1)
            if not left:
                end.close()  # as at its end, which the listener sees at the next worker
            with socket.socket(fileno=descriptor) as other:
                other.sendall(b"forked")

    return work


def test_workers_are_forked_by_the_first(started):
    """If it ends, the next one is a first one again."""
    assert started(first(b"f", forks=2)) == b"first"
    assert [started(says(b"loaded")) for _ in range(2)] == [b"forked"] * 2
    assert started(first(b"f", forks=1)) == b"first"
    assert started(says(b"loaded")) == b"forked"


def test_workers_load_the_model_each(started):
    """Once the first has said so, for ever."""
    assert started(first(b"l")) == b"first"
    assert [started(says(b"%d" % number)) for number in range(3)] == [b"0", b"1", b"2"]


def test_a_first_worker_that_ends_before_it_has_loaded(started):
    """The next one is the first; nobody waits for ever."""
    assert started(says(b"ends")) == b"ends"
    assert started(first(b"f", forks=1)) == b"first"
    assert started(says(b"loaded")) == b"forked"


def test_processes_that_have_ended_are_kept_for_a_while(monkeypatch):
    """MMS looks for them; they are reaped when another one starts, later."""
    children = fork_server.Children()
    now = [100.0]
    monkeypatch.setattr(fork_server.time, "monotonic", lambda: now[0])

    def start():
        children.start(int)
        pid = list(children._ended_s)[-1]
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        return pid

    one = start()
    two = start()  # the end of the first is seen
    now[0] += fork_server._KEPT_S
    three = start()
    assert list(children._ended_s) == [one, two, three]
    now[0] += 0.1
    four = start()
    assert list(children._ended_s) == [two, three, four]
    with pytest.raises(ChildProcessError):
        os.waitpid(one, 0)
    for pid in (two, three, four):
        assert os.waitpid(pid, 0) == (pid, 0)
