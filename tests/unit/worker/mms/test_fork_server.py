"""fork_server: whether workers can be forked, as far as it is known before a model is loaded."""

from __future__ import annotations

import socket
import subprocess
import sys
from dataclasses import replace

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
