"""Each row of docs/errors.md over HTTP: what the client gets, and that the model keeps working."""

from __future__ import annotations

import gzip
import http.client
import json
from typing import Any, Iterator, Mapping, NamedTuple
from urllib.parse import urlsplit

import pytest
from running_mms import wait_for

from benchmarks import hostile
from mms_handler import archive, client
from mms_handler.media import CSV, JSON, JSON_LINES, NPZ, RECORDIO

FORM = "application/x-www-form-urlencoded"

LIMIT = 6_553_500  # bytes of a body, in and out: MMS's default and ours


class Reply(NamedTuple):
    """An HTTP response with its reason phrase, which urllib does not give."""

    status: int
    reason: str
    headers: Mapping[str, str]
    body: bytes


def send(
    front: Any, name: str, body: bytes, headers: Mapping[str, str], length: int | None = None
) -> Reply:
    """POST with exactly these headers, their names unchanged."""
    connection = http.client.HTTPConnection(urlsplit(front.inference).netloc, timeout=30)
    try:
        connection.putrequest("POST", f"/predictions/{name}", skip_accept_encoding=True)
        for header, value in headers.items():
            connection.putheader(header, value)
        connection.putheader("Content-Length", str(len(body) if length is None else length))
        connection.endheaders(body)
        response = connection.getresponse()
        received = {header.lower(): value for header, value in response.getheaders()}
        return Reply(response.status, response.reason, received, response.read())
    finally:
        connection.close()


# --- models ----------------------------------------------------------------------------------

RAISING = '''
"""Raise the error that the body, a JSON text, names."""

import json
import sys

import mxnet as mx
from mms.service import PredictionException
from sagemaker_inference.errors import BaseInferenceToolkitError, UnsupportedFormatError

READING = {
    "value": ValueError("no such flower"),
    "key": KeyError("petal"),
    "type": TypeError("a flower was wanted"),
    "refused on reading": PredictionException("the flower is not ripe", 422),
    "format": UnsupportedFormatError("image/x-flower"),
}
RUNNING = {
    "refused": PredictionException("the flower is not ripe", 422),
    "closed": BaseInferenceToolkitError(503, "the garden is closed", "Garden Closed"),
    "odd status": PredictionException("is this a status?", 42),
    "bug": KeyError("the secret of the garden"),
    "value in predict_fn": ValueError("the secret of the garden"),
    "not ascii": RuntimeError("caf\\u00e9\\r\\nX-Smuggled: 1"),
    "mxnet": mx.base.MXNetError("storage.cc:119: Memory allocation failed out of 7 GB"),
    "mxnet bug": mx.base.MXNetError("Check failed: the secret of the garden"),
}


def model_fn(model_dir):
    return "garden"


def input_fn(body, content_type):
    command = json.loads(body)
    if command in READING:
        raise READING[command]
    return command


def predict_fn(command, model, context):
    if command in RUNNING:
        raise RUNNING[command]
    if command == "phrase":
        context.set_response_status(207, "caf\\u00e9\\r\\nX-Smuggled: 1")
    if command == "exit":
        sys.exit(3)
    if command == "memory":
        bytearray(2**60)
    if command == "large":
        return "x" * 7_000_000
    if command == "text":
        context.set_response_content_type(0, "text/plain")
        raise PredictionException("the flower is not ripe", 422)
    return {"garden": command}
'''


@pytest.fixture(scope="module")
def raising(front, tmp_path_factory) -> Iterator[str]:
    """A model that raises on command."""
    folder = tmp_path_factory.mktemp("raising")
    (folder / "code").mkdir()
    (folder / "code" / "inference.py").write_text(RAISING)
    archive.pack(folder, front.store / "raising.mar", force=True)
    assert front.add("raising").status == 200
    yield "raising"
    assert loads(front, "raising") == 1  # no error ended the worker
    client.unregister(front.management, "raising")


@pytest.fixture(scope="module")
def two_inputs(front, tmp_path_factory) -> Iterator[Reply]:
    """A Module that adds its inputs; yields its reply from before it had a worker."""
    import mxnet as mx

    folder = tmp_path_factory.mktemp("two_inputs")
    dense = mx.sym.FullyConnected(mx.sym.var("left"), num_hidden=2, name="fc")
    names = ["left", "right"]
    module = mx.mod.Module(dense + mx.sym.var("right"), data_names=names, label_names=None)
    module.bind([(name, (4, 2)) for name in names], for_training=False)
    weight, bias = mx.nd.array([[1, 2], [3, 4]]), mx.nd.array([10, 20])
    module.set_params({"fc_weight": weight, "fc_bias": bias}, {})
    module.save_checkpoint(str(folder / "sum"), 2)
    archive.pack(folder, front.store / "two_inputs.mar", force=True)
    assert front.add("two_inputs", initial_workers=0).status == 200
    refused = send(front, "two_inputs", *GOOD["two_inputs"][0])
    scaling = f"{front.management}/models/two_inputs?min_worker=1&synchronous=true"
    assert client.call("PUT", scaling).status == 200
    yield refused
    assert loads(front, "two_inputs") == 1
    client.unregister(front.management, "two_inputs")


def loads(front: Any, name: str) -> int:
    """How often a worker has loaded the model; one that died is replaced by another."""
    return front.log.read_text().count(f"model {name} is loaded")


#: A request that each model answers, and its reply.
GOOD = {
    "linear": ((b"[[1,2]]", {"Content-Type": JSON}), b"[[4.9999918937683105]]"),
    "raising": ((b'"grows"', {"Content-Type": JSON}), b'{"garden": "grows"}'),
    "two_inputs": (
        (b'{"left": [[1, 2]], "right": [[3, 4]]}', {"Content-Type": JSON}),
        b"[[18.0, 35.0]]",
    ),
}


def still_works(front: Any, name: str) -> None:
    request, reply = GOOD[name]
    answer = send(front, name, *request)
    assert (answer.status, answer.body) == (200, reply)


# --- the table -------------------------------------------------------------------------------


class Row(NamedTuple):
    """A bad request, and the error that its client gets."""

    model: str
    body: bytes
    status: int
    type: str
    words: str  # of the message
    headers: Mapping[str, str] = {"Content-Type": JSON}


def command(text: str, status: int, kind: str, words: str, accept: str = "*/*") -> Row:
    headers = {"Content-Type": JSON, "Accept": accept}
    return Row("raising", json.dumps(text).encode(), status, kind, words, headers)


AS_CSV = {"Content-Type": CSV}
GZIP = {"Content-Type": JSON, "Content-Encoding": "gzip"}
HIDDEN = "see the server's log"

ROWS = {
    "400 truncated JSON": Row("linear", b"[[1,2]", 400, "BadInput", "not valid application/json"),
    "400 an empty body": Row("linear", b"", 400, "BadInput", "the body is empty"),
    "400 ragged JSON": Row("linear", b"[[1,2],[3]]", 400, "BadInput", "[1]"),
    "400 ragged JSON whose length fits": Row(
        "linear", b"[[1,2,3],[4]]", 400, "BadInput",
        "the list at [1] has 1 item, its siblings have 3",
    ),
    "400 JSON with a text": Row(
        "linear", b'[[1,"2"]]', 400, "BadInput", '"2" at [0][1] is not a number'
    ),
    "400 ragged CSV whose length fits": Row(
        "linear", b"1,2,3\n4\n", 400, "BadInput", "line 2 has 1 value, line 1 has 3", AS_CSV
    ),
    "400 CSV with a text": Row(
        "linear", b"1,2\n3,four\n", 400, "BadInput", "line 2, column 2: 'four'", AS_CSV
    ),
    "400 CSV that is not UTF-8": Row("linear", b"\xff\xfe", 400, "BadInput", "UTF-8", AS_CSV),
    "400 NPY that is not NPY": Row(
        "linear", b"[[1,2]]", 400, "BadInput", "npy", {"Content-Type": "application/x-npy"}
    ),
    "400 JSON with too many names": Row(
        "linear", json.dumps({str(i): [1] for i in range(257)}).encode(), 400, "BadInput",
        "the object has 257 names; the limit is 256",
    ),
    "400 ragged JSON Lines": Row(
        "linear", b"[1,2]\n" * 50_000 + b"[3]\n", 400, "BadInput",
        "line 50001 has shape (1,), but in line 1 it is (2,)", {"Content-Type": JSON_LINES},
    ),
    "400 ragged CSV at its end": Row(
        "linear", b"1,2\n" * 50_000 + b"3\n", 400, "BadInput",
        "line 50001 has 1 value, line 1 has 2", AS_CSV,
    ),
    "400 a truncated JPEG": Row(
        "linear", hostile.jpeg_of_scans(16, 16, 1)[:-2], 400, "BadInput", "the JPEG is cut off",
        {"Content-Type": "image/jpeg"},
    ),
    "400 gzip that is not gzip": Row("linear", b"[[1,2]]", 400, "BadInput", "gzip", GZIP),
    "400 wrong width": Row("linear", b"[[1,2,3]]", 400, "BadInput", "(N, 2)"),
    "400 an input's name is missing": Row(
        "two_inputs", b'{"left": [[1,2]], "middle": [[1,2]]}', 400, "BadInput", "left, right"
    ),
    "400 inputs of different lengths": Row(
        "two_inputs", b'{"left": [[1,2]], "right": [[1,2],[3,4]]}', 400, "BadInput", "rows"
    ),
    "400 ValueError in input_fn": command("value", 400, "BadInput", "no such flower"),
    "400 LookupError in input_fn": command("key", 400, "BadInput", "read the body: KeyError"),
    "400 TypeError in input_fn": command("type", 400, "BadInput", "read the body: TypeError"),
    "400 json.loads in input_fn": Row("raising", b'"gro', 400, "BadInput", "Unterminated string"),
    "406 a type that nothing writes": Row(
        "linear", b"[[1,2]]", 406, "NotAcceptable", "text/csv",
        {"Content-Type": JSON, "Accept": "image/png"},
    ),
    "406 everything is refused": Row(
        "linear", b"[[1,2]]", 406, "NotAcceptable", "application/json",
        {"Content-Type": JSON, "Accept": "*/*;q=0"},
    ),
    "406 not this prediction": command(
        "grows", 406, "NotAcceptable", "application/x-npy", "application/x-npy"
    ),
    "412 CSV for two inputs": Row(
        "two_inputs", b"1,2\n", 412, "UnsupportedShape", "2 inputs (left, right)", AS_CSV
    ),
    "412 one JSON array for two inputs": Row(
        "two_inputs", b"[[1,2]]", 412, "UnsupportedShape", "2 inputs (left, right)"
    ),
    "413 a gzip bomb": Row(
        "linear", gzip.compress(b" " * LIMIT + b"[[1,2]]"), 413, "TooLarge", str(LIMIT), GZIP
    ),
    "413 a PNG bomb": Row(
        "linear", hostile.png(10_000, 10_000), 413, "TooLarge",
        "the image has 10000 x 10000 pixels, which take 1200000000 bytes as float32; "
        "the limit is 52428000",
        {"Content-Type": "image/png"},
    ),
    "413 an NPZ bomb": Row(
        "linear", hostile.SMALL["NPZ: float32"][1](10**8), 413, "TooLarge",
        "the arrays take 100000000 bytes as float32; the limit is 52428000",
        {"Content-Type": NPZ},
    ),
    "413 a sparse RecordIO bomb": Row(
        "linear", hostile.SMALL["RecordIO: a sparse row"][1](10**8), 413, "TooLarge",
        "record 1: a tensor of shape [25000000] takes more than the 52428000 bytes left",
        {"Content-Type": RECORDIO},
    ),
    "415 a type that nothing reads": Row(
        "linear", b"PAR1", 415, "UnsupportedType", "application/json, text/csv",
        {"Content-Type": "application/x-parquet"},
    ),
    "415 octet-stream without an input_fn": Row(
        "linear", b"\x00", 415, "UnsupportedType", "application/octet-stream",
        {"Content-Type": "application/octet-stream"},
    ),
    "415 an unknown charset": Row(
        "linear", b"1,2", 415, "UnsupportedType", "klingon",
        {"Content-Type": "text/csv; charset=klingon"},
    ),
    "415 an unknown Content-Encoding": Row(
        "linear", b"[[1,2]]", 415, "UnsupportedType", "gzip",
        {"Content-Type": JSON, "Content-Encoding": "br"},
    ),
    "415 a form of two parts": Row(
        "linear", b"a=1&b=2", 415, "UnsupportedType", "a, b", {"Content-Type": FORM}
    ),
    "415 UnsupportedFormatError of sagemaker_inference": command(
        "format", 415, "UnsupportedFormatError", "image/x-flower"
    ),
    "422 PredictionException": command(
        "refused", 422, "PredictionException", "the flower is not ripe"
    ),
    "422 PredictionException in input_fn": command(
        "refused on reading", 422, "PredictionException", "the flower is not ripe"
    ),
    "500 PredictionException with an invalid status": command(
        "odd status", 500, "PredictionException", "is this a status?"
    ),
    "500 a bug in predict_fn": command("bug", 500, "KeyError", HIDDEN),
    "500 ValueError in predict_fn": command("value in predict_fn", 500, "ValueError", HIDDEN),
    "500 an error with line breaks": command("not ascii", 500, "RuntimeError", HIDDEN),
    "500 MXNetError other than for memory": command("mxnet bug", 500, "MXNetError", HIDDEN),
    "500 sys.exit": command("exit", 500, "SystemExit", HIDDEN),
    "503 BaseInferenceToolkitError": command(
        "closed", 503, "BaseInferenceToolkitError", "the garden is closed"
    ),
    "507 MemoryError": command("memory", 507, "MemoryError", "not enough memory"),
    "507 MXNetError: Memory allocation failed": command(
        "mxnet", 507, "MXNetError", "not enough memory"
    ),
    "507 a reply larger than max_response_size": command(
        "large", 507, "OutOfResources", str(LIMIT)
    ),
}  # fmt: skip


@pytest.mark.parametrize("row", [pytest.param(row, id=name) for name, row in ROWS.items()])
def test_a_row_of_the_table(front, raising, two_inputs, row):
    """Reply and log have its status and the request's id; the model answers the next request."""
    answer = send(front, row.model, row.body, row.headers)
    error = json.loads(answer.body)
    assert set(error) == {"code", "type", "message", "request_id"}
    assert (answer.status, error["code"], error["type"]) == (row.status, row.status, row.type)
    assert row.words in error["message"]
    assert answer.headers["content-type"] == JSON
    assert error["request_id"] == answer.headers["x-request-id"]
    assert "x-smuggled" not in answer.headers
    assert answer.reason.isascii()
    assert answer.reason.isprintable()
    for hidden in ("Traceback", "secret", "site-packages", "inference.py"):
        assert hidden not in answer.body.decode()
    wait_for(lambda: f"request {error['request_id']}: {row.status} " in front.log.read_text(), 5)
    still_works(front, row.model)


def test_a_bug_is_in_the_log(front, raising):
    """It is one line with its place in the script, and the traceback after it."""
    answer = send(front, "raising", b'"bug"', {"Content-Type": JSON})
    head = f"request {answer.headers['x-request-id']}: 500 KeyError: 'the secret of the garden'"

    def logged() -> str:
        return front.log.read_text().partition(head)[2]

    wait_for(lambda: "RUNNING[command]" in logged(), 5)
    line, *rest = logged().splitlines()
    place = 1 + RAISING.splitlines().index("        raise RUNNING[command]")
    assert line == f" (code/inference.py, line {place})"
    assert "Traceback (most recent call last)" in rest[0]
    still_works(front, "raising")


def test_413_is_the_front_ends(front):
    """It does not wait for a body longer than max_request_size."""
    answer = send(front, "linear", b"", {"Content-Type": JSON}, length=LIMIT + 1)
    assert (answer.status, answer.body) == (413, b"")
    still_works(front, "linear")


def test_503_is_the_front_ends(front, two_inputs):
    """A model without a worker answers 503, and answers requests once it has one."""
    assert two_inputs.status == 503
    error = json.loads(two_inputs.body)
    assert (error["code"], error["type"]) == (503, "ServiceUnavailableException")
    still_works(front, "two_inputs")


@pytest.mark.parametrize(
    ("model", "body", "accept", "status", "message"),
    [
        pytest.param("linear", b"[[1,2,3]]", "text/plain", 400, "(N, 2)", id="the client"),
        pytest.param("raising", b'"text"', "*/*", 422, "the flower is not ripe", id="the script"),
    ],
)
def test_text_is_only_the_message(front, raising, model, body, accept, status, message):
    """If the client or the script asks for text; the id is then only in the header."""
    answer = send(front, model, body, {"Content-Type": JSON, "Accept": accept})
    assert (answer.status, answer.headers["content-type"]) == (status, "text/plain")
    assert message in answer.body.decode()
    assert not answer.body.startswith(b"{")
    wait_for(lambda: answer.headers["x-request-id"] in front.log.read_text(), 5)
    still_works(front, model)


def test_a_reason_phrase_is_ascii(front, raising):
    """A script's phrase can neither split the reply nor break MMS's frame."""
    answer = send(front, "raising", b'"phrase"', {"Content-Type": JSON})
    assert (answer.status, answer.body) == (207, b'{"garden": "phrase"}')
    assert answer.reason.startswith("caf")
    assert answer.reason.isascii()
    assert "x-smuggled" not in answer.headers
    still_works(front, "raising")


# --- headers, compression and forms ----------------------------------------------------------

MULTIPART = {"Content-Type": "multipart/form-data; boundary=XX"}


def multipart(*parts: tuple[str, str, str]) -> bytes:
    """A form; each part is a name, header lines and a body."""
    written = [
        f'--XX\r\nContent-Disposition: form-data; name="{name}"{headers}\r\n\r\n{body}\r\n'
        for name, headers, body in parts
    ]
    return ("".join(written) + "--XX--\r\n").encode()


FIVE = b"[[4.9999918937683105]]"
A_CSV_FILE = '; filename="a.csv"\r\nContent-Type: text/csv'


@pytest.mark.parametrize(
    ("body", "headers", "status", "reply"),
    [
        pytest.param(
            b"1,2", {"cOnTeNt-TyPe": CSV, "aCCePt": CSV}, 200, b"4.999992\r\n", id="any case"
        ),
        pytest.param(
            gzip.compress(b"1,2"),
            {"CONTENT-TYPE": CSV, "content-ENCODING": "gzip"},
            200,
            FIVE,
            id="gzip, any case",
        ),
        pytest.param(gzip.compress(b"[[1,2]]"), GZIP, 200, FIVE, id="gzip"),
        pytest.param(b"[[1,2]]", {}, 200, FIVE, id="no Content-Type"),
        pytest.param(
            b"1,2", {"Content-Type": "Text/CSV; charset=UTF-8"}, 200, FIVE, id="a parameter"
        ),
        pytest.param(b"data=%5B%5B1,2%5D%5D", {"Content-Type": FORM}, 200, FIVE, id="form"),
        pytest.param(
            b"body=%5B%5B1,2%5D%5D", {"Content-Type": FORM}, 200, FIVE, id="form of a body"
        ),
        pytest.param(
            b"a=1&b=2", {"Content-Type": FORM}, 415, b"exactly one part", id="form of two"
        ),
        pytest.param(
            b"[[1,2]]", {"Content-Type": FORM}, 415, b"curl's default", id="no form at all"
        ),
        pytest.param(multipart(("data", "", "[[1,2]]")), MULTIPART, 200, FIVE, id="a part"),
        pytest.param(
            multipart(("data", A_CSV_FILE, "1,2")), MULTIPART, 200, FIVE, id="a part of its type"
        ),
        pytest.param(
            multipart(("body", A_CSV_FILE, "1,2")), MULTIPART, 200, FIVE, id="a part called body"
        ),
        pytest.param(
            multipart(("a", "", "[[1,2]]"), ("b", "", "[[1,2]]")),
            MULTIPART,
            415,
            b"exactly one part, this one has: a, b",
            id="two parts",
        ),
    ],
)
def test_a_body_is_read_whatever_it_is_sent_in(front, body, headers, status, reply):
    """Headers may be in any case, bodies compressed or the one part of a form."""
    answer = send(front, "linear", body, headers)
    assert answer.status == status, answer.body
    assert answer.body == reply if status == 200 else reply in answer.body
    still_works(front, "linear")
