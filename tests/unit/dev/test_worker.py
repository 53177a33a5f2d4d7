"""worker, child: a process that loads one model and answers one request after another."""

from __future__ import annotations

import contextlib
import json
import os
import socket
from multiprocessing.connection import Connection

import psutil
import pytest

from mms_handler.dev import child, worker
from mms_handler.dev.worker import Worker, connection_of
from mms_handler.errors import LoadError, ServerError

SCRIPT = """
import atexit, bdb, os, pathlib, threading, time

def model_fn(model_dir):
    return "model"

def transform_fn(model, data, content_type, accept):
    if data == "quit":
        raise bdb.BdbQuit
    if data == "interrupt":
        raise KeyboardInterrupt
    if data == "ä":
        raise ValueError("größe")
    if data == "exit":
        os._exit(3)
    if data == "last":
        atexit.register(pathlib.Path(__file__).with_name("ended").touch)
    if data == "stay":
        threading.Thread(target=time.sleep, args=(60,)).start()
    return f"{content_type} {accept}", "text/plain"
"""

HEADERS = {"content-type": "text/csv", "accept": "text/plain", "x-request-id": "an id"}


@pytest.fixture
def script(tmp_path):
    path = tmp_path / "code" / "inference.py"
    path.parent.mkdir()
    path.write_text(SCRIPT)
    return path


def talk(script, *requests, flush=print):
    """What the child's function sends for these requests; then the server closes its end."""
    ours, theirs = socket.socketpair()
    connection = Connection(os.dup(ours.fileno()))
    with ours, connection:
        for request in requests:
            connection.send(request)
        ours.shutdown(socket.SHUT_WR)
        child.run(script.parents[1], None, theirs.detach(), lambda: flush("flush"))
        received = []
        with contextlib.suppress(EOFError):
            while connection.poll():
                received.append(connection.recv())
        return received


def test_a_child_answers(script):
    """A body without a type is JSON; what the script printed is flushed before the reply."""
    flushed = []
    requests = (b"x", HEADERS), (b'"x"', {"x-request-id": "1"})
    (load_s, described), first, second = talk(script, *requests, flush=flushed.append)
    assert load_s > 0
    assert (described.version, described.sample) == ("1", None)
    assert (first.status, first.body) == (200, b"text/csv text/plain")
    assert first.headers["content-type"].startswith("text/plain")
    assert second.body.startswith(b"application/json")
    assert len(flushed) == 2


def test_a_bug_is_a_reply(script, capsys):
    """The next request is answered; a person reads the traceback in both places."""
    bodies = "ä".encode(), b"\xff", b"x"
    _, bug, bad, good = talk(script, *((body, HEADERS) for body in bodies))
    assert bug.status == 500
    assert bug.headers == {"content-type": "application/json"}
    assert '"message": "ValueError: größe (code/inference.py, line 13)"'.encode() in bug.body
    fault = json.loads(bug.body)
    assert (fault["code"], fault["type"], fault["request_id"]) == (500, "ValueError", "an id")
    output = capsys.readouterr().err
    assert fault["traceback"].startswith("Traceback (most recent call last)")
    assert fault["traceback"] in output
    assert output.count("Traceback") == 1
    assert (bad.status, "traceback" in json.loads(bad.body)) == (400, False)
    assert good.status == 200


@pytest.mark.parametrize("word", [b"quit", b"interrupt"])
def test_a_person_ends_the_debugger(script, word):
    """With it ends the process: nothing more is answered."""
    assert len(talk(script, (word, HEADERS), (b"x", HEADERS))) == 1


def test_a_script_that_does_not_load(script):
    script.write_text("raise ValueError('not yet')")
    (failure,) = talk(script)
    assert str(failure) == "script: ValueError: not yet (code/inference.py, line 1)"
    assert failure.traceback.endswith("ValueError: not yet")


def test_a_model_that_is_none(script):
    """What is no model has no traceback."""
    archive = script.with_name("a.mar")
    archive.write_text("no archive")
    (failure,) = talk(archive / "code" / "inference.py")
    assert type(failure) is LoadError
    assert (bool(str(failure)), failure.traceback) == (True, "")


@pytest.fixture
def patient(monkeypatch):
    """Processes have time to end, whatever else the machine does."""
    monkeypatch.setattr(worker, "_END_S", 60)


@pytest.mark.usefixtures("patient")
def test_a_process(script):
    """It answers until it is ended, and then may do what a program does at its end."""
    process = Worker(script.parents[1], None)
    assert process.answer(b"last", HEADERS).body == b"text/csv text/plain"
    process.end()
    assert script.with_name("ended").exists()


def test_a_process_that_does_not_end(script, monkeypatch):
    """It is killed after a moment, and nothing of it is left."""
    monkeypatch.setattr(worker, "_END_S", 0.1)
    process = Worker(script.parents[1], None)
    process.answer(b"stay", HEADERS)
    process.end()
    assert process._process.returncode == -9
    assert psutil.Process().children() == []


@pytest.mark.usefixtures("patient")
def test_a_process_that_ends(script):
    """The caller is told how."""
    process = Worker(script.parents[1], None)
    with pytest.raises(ServerError, match="the worker ended with 3"):
        process.answer(b"exit", HEADERS)
    process.end()
    script.write_text("raise ValueError")
    with pytest.raises(LoadError):
        Worker(script.parents[1], None)
    assert psutil.Process().children() == []


def test_a_connection_is_no_childs():
    """A process that a script leaves behind must not hold it open."""
    ours, theirs = socket.socketpair()
    os.set_inheritable(theirs.fileno(), True)
    with ours, connection_of(theirs.detach()) as connection:
        assert not os.get_inheritable(connection.fileno())
        ours.close()
        with pytest.raises(EOFError):
            connection.recv()
