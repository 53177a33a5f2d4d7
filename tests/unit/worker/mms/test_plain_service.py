"""plain_service: MMS's own Service and codec, for a handler that is not ours."""

from __future__ import annotations

import json
import os
import socket
import struct
from typing import NamedTuple

import pytest
from mms.model_loader import MmsModelLoader
from mms.protocol import otf_message_handler
from mms.service import PredictionException, Service

from mms_handler import worker_files
from mms_handler.worker.mms import plain_service

JSON = "application/json"


class Reply(NamedTuple):
    """A reply as Java reads it of a frame."""

    status: int
    content_type: str
    body: str


@pytest.fixture(autouse=True)
def installed(monkeypatch):
    """Install, and leave MMS as it was afterwards."""
    monkeypatch.setattr(Service, "predict", Service.predict)
    monkeypatch.setattr(MmsModelLoader, "load", MmsModelLoader.load)
    monkeypatch.setattr(otf_message_handler, "os", os)
    plain_service.install()


@pytest.fixture
def service(tmp_path):
    """Make MMS's Service of a handler."""
    (tmp_path / "MAR-INF").mkdir()
    return lambda handler: Service("m", str(tmp_path), None, handler, None, 1)


def show(batch, context):
    """A handler that answers with the types and values of what it gets, and their number."""
    return [
        {name: [type(value).__name__, str(value)] for name, value in request.items()}
        for request in batch
    ]


def text(value: bytes) -> bytes:
    return struct.pack("!i", len(value)) + value


END = struct.pack("!i", -1)


def sent(*requests):
    """The batch that MMS's codec reads; each request has parameters (name, type, value)."""
    frame = b"I"
    for index, parameters in enumerate(requests):
        frame += text(b"id-%d" % index) + text(b"Accept") + text(b"*/*") + END
        for name, content_type, value in parameters:
            frame += text(name.encode()) + text(content_type.encode()) + text(value)
        frame += END
    java, worker = socket.socketpair()
    with java, worker:
        java.sendall(frame + END)
        return otf_message_handler.retrieve_msg(worker)[1]


def body(content_type, value):
    return [("body", content_type, value)]


def read(frame) -> tuple[int, str, dict[str, Reply]]:
    """A frame's status, message and replies by id."""
    position = 0

    def number() -> int:
        nonlocal position
        position += 4
        return struct.unpack_from("!i", frame, position - 4)[0]

    def words() -> str:
        nonlocal position
        length = number()
        position += length
        return bytes(frame[position - length : position]).decode()

    status, message, replies = number(), words(), {}
    while (length := number()) != -1:
        position -= 4
        assert length > 0
        request_id, content_type, code, _ = words(), words().strip(), number(), words()
        assert number() == 0  # headers
        replies[request_id] = Reply(code, content_type, words())
    assert position == len(frame)
    return status, message, replies


@pytest.mark.parametrize(
    ("content_type", "value", "expected"),
    [
        (JSON, b'{"a": [1, NaN]}', ["dict", "{'a': [1, nan]}"]),
        (JSON, b"[1]", ["list", "[1]"]),
        (JSON, b" 7 ", ["int", "7"]),
        (JSON, '"ä"'.encode(), ["str", "ä"]),
        (JSON, b"null", ["NoneType", "None"]),
        ("Application/JSON", b"[1", ["bytearray", "bytearray(b'[1')"]),
        ("application/jsonlines", b"[1]", ["bytearray", "bytearray(b'[1]')"]),
        ("text/csv", "1,ä".encode(), ["str", "1,ä"]),
        ("text/plain", b"", ["str", ""]),
        ("TEXT/plain", b"\xff", ["bytearray", "bytearray(b'\\xff')"]),
        ("", b"[1]", ["bytearray", "bytearray(b'[1]')"]),
    ],
)
def test_bodies_are_those_of_mmss_codec(service, monkeypatch, content_type, value, expected):
    """The same comes of MMS's codec where it decodes."""
    _, _, replies = read(service(show).predict(sent(body(content_type, value))))
    assert json.loads(replies["id-0"].body) == {"body": expected}
    monkeypatch.setattr(otf_message_handler, "os", os)
    monkeypatch.setenv("MMS_DECODE_INPUT_REQUEST", "true")
    (mms,) = sent(body(content_type, value))
    decoded = mms["parameters"][0]["value"]
    assert [type(decoded).__name__, str(decoded)] == expected


@pytest.mark.parametrize(
    ("content_type", "value", "message"),
    [
        (JSON, b"[1", "the body is not valid JSON: Expecting ',' delimiter: line 1 column 3 (char"),
        (JSON, b"", "the body is not valid JSON: Expecting value: line 1 column 1 (char 0)"),
        (JSON, b"[" * 100_000, "the body is JSON that is nested too deeply"),
        (JSON, b'"\xff"', "the body is application/json, and not UTF-8: invalid start byte at byt"),
        (
            "text/csv",
            b"1,\xff",
            "the body is text/csv, and not UTF-8: invalid start byte at byte 2",
        ),
    ],
)
def test_a_body_that_cannot_be_decoded(service, content_type, value, message):
    """The handler is not called; MMS's metrics are of no earlier batch."""
    own = service(show)
    own.predict(sent(body(JSON, b"1")))
    status, _, replies = read(own.predict(sent(body(content_type, value))))
    reply = replies.pop("id-0")
    assert (status, replies, reply.status, reply.content_type) == (200, {}, 400, JSON)
    fields = json.loads(reply.body)
    assert fields.pop("message").startswith(message)
    assert fields == {"code": 400, "type": "BadInput", "request_id": "id-0"}
    assert own.context.metrics.store == []


def test_the_others_of_a_batch(service):
    """They get to the handler together, and their replies to their clients."""

    def numbers(batch, context):
        ids = [context.get_request_id(index) for index in range(len(batch))]
        return [f"{len(batch)} {name} {one['body']}" for name, one in zip(ids, batch)]

    bad = body(JSON, b"[1")
    batch = sent(bad, body(JSON, b"2"), bad, body("text/plain", b"3"))
    status, message, replies = read(service(numbers).predict(batch))
    assert (status, message) == (200, "Prediction success")
    assert [replies[f"id-{index}"].status for index in range(4)] == [400, 200, 400, 200]
    assert (replies["id-1"].body, replies["id-3"].body) == ("2 id-1 2", "2 id-3 3")


def test_a_part_of_a_form(service):
    """Is named."""
    _, _, replies = read(service(show).predict(sent([("a", "", b"1"), ("b", JSON, b"[")])))
    message = json.loads(replies["id-0"].body)["message"]
    assert message.startswith("the part 'b' is not valid JSON: ")


@pytest.mark.parametrize(
    ("exc", "status", "message"),
    [
        (ValueError("secret"), 503, "Prediction failed"),
        (MemoryError(), 507, "Out of resources"),
        (PredictionException("no such word", 404), 404, "no such word"),
    ],
)
def test_a_batch_that_fails(service, exc, status, message):
    """Each request of several gets MMS's error; Java would lose the worker over MMS's own frame."""

    def fail(batch, context):
        raise exc

    one, two = body(JSON, b"1"), body(JSON, b"2")
    assert read(service(fail).predict(sent(one)))[:2] == (status, message)
    frame_status, _, replies = read(service(fail).predict(sent(one, two, body(JSON, b"["))))
    assert frame_status == 200
    assert [replies[f"id-{index}"].status for index in range(3)] == [status, status, 400]
    assert json.loads(replies["id-1"].body) == {
        "code": status,
        "type": "InternalServerException",
        "message": message,
        "request_id": "id-1",
    }


def test_a_handler_that_wants_no_decoding(service, monkeypatch):
    """As in MMS, of the server's configuration or its own doing."""
    monkeypatch.setenv("MMS_DECODE_INPUT_REQUEST", "false")
    _, _, replies = read(service(show).predict(sent(body(JSON, b"["))))
    assert json.loads(replies["id-0"].body) == {"body": ["bytearray", "bytearray(b'[')"]}


def test_serve_can_tell_which_requests_a_worker_had(service, tmp_path):
    """While the handler has them."""

    def look(batch, context):
        return [",".join(worker_files.take_requests(tmp_path, os.getpid()))] * len(batch)

    own = service(look)
    _, _, replies = read(own.predict(sent(body(JSON, b"1"), body(JSON, b"2"))))
    assert replies["id-0"].body == "id-0,id-1"


def test_serve_can_tell_why_a_handler_does_not_load(tmp_path, monkeypatch):
    (tmp_path / "MAR-INF").mkdir()
    (tmp_path / "broken_handler.py").write_text(
        "def handle(batch, context):\n    raise OSError('x')"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(OSError, match="^x$"):
        MmsModelLoader().load("m", str(tmp_path), "broken_handler:handle", None, 1)
    reason = "handler broken_handler:handle: OSError: x (broken_handler.py, line 2)"
    assert worker_files.read_load_error(tmp_path) == reason
