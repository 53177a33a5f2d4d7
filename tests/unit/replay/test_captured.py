"""captured: files of serve --capture and of SageMaker's data capture."""

from __future__ import annotations

import json

import pytest

from mms_handler.errors import ArchiveError
from mms_handler.replay import fetched, read

#: As AWS's developer guide shows a line of SageMaker's data capture, in one line there, too.
SAGEMAKER = {
    "captureData": {
        "endpointInput": {
            "observedContentType": "text/csv",
            "mode": "INPUT",
            "data": "50,53,42,40",
            "encoding": "CSV",
        },
        "endpointOutput": {
            "observedContentType": "text/csv; charset=character-encoding",
            "mode": "OUTPUT",
            "data": "0.0254181120544672",
            "encoding": "CSV",
        },
    },
    "eventMetadata": {
        "eventId": "aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee",
        "inferenceTime": "2022-02-14T17:25:06Z",
    },
    "eventVersion": "0",
}

OURS = {
    **SAGEMAKER,
    "mmsHandler": {
        "time": "2022-02-14T17:25:05.250Z",
        "model": "iris",
        "version": "2",
        "status": 404,
        "latencyMs": 1.5,
        "headers": {"Accept": "text/csv"},
    },
}


def all_of(path):
    with fetched(str(path)) as files:
        return list(read(files))


def test_sagemakers_own_capture(tmp_path):
    """In its folders; what it does not know has a default."""
    folder = tmp_path / "endpoint" / "AllTraffic" / "2022" / "02" / "14" / "17"
    folder.mkdir(parents=True)
    (folder / "25-06-000-aaaa.jsonl").write_text(json.dumps(SAGEMAKER) + "\n")
    (captured,) = all_of(tmp_path)
    assert captured._asdict() == {
        "id": "aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee",
        "time_s": 1644859506.0,
        "model": "",
        "tensors": False,
        "body": b"50,53,42,40",
        "headers": {"Content-Type": "text/csv"},
        "status": 200,
        "latency_s": None,
        "reply": b"0.0254181120544672",
        "reply_type": "text/csv; charset=character-encoding",
        "reply_header_length": "",
    }


def test_tensors_have_no_type_that_was_not_sent(tmp_path):
    """Only what the client has sent goes out again; the reply's JSON is as long as it was."""
    details = {
        **OURS["mmsHandler"],
        "protocol": "v2",
        "headers": {"Inference-Header-Content-Length": "90"},
        "replyHeaders": {"Inference-Header-Content-Length": "120"},
    }
    request = {"observedContentType": None, "mode": "INPUT", "data": "e30=", "encoding": "BASE64"}
    parts = {**SAGEMAKER["captureData"], "endpointInput": request}
    record = {**OURS, "captureData": parts, "mmsHandler": details}
    (tmp_path / "capture-1.jsonl").write_text(json.dumps(record) + "\n")
    (captured,) = all_of(tmp_path)
    assert (captured.tensors, captured.body, captured.reply_header_length) == (True, b"{}", "120")
    assert captured.headers == {"Inference-Header-Content-Length": "90"}


def test_our_own_capture(tmp_path):
    """In the order of the requests; a line that is being written is left out."""
    text = f"{json.dumps(SAGEMAKER)}\n{json.dumps(OURS)}\n"
    (tmp_path / "capture-1.jsonl").write_text(text)
    (tmp_path / "capture-2.jsonl.part").write_text(text + '{"captureData"')
    first, *others = all_of(tmp_path)
    assert (first.model, first.status, first.latency_s) == ("iris", 404, 0.0015)
    assert first.headers == {"Accept": "text/csv", "Content-Type": "text/csv"}
    assert first.time_s == 1644859505.25
    assert [captured.model for captured in others] == ["", "iris", ""]
    assert len(all_of(tmp_path / "capture-1.jsonl")) == 2


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"captureData": {}}, id="no request"),
        pytest.param({"captureData": {"endpointInput": {"mode": "INPUT"}}}, id="no data"),
        pytest.param({"eventMetadata": {"inferenceTime": "yesterday"}}, id="no time"),
        pytest.param({"mmsHandler": {"status": "good"}}, id="no status"),
        pytest.param(
            {"captureData": {"endpointInput": {"data": "é", "encoding": "BASE64"}}}, id="no base64"
        ),
        pytest.param(None, id="no object"),
    ],
)
def test_a_line_that_is_no_prediction(tmp_path, change):
    """The message has the file and the line."""
    wrong = json.dumps(change and {**SAGEMAKER, **change})
    (tmp_path / "a.jsonl").write_text(f"{json.dumps(SAGEMAKER)}\n\n{wrong}\n")
    with pytest.raises(ArchiveError, match="a.jsonl, line 3 is not a captured prediction: "):
        all_of(tmp_path)


def test_a_folder_without_predictions(tmp_path):
    with pytest.raises(ArchiveError, match="has no captured predictions: expected .jsonl files"):
        all_of(tmp_path)
