"""Ids of requests under serve: in replies, in the script, in the log."""

from __future__ import annotations

import json
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
    with Serving(free_ports(), *words, log=folder / "log") as server:
        assert server.first_line.startswith("told is ready")
        yield server


def ask(running: Serving, body: str, path="/predictions/told", **headers: str) -> client.Answer:
    fields = {"Content-Type": "text/csv", **{k.replace("_", "-"): v for k, v in headers.items()}}
    return client.call("POST", running.inference + path, body.encode(), fields)


def logged(running: Serving, text: str) -> list[str]:
    """The lines of the log that have ``text``, once there are some."""
    path = Path(running.log)
    return wait_for(lambda: [x for x in path.read_text().splitlines() if text in x], 10)


def test_a_clients_id(running):
    """The script, the log and the reply have it, and the script what a tracer sends."""
    answer = ask(running, "0", X_Request_Id="mine, 1: ~", traceparent="00-ab-cd-01")
    assert answer.headers["x-request-id"] == "mine, 1: ~"
    assert answer.body == b"['mine, 1: ~', 'mine, 1: ~', 'mine, 1: ~', '00-ab-cd-01']"
    assert "printed" in logged(running, "mine, 1: ~")[0]


def test_a_clients_id_of_a_request_that_fails(running):
    """Its body and the log have it; so has what the gate and MMS refuse."""
    answer = ask(running, "bug", x_request_id="x" * 128)
    assert (answer.status, answer.headers["x-request-id"]) == (500, "x" * 128)
    assert json.loads(answer.body)["request_id"] == "x" * 128
    assert "500 KeyError: 'a bug'" in logged(running, "x" * 128)[0]
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
