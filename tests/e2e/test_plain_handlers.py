"""Handlers of MMS that are not ours: they get from ``serve`` what they get from MMS itself."""

from __future__ import annotations

import http.client
import json
import zipfile
from concurrent.futures import ThreadPoolExecutor
from typing import Iterator
from urllib.parse import urlsplit

import pytest
from running_mms import Serving, free_ports, wait_for

from mms_handler import client

JSON = "application/json"

ECHO = """
import json

def handle(batch, context):
    if batch is None:
        return None
    replies = []
    for index, request in enumerate(batch):
        shown = {name: [type(value).__name__, str(value)] for name, value in request.items()}
        headers = context.get_all_request_header(index)
        types = [value["content-type"] for value in headers.values() if isinstance(value, dict)]
        replies.append(json.dumps({"parts": shown, "types": types, "batch": len(batch)}))
    return replies
"""

FAILING = """
def handle(batch, context):
    if batch is None:
        return None
    if any(request["body"] == "kill" for request in batch):
        import os
        os._exit(7)
    raise ValueError("secret")
"""

HANGING = """
import os, time

def handle(batch, context):
    if batch is not None:
        print("it has", context.get_request_id(0), flush=True)
        time.sleep(float(batch[0]["body"]))
        return [str(os.getpid())]
"""

TEAPOT = """
def handle(batch, context):
    if batch is None:
        return None
    for index in range(len(batch)):
        context.set_response_status(code=418, phrase="Teapot", idx=index)
    return [bytes(request["body"]).decode() for request in batch]
"""

CLASS = """
class Sums:
    def initialize(self, context):
        self.offset = 10 if context.system_properties["model_dir"] else None

    def handle(self, batch, context):
        return [str(self.offset + sum(request["body"])) for request in batch]
"""

BROKEN = """
def handle(batch, context):
    raise RuntimeError("no weights")
"""


def write(path, source, runtime="python", handler="service:handle"):
    model = {"modelName": path.stem, "handler": handler}
    manifest = {"runtime": runtime, "model": model, "specificationVersion": "1.0"}
    with zipfile.ZipFile(path, "w") as mar:
        mar.writestr("MAR-INF/MANIFEST.json", json.dumps(manifest))
        mar.writestr("service.py", source)


@pytest.fixture(scope="module")
def serving(tmp_path_factory) -> Iterator[Serving]:
    """``serve`` with the models echo, python3 (of that runtime), failing, teapot and sums."""
    folder = tmp_path_factory.mktemp("plain")
    (folder / "store").mkdir()
    write(folder / "echo.mar", ECHO)
    write(folder / "python3.mar", ECHO, runtime="python3")
    write(folder / "failing.mar", FAILING)
    write(folder / "teapot.mar", TEAPOT)
    write(folder / "store" / "broken.mar", BROKEN)
    write(folder / "store" / "four.mar", ECHO)
    write(folder / "sums.mar", CLASS, handler="service")
    models = ("echo", "python3", "failing", "teapot", "sums")
    names = [folder / f"{name}.mar" for name in models]
    words = (*names, "--model-store", folder / "store", "--workers", "1")
    with Serving(free_ports(), *words, log=folder / "log") as serving:
        yield serving


@pytest.fixture(scope="module")
def mms(front) -> str:
    """The address of MMS's own inference API, with the model echo."""
    write(front.store / "echo.mar", ECHO)
    assert front.add("echo").status == 200
    return front.inference


def post(url: str, body: bytes, content_type: str | None) -> tuple[int, str]:
    """A reply's status and text; no Content-Type is sent for None."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=30)
    target = f"{parts.path}?{parts.query}" if parts.query else parts.path
    connection.request("POST", target, body, {"Content-Type": content_type} if content_type else {})
    reply = connection.getresponse()
    text = reply.read().decode()
    connection.close()
    return reply.status, text


MULTIPART = (
    b'--cut\r\nContent-Disposition: form-data; name="a"\r\n\r\n[1]\r\n'
    b'--cut\r\nContent-Disposition: form-data; name="b"; filename="b.json"\r\n'
    b"Content-Type: application/json\r\n\r\n[1]\r\n"
    b'--cut\r\nContent-Disposition: form-data; name="c"; filename="c.txt"\r\n'
    b"Content-Type: text/plain\r\n\r\nhi\r\n--cut--\r\n"
)

#: Content types and bodies, and what a handler of MMS gets of them.
BODIES = [
    (JSON, b'{"a": [1, NaN]}', {"body": ["dict", "{'a': [1, nan]}"]}),
    (JSON, b"[1, null]", {"body": ["list", "[1, None]"]}),
    (JSON, b" 7 ", {"body": ["int", "7"]}),
    (JSON, b'"\\u00e4"', {"body": ["str", "ä"]}),
    (JSON + "; charset=utf-8", b"[1]", {"body": ["list", "[1]"]}),
    (JSON + "; charset=latin-1", '"ä"'.encode(), {"body": ["str", "ä"]}),
    ("Application/JSON", b"[1]", {"body": ["bytearray", "bytearray(b'[1]')"]}),
    ("application/ld+json", b"[1]", {"body": ["bytearray", "bytearray(b'[1]')"]}),
    ("text/plain", "ä".encode(), {"body": ["str", "ä"]}),
    ("text/plain; charset=latin-1", "ä".encode(), {"body": ["str", "ä"]}),
    ("text/plain", b"", {"body": ["str", ""]}),
    ("text/csv", b"1,2\r\n", {"body": ["str", "1,2\r\n"]}),
    ("TEXT/Plain", b"x", {"body": ["bytearray", "bytearray(b'x')"]}),
    (None, b"[1]", {"body": ["bytearray", "bytearray(b'[1]')"]}),
    (None, b"", {"body": ["bytearray", "bytearray(b'')"]}),
    ("application/octet-stream", b"\0\xff", {"body": ["bytearray", r"bytearray(b'\x00\xff')"]}),
    (
        "application/x-www-form-urlencoded",
        b"a=1&b=%C3%A4",
        {"a": ["bytearray", "bytearray(b'1')"], "b": ["bytearray", r"bytearray(b'\xc3\xa4')"]},
    ),
    (
        "multipart/form-data; boundary=cut",
        MULTIPART,
        {"a": ["bytearray", "bytearray(b'[1]')"], "b": ["list", "[1]"], "c": ["str", "hi"]},
    ),
]


@pytest.mark.parametrize(("content_type", "body", "expected"), BODIES)
def test_a_handler_gets_what_mms_hands_it(serving, mms, content_type, body, expected):
    """The same values and types of parts; from MMS's own command, too."""
    replies = []
    for url in (serving.inference, mms):
        replies.append(post(f"{url}/predictions/echo", body, content_type))
    (status, text), theirs = replies
    assert (status, json.loads(text)["parts"]) == (200, expected)
    assert theirs == (status, text)


def test_the_other_paths(serving, mms):
    """Their queries are parts."""
    for path in (
        "/invocations?model_name=echo&x=1",
        "/models/echo/invoke?x=1",
        "/echo/predict?x=1",
    ):
        replies = [post(f"{url}{path}", b"[1]", JSON) for url in (serving.inference, mms)]
        assert replies[0] == replies[1]
        parts = json.loads(replies[0][1])["parts"]
        assert (parts["x"], parts["body"]) == (["bytearray", "bytearray(b'1')"], ["list", "[1]"])


def test_a_handler_that_is_a_class(serving):
    """Its archive names the module alone, as model-archiver packs it; MMS makes the object."""
    assert post(f"{serving.inference}/predictions/sums", b"[1, 2]", JSON) == (200, "13")


@pytest.mark.parametrize(
    ("content_type", "body", "message"),
    [
        (JSON, b"[1", "the body is not valid JSON: Expecting ',' delimiter: line 1 column 3"),
        (JSON, b"", "the body is not valid JSON: Expecting value: line 1 column 1 (char 0)"),
        (JSON, b"\xef\xbb\xbf[1]", "the body is not valid JSON: Unexpected UTF-8 BOM"),
        (JSON, b"[" * 100_000, "the body is JSON that is nested too deeply"),
        ("text/plain; charset=latin-1", b"\xe4", "the body is text/plain, and not UTF-8: "),
        (
            "multipart/form-data; boundary=cut",
            MULTIPART.replace(b"json\r\n\r\n[1]", b"json\r\n\r\n[1"),
            "the part 'b' is not valid JSON: ",
        ),
    ],
)
@pytest.mark.parametrize("model", ["echo", "python3"])
def test_a_malformed_body(serving, model, content_type, body, message):
    """Is answered 400, and the worker serves on; MMS itself loses it."""
    _, before = serving.of_model(model)
    status, text = post(f"{serving.inference}/predictions/{model}", body, content_type)
    fields = json.loads(text)
    assert (status, fields["code"], fields["type"]) == (400, 400, "BadInput")
    assert fields["message"].startswith(message)
    wait_for(lambda: fields["request_id"] in serving.log.read_text(), 10)
    assert serving.of_model(model)[1] == before
    assert post(f"{serving.inference}/predictions/{model}", b"[1]", JSON)[0] == 200


def test_a_batch_with_malformed_bodies(serving):
    """The others are answered.  The gate makes batches where it gains time by them."""
    query = "url=four.mar&batch_size=4&max_batch_delay=200&initial_workers=1"
    assert post(f"{serving.management}/models?{query}", b"", None)[0] == 200
    url = f"{serving.inference}/predictions/four"
    bodies = [b"[1", b"[1]", b"[2]", b"[3]"] * 30
    with ThreadPoolExecutor(16) as pool:
        replies = list(pool.map(lambda body: post(url, body, JSON), bodies))
    assert [status for status, _ in replies] == [400, 200, 200, 200] * 30
    answers = [json.loads(text) for status, text in replies if status == 200]
    assert [answer["parts"]["body"][1] for answer in answers] == ["[1]", "[2]", "[3]"] * 30


def test_a_handler_gets_one_request_unless_more_are_asked_for(serving):
    """As in MMS; many handlers read only the first of a batch."""
    url = f"{serving.inference}/predictions/echo"
    with ThreadPoolExecutor(16) as pool:
        replies = list(pool.map(lambda _: post(url, b"[1]", JSON), range(200)))
    assert {(status, json.loads(text)["batch"]) for status, text in replies} == {(200, 1)}


def test_a_handler_that_fails(serving):
    """MMS's own answer."""
    status, text = post(f"{serving.inference}/predictions/failing", b"x", "text/plain")
    assert (status, json.loads(text)["message"]) == (503, "Prediction failed")


def test_a_handler_that_hangs(tmp_path):
    """Its request gets 504, and the worker is replaced; the queue is bounded, and ids are kept."""
    write(tmp_path / "hanging.mar", HANGING)
    words = (tmp_path / "hanging.mar", "--workers", "1", "--timeout-s", "3", "--restarts", "9")
    options = ("--job-queue-size", "2", "--max-requests", "5")
    with Serving(free_ports(), *words, *options, log=tmp_path / "log") as serving:
        url = f"{serving.inference}/predictions/hanging"
        with ThreadPoolExecutor(4) as pool:
            replies = list(pool.map(lambda _: post(url, b"1.2", "text/plain"), range(4)))
        assert sorted(status for status, _ in replies) == [200, 200, 200, 503]
        status, text = post(url, b"60", "text/plain")
        assert (status, json.loads(text)["type"]) == (504, "TimedOut")
        replies = [post(url, b"0", "text/plain") for _ in range(6)]
        assert {status for status, _ in replies} == {200}
        wait_for(lambda: post(url, b"0", "text/plain")[1] != replies[0][1], 20)  # it is recycled
        answer = client.call(
            "POST", url, b"0", {"Content-Type": "text/plain", "X-Request-Id": "my"}
        )
        assert answer.headers["x-request-id"] == "my"
        wait_for(lambda: "request my: it has my" in serving.log.read_text(), 10)


def test_a_handler_that_does_not_load(serving):
    """Says why."""
    query = "url=broken.mar&initial_workers=1"
    status, text = post(f"{serving.management}/models?{query}", b"", None)
    assert (status, json.loads(text)["message"]) == (
        500,
        "broken cannot be served: handler service:handle: RuntimeError: no weights (service.py, "
        "line 3)",
    )


def test_a_worker_that_dies(serving):
    """The log has the request that it had."""
    assert post(f"{serving.inference}/predictions/failing", b"kill", "text/plain")[0] == 500
    line = "of failing ended with exit code 7; it had request "
    wait_for(lambda: line in serving.log.read_text(), 10)


@pytest.mark.parametrize(
    ("text", "reply"),
    [
        pytest.param('{"code": 418, "message": "tea"}', '{"error":"tea"}', id="MMS's form"),
        pytest.param("tea", '{"error":"tea"}', id="a text"),
        pytest.param('["tea"]', '{"error":"[\\"tea\\"]"}', id="a list"),
        pytest.param('{"message": null}', '{"message": null}', id="null"),
        pytest.param('{"message": {"a": 1}}', '{"message": {"a": 1}}', id="an object"),
        pytest.param('{"a": %s}' % ("[" * 9_999 + "]" * 9_999), None, id="deep"),
    ],
)
def test_an_error_of_a_handler_by_the_open_inference_protocol(serving, text, reply):
    """It is sent, whatever JSON it is; what has a message gets the protocol's form."""
    status, answer = post(f"{serving.inference}/v2/models/teapot/infer", text.encode(), "text/csv")
    assert (status, answer) == (418, reply or text)
