"""server: which worker answers while files are edited; test_dev has real workers."""

from __future__ import annotations

import dataclasses
import json
import types

import pytest

from mms_handler import client, dev
from mms_handler.dev import server
from mms_handler.dev.worker import Reply
from mms_handler.errors import LoadError, ServerError
from mms_handler.settings import Settings
from tests.unit.dev.test_dev import free_port

HEADERS = {"x-request-id": "an id"}


class Worker:
    """Answers with what the script has, and fails where it says so."""

    load_s = 1.25

    def __init__(self, path, script):
        self.text = script.read_text()
        self.ended = False
        if self.text.startswith("broken"):
            raise LoadError(f"it is {self.text}", "the traceback")
        if self.text == "exits":
            raise ServerError("the worker ended with 1")
        workers.append(self)

    def answer(self, body, headers):
        if body == b"end":
            raise ServerError("the worker ended with 3")
        return Reply(200, {"x-id": headers["x-request-id"]}, f"{self.text} {body}".encode())

    def end(self):
        self.ended = True


workers = []


@pytest.fixture
def edited(tmp_path, monkeypatch):
    """A server of a script; ``naps`` has the pauses between two looks."""
    monkeypatch.setattr(server, "Worker", Worker)
    workers.clear()
    script = tmp_path / "code" / "mine.py"
    script.parent.mkdir()
    (tmp_path / "words").mkdir()
    naps = []
    monkeypatch.setattr(server, "time", types.SimpleNamespace(sleep=naps.append))

    def edited(text="one"):
        script.write_text(text)
        log = []
        served = server.DevServer(tmp_path / "words", script, Settings(), log.append)
        served.script, served.log, served.naps = script, log, naps
        return served

    return edited


def test_an_edit(edited):
    """The new worker answers, and the old one ends."""
    served = edited()
    assert served.answer(b"x", HEADERS) == (200, {"x-id": "an id"}, b"one b'x'")
    assert (served.log, served.naps) == ([], [])
    served.script.write_text("second")
    assert served.answer(b"x", HEADERS).body == b"second b'x'"
    assert served.log == ["mine.py changed; loaded again in 1.2 s"]
    assert [worker.ended for worker in workers] == [True, False]
    served.end()
    assert [worker.ended for worker in workers] == [True, True]
    assert not served.ready()
    served.end()


def test_a_mistake(edited):
    """The last version goes on, and each reply says why the new one does not load."""
    served = edited()
    served.script.write_text("broken: größe")
    reply = served.answer(b"x", HEADERS)
    assert (reply.status, reply.body) == (200, b"one b'x'")
    assert reply.headers == {"x-id": "an id", "X-Does-Not-Load": "it is broken: gr??e"}
    assert served.log == [
        "the traceback\nmine.py changed; it does not load, the last version goes on: "
        "it is broken: größe"
    ]
    assert served.ready()
    served.script.write_text("mended")
    assert served.answer(b"x", HEADERS).headers == {"x-id": "an id"}


def test_a_mistake_at_first(edited):
    """Each reply has the reason and the traceback."""
    served = edited("broken")
    assert not served.ready()
    reply = served.answer(b"x", HEADERS)
    fault = json.loads(reply.body)
    assert (reply.status, fault["type"]) == (503, "Unavailable")
    assert "it is broken" in fault["message"]
    assert (fault["traceback"], fault["request_id"]) == ("the traceback", "an id")
    assert served.log == ["the traceback\nit does not load, waiting for an edit: it is broken"]
    served.script.write_text("mended")
    assert served.answer(b"x", HEADERS).status == 200
    assert served.ready()


def test_a_script_that_ends_its_process(edited):
    served = edited("exits")
    assert served.log == ["it does not load, waiting for an edit: the worker ended with 1"]
    fault = json.loads(served.answer(b"x", HEADERS).body)
    assert "the worker ended with 1" in fault["message"]
    assert fault["traceback"] == ""


def test_a_worker_that_ends(edited):
    """Its request is told; the next one starts another worker."""
    served = edited()
    reply = served.answer(b"end", HEADERS)
    assert (reply.status, json.loads(reply.body)["request_id"]) == (503, "an id")
    assert "the worker ended with 3" in json.loads(reply.body)["message"]
    assert not served.ready()
    assert served.answer(b"x", HEADERS).body == b"one b'x'"
    assert len(workers) == 2


def test_an_edit_that_takes_time(edited, monkeypatch):
    """A file of which a part is written is not loaded."""
    served = edited()
    parts = ["broken: a", "broken: a bit"]

    def sleep(seconds):
        served.naps.append(seconds)
        if parts:
            served.script.write_text(parts.pop(0))

    monkeypatch.setattr(server.time, "sleep", sleep)
    served.script.write_text("b")
    served.look()
    assert len(served.log) == 1
    assert served.log[0].endswith("it is broken: a bit")
    assert len(served.naps) == 3
    assert min(served.naps) > 0


def test_the_end(edited, tmp_path):
    """Of the block: the worker has ended, and the port is free again."""
    script = edited().script
    current = dataclasses.replace(Settings(), port=free_port())
    for _ in range(2):
        with dev.serve(tmp_path / "words", script, current, print) as served:
            assert client.invoke(served.url, b"x", "text/csv").status == 200
            with pytest.raises(ServerError, match=f"port {current.port} "):
                dev.serve(tmp_path / "words", script, current, print).__enter__()
        assert [worker.ended for worker in workers[1:]] == [True] * len(workers[1:])
        with pytest.raises(ServerError):
            client.invoke(served.url, b"x", "text/csv", timeout_s=5)
