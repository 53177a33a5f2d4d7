"""archive.check: what is made of a report about a model and its sample.

The reports are written here; test_pack and test_convert load models.
"""

from __future__ import annotations

import base64
import json
import zipfile
from pathlib import Path

import pytest

from mms_handler.archive import child
from mms_handler.archive.check import check, try_sample
from mms_handler.archive.samples import SampleRequest
from mms_handler.errors import ArchiveError
from mms_handler.manifest import MANIFEST, Sample

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
        body, *types = arguments or (None,)
        inspect.calls.append((folder, Path(body).read_bytes() if body else None, *types))
        inspect.files = sorted(path.name for path in folder.iterdir())
        return dict(inspect.report)

    def inspect():
        pass

    inspect.calls, inspect.report = [], report_of(b"[1.5]")
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


def test_an_archive_with_its_sample(inspect, tmp_path):
    """It is unpacked, and gets the reply that it got."""
    assert check(packed(tmp_path, REPLY)) == inspect.report
    ((folder, *call),) = inspect.calls
    assert call == [b"1,2", "text/csv", "*/*"]
    assert folder.name == "iris"
    assert inspect.files == ["MAR-INF"]
    assert not folder.exists()


@pytest.mark.parametrize(
    ("reply", "report", "differs"),
    [
        (REPLY, report_of(b"[1.50001]"), None),
        (REPLY, {"error": "no weights"}, None),
        (None, report_of(b"[2]"), None),
        (
            REPLY,
            report_of(b"[2]"),
            "was answered 200 application/json: [1.5] when it was packed, now 200 "
            "application/json: [2]",
        ),
        (
            REPLY,
            report_of(b"[1.5]", 400),
            "was answered 200 application/json: [1.5] when it was packed, now 400 "
            "application/json: [1.5]",
        ),
    ],
)
def test_another_reply(inspect, tmp_path, reply, report, differs):
    """Is not hidden; a model that does not load has none."""
    inspect.report = report
    checked = check(packed(tmp_path, reply))
    assert checked.get("differs") == differs
    assert checked.get("error") == report.get("error")


def test_other_types(inspect, tmp_path):
    """With them another reply is expected, and so none is compared."""
    path = packed(tmp_path, {**REPLY, "body": "[9]"})
    assert "differs" not in check(path, content_type="a/b")
    assert "differs" not in check(path, accept="c/d")
    assert "differs" in check(path, content_type="text/csv", accept="*/*")
    types = [call[2:] for call in inspect.calls]
    assert types == [("a/b", "*/*"), ("text/csv", "c/d"), ("text/csv", "*/*")]


def test_a_folder(inspect, tmp_path):
    """It is used where it is; without a sample the model is only loaded."""
    (tmp_path / "code").mkdir()
    check(tmp_path)
    (tmp_path / "one.npy").write_bytes(b"x")
    check(tmp_path, tmp_path / "one.npy")
    check(tmp_path, tmp_path / "one.npy", "a/b", "c/d")
    assert inspect.calls == [
        (tmp_path, None),
        (tmp_path, b"x", "application/x-npy", "*/*"),
        (tmp_path, b"x", "a/b", "c/d"),
    ]


# --- before it is packed ---------------------------------------------------------------------

ENTRY = Sample("MAR-INF/sample.json", JSON, "*/*")
OWN, GENERATED = (SampleRequest(ENTRY, b"[1]", generated) for generated in (False, True))


def test_a_sample_with_its_reply(inspect, tmp_path):
    """The body is left out if it names the folder, which is another one each time."""
    tried = try_sample(tmp_path, OWN)
    assert tried == OWN._replace(entry=ENTRY._replace(reply=REPLY))
    inspect.report = report_of(f"in {tmp_path}".encode())
    reply = try_sample(tmp_path, OWN).entry.reply
    assert reply == {"status": 200, "content_type": JSON}
    inspect.report = {"status": 200, "content_type": JSON, "reply": "a time"}
    assert try_sample(tmp_path, OWN).entry.reply == {"status": 200, "content_type": JSON}


def test_no_sample(inspect, tmp_path):
    """The model loads, and that is all."""
    assert try_sample(tmp_path, None) is None
    assert inspect.calls == [(tmp_path, None)]


@pytest.mark.parametrize(("status", "refused"), [(399, False), (400, True), (500, True)])
def test_a_sample_that_is_refused(inspect, tmp_path, status, refused):
    """Zeros may not be what the model takes; what a person chose must be."""
    inspect.report = report_of(b"no", status)
    assert (try_sample(tmp_path, GENERATED) is None) == refused
    if refused:
        with pytest.raises(ArchiveError, match=f"^the sample request gets {status}: no$"):
            try_sample(tmp_path, OWN)
    else:
        assert try_sample(tmp_path, OWN).entry.reply["status"] == status


@pytest.mark.parametrize("request_", [None, OWN, GENERATED])
def test_a_model_that_does_not_load(inspect, tmp_path, request_):
    inspect.report = {"error": "model_fn: ValueError: no weights"}
    message = f"^{tmp_path.name} does not load: model_fn: ValueError: no weights$"
    with pytest.raises(ArchiveError, match=message):
        try_sample(tmp_path, request_)
