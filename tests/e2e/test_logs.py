"""The log of serve, and ids of requests: in it, in replies, in the script."""

from __future__ import annotations

import json
import re
import socket
import time
import urllib.parse
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Iterator

import pytest
from running_mms import Serving, free_ports, wait_for

from mms_handler import client

SCRIPT = """
import time


def model_fn(model_dir):
    return 1


def transform_fn(model, data, content_type, accept, request_id, headers, context):
    if data == "bug":
        raise KeyError("a bug")
    print("printed", flush=True)
    time.sleep(float(data))
    ids = [request_id, context.get_request_id(0), headers.get("x-request-id")]
    return repr([*ids, headers.get("traceparent")]), "text/plain"
"""


@pytest.fixture(scope="module")
def running(tmp_path_factory) -> Iterator[Serving]:
    """A server with the model ``told``, which gets batches."""
    folder = tmp_path_factory.mktemp("logs")
    (folder / "told" / "code").mkdir(parents=True)
    (folder / "told" / "code" / "inference.py").write_text(SCRIPT)
    words = (folder / "told", "--workers", "1", "--batch-size", "4")
    logs = ("--log-format", "json", "--access-log", "on")
    with Serving(free_ports(), *words, *logs, log=folder / "log") as server:
        assert json.loads(server.first_line)["message"].startswith("told is ready")
        yield server


def ask(running: Serving, body: str, path="/predictions/told", **headers: str) -> client.Answer:
    fields = {"Content-Type": "text/csv", **{k.replace("_", "-"): v for k, v in headers.items()}}
    return client.call("POST", running.inference + path, body.encode(), fields)


def records(running: Serving, request_id: str) -> list[dict]:
    """The log's records of a request, as soon as the one of the access log is among them."""

    def found() -> list[dict]:
        text = Path(running.log).read_text()
        lines = map(json.loads, text[: text.rindex("\n") + 1].splitlines())
        of_request = [line for line in lines if line.get("request_id") == request_id]
        return of_request if any(line["source"] == "access" for line in of_request) else []

    return wait_for(found, 20)


def record(running: Serving, request_id: str, message: str | None = None) -> dict:
    """The only record of a request with this message; that of the access log if there is none."""

    def found() -> list[dict]:
        return [each for each in records(running, request_id) if each.get("message") == message]

    (only,) = wait_for(found, 20)
    return only


def test_a_clients_id(running):
    """The script, the log and the reply have it, and the script what a tracer sends."""
    answer = ask(running, "0", X_Request_Id="mine, 1: ~", traceparent="00-ab-cd-01")
    assert answer.headers["x-request-id"] == "mine, 1: ~"
    assert answer.body == b"['mine, 1: ~', 'mine, 1: ~', 'mine, 1: ~', '00-ab-cd-01']"
    printed, access = record(running, "mine, 1: ~", "printed"), record(running, "mine, 1: ~")
    assert (printed["level"], printed["source"], printed["model"]) == ("INFO", "worker", "told")
    assert printed["worker"] == access["worker"]


def test_a_clients_id_of_a_request_that_fails(running):
    """Its body and the log have it; so has what the gate and MMS refuse."""
    answer = ask(running, "bug", x_request_id="x" * 128)
    assert (answer.status, answer.headers["x-request-id"]) == (500, "x" * 128)
    assert json.loads(answer.body)["request_id"] == "x" * 128
    bug = record(running, "x" * 128, "500 KeyError: 'a bug' (code/inference.py, line 11)")
    assert bug["level"] == "ERROR"
    first, second, *_ = bug["traceback"].splitlines()
    assert first == "Traceback (most recent call last):"
    assert '/told/code/inference.py", line 11, in transform_fn' in second
    for path, status in (("/predictions/other", 404), ("/%", 400), ("/ping", 200)):
        answer = (
            ask(running, "0", path, x_request_id="mine")
            if status != 200
            else client.call("GET", running.inference + path, None, {"X-Request-Id": "mine"})
        )
        assert (answer.status, answer.headers["x-request-id"]) == (status, "mine")


@pytest.mark.parametrize("sent", ["x" * 129, "é", "a\tb"])
def test_what_is_no_id(running, sent):
    """The request gets a new one, and the script sees no other."""
    answer = ask(running, "0", X_Request_Id=sent)
    new = answer.headers["x-request-id"]
    assert len(new) == 36
    assert answer.body.decode() == repr([new, new, None, None])


def test_requests_of_one_id(running):
    """Each gets its own answer, although they come together."""
    with ThreadPoolExecutor(8) as pool:
        first = pool.submit(ask, running, "0.03", X_Request_Id="first")
        answers = list(pool.map(lambda _: ask(running, "0", X_Request_Id="same"), range(7)))
    assert first.result().headers["x-request-id"] == "first"
    assert {answer.headers["x-request-id"] for answer in answers} == {"same"}
    assert {answer.body for answer in answers} == {b"['same', 'same', 'same', None]"}


# --- the access log --------------------------------------------------------------------------


def test_an_answered_request(running):
    """Its record has what was asked, by whom it was answered, and in what time."""
    traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    path = "/predictions/told?secret=1"
    answer = ask(running, "0.1", path, X_Request_Id="timed", traceparent=traceparent)
    entry = record(running, "timed")
    times = [entry.pop(name) for name in ("queue_ms", "predict_ms", "total_ms")]
    assert entry.pop("time")[10] == "T"
    assert entry == {
        "level": "INFO",
        "source": "access",
        "model": "told",
        "version": "1",
        "worker": record(running, "timed", "printed")["worker"],
        "request_id": "timed",
        "trace_id": "0af7651916cd43dd8448eb211c80319c",
        "method": "POST",
        "path": "/predictions/told",
        "status": 200,
        "bytes_in": 3,
        "bytes_out": len(answer.body),
        "batch_size": 1,
    }
    queue, predict, total = times
    assert 100 <= predict < total < 10_000
    assert 0 <= queue < total - predict


def test_requests_that_no_worker_has(running):
    """MMS's and the gate's answers, and clients that do not wait."""
    ask(running, "0", "/predictions/told%0A%1b%22", X_Request_Id="none", traceparent="00-x")
    entry = record(running, "none")
    assert (entry["level"], entry["status"]) == ("WARNING", 404)
    assert (entry["model"], entry["path"]) == ('told\n\x1b"', "/predictions/told%0A%1b%22")
    assert not {"worker", "queue_ms", "predict_ms", "batch_size", "trace_id"} & set(entry)
    host, port = running.inference[7:].split(":")
    with socket.create_connection((host, int(port))) as client_that_leaves:
        head = b"POST /predictions/told HTTP/1.1\r\nHost: localhost\r\nX-Request-Id: gone\r\n"
        client_that_leaves.sendall(head + b"Content-Type: text/csv\r\nContent-Length: 4\r\n\r\n0.5")
        time.sleep(0.1)
    entry = record(running, "gone")
    assert (entry["status"], entry["bytes_in"], entry["bytes_out"]) == (499, 3, 0)


def test_requests_that_are_answered_together(running):
    """Those that wait while the worker is busy; the time in the queue says so."""
    with ThreadPoolExecutor(5) as pool:
        ids = [f"together-{number}" for number in range(5)]
        list(pool.map(lambda each: ask(running, "0.02", X_Request_Id=each), ids))
    entries = [record(running, each) for each in ids]
    assert all(entry["status"] == 200 for entry in entries)
    assert max(entry["queue_ms"] for entry in entries) > 10


def test_nothing_forges_a_record(running):
    """Each line is a record of its own, whatever clients send and scripts print."""
    forged = '{"time":"x","level":"ERROR","source":"access","message":"forged"}'
    for text in (forged, f"a\n{forged}", f"a\r\n{forged}\x1b[2K", f"\u2028{forged}"):
        ask(running, text, X_Request_Id=forged)
        ask(running, "0", f"/predictions/{urllib.parse.quote(text)}", X_Request_Id=forged)
    lines = [json.loads(line) for line in Path(running.log).read_text().splitlines()]
    assert not [line for line in lines if line.get("message") == "forged"]
    assert {line["source"] for line in lines} <= {"serve", "mms", "worker", "access"}
    assert len([each for each in records(running, forged) if each["source"] == "access"]) >= 1


def test_only_errors_as_text(tmp_path):
    """With a level; the worker's own lines come through."""
    (tmp_path / "told" / "code").mkdir(parents=True)
    (tmp_path / "told" / "code" / "inference.py").write_text(SCRIPT)
    flags = ("--workers", "1", "--access-log", "errors", "--log-level", "warning")
    with Serving(free_ports(), tmp_path / "told", *flags, log=tmp_path / "log") as server:
        ask(server, "0", X_Request_Id="good")
        ask(server, "bug", X_Request_Id="bad one")
        wait_for(lambda: "500 POST" in (tmp_path / "log").read_text(), 20)
    lines = (tmp_path / "log").read_text().splitlines()
    assert [line[24:32] for line in lines if not line.startswith("    ")] == ["ERROR   "] * 2
    assert any(
        re.fullmatch(r".* told/\d+  request \"bad one\": 500 KeyError: .*", x) for x in lines
    )
    words = (
        r".* told/\d+  request \"bad one\": 500 POST /predictions/told, in 3 B, out \d+ B, queue .*"
    )
    assert any(re.fullmatch(words, line) for line in lines)
    assert "    Traceback (most recent call last):" in lines
