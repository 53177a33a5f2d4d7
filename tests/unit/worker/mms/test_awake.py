from __future__ import annotations

import os
import select
import socket
import time
from typing import Iterator

import pytest

from mms_handler.worker.mms import awake
from mms_handler.worker.mms.awake import Awake

LONG_US = 20_000_000


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Two ends of a connection."""
    here, there = socket.socketpair()
    with here, there:
        yield here, there


@pytest.fixture
def waiting(pair) -> Awake:
    """Looks at the first end."""
    poll = select.poll()
    poll.register(pair[0], select.POLLIN)
    return Awake(poll)


def test_what_comes_is_seen(pair, waiting, monkeypatch):
    """Others may run before each look; what comes then ends the wait."""
    looks = []

    def others_run():
        looks.append(0)
        if len(looks) == 3:
            pair[1].sendall(b"1")

    monkeypatch.setattr(os, "sched_yield", others_run)
    assert waiting.look(LONG_US) == [(pair[0].fileno(), select.POLLIN)]
    assert len(looks) == 3


def test_nothing_comes(waiting):
    assert waiting.look(1_000) == []


def test_no_look_is_wanted(pair, waiting):
    pair[1].sendall(b"1")
    assert waiting.look(0) == []


def test_another_process_needs_the_processor(pair, waiting, monkeypatch):
    """A look that took long is the last one for a while."""
    monkeypatch.setattr(os, "sched_yield", lambda: time.sleep(0.001))
    monkeypatch.setattr(awake, "_PAUSE_NS", LONG_US * 2_000)
    assert waiting.look(LONG_US) == []
    pair[1].sendall(b"1")
    assert waiting.look(LONG_US) == []


def test_the_pause_ends(pair, waiting, monkeypatch):
    monkeypatch.setattr(os, "sched_yield", lambda: time.sleep(0.001))
    monkeypatch.setattr(awake, "_PAUSE_NS", 0)
    pair[1].sendall(b"1")
    for _ in range(2):
        assert waiting.look(LONG_US) == [(pair[0].fileno(), select.POLLIN)]
