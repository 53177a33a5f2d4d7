"""captured: files of serve --capture and of SageMaker's data capture."""

from __future__ import annotations

import json

import pytest

from mms_handler.errors import ArchiveError
from mms_handler.replay import fetched, read

pytest_plugins = ["local_s3"]

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


def test_what_a_capture_may_leave_out(tmp_path):
    """Other details, the id, the reply, its type; JSON is the type of a request that had none."""
    data = {"captureData": {"endpointInput": {"data": "[1]", "observedContentType": None}}}
    records = [
        {**data, "eventMetadata": {"inferenceTime": "2022-02-14T17:25:06Z"}},
        {
            **data,
            "eventMetadata": {"eventId": None},
            "mmsHandler": {"time": "2022-02-14T17:25:07Z"},
        },
    ]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, records)))
    first, second = all_of(tmp_path)
    assert first._asdict() == {
        "id": "", "time_s": 1644859506.0, "model": "", "tensors": False, "body": b"[1]",
        "headers": {"Content-Type": "application/json"}, "status": 200, "latency_s": None,
        "reply": None, "reply_type": "", "reply_header_length": "",
    }  # fmt: skip
    assert (second.id, second.time_s) == ("", 1644859507.0)


def test_bodies_in_base64(tmp_path):
    part = {"data": "/w==", "encoding": "BASE64"}
    record = {**OURS, "captureData": {"endpointInput": part, "endpointOutput": part}}
    (tmp_path / "a.jsonl").write_text(json.dumps(record))
    (captured,) = all_of(tmp_path)
    assert (captured.body, captured.reply) == (b"\xff", b"\xff")


def test_files_come_one_after_the_other(tmp_path):
    """By their names, whatever their times, also in folders; other files do not count."""
    for place, name in enumerate(["b/a.jsonl", "c.jsonl", "a.jsonl.part"]):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        record = {**SAGEMAKER, "eventMetadata": {"inferenceTime": f"2022-02-14T17:25:0{place}Z"}}
        path.write_text(f"{json.dumps(record)}\n")
    (tmp_path / "notes.txt").write_text("no prediction")
    assert [captured.time_s % 10 for captured in all_of(tmp_path)] == [2, 0, 1]


def test_a_part_that_is_cut_is_left_out_alone(tmp_path):
    """In a whole file a line without its end counts."""
    line = json.dumps(SAGEMAKER)
    (tmp_path / "a.jsonl").write_text(line)
    (tmp_path / "b.jsonl.part").write_text(f"{line}\n\n{line}")
    assert len(all_of(tmp_path)) == 2


def test_captures_in_s3(bucket):
    """A file, or a folder with or without a slash at its end."""
    text = json.dumps(SAGEMAKER).encode()
    bucket.put("captures/b.jsonl", text + b"\n" + text)
    bucket.put("captures/a.jsonl", text)
    for place, count in (("", 3), ("/", 3), ("/b.jsonl", 2)):
        assert len(all_of(f"s3://bucket/captures{place}")) == count
