"""archive.check: what is made of a report about a model and its sample.

The reports are written here; test_pack and test_convert load models.
"""

from __future__ import annotations

import base64
import json
import tarfile
import zipfile
from pathlib import Path

import pytest

from mms_handler.archive import child, report
from mms_handler.archive.check import check, try_sample
from mms_handler.archive.samples import SampleRequest, Tried
from mms_handler.errors import ArchiveError, ScriptError
from mms_handler.manifest import MANIFEST, Sample
from mms_handler.schema import Schema
from mms_handler.script.frames import SOURCES

JSON = "application/json"


def report_of(body: bytes, status=200, content_type=JSON):
    return {
        "status": status,
        "content_type": content_type,
        "reply": body.decode(),
        "body": base64.b64encode(body).decode(),
    }


@pytest.fixture
def inspect(monkeypatch):
    """Answer with ``.report``; ``.calls`` are the folder, the body and the types of each call."""

    def run(command, folder, *arguments):
        assert command == "inspect"
        words = list(arguments)
        first = next((i for i, word in enumerate(words) if word.startswith("--")), len(words))
        inspect.options += [words[first:]] if words[first:] else []
        body, *types = words[:first] or (None,)
        sources = folder / SOURCES
        inspect.sources = json.loads(sources.read_text()) if sources.exists() else None
        inspect.calls.append((folder, Path(body).read_bytes() if body else None, *types))
        inspect.files = sorted(path.name for path in folder.iterdir())
        return dict(inspect.report)

    def inspect():
        pass

    inspect.calls, inspect.options = [], []
    inspect.report = {"script": None, "functions": [], **report_of(b"[1.5]")}
    monkeypatch.setattr(child, "run", run)
    return inspect


def packed(tmp_path, reply):
    """An archive with a sample that was answered so."""
    sample = {"name": "MAR-INF/sample.csv", "content_type": "text/csv", "accept": "*/*"}
    model = {"modelName": "iris", "handler": "mms_handler.service:handle"}
    if reply:
        sample["reply"] = reply
    manifest = {"model": model, "mms_handler": {"sample": sample}}
    with zipfile.ZipFile(tmp_path / "iris.mar", "w") as mar:
        mar.writestr(MANIFEST, json.dumps(manifest))
        mar.writestr("MAR-INF/sample.csv", "1,2")
    return tmp_path / "iris.mar"


REPLY = {"status": 200, "content_type": JSON, "body": "[1.5]"}


def statements(report):
    return [(question.holds, question.statement) for question in report.questions]


SAFE = (True, "the archive is safe to unpack")
LOADS = (True, "it loads")


def test_an_archive_with_its_sample(inspect, tmp_path):
    """It is unpacked, and gets the reply that it got.  Tracebacks will name the archive."""
    path = packed(tmp_path, REPLY)
    report = check(path)
    assert report.verdict == f"{path} can be served"
    assert statements(report) == [
        SAFE,
        LOADS,
        (True, "it answers the packed sample"),
        (True, "the reply is the same as when it was packed"),
    ]
    ((folder, *call),) = inspect.calls
    assert call == [b"1,2", "text/csv", "*/*"]
    assert folder.name == "iris"
    assert inspect.files == ["MAR-INF"]
    assert inspect.sources == {"": str(path)}
    assert not folder.exists()


@pytest.mark.parametrize(
    ("reply", "report", "differs"),
    [
        (REPLY, report_of(b"[1.50001]"), None),
        (None, report_of(b"[2]"), None),
        (
            REPLY,
            report_of(b"[2]"),
            "the sample was answered 200 application/json: [1.5] when it was packed, now 200 "
            "application/json: [2]",
        ),
        (
            REPLY,
            report_of(b"[1.5]", 400),
            "the sample was answered 200 application/json: [1.5] when it was packed, now 400 "
            "application/json: [1.5]",
        ),
    ],
)
def test_another_reply(inspect, tmp_path, reply, report, differs):
    """Is not hidden."""
    inspect.report = {"script": None, "functions": [], **report}
    assert check(packed(tmp_path, reply)).failure == differs


@pytest.mark.parametrize(
    ("status", "verdict"),
    [(200, "{} can be served, but x; y"), (400, "the packed sample gets 400: [1]; x; y")],
)
def test_doubts_about_names(inspect, tmp_path, status, verdict):
    """The verdict has them, because the lines above it may be many."""
    doubts = {"doubts": ["x", "y"]}
    inspect.report = {"script": None, "functions": [], **report_of(b"[1]", status), **doubts}
    path = packed(tmp_path, None)
    assert check(path).verdict == verdict.format(path)


def test_a_packed_reply_of_a_model_that_does_not_load(inspect, tmp_path):
    """Nothing is said of a reply that it did not give."""
    inspect.report = {"error": "model_fn: ValueError: no weights"}
    report = check(packed(tmp_path, REPLY))
    assert report.failure.endswith(" does not load: model_fn: ValueError: no weights")
    assert (True, "the reply is the same as when it was packed") not in statements(report)


@pytest.mark.parametrize(
    ("status", "fails"), [(200, False), (399, False), (400, True), (500, True)]
)
def test_a_sample_without_a_packed_reply(inspect, tmp_path, status, fails):
    """Its status says whether it is answered."""
    inspect.report = {"script": None, "functions": [], **report_of(b"no", status)}
    report = check(packed(tmp_path, None))
    assert (not fails, "it answers the packed sample") in statements(report)
    assert report.failure == (f"the packed sample gets {status}: no" if fails else None)


@pytest.mark.parametrize("status", [400, 500])
def test_zeros_that_a_script_does_not_read(inspect, tmp_path, status):
    """convert made them, and nobody knows whether the script reads such a body."""
    model = {"modelName": "old", "handler": "mms_handler.service:handle"}
    sample = {"name": "MAR-INF/sample.json", "content_type": JSON, "accept": "*/*"}
    manifest = {"model": model, "mms_handler": {"sample": sample}}
    with zipfile.ZipFile(tmp_path / "old.mar", "w") as mar:
        mar.writestr(MANIFEST, json.dumps(manifest))
        mar.writestr("MAR-INF/sample.json", "[[0, 0]]")
        mar.writestr("model-shapes.json", '[{"name": "data", "shape": [10, 2]}]')
    inspect.report = {"script": None, "functions": [], **report_of(b"no", status)}
    report = check(tmp_path / "old.mar")
    assert report.verdict == f"{tmp_path / 'old.mar'} can be served"
    assert (None, "it answers a request: --sample FILE sends one") in statements(report)
    report = check(tmp_path / "old.mar", accept="text/csv")  # now it is a person's request
    assert report.failure == f"the packed sample gets {status}: no"


def test_other_types(inspect, tmp_path):
    """With them another reply is expected, and so none is compared."""
    path = packed(tmp_path, {**REPLY, "body": "[9]"})
    assert check(path, content_type="a/b").failure is None
    assert check(path, accept="c/d").failure is None
    assert "when it was packed" in check(path, content_type="text/csv", accept="*/*").failure
    types = [call[2:] for call in inspect.calls]
    assert types == [("a/b", "*/*"), ("text/csv", "c/d"), ("text/csv", "*/*")]


def test_a_folder(inspect, tmp_path):
    """It is used where it is; without a sample the model is only loaded."""
    (tmp_path / "code").mkdir()
    report = check(tmp_path)
    assert statements(report) == [
        LOADS,
        (None, "it answers a request: --sample FILE sends one"),
    ]
    (tmp_path / "one.npy").write_bytes(b"x")
    check(tmp_path, tmp_path / "one.npy")
    check(tmp_path, tmp_path / "one.npy", "a/b", "c/d")
    assert inspect.calls == [
        (tmp_path, None),
        (tmp_path, b"x", "application/x-npy", "*/*"),
        (tmp_path, b"x", "a/b", "c/d"),
    ]


def test_a_model_that_does_not_load_says_so_last(inspect, tmp_path):
    """With the traceback of the process that tried."""
    (tmp_path / "code").mkdir()
    inspect.report = {"error": "model_fn: ValueError: no weights", "traceback": "Traceback"}
    report = check(tmp_path)
    assert statements(report) == [(False, "it loads")]
    assert report.verdict == f"{tmp_path} does not load: model_fn: ValueError: no weights"
    assert report.traceback == "Traceback"


def test_a_request_that_fails(inspect, tmp_path):
    """The verdict has the script's error: there is no log to look into."""
    (tmp_path / "row.csv").write_text("1,2")
    failed = {"status": 500, "content_type": JSON, "reply": "KeyError: 1", "traceback": "Traceback"}
    inspect.report = {"script": "code/x.py", "functions": [], **failed}
    report = check(tmp_path, tmp_path / "row.csv")
    row = tmp_path / "row.csv"
    assert statements(report) == [LOADS, (False, f"it answers {row}")]
    assert report.verdict == f"{row} gets 500: KeyError: 1"
    assert report.traceback == "Traceback"


def test_a_tar_is_converted_first(inspect, tmp_path):
    with tarfile.open(tmp_path / "model.tar.gz", "w:gz") as tar:
        (tmp_path / "inference.py").write_text("")
        tar.add(tmp_path / "inference.py", "code/inference.py")
    check(tmp_path / "model.tar.gz")
    ((folder, body),) = inspect.calls
    assert (folder.name, body) == ("model", None)
    assert inspect.sources == {"": str(tmp_path / "model.tar.gz")}


# --- a script where it lies ------------------------------------------------------------------


def test_a_script_elsewhere_is_used_where_it_lies(inspect, tmp_path):
    """A file, or the script of a folder."""
    (tmp_path / "model").mkdir()
    (tmp_path / "iris.py").write_text("")
    check(tmp_path / "model", script=tmp_path / "iris.py")
    check(tmp_path / "model", script=tmp_path)
    assert inspect.options == [["--script", str(tmp_path / "iris.py")]] * 2


def test_a_wrong_script_says_what_to_name(inspect, tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "README.md").write_text("")
    for name in ("README.md", "model"):
        with pytest.raises(ScriptError, match="; name the script, or its folder$"):
            check(tmp_path / "model", script=tmp_path / name)
    assert inspect.calls == []


def test_a_script_alone(inspect, tmp_path):
    """What it lacks is named, and how to check it with a model."""
    (tmp_path / "iris.py").write_text("")
    inspect.report = {"script": "iris.py", "functions": [("model_fn", False, "model_fn(d): ...")]}
    report = check(tmp_path / "iris.py")
    assert inspect.options == [["--script", str(tmp_path / "iris.py"), "--alone"]]
    assert statements(report) == [
        (True, "it can be imported, and its functions fit the contract"),
        (False, "there is a model: a folder with the files that its model_fn reads"),
    ]
    assert report.failure.endswith(f"mms-handler check MODEL_DIR --script {tmp_path / 'iris.py'}")
    inspect.report = {"script": "iris.py", "functions": []}
    assert "model-0000.params" in check(tmp_path / "iris.py").questions[1].statement
    inspect.report = {"error": "script: NameError: x", "traceback": "Traceback"}
    report = check(tmp_path / "iris.py")
    assert report.failure == f"{tmp_path / 'iris.py'} cannot be imported: script: NameError: x"
    assert statements(report) == [(False, "it can be imported, and its functions fit the contract")]
    assert report.traceback == "Traceback"


# --- before it is packed ---------------------------------------------------------------------

ENTRY = Sample("MAR-INF/sample.json", JSON, "*/*")
OWN, GENERATED = (SampleRequest(ENTRY, b"[1]", generated) for generated in (False, True))


def test_a_sample_with_its_reply(inspect, tmp_path):
    """The body is left out if it names the folder, which is another one each time."""
    tried = try_sample(tmp_path, OWN)
    assert tried == Tried(OWN._replace(entry=ENTRY._replace(reply=REPLY)))
    inspect.report = report_of(f"in {tmp_path}".encode())
    reply = try_sample(tmp_path, OWN).request.entry.reply
    assert reply == {"status": 200, "content_type": JSON}
    inspect.report = {"status": 200, "content_type": JSON, "reply": "a time"}
    reply = try_sample(tmp_path, OWN).request.entry.reply
    assert reply == {"status": 200, "content_type": JSON}


def test_no_sample(inspect, tmp_path):
    """The model loads, and that is all."""
    assert try_sample(tmp_path, None) == Tried(None)
    inspect.report = {**inspect.report, "schema": {"inputs": [], "outputs": []}}
    assert try_sample(tmp_path, None) == Tried(None, Schema((), ()))
    assert inspect.calls == [(tmp_path, None)] * 2


@pytest.mark.parametrize(("status", "refused"), [(399, False), (400, True), (500, True)])
def test_a_sample_that_is_refused(inspect, tmp_path, status, refused):
    """Zeros may not be what the model takes; what a person chose must be."""
    inspect.report = report_of(b"no", status)
    assert (try_sample(tmp_path, GENERATED).request is None) == refused
    if refused:
        with pytest.raises(ArchiveError, match=f"^the sample request gets {status}: no$"):
            try_sample(tmp_path, OWN)
    else:
        assert try_sample(tmp_path, OWN).request.entry.reply["status"] == status


@pytest.mark.parametrize("request_", [None, OWN, GENERATED])
def test_a_model_that_does_not_load(inspect, tmp_path, request_):
    inspect.report = {"error": "model_fn: ValueError: no weights", "traceback": "Traceback"}
    message = f"^{tmp_path.name} does not load: model_fn: ValueError: no weights$"
    with pytest.raises(ArchiveError, match=message) as raised:
        try_sample(tmp_path, request_)
    assert raised.value.traceback == "Traceback"


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (3, "ended with 3"),
        (0, "ended with 0"),
        (-9, "was killed by SIGKILL, perhaps by the system for memory"),
        (-11, "was killed by SIGSEGV"),
    ],
)
def test_how_the_process_that_loads_a_model_ended(code, words):
    """If it could say nothing itself."""
    assert child.ending(code) == words


def test_what_is_told_of_a_plain_handler():
    """It has no script of ours, and no functions."""
    assert report._details({"handler": "own:handle", "files": []}) == [
        ("handler", "own:handle, the archive's own"),
        ("files", "none"),
    ]


def test_what_is_told_of_a_model():
    """Its script and functions, files, class and reply, as far as they are known."""
    inspected = {
        "script": "code/inference.py",
        "functions": [("model_fn", False, "model_fn(model_dir)"), ("input_fn", True, "any")],
        "files": ["a", "b"],
        "model": "mxnet.gluon.nn.Dense",
        **report_of(b"[1]"),
    }
    assert report._details(inspected) == [
        ("script", "code/inference.py"),
        ("model_fn", "model_fn(model_dir)"),
        ("input_fn", "the default"),
        ("files", "a, b"),
        ("model", "mxnet.gluon.nn.Dense"),
        ("reply", "200 application/json: [1]"),
    ]
    assert report._details({"script": None}) == [("script", "none: all functions are the defaults")]
