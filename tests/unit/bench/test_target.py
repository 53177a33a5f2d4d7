"""bench.target: the request that is sent, and the right reply to it."""

from __future__ import annotations

import json
import socket
import zipfile

import pytest
from bench.servers import answering, reply

from mms_handler.bench.measuring import Target
from mms_handler.bench.target import (
    Request,
    asked_once,
    free_ports,
    from_file,
    from_model,
)
from mms_handler.errors import ServerError

CSV, JSON = "text/csv", "application/json"
REPLY = {"status": 200, "content_type": JSON, "body": "[3]"}
SAMPLE = {"name": "MAR-INF/sample.csv", "content_type": CSV, "accept": JSON, "reply": REPLY}


@pytest.fixture
def packed(tmp_path):
    """An archive with a sample, and the reply to it."""
    path = tmp_path / "packed.mar"
    with zipfile.ZipFile(path, "w") as mar:
        model = {"modelName": "iris", "handler": "mms_handler.service:handle"}
        manifest = {"model": model, "mms_handler": {"sample": SAMPLE}}
        mar.writestr("MAR-INF/MANIFEST.json", json.dumps(manifest))
        mar.writestr("MAR-INF/sample.csv", "1,2\n")
    return path


@pytest.mark.parametrize(
    ("content_type", "accept", "expected"),
    [
        (None, None, (CSV, JSON, REPLY)),
        (CSV, JSON, (CSV, JSON, REPLY)),
        ("text/plain", None, ("text/plain", JSON, None)),
        (None, CSV, (CSV, CSV, None)),
    ],
)
def test_the_packed_sample(packed, content_type, accept, expected):
    """Its reply is the right one only if it is asked for as it was."""
    made = from_model(packed, content_type, accept)
    assert made[:4] == (b"1,2\n", *expected)
    assert made.description == "the packed sample"


def test_zeros_in_the_shapes_that_were_saved(tmp_path):
    """Of a folder without a sample; None without either."""
    assert from_model(tmp_path, None, None) is None
    (tmp_path / "model-shapes.json").write_text('[{"name": "data", "shape": [1, 2]}]')
    made = from_model(tmp_path, None, None)
    assert json.loads(made.body) == [[0, 0]]
    assert made[1:] == (JSON, "*/*", None, "zeros in the model's shapes")


@pytest.mark.parametrize(
    ("content_type", "accept", "expected"),
    [(None, None, (CSV, "*/*")), (JSON, CSV, (JSON, CSV))],
)
def test_a_file(tmp_path, content_type, accept, expected):
    path = tmp_path / "row.csv"
    path.write_bytes(b"1")
    assert from_file(path, content_type, accept) == (b"1", *expected, None, str(path))


def test_two_ports_that_are_free():
    ports = free_ports()
    assert len(set(ports)) == 2
    for port in ports:
        assert 20_000 <= port < 32_767
        socket.create_server(("127.0.0.1", port)).close()


REQUEST = Request(b"\xff1", CSV, JSON, None, "a row")


@pytest.mark.parametrize(
    ("path", "token", "lines"),
    [
        ("", "", ["POST / HTTP/1.1"]),
        ("/a?b=c", "", ["POST /a?b=c HTTP/1.1"]),
        ("/a", "xyz", ["POST /a HTTP/1.1", "Authorization: Bearer xyz"]),
    ],
    ids=["a server", "a query", "a token"],
)
def test_the_bytes_of_a_request(path, token, lines):
    """They are those of the one that is sent first, whose reply is the right one from then on."""
    with answering(lambda number: reply(b"[4]")) as port:
        target = asked_once(f"http://localhost:{port}{path}", REQUEST, token)
    host = f"Host: localhost:{port}"
    types = ["Content-Type: text/csv", "Accept: application/json", "Content-Length: 2"]
    head = "\r\n".join([lines[0], host, *types, *lines[1:], "", ""]).encode()
    expected = {"status": 200, "content_type": JSON, "body": "[4]"}
    assert target == Target("127.0.0.1", port, head + b"\xff1", expected)


def test_a_packed_reply_is_the_right_one():
    with answering(lambda number: reply(b"[4]")) as port:
        target = asked_once(f"http://127.0.0.1:{port}", REQUEST._replace(reply=REPLY))
    assert target.expected == REPLY


@pytest.mark.parametrize(
    ("status", "is_good"), [(b"200 OK", True), (b"299 X", True), (b"300 X", False)]
)
def test_only_what_is_answered_is_measured(status, is_good):
    with answering(lambda number: reply(b'{"message": "no"}', status)) as port:
        url = f"http://127.0.0.1:{port}/x"
        if is_good:
            assert asked_once(url, REQUEST).port == port
        else:
            with pytest.raises(ServerError, match=r"^the request \(a row\) gets 300 no; it must "):
                asked_once(url, REQUEST)


@pytest.mark.parametrize("url", ["https://127.0.0.1/x", "127.0.0.1:80/x", "http:///x"])
def test_what_is_no_address_of_a_server(url):
    with pytest.raises(ServerError, match="is not an http:// address; bench sends plain HTTP"):
        asked_once(url, REQUEST)
