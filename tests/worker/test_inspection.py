"""worker.inspection: a model is loaded and asked as in a worker, and described."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from pathlib import Path

import pytest

from mms_handler.worker import inspection
from mms_handler.worker.inspection import Sample, inspect, inspect_script

CSV = Sample(b"1,2", "text/csv", "*/*")

BROKEN = """
def model_fn(model_dir):
    return 1

def predict_fn(data, model):
    return {}["the answer"]
"""


def test_mxnet_is_imported_by_the_phase_of_that_name():
    """It imports it in half the time; a handler that is not ours may do without."""
    source = "import sys, mms_handler.worker.inspection; sys.exit('mxnet' in sys.modules)"
    subprocess.run([sys.executable, "-c", source], check=True)


def test_a_model_and_its_reply(model_dir):
    """The body of two equal replies is there too."""
    folder = model_dir()
    report = inspect(folder, CSV)
    assert report["script"] is None
    assert report["files"][:2] == ["model-0000.params", "model-shapes.json"]
    assert report["model"] == "mxnet.module.module.Module"
    assert (report["status"], report["content_type"]) == (200, "application/json")
    assert json.loads(base64.b64decode(report["body"])) == [[15.0, 31.0]]


def test_a_bug_of_the_script_is_the_reply(model_dir):
    """Not a log that does not exist; the traceback has the edited file."""
    folder = model_dir(BROKEN)
    report = inspect(folder, CSV)
    assert report["status"] == 500
    assert report["reply"] == "KeyError: 'the answer' (code/inference.py, line 6)"
    lines = report["traceback"].splitlines()
    assert lines[1] == f'  File "{folder}/code/inference.py", line 6, in predict_fn'
    assert "mms_handler" not in report["traceback"].replace(str(folder), "")


def test_names_that_are_nearly_those_of_the_contract(model_dir, tmp_path):
    """Of a model, and of a script alone."""
    source = "def tranform_fn(model, data, content_type, accept):\n    return data\n"
    doubt = "tranform_fn is never called ({}, line 1); did you mean transform_fn?"
    assert inspect(model_dir(source), None)["doubts"] == [doubt.format("inference.py")]
    (tmp_path / "alone.py").write_text(source)
    report = inspect_script(tmp_path / "alone.py", tmp_path)
    assert report["doubts"] == [doubt.format("alone.py")]


def test_a_bad_request_is_told_as_to_a_client(model_dir):
    report = inspect(model_dir(), Sample(b"[", "application/json", "*/*"))
    assert (report["status"], report["reply"][:26]) == (400, "not valid application/json")
    assert "traceback" not in report


def test_a_model_that_does_not_load(model_dir):
    folder = model_dir("def model_fn(model_dir):\n    raise ValueError('no weights')\n")
    report = inspect(folder, None)
    assert report["error"] == "model_fn: ValueError: no weights (code/inference.py, line 2)"
    assert report["traceback"].splitlines() == [
        "Traceback (most recent call last):",
        f'  File "{folder}/code/inference.py", line 2, in model_fn',
        "    raise ValueError('no weights')",
        "ValueError: no weights",
    ]


def test_a_script_elsewhere(model_dir, tmp_path_factory):
    """It replaces the model's own, and its mistakes have its path."""
    folder = model_dir("raise ValueError('not this one')")
    script = tmp_path_factory.mktemp("project") / "mine.py"
    script.write_text(BROKEN)
    report = inspect(folder, CSV, script)
    assert report["script"] == str(script)
    assert report["reply"] == "KeyError: 'the answer' (mine.py, line 6)"
    assert f'File "{script}", line 6, in predict_fn' in report["traceback"]


def test_a_script_without_a_model(tmp_path):
    """Its functions are bound, and model_fn is not called."""
    script = tmp_path / "iris.py"
    script.write_text(BROKEN)
    (tmp_path / "scratch").mkdir()
    report = inspect_script(script, tmp_path / "scratch")
    assert [name for name, *_ in report["functions"]] == ["model_fn", "predict_fn"]
    script.write_text("def predict_fn(a, b, c): ...")
    report = inspect_script(script, tmp_path / "scratch")
    assert report["error"].startswith("functions: ScriptError: predict_fn(a, b, c): expected")


def test_the_order_of_a_predict_fn_without_a_model(tmp_path):
    """It is that of input_fn, as in a worker."""
    (tmp_path / "scratch").mkdir()
    words = []
    for parameters in ("model, data, content_type", "data, content_type"):
        script = tmp_path / f"s{len(words)}.py"
        script.write_text(f"def input_fn({parameters}): ...\ndef predict_fn(a, b): ...\n")
        functions = inspect_script(script, tmp_path / "scratch")["functions"]
        words += [description for name, _, description in functions if name == "predict_fn"]
    first, last = words
    assert "model first" in first
    assert "model last" in last


@pytest.mark.parametrize(
    ("variable", "used"), [("on", "float"), ("float", "float"), ("off", "off")]
)
def test_an_int8_graph_is_not_what_is_inspected(monkeypatch, variable, used):
    """The packed reply is the model's own."""
    monkeypatch.setenv("MMS_HANDLER_OPTIMIZE", variable)
    assert inspection._settings().optimize == used


# --- archives with a handler of their own ----------------------------------------------------


FUNCTION = """
import json

def handle(batch, context):
    if batch is None:
        return None
    context.set_response_content_type(0, "application/json")
    return [json.dumps(sum(request["body"])) for request in batch]
"""

CLASS = """
class Sums:
    def initialize(self, context):
        INITIALIZE

    def handle(self, batch, context):
        return [request["body"] for request in batch]
"""


@pytest.fixture
def plain(tmp_path):
    """Write an unpacked archive of model-archiver, with own.py."""

    def write(source):
        (tmp_path / "MAR-INF").mkdir(exist_ok=True)
        manifest = {"model": {"modelName": "sums", "handler": "own:handle"}}
        (tmp_path / "MAR-INF" / "MANIFEST.json").write_text(json.dumps(manifest))
        (tmp_path / "own.py").write_text(source)
        return tmp_path

    return write


def test_a_plain_handler_answers(plain):
    """With the decoded body, as MMS hands it over."""
    report = inspect(plain(FUNCTION), Sample(b"[1, 2]", "application/json", "*/*"))
    assert (report["handler"], report["files"]) == ("own:handle", ["own.py"])
    assert (report["status"], report["content_type"], report["reply"]) == (
        200,
        "application/json",
        "3",
    )


@pytest.mark.parametrize(
    ("reply", "content_type", "body"),
    [
        ("bytes([255])", "application/octet-stream", "\ufffd"),
        ("bytearray(b'a')", "application/octet-stream", "a"),
        ("'a'", "text/plain", "a"),
        ("{'a': 1}", "application/json", '{"a": 1}'),
    ],
)
@pytest.mark.parametrize("own", ["", "text/csv"])
def test_what_a_plain_handler_may_return(plain, reply, content_type, body, own):
    """Its type is the handler's, if it sets one."""
    source = f"""
def handle(batch, context):
    if batch and {own!r}:
        context.set_response_content_type(0, {own!r})
    return [{reply}]
"""
    report = inspect(plain(source), Sample(b"x", "text/plain", "*/*"))
    assert (report["status"], report["content_type"]) == (200, own or content_type)
    assert report["reply"] == body
    assert base64.b64decode(report["body"]).decode("utf-8", "replace") == body


@pytest.mark.parametrize(
    ("content_type", "kind"),
    [
        ("text/plain", "str"),
        ("text/csv; charset=utf-8", "str"),
        ("application/json", "list"),
        ("Application/JSON", "bytearray"),
        ("application/json;charset=utf-8", "list"),
        ("application/octet-stream", "bytearray"),
        ("image/png", "bytearray"),
    ],
)
def test_what_a_plain_handler_gets(plain, content_type, kind):
    """MMS decodes JSON and text."""
    source = "def handle(batch, context):\n"
    source += "    return batch and [type(request['body']).__name__ for request in batch]\n"
    assert inspect(plain(source), Sample(b"[1]", content_type, "*/*"))["reply"] == kind


def test_a_reply_that_changes(plain):
    """No body can be expected of it."""
    source = (
        "import itertools\ncounts = itertools.count(1)\n"
        "def handle(batch, context):\n    return batch and [str(next(counts))]\n"
    )
    report = inspect(plain(source), Sample(b"x", "text/plain", "*/*"))
    assert report["reply"] == "1"
    assert "body" not in report


def test_without_a_sample(model_dir):
    """Nothing is answered."""
    fields = {"script", "functions", "files", "model", "doubts", "schema"}
    assert set(inspect(model_dir(), None)) == fields


def test_a_plain_handler_without_a_sample(plain):
    assert set(inspect(plain("def handle(batch, context): pass\n"), None)) == {"handler", "files"}


def test_a_body_that_mms_cannot_decode(plain):
    report = inspect(plain(FUNCTION), Sample(b"[1", "application/json", "*/*"))
    assert report["status"] == 400
    assert report["reply"].startswith("the body is not valid JSON: ")


def test_a_plain_handler_that_fails(plain):
    folder = plain(FUNCTION.replace("import json", "import json\nraise ValueError('no')"))
    report = inspect(folder, None)
    assert report["error"] == "handler own:handle: ValueError: no (own.py, line 3)"
    assert f'File "{folder}/own.py", line 3' in report["traceback"]


def test_a_class_whose_initialize_fails(plain):
    """MMS would only log it, and serve the model."""
    report = inspect(plain(CLASS.replace("INITIALIZE", "raise ValueError('no')")), None)
    assert report["error"].startswith(
        "handler own:handle: initialize: ValueError: no (own.py, line 4); MMS would only log"
    )


def test_a_class(plain):
    """Text is text."""
    folder = plain(CLASS.replace("INITIALIZE", "pass"))
    report = inspect(folder, Sample(b"yes", "text/plain", "*/*"))
    assert (report["status"], report["reply"]) == (200, "yes")


def test_a_handler_that_returns_no_list(plain):
    folder = plain("def handle(batch, context):\n    return 'yes'\n")
    report = inspect(folder, Sample(b"yes", "text/plain", "*/*"))
    assert report["reply"] == (
        "ModelError: the handler returned str for a batch of one request; MMS needs a list with "
        "one reply"
    )


def test_what_a_block_takes_that_has_no_sample():
    """Its graph tells; what its script writes, only a request does."""
    folder = Path(__file__).parents[2] / "model_archives" / "gluon_blocks"
    assert inspect(folder, None)["schema"] == {
        "inputs": [{"name": "x", "shape": ["N", 4], "type": "FP32"}],
        "outputs": [],
    }
