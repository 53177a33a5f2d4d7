"""api: a server as a context manager, and what it answers beside what a loaded model answers."""

from __future__ import annotations

import psutil
import pytest
from running_mms import EXAMPLES, free_ports

import mms_handler
from mms_handler import client


@pytest.fixture(scope="module")
def server():
    port, management_port = free_ports()
    lines = []
    with mms_handler.serve(
        EXAMPLES / "linear",
        EXAMPLES / "gluon_blocks",
        port=port,
        management_port=management_port,
        workers=1,
        log=lines.append,
    ) as running:
        yield running
    assert any("is loaded" in line for line in lines)
    assert not psutil.pid_exists(running.process.pid)


@pytest.mark.parametrize(
    ("name", "request_"),
    [
        pytest.param("linear", (b"[[1, 2]]", "application/json", "text/csv"), id="a Module"),
        pytest.param("linear", (b"[[1, 2", "application/json", "*/*"), id="broken JSON"),
        pytest.param("linear", (b"[[1, 2]]", "a/b", "*/*"), id="an unknown type"),
        pytest.param("linear", (b"[[1, 2]]", "application/json", "a/b"), id="nothing acceptable"),
        pytest.param("gluon_blocks", (b"5.1,3.5,1.4,0.2", "text/csv", "*/*"), id="a script"),
        pytest.param("gluon_blocks", (b"5.1", "text/csv", "text/plain"), id="a fault as text"),
    ],
)
def test_a_loaded_model_answers_as_the_server_does(server, name, request_):
    """The same status, content type and body, apart from the request's id; no header is missing."""
    expected = client.invoke(server.predictions_url(name), *request_)
    answer = mms_handler.load(EXAMPLES / name).answer(*request_)
    assert (answer.status, answer.content_type) == (expected.status, expected.content_type)
    request_id = expected.headers["x-request-id"].encode()
    head, _, _ = expected.body.partition(request_id)
    assert answer.body.startswith(head)
    assert answer.body == expected.body or request_id in expected.body
    assert set(answer.headers) <= set(expected.headers)
