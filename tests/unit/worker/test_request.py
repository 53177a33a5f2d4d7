"""request, faults: what MMS hands to a worker, and what a failed request gets."""

from __future__ import annotations

import copy
import gzip
import json
import logging
from types import SimpleNamespace

import pytest
from mms.context import Context, RequestProcessor
from mms.metrics.metrics_store import MetricsStore

from mms_handler.errors import BadInput, ScriptError, TooLarge, UnsupportedType
from mms_handler.worker import faults
from mms_handler.worker.request import TextBody, received_by_mms, request_without_mms

FORM = "application/x-www-form-urlencoded"
MULTIPART = "multipart/form-data; boundary=x"


def context_of(*headers):
    """MMS's context of a batch of requests with these headers."""
    context = Context("m", "/model", {}, 4, 7, "1.1.11")
    context.request_ids = {index: f"id-{index}" for index in range(len(headers))}
    context.request_processor = [RequestProcessor(each) for each in headers]
    context.metrics = MetricsStore(context.request_ids, "m")
    return context


def received_of(*headers):
    """The requests of a batch with these headers, without bodies."""
    return received_by_mms([{}] * len(headers), context_of(*headers))


def read(parts, headers, max_bytes=1_000):
    (received,) = received_by_mms([parts], context_of(headers))
    return received.read(max_bytes)


# --- bodies ----------------------------------------------------------------------------------


def test_a_request():
    """Names of headers are in lower case, and values as they were sent."""
    headers = {
        "Content-Type": "text/csv",
        "ACCEPT": "a/b",
        "X-Name": "Bj\xc3\xb6rn",
        "X-Odd": "\xff",
        "part": {"content-type": "x"},
    }
    _, received = received_by_mms([{}, {"body": bytearray(b"1,2")}], context_of({}, headers))
    request = received.read(9)
    assert request[:3] == (b"1,2", "text/csv", "a/b")
    assert isinstance(request.body, bytes)
    assert request.by_name["gpu_id"] == 7
    assert request.by_name["request_id"] == "id-1"
    assert request.by_name["headers"] == {
        "content-type": "text/csv",
        "accept": "a/b",
        "x-name": "Björn",
        "x-odd": "\xff",
    }


def test_a_context_is_made_when_it_is_asked_for(monkeypatch):
    """Once; a request for which no function of a script is called needs none."""
    made = []
    monkeypatch.setattr(copy, "copy", lambda context: made.append(1) or SimpleNamespace())
    values = read({"body": b"1"}, {"A": "b"}).by_name
    assert (values["request_id"], values["headers"], made) == ("id-0", {"a": "b"}, [])
    assert values["context"] is {**values}["context"]
    assert list(values) == ["context", "gpu_id", "request_id", "headers"]
    assert (len(values), made) == (4, [1])


def test_the_context_of_one():
    """A script's index 0 is this request, whatever its place in the batch."""
    context = context_of({}, {"A": "1"})
    view = received_by_mms([{}, {}], context)[1]["context"]
    assert view.get_request_id(0) == "id-1"
    assert view.get_all_request_header(0) == {"A": "1"}
    view.set_response_header(0, "X", "2")
    assert context.get_response_headers(1) == {"X": "2"}
    assert context.get_response_headers(0) == {}
    assert context.request_ids == {0: "id-0", 1: "id-1"}


def test_without_headers():
    """JSON is meant."""
    request = read({"body": b"[1]"}, {})
    assert request[:3] == (b"[1]", "application/json", "")


@pytest.mark.parametrize("encoding", ["gzip", "x-gzip"])
def test_a_compressed_body(encoding):
    """The limit is of what it unpacks to."""
    parts = {"body": gzip.compress(b"1" * 50)}
    headers = {"Content-Encoding": encoding}
    assert read(parts, headers, 50).body == b"1" * 50
    with pytest.raises(TooLarge, match="unpacks to more than the limit of 49 bytes$"):
        read(parts, headers, 49)
    assert read({"body": b"1" * 50}, {}, 1).body == b"1" * 50  # the front end has checked it


@pytest.mark.parametrize(
    ("parts", "headers", "body", "content_type"),
    [
        pytest.param({"a": b"1"}, {"Content-Type": FORM}, b"1", "application/json", id="a form"),
        pytest.param(
            {"a": b"1"},
            {"Content-Type": MULTIPART, "a": {"content-type": "text/csv"}},
            b"1",
            "text/csv",
            id="a part with its type",
        ),
        pytest.param(
            {"body": b"1"},
            {"Content-Type": MULTIPART, "body": {"content-type": "text/csv"}},
            b"1",
            "text/csv",
            id="a part called body",
        ),
        pytest.param(
            {"body": b"", "a": b"1"}, {"Content-Type": "text/csv"}, b"1", "text/csv", id="a query"
        ),
        pytest.param(
            {"body": b"2", "a": b"1"}, {"Content-Type": "text/csv"}, b"2", "text/csv", id="both"
        ),
        pytest.param(
            {"body": b"", "a": b"1", "b": b"2"}, {}, b"", "application/json", id="no body, several"
        ),
        pytest.param({"model_name": b"m", "a": b"1"}, {}, b"1", "application/json", id="the name"),
        pytest.param({"body": b""}, {}, b"", "application/json", id="nothing in it"),
    ],
)
def test_bodies(parts, headers, body, content_type):
    """The only part of a form or a query counts."""
    assert read(parts, headers)[:2] == (body, content_type)


@pytest.mark.parametrize(
    ("parts", "headers", "reason"),
    [
        ({"b": b"1", "a": b"2"}, {"Content-Type": FORM}, "exactly one part, this one has: a, b;"),
        ({}, {"Content-Type": FORM}, "the Content-Type is a form's, which is curl's default"),
        ({}, {"Content-Type": "text/csv"}, "the request has no body$"),
    ],
)
def test_not_one_part(parts, headers, reason):
    with pytest.raises(UnsupportedType, match=reason):
        read(parts, headers)


def test_a_scripts_body():
    """Text for JSON and CSV; a script may decode it."""
    body = read({"body": b"\xe4"}, {"Content-Type": "text/csv; charset=latin-1"}).script_body()
    assert (type(body), body, body.decode()) == (TextBody, "ä", "ä")
    assert body.decode("ascii", "ignore") is body
    assert read({"body": b"\xe4"}, {"Content-Type": "image/png"}).script_body() == b"\xe4"


def test_a_request_that_nobody_sent():
    """The context is its own then."""
    context = context_of({}, {})
    request = request_without_mms(context, b"1", "text/csv", "a/b", "mine", headers={"X": "2"})
    assert request[:3] == (b"1", "text/csv", "a/b")
    assert request.by_name["request_id"] == "mine"
    assert request.by_name["headers"] == {"content-type": "text/csv", "accept": "a/b", "x": "2"}
    assert (context.request_ids, len(context.request_processor)) == ({0: "mine"}, 1)
    packed, more = gzip.compress(b"123"), {"Content-Encoding": "gzip"}
    assert request_without_mms(context, packed, "a/b", "", "i", headers=more).body == b"123"
    with pytest.raises(TooLarge, match="limit of 2 bytes"):
        request_without_mms(context, packed, "a/b", "", "i", headers=more, max_bytes=2)


# --- faults ----------------------------------------------------------------------------------


def answer(exc, headers=None, content_type=None):
    """The body of a fault, and the head of its reply."""
    _, received = received_of({}, headers or {})
    received.processor.add_response_property("X-Mine", "1")
    if content_type:
        received["context"].set_response_content_type(0, content_type)
    response = faults.response(exc, received)
    return response.body, response.headers, response.status, response.phrase


def test_a_clients_fault(caplog):
    """The log has one line of it; the script's headers are not sent."""
    body, headers, status, phrase = answer(BadInput("no é"))
    assert json.loads(body) == {
        "code": 400,
        "type": "BadInput",
        "message": "no é",
        "request_id": "id-1",
    }
    assert "é".encode() in body
    assert (headers, status, phrase) == ({"content-type": "application/json"}, 400, "Bad Input")
    (record,) = caplog.records
    assert (record.levelno, record.getMessage()) == (
        logging.WARNING,
        "400 BadInput: no é",
    )


def test_a_bug(caplog):
    """The client gets its type, the log its traceback; of a long one the end."""
    try:
        raise KeyError("secret" * 2_000)
    except KeyError as exc:
        body, _, status, _ = answer(exc)
    assert status == 500
    assert json.loads(body)["message"] == "the model failed with KeyError; see the server's log"
    (record,) = caplog.records
    assert record.levelno == logging.ERROR
    first, _, rest = record.getMessage().partition("\n")
    assert first.startswith("500 KeyError: 'secretsecret")
    assert len(rest) == 6_000
    assert rest.endswith("secret'")


def test_what_a_script_raised_first(tmp_path, caplog):
    """If its line is known."""
    path = tmp_path / "inference.py"
    path.write_text("def fail():\n    raise ValueError('first')\n")
    functions = {}
    exec(compile(path.read_text(), str(path), "exec"), functions)
    (received,) = received_of({})
    received.context.system_properties["model_dir"] = str(tmp_path)
    try:
        try:
            functions["fail"]()
        except ValueError as exc:
            raise ScriptError("second") from exc
    except ScriptError as exc:
        faults.response(exc, received)
    (line, *_) = caplog.messages[0].splitlines()
    assert line == ("500 ScriptError: second; from ValueError: first (inference.py, line 2)")


def test_what_a_library_raised_first(caplog):
    """Is left out: it says the same as the error that we made of it."""
    try:
        try:
            json.loads("[1")
        except ValueError as exc:
            raise BadInput(f"not JSON: {exc}") from exc
    except BadInput as exc:
        faults.response(exc, *received_of({}))
    (line,) = caplog.messages
    assert line.endswith(
        "400 BadInput: not JSON: Expecting ',' delimiter: line 1 column 3 (char 2)"
    )


def test_a_long_message(caplog):
    """Is cut, between letters; so is a long name."""
    body, *_ = answer(BadInput("é" * 800))
    assert json.loads(body)["message"] == "é" * 750
    body, *_ = answer(BadInput("a" + "é" * 800))
    assert json.loads(body)["message"] == "a" + "é" * 749
    body, *_ = answer(type("N" * 200, (Exception,), {})())
    assert json.loads(body)["type"] == "N" * 100
    caplog.set_level(logging.CRITICAL)  # pytest cannot report such a letter
    assert json.loads(answer(BadInput("\ud800"))[0])["message"] == "?"


@pytest.mark.parametrize(
    ("headers", "content_type", "text"),
    [
        ({"Accept": "text/plain"}, None, True),
        ({"ACCEPT": "text/plain, */*"}, None, True),
        ({"Accept": "*/*, text/plain"}, None, False),
        ({"Accept": "text/csv"}, None, False),
        ({"Accept": {"content-type": "text/plain"}}, None, False),
        ({}, "text/html", True),
        ({}, "application/json", False),
        ({}, None, False),
    ],
)
def test_text_for_who_wants_it(headers, content_type, text):
    """The client by Accept, the script by the type that it has set."""
    body, sent, *_ = answer(BadInput("no"), headers, content_type)
    assert sent == {"content-type": "text/plain" if text else "application/json"}
    assert (body == b"no") == text
