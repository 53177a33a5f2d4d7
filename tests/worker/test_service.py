"""The handler inside MMS's own classes: its loader loads the model, its frames carry requests."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import os
import random
import signal
import struct
import sys
import time
from typing import NamedTuple

import pytest
from mms.model_loader import ModelLoaderFactory
from mms.protocol import otf_message_handler
from mms.protocol.otf_message_handler import retrieve_msg

from mms_handler import worker_files
from mms_handler.errors import HandlerError, LoadError, ModelError, ScriptError, SettingsError
from mms_handler.worker.loading import visible_gpu
from mms_handler.worker.mms import lifeline, output

BYTES = "application/octet-stream"  # the type of a reply whose own type cannot be sent
JSON, CSV = "application/json", "text/csv"


# --- MMS's frames, written and read here ---


def text(value):
    raw = value if isinstance(value, bytes) else value.encode()
    return struct.pack("!i", len(raw)) + raw


END = struct.pack("!i", -1)


class Request(NamedTuple):
    """A request as the front end sends it.  With ``parts``, a form's fields, there is no body."""

    body: bytes = b"[1, 2]"
    content_type: str = JSON
    accept: str = JSON
    headers: dict = {}
    parts: dict = {}
    id: str = "r"

    def frame(self):
        headers = {"Content-Type": self.content_type, "Accept": self.accept, **self.headers}
        lines = [text(name) + text(value) for name, value in headers.items() if value is not None]
        parts = self.parts or {"body": self.body}
        kind = "" if self.parts else self.content_type or ""  # a form's fields have no type
        fields = [text(name) + text(kind) + text(value) for name, value in parts.items()]
        return b"".join([text(self.id), *lines, END, *fields, END])


class Wire(io.BytesIO):
    """The part of a socket that MMS's reader uses."""

    recv = io.BytesIO.read


class Answer(NamedTuple):
    """One request's part of the frame that MMS sends back."""

    status: int
    content_type: str
    body: bytes
    phrase: str
    headers: dict
    id: str

    @property
    def fault(self):
        fault = json.loads(self.body)
        return self.status, fault["type"], fault["message"]


def read_frame(frame, count):
    """Return the answers in a frame; all lengths must be right, to the last byte.

    Java reads the status and the map of headers without a check that their bytes have arrived.  So
    no byte of the status may begin a block of 16 unless the read before it ended there, and the map
    must be empty (reply_frame.py).
    """
    stream = io.BytesIO(frame)

    def number():
        return struct.unpack("!i", stream.read(4))[0]

    def raw():
        length = number()
        assert length >= 0
        piece = stream.read(length)
        assert len(piece) == length
        return piece

    def word():
        return raw().decode("ascii")

    assert (number(), word()) == (200, "Prediction success")
    answers = []
    for _ in range(count):
        request_id, content_type = word(), word()
        assert 1 <= stream.tell() % 16 <= 12
        status, phrase = number(), word()
        assert number() == 0
        content_type, *lines = content_type.lstrip(" ").split("\r\n")
        headers = {"content-type": content_type, **dict(line.split(": ", 1) for line in lines)}
        answers.append(Answer(status, content_type, raw(), phrase, headers, request_id))
    assert number() == -1
    assert stream.read() == b""
    return answers


class Worker:
    """A model, loaded as an MMS worker loads it."""

    def __init__(self, model_dir, batch_size=8, gpu=None):
        os.chdir(model_dir)
        loader = ModelLoaderFactory.get_model_loader(str(model_dir))
        self.service = loader.load(
            "m", str(model_dir), "mms_handler.service:handle", gpu, batch_size
        )

    def answer_batch(self, *requests):
        """Answer requests that come in one batch."""
        command, batch = retrieve_msg(Wire(b"I" + b"".join(r.frame() for r in requests) + END))
        assert command == b"I"
        return read_frame(self.service.predict(batch), len(requests))

    def answer(self, **request):
        """Answer one request."""
        (answer,) = self.answer_batch(Request(**request))
        return answer


@pytest.fixture(autouse=True)
def restored_alarm():
    """Reset the handler of SIGALRM, which a worker's time limit replaces."""
    handler = signal.getsignal(signal.SIGALRM)
    yield
    signal.signal(signal.SIGALRM, handler)


@pytest.fixture
def worker(tmp_path):
    """Load a script in a worker."""

    def build(source, **options):
        (tmp_path / "code").mkdir()
        (tmp_path / "code" / "inference.py").write_text(source)
        return Worker(tmp_path, **options)

    return build


DOUBLER = """\
import sys

def model_fn(model_dir):
    return 2

def predict_fn(data, model):
    first = data.asnumpy().ravel()[0]
    if first == 13:
        raise KeyError("a secret")
    if first == 14:
        sys.exit("bye")
    if first == 15:
        raise MemoryError
    return data * model
"""

# --- batches ---


def test_a_bad_request_does_not_affect_its_batch(worker):
    """Each request of a batch has its own status, content type and body."""
    answers = worker(DOUBLER).answer_batch(
        Request(b"[1, 2]", id="a"),
        Request(b'{"a":', id="b"),
        Request(b"3,4", CSV, CSV, id="c"),
        Request(b"\x89PNG", "image/gif", id="d"),
        Request(b"[1]", accept="image/png", id="e"),
        Request(b"[13]", id="f"),
        Request(b"[5]", accept="text/html, text/csv;q=0.5", id="g"),
    )
    assert [(a.id, a.status, a.phrase, a.content_type) for a in answers] == [
        ("a", 200, "OK", JSON),
        ("b", 400, "Bad Input", JSON),
        ("c", 200, "OK", CSV),
        ("d", 415, "Unsupported Media Type", JSON),
        ("e", 406, "Not Acceptable", JSON),
        ("f", 500, "Internal Server Error", JSON),
        ("g", 200, "OK", CSV),
    ]
    assert [a.body for a in answers if a.status == 200] == [
        b"[2.0, 4.0]",
        b"6.0,8.0\r\n",
        b"10.0\r\n",
    ]
    assert [json.loads(a.body) for a in answers if a.status != 200] == [
        {
            "code": 400,
            "type": "BadInput",
            "message": "not valid application/json: Expecting value: line 1 column 6 (char 5)",
            "request_id": "b",
        },
        {
            "code": 415,
            "type": "UnsupportedType",
            "message": "cannot read 'image/gif', only application/json, text/csv, "
            "application/x-npy, application/x-npz, application/jsonlines, "
            "application/x-jsonlines, application/jsonl, application/x-ndjson, "
            "application/x-recordio-protobuf, image/jpeg, image/png, application/x-image",
            "request_id": "d",
        },
        {
            "code": 406,
            "type": "NotAcceptable",
            "message": "cannot write 'image/png', only application/json, text/csv, "
            "application/x-npy, application/x-npz, application/jsonlines, "
            "application/x-recordio-protobuf",
            "request_id": "e",
        },
        {
            "code": 500,
            "type": "KeyError",
            "message": "the model failed with KeyError; see the server's log",
            "request_id": "f",
        },
    ]


KINDS = [
    Request(b"[1, 2]", id="json"),
    Request(b"3,4\n5,6\n", CSV, CSV, id="csv"),
    Request(b"[1]", accept="application/x-npy", id="npy"),
    Request(b"[", id="broken"),
    Request(b"", id="empty"),
    Request(b"[[1, 2], [3]]", id="ragged"),
    Request(b"\xff", CSV, id="binary"),
    Request(b"[1]", "image/gif", id="picture"),
    Request(b"[1]", accept="image/png", id="unwritable"),
    Request(b"[13]", id="bug"),
    Request(b"[14]", id="exit"),
    Request(b"[15]", id="memory"),
    Request(parts={"name": b"x", "file": b"y"}, content_type="multipart/form-data", id="form"),
]


def test_each_request_is_answered_as_it_would_be_alone(worker):
    """The other requests of a batch make no difference, whatever their order and number."""
    model = worker(DOUBLER)
    alone = {request.id: model.answer_batch(request)[0] for request in KINDS}
    assert [alone[r.id].status for r in KINDS] == [
        *(200, 200, 200),
        *(400, 400, 400, 400),
        *(415, 406, 500, 500, 507, 415),
    ]
    rng = random.Random(11)
    for _ in range(60):
        batch = rng.choices(KINDS, k=rng.randint(1, 8))
        assert model.answer_batch(*batch) == [alone[request.id] for request in batch]


def test_status_and_headers_belong_to_one_request(worker):
    """What a script sets for one request of a batch is not sent with the next one."""
    model = worker(
        "def model_fn(model_dir): pass\n"
        "def transform_fn(model, data, content_type, accept, context, request_id):\n"
        "    index = list(context.request_ids.values()).index(request_id)\n"
        "    if data == 'set':\n"
        "        context.set_response_status(202, 'Later', index)\n"
        "        context.set_response_header(index, 'X-Mine', data)\n"
        "    return data, 'text/plain'\n"
    )
    answers = model.answer_batch(
        Request(b"a", id="1"), Request(b"set", id="2"), Request(b"b", id="3")
    )
    assert [(a.status, a.phrase, a.headers.get("X-Mine")) for a in answers] == [
        (200, "OK", None),
        (202, "Later", "set"),
        (200, "OK", None),
    ]


def test_every_answer_has_the_id_of_its_request(worker):
    """The body of an error names the request too."""
    answer = worker(DOUBLER).answer(body=b"[", id="4f1c")
    assert answer.id == "4f1c"
    assert json.loads(answer.body)["request_id"] == "4f1c"


# --- requests ---

ECHO = """\
def model_fn(model_dir):
    return None

def transform_fn(model, data, content_type, accept, headers):
    return {"data": str(data), "as": type(data).__mro__[-2].__name__,
            "type": content_type, "accept": accept, "x": headers.get("x-a")}
"""


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        pytest.param({"Content-Type": CSV, "Accept": JSON}, (CSV, JSON), id="usual case"),
        pytest.param({"content-type": CSV, "accept": JSON}, (CSV, JSON), id="lower case"),
        pytest.param({"CONTENT-TYPE": CSV, "ACCEPT": JSON}, (CSV, JSON), id="upper case"),
        pytest.param({"cOnTeNt-TyPe": CSV}, (CSV, JSON), id="mixed case and no Accept"),
        pytest.param({}, (JSON, JSON), id="no headers"),
        pytest.param({"Content-Type": ""}, (JSON, JSON), id="an empty content type"),
        pytest.param({"Accept": "*/*"}, (JSON, JSON), id="any Accept"),
    ],
)
def test_header_names_may_have_any_case(worker, headers, expected):
    """MMS passes names as they were sent; a body without a content type is JSON."""
    request = {"content_type": None, "accept": None, "headers": {**headers, "X-A": "1"}}
    echo = json.loads(worker(ECHO).answer(body=b"5", **request).body)
    assert (echo["type"], echo["accept"], echo["x"]) == (*expected, "1")


def test_a_missing_content_type_is_json_for_the_defaults_too(worker):
    """The contract's default request handlers read such a body as JSON."""
    answer = worker(DOUBLER).answer(body=b"[1, 2]", content_type=None, accept=None)
    assert (answer.status, answer.content_type, answer.body) == (200, JSON, b"[2.0, 4.0]")


@pytest.mark.parametrize(
    ("content_type", "body", "expected"),
    [
        pytest.param(JSON, b"\xc3\xa9", ("str", "\u00e9"), id="JSON as text"),
        pytest.param("text/csv; charset=utf-8", b"1", ("str", "1"), id="CSV as text"),
        pytest.param("text/plain", b"a", ("bytes", "b'a'"), id="other text as bytes"),
        pytest.param("image/png", b"\x89", ("bytes", "b'\\x89'"), id="a picture as bytes"),
    ],
)
def test_bodies_reach_scripts_as_text_or_bytes(worker, content_type, body, expected):
    """JSON and CSV are text; no script gets MMS's bytearray."""
    echo = json.loads(worker(ECHO).answer(body=body, content_type=content_type).body)
    assert (echo["as"], echo["data"]) == expected


@pytest.mark.parametrize("name", ["file", "body"])
def test_the_only_part_of_a_form_is_the_body(worker, name):
    """MMS splits forms into parts; a single part is what the client meant to send."""
    kind = "application/x-www-form-urlencoded"
    answer = worker(DOUBLER).answer(parts={name: b"[4]"}, content_type=kind)
    assert (answer.status, answer.body) == (200, b"[8.0]")


@pytest.mark.parametrize(
    ("parts", "status", "reply"),
    [
        pytest.param(
            {"body": b"", "data": b"4,5"}, 200, b"[[8.0, 10.0]]", id="a query with one parameter"
        ),
        pytest.param({"body": b"6", "data": b"4"}, 200, b"[[12.0]]", id="a query and a body"),
        pytest.param({"body": b"", "model_name": b"m"}, 400, None, id="only the model's name"),
        pytest.param(
            {"body": b"", "a": b"4", "b": b"5"}, 400, None, id="a query with two parameters"
        ),
    ],
)
def test_a_query_replaces_an_empty_body(worker, parts, status, reply):
    """A single parameter is the body, of the header's type; MMS sends an empty body with it."""
    answer = worker(DOUBLER).answer(parts=parts, content_type=CSV)
    assert answer.status == status
    assert reply in (None, answer.body)
    assert reply or answer.fault[2] == "the body is empty; expected text/csv"


@pytest.mark.parametrize(
    ("raw", "value"),
    [
        pytest.param("caf\u00e9".encode(), "caf\u00e9", id="UTF-8"),
        pytest.param(b"caf\xe9", "caf\u00e9", id="Latin-1"),
        pytest.param(b"cafe", "cafe", id="ASCII"),
    ],
)
def test_a_header_may_have_letters_outside_ascii(worker, raw, value):
    """The front end reads each byte as a letter, and sends the letters to the worker as UTF-8."""
    answer = worker(ECHO).answer(headers={"X-A": raw.decode("latin-1").encode()})
    assert json.loads(answer.body)["x"] == value


def test_a_form_of_several_parts_is_refused(worker):
    """The worker does not guess which of them is the body."""
    answer = worker(DOUBLER).answer(parts={"name": b"x", "file": b"y"}, content_type="form")
    assert answer.fault[:2] == (415, "UnsupportedType")
    assert answer.fault[2].startswith(
        "a form or a query must have exactly one part, this one has: file, name;"
    )


def test_a_part_with_a_headers_name_is_not_a_header(worker):
    """MMS puts parts among the request's headers; they are ignored, since they are not text."""
    answer = worker(ECHO).answer(
        parts={"body": b"5", "accept": b"1", "x-a": b"2"}, content_type=None, accept=None
    )
    echo = json.loads(answer.body)
    assert (echo["type"], echo["accept"], echo["x"]) == (JSON, JSON, None)


CLEARING = """\
import os

def model_fn(model_dir):
    return None

def predict_fn(data, model):
    os.environ.clear()
    return data
"""


@pytest.mark.parametrize(
    "source", [pytest.param(DOUBLER, id="first"), pytest.param(CLEARING, id="environment cleared")]
)
def test_mms_does_not_read_bodies_itself(worker, monkeypatch, source):
    """A body that MMS could not read reaches the handler, whatever a script does to os.environ."""
    monkeypatch.setattr(otf_message_handler, "os", os)  # as before any load
    for name, value in os.environ.items():
        monkeypatch.setenv(name, value)  # to have it back
    model = worker(source)
    assert model.answer(body=b"[[1]]").status == 200
    answers = model.answer_batch(Request(b"{"), Request(b""), Request(b"\xff", CSV))
    assert [answer.status for answer in answers] == [400, 400, 400]
    assert model.answer(body=b"[[1]]").status == 200


# --- exceptions of scripts ---


@pytest.mark.parametrize(
    ("raises", "fault"),
    [
        pytest.param(
            "raise SystemExit('bye')",
            (500, "SystemExit", "the model failed with SystemExit; see the server's log"),
            id="exit",
        ),
        pytest.param(
            "raise MemoryError('secret')",
            (507, "MemoryError", "not enough memory for this request; send less data at once"),
            id="no memory",
        ),
        pytest.param(
            "raise RuntimeError('secret')",
            (500, "RuntimeError", "the model failed with RuntimeError; see the server's log"),
            id="a bug",
        ),
        pytest.param(
            "from mms.service import PredictionException as E; raise E('too old', 409)",
            (409, "PredictionException", "too old"),
            id="MMS's error with a status",
        ),
        pytest.param(
            "from sagemaker_inference.errors import BaseInferenceToolkitError as E\n"
            "    raise E(422, 'caf\u00e9\\nclosed', 'phrase')",
            (422, "BaseInferenceToolkitError", "caf\u00e9\nclosed"),
            id="the toolkit's error with a status",
        ),
        pytest.param(
            "from sagemaker_inference.errors import GenericInferenceToolkitError as E\n"
            "    raise E(400, 'no rows')",
            (400, "GenericInferenceToolkitError", "no rows"),
            id="the toolkit's generic error",
        ),
        pytest.param(
            "return object(), 'text/plain'",
            (500, "ScriptError", None),
            id="a reply that is not data",
        ),
        pytest.param("return {1, 2}", (500, "ScriptError", None), id="a reply that is a set"),
    ],
)
def test_a_scripts_exception_is_answered(worker, raises, fault):
    """The client gets a status and a message; the worker goes on."""
    model = worker(
        "def model_fn(model_dir): pass\n"
        "def transform_fn(model, data, content_type, accept):\n"
        "    if data == 'good':\n        return 'fine'\n"
        f"    {raises}\n"
    )
    bad, good = model.answer_batch(Request(b"bad"), Request(b"good"))
    status, kind, message = bad.fault
    assert (status, kind) == fault[:2]
    assert fault[2] in (None, message)
    assert bad.content_type == JSON
    assert (good.status, good.body) == (200, b"fine")


def test_the_toolkits_format_error_is_415(worker):
    """A type that AWS's toolkit cannot decode is the client's error."""
    answer = worker(
        "from sagemaker_inference.errors import UnsupportedFormatError\n"
        "def model_fn(model_dir): pass\n"
        "def transform_fn(model, data, content_type, accept):\n"
        "    raise UnsupportedFormatError(content_type)\n"
    ).answer(content_type="image/png")
    assert answer.status == 415
    assert answer.fault[2].startswith("Content type image/png is not supported")


def test_a_bug_is_logged_with_its_place_and_traceback(worker, caplog):
    """The log has what the client does not get: the message, the line and the traceback."""
    worker(DOUBLER).answer(body=b"[13]", id="r-7")
    (record,) = [r for r in caplog.records if r.levelno == logging.ERROR]
    first, second, *_, last = record.getMessage().splitlines()
    assert first == "500 KeyError: 'a secret' (code/inference.py, line 9)"
    assert second == "Traceback (most recent call last):"
    assert last == "KeyError: 'a secret'"


def test_a_missing_return_is_one_line_in_the_log(worker, caplog):
    """With the place of the function; there is no traceback of it."""
    forgets = DOUBLER.replace("    return data * model", "    data * model")
    answer = worker(forgets).answer(id="r-8")
    assert answer.fault[:2] == (500, "ScriptError")
    assert caplog.messages == [
        "500 ScriptError: predict_fn returned None, wanted an NDArray or a list of "
        "them (code/inference.py, line 6)"
    ]


def test_a_missing_return_that_another_function_stumbles_over(worker, caplog):
    """The line has both places, and the traceback is the other function's."""
    forgets = DOUBLER.replace("    return data * model", "    data * model")
    worker(forgets + "def output_fn(out, accept):\n    return out.asnumpy().tolist()\n").answer(
        id="r-9"
    )
    (message,) = caplog.messages
    first, second, *_ = message.splitlines()
    assert first == (
        "500 ScriptError: predict_fn returned None, wanted an NDArray or a list of "
        "them (code/inference.py, line 6); from AttributeError: 'NoneType' object has no "
        "attribute 'asnumpy' (code/inference.py, line 16)"
    )
    assert second == "Traceback (most recent call last):"


def test_a_clients_error_is_one_warning(worker, caplog):
    """A client's error is one line in the log, without a traceback."""
    worker(DOUBLER).answer(body=b"[", id="r-8")
    (record,) = [r for r in caplog.records if r.levelno >= logging.WARNING]
    assert record.levelno == logging.WARNING
    assert record.getMessage().startswith("400 BadInput: not valid application/json")
    assert not record.exc_info


def test_a_client_cannot_make_a_long_line_in_the_log(worker, caplog):
    """MMS takes seconds for a line of a megabyte while the worker waits, so lines stay short."""
    answer = worker(DOUBLER).answer(body=b'{"%s": 1, "y": 2}' % (b"x" * 100_000))
    assert answer.status == 400
    assert max(len(message) for message in caplog.messages) < 8_000


def test_a_long_message_is_cut(worker):
    """MMS may lose the end of a long error, so errors stay below 4 KB."""
    answer = worker(
        "from mms.service import PredictionException\n"
        "def model_fn(model_dir): pass\n"
        "def transform_fn(model, data, content_type, accept):\n"
        "    raise PredictionException(data * 1000, 400)\n"
    ).answer(body=b"0123456789")
    assert answer.fault[2] == "0123456789" * 150
    assert len(answer.body) < 4_000


def test_a_long_message_outside_ascii_is_cut_too(worker):
    """The limit counts the bytes that are sent, not the letters."""
    answer = worker(
        "from mms.service import PredictionException\n"
        "def model_fn(model_dir): pass\n"
        "def transform_fn(model, data, content_type, accept):\n"
        "    raise PredictionException(data * 1000, 400)\n"
    ).answer(body="\u00e9\u00e8".encode())
    assert len(answer.body) < 4_000


# --- status and headers from the context ---


def setting(lines, content_type="text/plain"):
    body = "".join(f"    {line}\n" for line in lines.split("; "))
    return (
        "def model_fn(model_dir): pass\n"
        "def transform_fn(model, data, content_type, accept, context):\n"
        f"{body}    return b'body', {content_type!r}\n"
    )


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        pytest.param("(201, 'Made')", (201, "Made"), id="a success"),
        pytest.param("(404, 'Gone Fishing')", (404, "Gone Fishing"), id="an error"),
        pytest.param("(200, '')", (200, "OK"), id="200 without a phrase is OK"),
        pytest.param("(202, None)", (202, ""), id="another status without a phrase"),
        pytest.param("(-1, 'x')", (500, "x"), id="a negative status"),
        pytest.param("(0, 'x')", (500, "x"), id="status zero"),
        pytest.param("(100, 'x')", (500, "x"), id="an informational status"),
        pytest.param("(600, 'x')", (500, "x"), id="a status above HTTP's"),
        pytest.param("('200', 'x')", (500, "x"), id="a status that is text"),
        pytest.param("(None, 'x')", (500, "x"), id="no status"),
        pytest.param("(200.0, 'x')", (500, "x"), id="a status that is a float"),
        pytest.param("(True, 'x')", (500, "x"), id="a status that is true"),
        pytest.param("(2 ** 40, 'x')", (500, "x"), id="a status too large for the frame"),
        pytest.param("(200, 'caf\u00e9')", (200, "caf?"), id="a phrase outside ASCII"),
        pytest.param("(200, 'a\\r\\nX-B: c')", (200, "a??X-B: c"), id="a phrase with two lines"),
        pytest.param("(200, 'a\\x00\\t')", (200, "a??"), id="a phrase with control characters"),
        pytest.param("(200, 7)", (200, "7"), id="a phrase that is a number"),
    ],
)
def test_a_scripts_status_is_sent_if_it_is_valid(worker, call, expected):
    """Only 200 to 599 and printable ASCII are sent; others would hang MMS or cost the worker."""
    answer = worker(setting(f"context.set_response_status(*{call})")).answer()
    assert (answer.status, answer.phrase) == expected
    assert answer.body == b"body"


@pytest.mark.parametrize(
    ("content_type", "header"),
    [
        pytest.param("pickle_buffer", "pickle_buffer", id="an unusual type"),
        pytest.param("text/plain; charset=utf-8", "text/plain; charset=utf-8", id="parameters"),
        pytest.param("text/caf\u00e9", BYTES, id="a type outside ASCII"),
        pytest.param("text/plain\r\nX-B: c", BYTES, id="a type with two lines"),
    ],
)
def test_a_scripts_content_type_is_sent_if_it_is_valid(worker, content_type, header):
    """A type that cannot be in a header is replaced; the body still arrives."""
    answer = worker(setting("pass", content_type)).answer()
    assert (answer.status, answer.content_type, answer.body) == (200, header, b"body")
    assert answer.headers == {"content-type": header}


@pytest.mark.parametrize(
    ("pair", "headers"),
    [
        pytest.param("'X-A', 'one'", {"X-A": "one"}, id="a header"),
        pytest.param("'X-A', ''", {"X-A": ""}, id="an empty header"),
        pytest.param("'X-A', 'caf\u00e9'", {}, id="a value outside ASCII"),
        pytest.param("'X-A', 'a\\r\\nSet-Cookie: b'", {}, id="a value with two lines"),
        pytest.param("'X-A', 7", {}, id="a value that is a number"),
        pytest.param("'X-A', None", {}, id="no value"),
        pytest.param("'X-A', b'a'", {}, id="a value in bytes"),
        pytest.param("'X A', 'a'", {}, id="a name with a space"),
        pytest.param("'X-\u00c4', 'a'", {}, id="a name outside ASCII"),
        pytest.param("'X-A\\r\\nX-B', 'a'", {}, id="a name with two lines"),
        pytest.param("'', 'a'", {}, id="an empty name"),
        pytest.param("3, 'a'", {}, id="a name that is a number"),
        pytest.param("'Transfer-Encoding', 'chunked'", {}, id="a hop-by-hop header"),
    ],
)
def test_a_scripts_header_is_sent_if_it_is_valid(worker, pair, headers, caplog):
    """A header that would break the frame or split the reply is left out, and the log says so."""
    answer = worker(setting(f"context.set_response_header(0, {pair})")).answer()
    assert answer.headers == {**headers, "content-type": "text/plain"}
    assert (answer.status, answer.body) == (200, b"body")
    assert len([m for m in caplog.messages if "cannot be sent" in m]) == (0 if headers else 1)


def test_an_error_replaces_the_scripts_status(worker):
    """An error has its own status, phrase and content type, whatever the script set before."""
    lines = "context.set_response_status(201, 'Made'); raise KeyError"
    answer = worker(setting(lines)).answer()
    assert (answer.status, answer.phrase) == (500, "Internal Server Error")
    assert answer.content_type == JSON


# --- the size of replies ---


@pytest.mark.parametrize(
    ("size", "status"),
    [pytest.param(1000, 200, id="the limit"), pytest.param(1001, 507, id="one byte more")],
)
def test_a_reply_over_the_limit(worker, monkeypatch, size, status):
    """A reply that MMS would not accept is an error that names both sizes; the worker goes on."""
    monkeypatch.setenv("MMS_MAX_RESPONSE_SIZE", "1000")
    model = worker(
        "def model_fn(model_dir): pass\n"
        "def transform_fn(model, data, content_type, accept):\n"
        "    return b'x' * int(data), 'text/plain'\n"
    )
    answer, other = model.answer_batch(Request(b"%d" % size), Request(b"3"))
    assert answer.status == status
    if status == 507:
        assert answer.fault == (
            507,
            "OutOfResources",
            "the reply has 1001 bytes, the server sends at most 1000",
        )
    assert (other.status, other.body) == (200, b"xxx")


# --- loading ---


def test_a_worker_of_mms(worker, monkeypatch):
    """Its output becomes lines that MMS can read, and no batch may take longer than MMS waits."""
    limits = []

    class Connection(contextlib.nullcontext):
        limit = staticmethod(limits.append)

    monkeypatch.setattr(lifeline, "attach", Connection)
    for name in ("stdout", "stderr"):
        monkeypatch.setattr(sys, name, getattr(sys, name))
    monkeypatch.setattr(logging.getLogger(), "level", logging.WARNING)
    monkeypatch.setattr(logging.getLogger("mms.service"), "level", logging.NOTSET)
    monkeypatch.setenv("SAGEMAKER_MODEL_SERVER_TIMEOUT_SECONDS", "70")
    monkeypatch.setenv("MMS_HANDLER_LOG_LEVEL", "error")
    worker(DOUBLER)
    assert limits == [70]
    assert logging.getLogger().level == logging.ERROR
    assert isinstance(sys.stdout, output._Stream)
    assert isinstance(sys.stderr, output._Stream)


def test_a_model_is_loaded_once(worker, tmp_path):
    """A worker calls model_fn once, however many requests come."""
    model = worker(
        "def model_fn(model_dir):\n"
        "    with open('loads', 'a') as f:\n"
        "        f.write('l')\n"
        "def transform_fn(model, data, content_type, accept):\n"
        "    return ''\n"
    )
    for _ in range(3):
        model.answer_batch(Request(), Request())
    assert (tmp_path / "loads").read_text() == "l"


def test_the_script_runs_in_the_model_dir(worker, tmp_path):
    """Relative paths start at the model_dir, and the device is the worker's."""
    (tmp_path / "labels.txt").write_text("cat")
    answer = worker(
        "def model_fn(model_dir, gpu_id, ctx):\n"
        "    with open('labels.txt') as f:\n"
        "        return [model_dir, f.read(), gpu_id, str(ctx)]\n"
        "def transform_fn(model, data, content_type, accept):\n"
        "    return model\n"
    ).answer()
    assert json.loads(answer.body) == [str(tmp_path), "cat", None, "cpu(0)"]


def test_the_artifacts_of_the_default_save_need_no_script(tmp_path):
    """The defaults serve a model_dir with these three files, bound to the rows of the setting."""
    import mxnet as mx

    from mms_handler import models

    symbol = mx.sym.FullyConnected(mx.sym.var("data"), num_hidden=1, name="fc")
    module = mx.mod.Module(symbol, label_names=None)
    module.bind(data_shapes=[("data", (3, 2))], for_training=False)
    module.set_params({"fc_weight": mx.nd.array([[1, 2]]), "fc_bias": mx.nd.array([10])}, {})
    models.save(module, tmp_path)
    good, bad = Worker(tmp_path).answer_batch(Request(b"1,1\n2,3\n", CSV), Request(b"[[1, 2, 3]]"))
    assert (good.status, good.body) == (200, b"[[13.0], [18.0]]")
    assert bad.fault == (400, "BadInput", "the model takes (N, 2), the body has (1, 3)")


NET = """
import mxnet as mx

def model_fn(model_dir):
    net = mx.gluon.nn.HybridSequential()
    net.add(mx.gluon.nn.Conv2D(2, 3, in_channels=1), mx.gluon.nn.Dense(2, in_units=72))
    net.initialize()
    return net
"""

PREDICT = """
def predict_fn(array, net):
    if array.asnumpy().max() > 5:
        return {}["a bug"]
    return net(array / 255)
"""

CLASSES = """
class Net(mx.gluon.Block):
    def forward(self, x):
        rows, channels, height, width = x.shape
        return x.reshape((rows, -1)).sum(axis=1)

def model_fn(model_dir):
    return Net()
"""

FIRST = json.dumps([[[[1] * 8] * 8]]).encode()


@pytest.mark.parametrize(
    "script",
    [
        pytest.param(NET, id="the defaults"),
        pytest.param(NET + PREDICT, id="the script's predict_fn"),
        pytest.param(NET + PREDICT + "batch_predict = True\n", id="in batches"),
        pytest.param(NET + CLASSES, id="a Block of Python"),
        pytest.param(NET + CLASSES + PREDICT, id="a Block of Python in predict_fn"),
    ],
)
def test_a_body_of_the_wrong_shape(worker, script, caplog):
    """It is the client's fault, in the same words for each kind of Block."""
    model = worker(script)
    assert model.answer(body=FIRST).status == 200
    for _ in range(2):
        bad = model.answer(body=b"[[1, 2], [3, 4]]")
        assert bad.fault == (400, "BadInput", "the model takes (N, 1, 8, 8), the body has (2, 2)")
    assert model.answer(body=FIRST).status == 200
    assert all(record.levelno == logging.WARNING for record in caplog.records)


def test_a_bug_for_the_right_shape(worker):
    """It stays the script's, and so does one that only some values of another shape meet."""
    model = worker(NET + PREDICT)
    assert model.answer(body=FIRST).status == 200
    assert model.answer(body=FIRST.replace(b"1", b"9")).fault[:2] == (500, "KeyError")
    assert model.answer(body=b"[[9, 9]]").fault[0] == 400  # zeros fail, too


def test_before_any_good_body(worker):
    """The Block's graph tells, which a script's predict_fn is asked to confirm."""
    for_all = "the model takes (N, 1, 8, 8), the body has (2, 2)"
    assert worker(NET + PREDICT).answer(body=b"[[1, 2], [3, 4]]").fault[2] == for_all


@pytest.mark.parametrize(
    ("files", "line", "cause"),
    [
        pytest.param(
            {"inference.py": "x = 1\ndef f(:\n"},
            "script: SyntaxError: invalid syntax (code/inference.py, line 2)",
            SyntaxError,
            id="a syntax error",
        ),
        pytest.param(
            {"inference.py": "import os\nimport no_such_library\n"},
            "script: ModuleNotFoundError: No module named 'no_such_library' "
            "(code/inference.py, line 2)",
            ModuleNotFoundError,
            id="a missing library",
        ),
        pytest.param(
            {"inference.py": "import sys\nsys.exit(3)\n"},
            "script: SystemExit: 3 (code/inference.py, line 2)",
            SystemExit,
            id="a script that exits",
        ),
        pytest.param(
            {"inference.py": "def model_fn(model_dir):\n    raise ValueError('no\\nweights')\n"},
            "model_fn: ValueError: no weights (code/inference.py, line 2)",
            ValueError,
            id="a model_fn that raises",
        ),
        pytest.param(
            {"inference.py": "def model_fn(model_dir):\n    open('gone.params')\n"},
            "model_fn: FileNotFoundError: [Errno 2] No such file or directory: 'gone.params' "
            "(code/inference.py, line 2)",
            FileNotFoundError,
            id="a model_fn without its file",
        ),
        pytest.param(
            {"inference.py": "def model_fn(model_dir):\n    raise MemoryError\n"},
            "model_fn: MemoryError (code/inference.py, line 2)",
            MemoryError,
            id="a model_fn without memory",
        ),
        pytest.param(
            {"inference.py": "def model_fn(model_dir, vocabulary):\n    pass\n"},
            "model_fn: ScriptError: model_fn(model_dir, vocabulary): expected (model_dir); there "
            "is nothing to pass as vocabulary; "
            "context, ctx, gpu_id, request_id, headers may be added by name",
            ScriptError,
            id="a model_fn with an unknown parameter",
        ),
        pytest.param(
            {"inference.py": "def model_fn(model_dir):\n    return {}\n"},
            "functions: ScriptError: model_fn returned a dict, wanted a Module or a gluon Block; "
            "any other model needs a predict_fn or a transform_fn (code/inference.py, line 1)",
            ScriptError,
            id="a model of an unknown kind",
        ),
        pytest.param(
            {"inference.py": "x = 1\n\ndef model_fn(model_dir):\n    {}\n"},
            "functions: ScriptError: model_fn returned None, wanted a Module or a gluon Block; "
            "any other model needs a predict_fn or a transform_fn (code/inference.py, line 3)",
            ScriptError,
            id="a model_fn that returns nothing",
        ),
        pytest.param(
            {"a.py": "", "b.py": ""},
            "script: ScriptError: several files could be the script: a.py, b.py; "
            "call it inference.py, or name it in SAGEMAKER_PROGRAM",
            ScriptError,
            id="two scripts",
        ),
        pytest.param(
            {},
            "model_dir: ModelError: the folder is empty: MMS unpacks a file that is not an "
            "archive to nothing; register an archive (.mar)",
            ModelError,
            id="an empty model_dir",
        ),
    ],
)
def test_a_model_that_cannot_load(tmp_path, caplog, files, line, cause):
    """Loading raises, so MMS answers 500.  The log has a line with phase, cause and place.

    The script's traceback follows.  An error of ours has none: its text says it all.
    """
    if files:
        (tmp_path / "code").mkdir()
    for name, source in files.items():
        (tmp_path / "code" / name).write_text(source)
    with pytest.raises(LoadError) as error:
        Worker(tmp_path)
    assert str(error.value) == line
    assert type(error.value.__cause__) is cause
    (record,) = [r for r in caplog.records if r.levelno >= logging.WARNING]
    first, _, traceback = record.getMessage().partition("\n")
    assert (first, traceback) == (f"cannot load model m: {line}", record.traceback)
    assert bool(traceback) == (not issubclass(cause, HandlerError))
    if traceback:
        assert "mms_handler/" not in traceback
        assert f'File "{tmp_path}/code/' in traceback
        assert f"\n{cause.__name__}" in traceback


def test_a_syntax_error_in_a_sibling_names_the_sibling(tmp_path):
    """The message names the place of the error, not that of the import."""
    (tmp_path / "inference.py").write_text("import broken_sibling\n")
    (tmp_path / "broken_sibling.py").write_text("\ndef f(:\n")
    with pytest.raises(LoadError) as error:
        Worker(tmp_path)
    assert str(error.value) == "script: SyntaxError: invalid syntax (broken_sibling.py, line 2)"


def test_an_invalid_setting_stops_the_load(worker, monkeypatch, caplog):
    """The worker names the variable, as the command line does."""
    monkeypatch.setenv("MMS_MAX_RESPONSE_SIZE", "big")
    with pytest.raises(
        SettingsError, match="^MMS_MAX_RESPONSE_SIZE: 'big' is not a number of bytes"
    ):
        worker(DOUBLER)
    assert caplog.messages[-1] == (
        "cannot load model m: MMS_MAX_RESPONSE_SIZE: 'big' is not a number of bytes from 1 to "
        "2147483647"
    )


def test_the_program_names_the_script(tmp_path, monkeypatch):
    """SAGEMAKER_PROGRAM decides which of several files is the script."""
    monkeypatch.setenv("SAGEMAKER_PROGRAM", "b.py")
    (tmp_path / "a.py").write_text("raise ValueError\n")
    (tmp_path / "b.py").write_text(ECHO)
    assert json.loads(Worker(tmp_path).answer(body=b"5").body)["data"] == "5"


def test_a_misspelt_hook_is_in_the_log(worker, caplog):
    """A function that nothing calls."""
    worker(DOUBLER + "def output_func(prediction, accept):\n    return prediction\n")
    line = DOUBLER.count("\n") + 1
    assert caplog.messages == [
        f"output_func is never called (inference.py, line {line}); did you mean output_fn?"
    ]


def test_a_misspelt_hook_is_told_with_the_failure_that_it_may_be_why(worker, caplog):
    """By the log, and by the answer to a registration, which has the same text."""
    with pytest.raises(LoadError) as caught:
        worker("def model_func(model_dir):\n    return 1\n")
    hint = "; model_func is never called (inference.py, line 1); did you mean model_fn?"
    assert str(caught.value).startswith("model_fn: ModelError: ")
    assert str(caught.value).endswith(hint)
    assert caplog.messages[-1].endswith(hint)


def test_a_misspelt_parameter_is_in_the_log(worker, caplog):
    worker(DOUBLER + "def output_fn(prediction, accept, contex=None):\n    return prediction\n")
    assert caplog.messages == ["output_fn: contex keeps its default; did you mean context?"]


def test_programs_of_a_script_are_this_pythons(worker, monkeypatch):
    """Also where the server's environment is not activated."""
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    answer = worker(
        "import shutil\n"
        "FOUND = [shutil.which(name) for name in ('python3', 'pip')]\n"
        "def model_fn(model_dir): pass\n"
        "def transform_fn(model, data, content_type, accept):\n    return FOUND\n"
    ).answer()
    folder = os.path.dirname(sys.executable)
    assert json.loads(answer.body) == [f"{folder}/python3", f"{folder}/pip"]


def test_a_load_is_one_line_in_the_log(worker, caplog):
    """The log says once that the model is loaded."""
    with caplog.at_level(logging.INFO, "mms_handler.worker.service"):
        worker(DOUBLER)
    assert caplog.messages == ["model m is loaded"]


HOSTILE = """
import numpy as np

class Evil(Exception):
    def __str__(self):
        raise RuntimeError("no text")

class Response:
    def __init__(self, data, mimetype="text/plain", status_code=200):
        self.data, self.mimetype, self.status_code = data, mimetype, status_code

    def get_data(self):
        return self.data

def model_fn(model_dir):
    return None

def transform_fn(model, data, content_type, accept, mean=np.array([1, 2])):
    return ANSWERS[data]()

def throw(exc):
    raise exc

ANSWERS = {
    "evil": lambda: throw(Evil()),
    "interrupt": lambda: throw(KeyboardInterrupt()),
    "generator": lambda: throw(GeneratorExit()),
    "set": lambda: Response({1}),
    "list": lambda: Response([1, 2], "application/json"),
    "none": lambda: Response(None, None, 204),
    "numpy status": lambda: Response(b"tea", "text/plain", np.int64(418)),
    "long": lambda: Response("\\u00e9" * 4_000_000),
    "long type": lambda: (b"x", "a" * 70_000),
    "no type": lambda: (b"x", None),
    "two texts": lambda: ("x", "text/plain"),
    "nested": lambda: (("x", "text/plain"), "text/plain"),
}
"""


@pytest.mark.parametrize(
    ("body", "status", "content_type", "reply"),
    [
        pytest.param(b"evil", 500, JSON, None, id="an exception without a text"),
        pytest.param(b"interrupt", 500, JSON, None, id="KeyboardInterrupt"),
        pytest.param(b"generator", 500, JSON, None, id="GeneratorExit"),
        pytest.param(b"set", 500, JSON, None, id="a response with a set"),
        pytest.param(b"list", 200, JSON, b"[1, 2]", id="a response with a list"),
        pytest.param(b"none", 204, JSON, b"", id="a response with None"),
        pytest.param(b"numpy status", 418, "text/plain", b"tea", id="a NumPy status"),
        pytest.param(b"long", 507, JSON, None, id="more bytes than characters"),
        pytest.param(b"long type", 200, BYTES, b"x", id="a content type too long to send"),
        pytest.param(b"no type", 200, JSON, b"x", id="a pair without a content type"),
        pytest.param(b"two texts", 200, "text/plain", b"x", id="a pair of texts"),
        pytest.param(b"nested", 200, "text/plain", b"x", id="a pair in a pair"),
    ],
)
def test_no_script_can_break_mms_frame(worker, body, status, content_type, reply):
    """Each case affects its own request only: the frame is whole and the next request is served."""
    model = worker(HOSTILE)
    first, second = model.answer_batch(Request(body, CSV, ""), Request(b"no type", CSV, ""))
    assert (first.status, first.content_type) == (status, content_type)
    if reply is not None:
        assert first.body == reply
    assert (second.status, second.body) == (200, b"x")


# --- time, memory, metrics ---

SLOW = """\
def model_fn(model_dir):
    return None

def transform_fn(model, data, content_type, accept):
    while data == "loop":
        pass
    return data, "text/plain"
"""


def test_a_batch_has_a_time_limit(worker, monkeypatch):
    """Answers in time are sent, a running request is interrupted, the rest are not started."""
    monkeypatch.setenv("SAGEMAKER_MODEL_SERVER_TIMEOUT_SECONDS", "1")
    model = worker(SLOW)
    good, slow, late = model.answer_batch(
        *(Request(body, CSV) for body in (b"good", b"loop", b"late"))
    )
    assert (good.status, good.body) == (200, b"good")
    assert (slow.phrase, slow.fault) == (
        "Gateway Timeout",
        (504, "TimedOut", "the model did not answer within 0.9 s"),
    )
    assert late.fault == (504, "TimedOut", "not started: its batch used up the limit of 0.9 s")
    assert model.answer(body=b"good", content_type=CSV).body == b"good"


@pytest.mark.parametrize(
    ("raises", "supervised", "error"),
    [
        pytest.param("MemoryError", "true", MemoryError, id="no memory, supervised"),
        pytest.param("MemoryError", "false", LoadError, id="no memory, MMS alone"),
        pytest.param(
            "mx.base.MXNetError('Memory allocation failed')",
            "true",
            MemoryError,
            id="MXNet's own error, supervised",
        ),
        pytest.param("ValueError", "true", LoadError, id="another cause, supervised"),
    ],
)
def test_a_model_that_does_not_fit(worker, monkeypatch, caplog, raises, supervised, error):
    """Supervised workers raise MemoryError, which MMS answers with 507.

    MMS keeps the model's name then, and only a supervisor frees it.
    """
    monkeypatch.setenv("MMS_HANDLER_SUPERVISED", supervised)
    with pytest.raises(error, match="^model_fn: "):
        worker(f"import mxnet as mx\n\ndef model_fn(model_dir):\n    raise {raises}\n")
    assert caplog.messages[-1].startswith("cannot load model m: model_fn: ")


@pytest.mark.parametrize("supervised", [True, False])
def test_the_reason_is_in_a_file_for_the_supervisor(worker, tmp_path, monkeypatch, supervised):
    """serve does not look for it in the log, where anyone could print such a line."""
    monkeypatch.setenv("MMS_HANDLER_SUPERVISED", str(supervised).lower())
    with pytest.raises(LoadError, match="^model_fn: ValueError: the weights are gone "):
        worker("def model_fn(model_dir):\n    raise ValueError('the weights\\nare gone')\n")
    reason = "model_fn: ValueError: the weights are gone (code/inference.py, line 2)"
    assert worker_files.read_load_error(tmp_path) == (reason if supervised else "")
    hour = time.time() - 3_600
    if supervised:
        os.utime(tmp_path / worker_files.LOAD_ERROR, (hour, hour))
    assert worker_files.read_load_error(tmp_path) == ""


MEASURING = """\
from mms.metrics.dimension import Dimension

def model_fn(model_dir, context):
    context.metrics.add_time("Load", 1, dimensions=[Dimension("Of", "weights")])
    return None

def transform_fn(model, data, content_type, accept, context):
    context.metrics.add_size("Size", len(data), idx=0, dimensions=[Dimension("Of", "body")])
    context.metrics.add_metric("Odd", float("nan"))
    return data, "text/plain"
"""


def test_a_script_may_add_metrics(worker, caplog):
    """The load and each request of a batch have their own metrics, with dimensions."""
    model = worker(MEASURING)
    loading = model.service.context.metrics.store
    assert [str(metric).partition("|#host")[0] for metric in loading] == [
        "Load.Milliseconds:1|#Of:weights,ModelName:m,Level:Model"
    ]
    model.answer_batch(Request(b"1", CSV, id="a"), Request(b"12", CSV, id="b"))
    *sizes, time = model.service.context.metrics.store
    assert [(size.value, size.request_id, str(size.dimensions[0])) for size in sizes] == [
        ("1", "a", "Of:body"),
        ("2", "b", "Of:body"),
    ]
    assert time.name == "PredictionTime"
    assert [m for m in caplog.messages if "Odd" in m] == [
        "metric 'Odd' left out: nan is not finite"
    ] * 2


# --- folders and devices ---


def test_a_missing_model_dir(tmp_path):
    """The message is about the folder, not about the files in it."""
    from mms.context import Context

    from mms_handler.service import handle

    with pytest.raises(LoadError, match="^model_dir: ModelError: the folder does not exist$"):
        handle(None, Context("m", str(tmp_path / "gone"), None, 1, None, ""))


def test_a_gpu_that_mxnet_cannot_use(tmp_path):
    """MMS counts the GPUs that nvidia-smi lists, MXNet those that it can use."""
    (tmp_path / "inference.py").write_text(DOUBLER)
    with pytest.raises(
        LoadError, match="^mxnet: ModelError: MMS assigned GPU 1, but MXNet can use none; "
    ):
        Worker(tmp_path, gpu=1)


@pytest.mark.parametrize(
    ("assigned", "gpus", "used"),
    [
        pytest.param(None, 0, None, id="a CPU"),
        pytest.param(None, 2, None, id="a CPU, though there are GPUs"),
        pytest.param(1, 2, 1, id="a visible GPU"),
        pytest.param(2, 2, 0, id="the number after the last GPU"),
        pytest.param(5, 2, 1, id="a higher number"),
    ],
)
def test_only_visible_gpus_are_used(assigned, gpus, used, caplog):
    """A number that is too high wraps around, and the log says so."""
    assert visible_gpu(assigned, gpus) == used
    assert len(caplog.messages) == (1 if assigned != used else 0)


def test_modules_in_the_model_dir_can_be_imported(tmp_path):
    """As under MMS, but they come last, so that they shadow nothing."""
    (tmp_path / "beside.py").write_text("NAME = 'beside'")
    (tmp_path / "fractions.py").write_text("raise RuntimeError")
    (tmp_path / "code").mkdir()
    script = "import beside, fractions\n" + ECHO.replace("str(data)", "beside.NAME")
    (tmp_path / "code" / "inference.py").write_text(script)
    assert json.loads(Worker(tmp_path).answer(body=b"5").body)["data"] == "beside"


# --- metrics ---


def test_the_metrics_of_a_batch(worker):
    """MMS adds its time and prints a line for each metric."""
    model = worker(
        "def model_fn(model_dir):\n    return None\n"
        "def transform_fn(model, data, content_type, accept, context):\n"
        "    context.metrics.add_counter('Doubled', 1)\n"
        "    return data, 'text/plain'\n"
    )
    model.answer(body=b"1", content_type="text/plain")
    names = [metric.name for metric in model.service.context.metrics.store]
    assert sorted(names) == ["Doubled", "PredictionTime"]
