"""plain_service: MMS's own Service, for a handler that is not ours."""

from __future__ import annotations

import json
import os
import socket
import struct

import mms.service
import pytest
from mms.context import RequestProcessor
from mms.metrics.metrics_store import MetricsStore
from mms.model_loader import MmsModelLoader
from mms.protocol import otf_message_handler
from mms.protocol.otf_message_handler import create_predict_response
from mms.service import PredictionException, Service

from mms_handler import worker_files
from mms_handler.worker.mms import plain_service
from mms_handler.worker.mms.plain_service import PlainWorker
from mms_handler.worker.request import received_by_mms

JSON = "application/json"


class Busy:
    """Stands for the lifeline, whose block is the time in which the worker is busy."""

    def __enter__(self):
        pass

    def __exit__(self, *_):
        pass


class Tags(list):
    """The output of the worker: the ids with which it was tagged."""

    def tag(self, request_id):
        self.append(request_id)


@pytest.fixture(autouse=True)
def installed(monkeypatch):
    """Install, and leave MMS as it was afterwards."""
    monkeypatch.setattr(mms.service, "create_predict_response", None)
    monkeypatch.setattr(MmsModelLoader, "load", MmsModelLoader.load)
    monkeypatch.setattr(otf_message_handler, "os", os)
    plain_service.install()


@pytest.fixture
def worker(tmp_path):
    """Make a worker of a handler."""
    (tmp_path / "MAR-INF").mkdir()
    return lambda handler: PlainWorker(
        Service("m", str(tmp_path), None, handler, None, 1), Tags(), Busy()
    )


def show(batch, context):
    """A handler that answers with the types and values of what it gets."""
    return [
        {name: [type(value).__name__, str(value)] for name, value in request.items()}
        for request in batch
    ]


def body(content_type, value):
    return {"Content-Type": content_type}, {"body": memoryview(value)}


def answers(worker, *requests):
    """The replies to requests, each of which has headers and parts."""
    context = worker._service.context
    context.request_ids = {index: f"id-{index}" for index in range(len(requests))}
    context.request_processor = [RequestProcessor(headers) for headers, _ in requests]
    context.metrics = MetricsStore(context.request_ids, "m")
    return worker.answer(received_by_mms([parts for _, parts in requests], context))


def decoded_by_mms(content_type, value):
    """What MMS's codec makes of a body."""
    text = [struct.pack("!i", len(each)) + each for each in (b"body", content_type.encode(), value)]
    one, two = socket.socketpair()
    with one, two:
        one.sendall(b"".join(text))
        return otf_message_handler._retrieve_input_data(two)["value"]


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
def test_bodies_are_those_of_mmss_codec(worker, monkeypatch, content_type, value, expected):
    """The same comes of MMS's codec where it decodes."""
    (reply,) = answers(worker(show), body(content_type, value))
    assert json.loads(reply.body) == {"body": expected}
    monkeypatch.setattr(otf_message_handler, "os", os)
    monkeypatch.setenv("MMS_DECODE_INPUT_REQUEST", "true")
    decoded = decoded_by_mms(content_type, value)
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
def test_a_body_that_cannot_be_decoded(worker, content_type, value, message):
    """The handler is not called."""
    (reply,) = answers(worker(None), body(content_type, value))
    assert reply[:3] == (400, "Bad Input", {"content-type": JSON})
    fields = json.loads(reply.body)
    assert fields.pop("message").startswith(message)
    assert fields == {"code": 400, "type": "BadInput", "request_id": "id-0"}


def test_the_others_of_a_batch(worker):
    """They get to the handler together, and their replies to their clients."""

    def numbers(batch, context):
        for index, one in enumerate(batch):
            context.set_response_content_type(index, "text/csv")
            context.set_response_status(200 + one["body"], f"is {one['body']}", index)
            context.set_response_header(index, "X-Of", context.get_request_header(index, "X-Name"))
        ids = [context.get_request_id(index) for index in range(len(batch))]
        return [f"{len(batch)} {name}" for name in ids]

    bad, two, three = body(JSON, b"[1"), body(JSON, b"2"), body(JSON, b"3")
    two[0]["X-Name"], three[0]["X-Name"] = "two", "three"
    replies = answers(worker(numbers), bad, two, bad, three)
    assert [reply.status for reply in replies] == [400, 202, 400, 203]
    assert replies[1] == (202, "is 2", {"content-type": "text/csv", "x-of": "two"}, b"2 id-1")
    assert replies[3] == (203, "is 3", {"content-type": "text/csv", "x-of": "three"}, b"2 id-3")


@pytest.mark.parametrize(
    ("returned", "sent"),
    [
        ("ä", "ä".encode()),
        (b"\0", b"\0"),
        (bytearray(b"1"), b"1"),
        ([1, None], b"[\n  1,\n  null\n]"),
        (None, b"null"),
    ],
)
def test_replies_are_written_as_by_mms(worker, returned, sent):
    """A reply without a content type is one of bytes."""
    (reply,) = answers(worker(lambda batch, context: [returned]), body(JSON, b"1"))
    assert reply == (200, "OK", {"content-type": ""}, sent)
    frame = create_predict_response([returned], {0: "a"}, "", 200)
    assert bytes(frame).endswith(struct.pack("!i", len(sent)) + sent + struct.pack("!i", -1))


def test_a_reply_that_cannot_be_written(worker):
    """Fails alone."""
    handler = worker(lambda batch, context: [{1, 2}, "2"])
    first, second = answers(handler, body(JSON, b"1"), body(JSON, b"2"))
    assert (first.status, second.status) == (503, 200)
    assert json.loads(first.body)["message"] == "Unsupported model output data type."


def test_a_reply_that_is_too_large(worker, monkeypatch):
    """Fails alone; the gate would close the worker's connection."""
    monkeypatch.setenv("MMS_MAX_RESPONSE_SIZE", "3")
    handler = worker(lambda batch, context: ["1234", b"123"])
    first, second = answers(handler, body(JSON, b"1"), body(JSON, b"2"))
    assert (first.status, second.status) == (507, 200)
    message = "the reply has 4 bytes, the server sends at most 3"
    assert json.loads(first.body)["message"] == message


def test_heads_that_cannot_be_sent(worker):
    """Are corrected, as those of our handler."""

    def set_all(batch, context):
        context.set_response_status(999, "\u00e4\n", 0)
        context.set_response_header(0, "X-Bad", "1\r\n2")
        return ["1"]

    (reply,) = answers(worker(set_all), body(JSON, b"1"))
    assert reply[:3] == (500, "??", {"content-type": ""})


def test_a_part_of_a_form(worker):
    """Is named, and has a type of its own."""
    types = {"a": {"content-type": ""}, "b": {"content-type": JSON}}
    parts = {"a": memoryview(b"1"), "b": memoryview(b"[")}
    (reply,) = answers(worker(show), ({"Content-Type": "multipart/form-data", **types}, parts))
    message = json.loads(reply.body)["message"]
    assert message.startswith("the part 'b' is not valid JSON: ")
    parts["b"] = memoryview(b"[1]")
    (reply,) = answers(worker(show), ({"Content-Type": "multipart/form-data", **types}, parts))
    assert json.loads(reply.body) == {"a": ["bytearray", "bytearray(b'1')"], "b": ["list", "[1]"]}


@pytest.mark.parametrize(
    ("exc", "status", "phrase", "message"),
    [
        (ValueError("secret"), 503, "Service Unavailable", "Prediction failed"),
        (MemoryError(), 507, "Insufficient Storage", "Out of resources"),
        (PredictionException("no such word", 404), 404, "Not Found", "no such word"),
    ],
)
def test_a_batch_that_fails(worker, exc, status, phrase, message):
    """Each request of several gets MMS's error."""

    def fail(batch, context):
        raise exc

    replies = answers(worker(fail), body(JSON, b"1"), body(JSON, b"["), body(JSON, b"3"))
    assert [reply.status for reply in replies] == [status, 400, status]
    assert replies[2][1:3] == (phrase, {"content-type": JSON})
    assert json.loads(replies[2].body) == {
        "code": status,
        "type": "InternalServerException",
        "message": message,
        "request_id": "id-2",
    }


def test_a_handler_that_wants_no_decoding(worker, monkeypatch):
    """As in MMS, of the server's configuration or its own doing."""
    monkeypatch.setenv("MMS_DECODE_INPUT_REQUEST", "false")
    (reply,) = answers(worker(show), body(JSON, b"["))
    assert json.loads(reply.body) == {"body": ["bytearray", "bytearray(b'[')"]}


def test_serve_can_tell_which_requests_a_worker_had(worker, tmp_path):
    """While the handler has them; what it prints has the id of a request that is alone."""

    def look(batch, context):
        return [",".join(worker_files.take_requests(tmp_path, os.getpid()))] * len(batch)

    own = worker(look)
    assert answers(own, body(JSON, b"1"), body(JSON, b"2"))[0].body == b"id-0,id-1"
    answers(own, body(JSON, b"1"))
    assert own._output == ["", "", "id-0", ""]


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
