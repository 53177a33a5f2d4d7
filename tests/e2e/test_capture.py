"""Captured predictions: what is written, when it is not, and that no request waits for it."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import re
import shutil
import signal
import struct
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Iterator

import pytest
from plugin_mms import QUIET_LOG, Running, connected, request, running
from running_mms import EXAMPLES, Serving, free_ports, mms_handler, wait_for

from mms_handler import client
from mms_handler.server.capturing import folder_for

pytest_plugins = ["local_s3"]

JSON, BYTES = "application/json", "application/octet-stream"
WORDS = ("--log-config", str(QUIET_LOG))
TIME = r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d"


@contextlib.contextmanager
def serving(folder: Path, **properties: object) -> Iterator[Running]:
    """A gate before a sleeper that captures into captured/."""
    captured = folder / "captured"
    captured.mkdir()
    with running(folder, *WORDS, gate=free_ports()[0], capture=captured, **properties) as mms:
        wait_for(lambda: mms.ping(mms.inference)[0], 30)
        assert mms.register().status == 200
        yield mms


def ask(mms: Running, body: bytes, content_type="text/csv", **headers: str) -> client.Answer:
    headers = {"Content-Type": content_type, **headers}
    return client.call("POST", f"{mms.gate}/predictions/sleeper", body, headers)


def files(folder: Path) -> list[Path]:
    return sorted((folder / "captured").iterdir())


def lines(folder: Path) -> list[dict[str, Any]]:
    """All that is captured, also what is still being written."""
    texts = [file.read_text() for file in files(folder)]
    return [json.loads(line) for text in texts for line in text.splitlines()]


def counts(mms: Running) -> tuple[float, float]:
    """How many were written, and how many dropped."""
    metrics = mms.metrics()
    written, dropped = (f'captured_total{{result="{name}"}}' for name in ("written", "dropped"))
    return metrics[written], metrics[dropped]


@pytest.fixture(scope="module")
def mms(tmp_path_factory) -> Iterator[Running]:
    """All predictions are captured; a file is finished after two seconds."""
    with serving(tmp_path_factory.mktemp("capture"), capture_file_s=2) as mms:
        yield mms


def test_a_prediction_is_a_line_in_sagemakers_format(mms):
    """With its id, times, model, status and bodies as text; no header has a token."""
    secrets = {"Authorization": "Bearer secret", "Cookie": "secret", "X-Api-Key": "secret"}
    headers = {**secrets, "Accept": "*/*", "X-Request-Id": "one", "traceparent": "00-1-2-3"}
    answer = ask(mms, b"0.01 3", **headers)
    assert answer.status == 200
    (line,) = wait_for(lambda: [x for x in lines(mms.folder) if "one" in str(x)], 5)
    assert "secret" not in str(line)
    event, ours = line["eventMetadata"], line["mmsHandler"]
    assert re.fullmatch(TIME + "Z", event.pop("inferenceTime"))
    assert re.fullmatch(TIME + r"\.\d{3}Z", ours.pop("time"))
    assert 10 < ours.pop("latencyMs") < 10_000
    assert line == {
        "captureData": {
            "endpointInput": {
                "observedContentType": "text/csv",
                "mode": "INPUT",
                "data": "0.01 3",
                "encoding": "CSV",
            },
            "endpointOutput": {
                "observedContentType": "text/plain",
                "mode": "OUTPUT",
                "data": base64.b64encode(answer.body).decode(),
                "encoding": "BASE64",
            },
        },
        "eventMetadata": {"eventId": "one"},
        "eventVersion": "0",
        "mmsHandler": {
            "model": "sleeper",
            "version": None,
            "status": 200,
            "headers": {"Accept": "*/*", "Content-Type": "text/csv", "traceparent": "00-1-2-3"},
        },
    }


@pytest.mark.parametrize(
    ("body", "content_type", "encoding"),
    [
        pytest.param('0 1\n"\\\t\x01é漢'.encode(), "text/csv", "CSV", id="text with all signs"),
        pytest.param(b"0", "application/json; charset=utf-8", "JSON", id="JSON"),
        pytest.param(b"0\n", "application/jsonlines", "JSON", id="JSON Lines"),
        pytest.param(b"0\xff", "text/csv", "BASE64", id="another charset"),
        pytest.param(b"0\xe6\xbc", "text/csv", "BASE64", id="half a character"),
        pytest.param(bytes(range(256)) * 9, "image/png", "BASE64", id="bytes"),
        pytest.param(b"", "text/csv", "CSV", id="nothing"),
    ],
)
def test_a_body_comes_back_as_it_was(mms, body, content_type, encoding):
    """As text where it is UTF-8 of a type of text; whatever the model says to it."""
    name = f"{encoding}{len(body)}{content_type}"
    ask(mms, body, content_type, **{"X-Request-Id": name})
    (line,) = wait_for(lambda: [x for x in lines(mms.folder) if name in str(x)], 5)
    captured = line["captureData"]["endpointInput"]
    assert (captured["observedContentType"], captured["encoding"]) == (content_type, encoding)
    data = captured["data"].encode()
    assert (base64.b64decode(data) if encoding == "BASE64" else data) == body


def test_files_are_private_and_get_their_name_when_they_are_whole(mms):
    """Two seconds after they were begun."""
    ask(mms, b"0")
    wait_for(lambda: any(file.suffix == ".part" for file in files(mms.folder)), 5)
    wait_for(lambda: all(file.suffix == ".jsonl" for file in files(mms.folder)), 10)
    name = r"capture-20\d{6}T\d{6}\.\d{3}Z-[0-9a-f]{8}\.jsonl"
    assert all(re.fullmatch(name, file.name) for file in files(mms.folder))
    assert {file.stat().st_mode & 0o777 for file in files(mms.folder)} == {0o600}


def test_what_is_no_prediction_is_not_captured(mms):
    """Neither are requests that are cut off."""
    before = counts(mms)[0]
    for path in ("/ping", "/metrics"):
        mms.get(path)
    client.call("OPTIONS", f"{mms.gate}/predictions/sleeper")
    with connected(mms) as connection:
        connection.sendall(request("0")[:-1])
    ask(mms, b"0", **{"X-Request-Id": "the last"})
    wait_for(lambda: counts(mms)[0] == before + 1, 5)


def test_a_share_of_some_types(tmp_path):
    """About half of the CSV; of replies of other types only the status; at the end all is whole."""
    with serving(tmp_path, capture_share=0.5, capture_types="text/csv") as mms:
        with ThreadPoolExecutor(4) as clients:
            list(clients.map(lambda _: ask(mms, b"0"), range(200)))
        for _ in range(10):
            ask(mms, b"0", "application/x-secret")
        wait_for(lambda: sum(counts(mms)) > 50, 5)
        mms.java().terminate()
        mms.process.wait(40)
    captured = lines(tmp_path)
    assert 60 < len(captured) < 140
    parts = [line["captureData"] for line in captured]
    assert {part["endpointInput"]["observedContentType"] for part in parts} == {"text/csv"}
    assert {frozenset(part["endpointOutput"]) for part in parts} == {
        frozenset(("observedContentType", "mode"))
    }
    assert {line["mmsHandler"]["status"] for line in captured} == {200}
    assert {file.suffix for file in files(tmp_path)} == {".jsonl"}


def test_what_does_not_fit_is_dropped(tmp_path):
    """A megabyte of room: larger bodies are answered, and counted; smaller ones are captured."""
    with serving(tmp_path, capture_buffer_mb=1) as mms:
        for _ in range(3):
            assert ask(mms, b"0" + b" " * 1_100_000).status == 200
        assert ask(mms, b"0").status == 200
        wait_for(lambda: counts(mms) == (1, 3), 5)
        words = "predictions not captured, because more came than could be written: [123]"
        wait_for(lambda: re.search(words, mms.log()), 15)


def test_the_folder_stays_small(tmp_path):
    """With a megabyte for all files, the oldest go."""
    with serving(tmp_path, capture_max_mb=1) as mms:
        for number in range(16):
            body = b"0" + b" " * 100_000
            assert ask(mms, body, **{"X-Request-Id": f"number {number}"}).status == 200
            wait_for(lambda number=number: counts(mms)[0] == number + 1, 5)
            assert sum(file.stat().st_size for file in files(tmp_path)) <= 2**20
    text = str(lines(tmp_path))
    assert "number 15" in text
    assert "number 0'" not in text


def test_a_folder_that_is_gone_ends_the_capture_alone(tmp_path):
    """One line says so; requests are answered as before."""
    with serving(tmp_path) as mms:
        shutil.rmtree(tmp_path / "captured")
        assert [ask(mms, b"0").status for _ in range(3)] == [200] * 3
        wait_for(lambda: "nothing is captured any more" in mms.log(), 5)
        assert [ask(mms, b"0").status for _ in range(3)] == [200] * 3
        assert mms.log().count("nothing is captured any more") == 1
        assert counts(mms)[1] >= 1


def test_a_server_that_is_killed_loses_nothing_whole(tmp_path):
    """What it has written is finished at the next start, and not while it is written."""
    with serving(tmp_path) as mms:
        ask(mms, b"0", **{"X-Request-Id": "one"})
        wait_for(lambda: counts(mms)[0] == 1, 30)
        (part,) = wait_for(lambda: lines(tmp_path) and files(tmp_path), 30)
        with folder_for(str(part.parent)):
            assert [file.suffix for file in files(tmp_path)] == [".part"]
        mms.java().kill()
        mms.process.wait(40)
        with part.open("ab") as file:
            file.write(b'{"captureDat')
        with folder_for(str(part.parent)):
            assert files(tmp_path) == [part.with_suffix("")]
    assert [line["eventMetadata"]["eventId"] for line in lines(tmp_path)] == ["one"]


def test_a_folder_that_cannot_be_written_is_refused_at_the_start(tmp_path):
    (tmp_path / "file").touch()
    words = ("serve", EXAMPLES / "linear", "--capture", tmp_path / "file" / "captured")
    result = mms_handler(*words, "--port", free_ports()[0])
    assert result.returncode == 1
    assert "predictions cannot be captured in" in result.stderr.decode()
    assert "Not a directory; name another folder with --capture" in result.stderr.decode()


# --- serve and replay ---


def scaled(folder: Path, factor: float) -> Path:
    """The linear model, with predictions that are multiplied."""
    shutil.copytree(EXAMPLES / "linear", folder)
    (folder / "code").mkdir()
    script = f"def predict_fn(block, data):\n    return block.predict(data) * {factor}\n"
    (folder / "code" / "inference.py").write_text(script)
    return folder


#: Tensors of the Open Inference Protocol: their values in JSON, and in binary after it.
TENSOR = {"name": "input", "shape": [1, 2], "datatype": "FP32"}
IN_JSON = json.dumps({"id": "7", "inputs": [{**TENSOR, "data": [1, 2]}]}).encode()
IN_BINARY = json.dumps(
    {
        "inputs": [{**TENSOR, "parameters": {"binary_data_size": 8}}],
        "parameters": {"binary_data_output": True},
    }
).encode()
BINARY_BODY = IN_BINARY + struct.pack("<2f", 1, 2)
HEADER_LENGTH = "Inference-Header-Content-Length"


@pytest.fixture(scope="module")
def tensors(tmp_path_factory) -> Path:
    """Three requests with tensors, one of them wrong, to a model called linear; in a folder."""
    scratch = tmp_path_factory.mktemp("tensors")
    model, folder = scaled(scratch / "linear", 1), scratch / "captured"
    words = (model, "--workers", 1, "--capture", folder, "--capture-share", "100%")
    with Serving(free_ports(), *words, "--capture-types", f"{JSON},{BYTES}") as serving:
        url = f"{serving.inference}/v2/models/linear/infer"
        binary = {"Content-Type": "text/html", HEADER_LENGTH: str(len(IN_BINARY))}
        types = {"Content-Type": "text/plain"}, binary, {"Content-Type": JSON}
        bodies = IN_JSON, BINARY_BODY, b"{}"
        answers = [client.call("POST", url, *each) for each in zip(bodies, types)]
        assert [answer.status for answer in answers] == [200, 200, 400]
    return folder


def test_tensors_are_captured_as_they_were_sent(tensors):
    """With the type that the client gave them; it is chosen by what they are."""
    (file,) = tensors.iterdir()
    in_json, in_binary, wrong = map(json.loads, file.read_text().splitlines())
    assert [line["mmsHandler"]["protocol"] for line in (in_json, in_binary, wrong)] == ["v2"] * 3
    assert in_json["captureData"]["endpointInput"] == {
        "observedContentType": "text/plain",
        "mode": "INPUT",
        "data": IN_JSON.decode(),
        "encoding": "JSON",
    }
    reply = json.loads(in_json["captureData"]["endpointOutput"]["data"])
    assert (reply["id"], reply["model_version"]) == ("7", "1")
    assert "replyHeaders" not in in_json["mmsHandler"]
    request, reply = in_binary["captureData"].values()
    assert (request["observedContentType"], request["encoding"]) == ("text/html", "BASE64")
    assert base64.b64decode(request["data"]) == BINARY_BODY
    assert in_binary["mmsHandler"]["headers"][HEADER_LENGTH] == str(len(IN_BINARY))
    assert (reply["observedContentType"], reply["encoding"]) == (BYTES, "BASE64")
    body, header = base64.b64decode(reply["data"]), in_binary["mmsHandler"]["replyHeaders"]
    assert struct.unpack("<d", body[int(header[HEADER_LENGTH]) :]) == (4.9999918937683105,)
    error = json.loads(wrong["captureData"]["endpointOutput"]["data"])
    assert error == {"error": 'not a valid inference request: "inputs" is missing or empty'}


@pytest.mark.parametrize(
    ("factor", "code", "kind"),
    [
        pytest.param(1, 0, "close", id="the same numbers"),
        pytest.param(1.01, 1, "apart", id="other numbers"),
    ],
)
def test_a_replay_of_tensors(tensors, tmp_path, factor, code, kind):
    """Against another version of the model; what says which one it was does not count."""
    report = tmp_path / "report.json"
    model = scaled(tmp_path / "model", factor)
    result = mms_handler("replay", tensors, "--against", model, "--json", report)
    assert result.returncode == code, result.stderr
    replies = json.loads(report.read_text())["replies"]
    assert (replies[kind], replies["identical"]) == (2, 1)


@pytest.fixture(scope="module")
def captured(tmp_path_factory) -> Path:
    """Ten good predictions of the linear model, two bad ones, in a folder."""
    folder = tmp_path_factory.mktemp("linear") / "captured"
    words = (EXAMPLES / "linear", "--workers", 1, "--capture", folder, "--capture-share", "100%")
    with Serving(free_ports(), *words) as serving:
        for number in range(10):
            assert serving.ask("linear", b"[[%d, 2]]" % number).status == 200
        for body in (b"[[1]]", b"no JSON"):
            assert serving.ask("linear", body).status == 400
    assert folder.stat().st_mode & 0o777 == 0o700
    return folder


def test_a_replay_against_the_same_model(captured, tmp_path):
    """All replies are the same, and the report has it; exit code 0."""
    report = tmp_path / "report.json"
    words = ("--against", EXAMPLES / "linear", "--clients", 2, "--json", report)
    result = mms_handler("replay", captured, *words)
    assert result.returncode == 0, result.stderr
    fields = json.loads(report.read_text())
    assert (fields["predictions"], fields["different"]) == (12, 0)
    assert fields["replies"]["identical"] == 12
    assert fields["latency_ms"]["then"]["p99"] > 0
    assert fields["latency_ms"]["now"]["p50"] > 0
    assert result.stdout.decode().splitlines()[0].split() == ["predictions", "12"]


@pytest.mark.parametrize(
    ("factor", "words", "code", "kind"),
    [
        pytest.param(1.01, (), 1, "apart", id="beyond the tolerance"),
        pytest.param(1.01, ("--tolerance", 0.02), 0, "close", id="within another one"),
        pytest.param(1.01, ("--allow", 90), 0, "apart", id="so many are allowed"),
        pytest.param(1.00001, (), 0, "close", id="within the tolerance"),
    ],
)
def test_a_replay_against_another_model(captured, tmp_path, factor, words, code, kind):
    """Exit code 1 if numbers are further apart than the tolerance."""
    report = tmp_path / "report.json"
    model = scaled(tmp_path / "model", factor)
    result = mms_handler("replay", captured, "--against", model, "--json", report, *words)
    assert result.returncode == code, result.stderr
    fields = json.loads(report.read_text())
    assert fields["replies"][kind] == 10
    assert fields["numbers"]["max_relative"] == pytest.approx(1 - 1 / factor, rel=0.05)
    assert fields["different"] == (10 if kind == "apart" else 0)
    if code:
        assert b"10 of 12 replies are not the same as then" in result.stderr


def test_a_replay_against_a_server(captured, tmp_path):
    """By its address, whose models have the names of then; or by that of one of its models."""
    with Serving(free_ports(), EXAMPLES / "linear", "--workers", "1") as serving:
        for url in (serving.inference, f"{serving.inference}/predictions/linear"):
            result = mms_handler("replay", captured, "--against", url)
            assert result.returncode == 0, result.stderr
        other = f"{serving.inference}/predictions/other"
        result = mms_handler("replay", captured, "--against", other)
        assert result.returncode == 1
        assert "10 from 200 to 404" in result.stdout.decode()
    result = mms_handler("replay", captured, "--against", serving.inference)
    assert result.returncode == 1
    assert b"12 of 12 replies are not the same as then" in result.stderr
    assert b"no answer came: " in result.stderr


def test_capture_and_replay_by_s3(bucket, tmp_path):
    """Finished files are uploaded, in folders of their hours, and what is left at the end, too."""
    words = (EXAMPLES / "linear", "--workers", 1, "--capture", "s3://bucket/captured/")
    log = tmp_path / "log"
    env = dict(os.environ)
    with Serving(free_ports(), *words, "--capture-share", "1", env=env, log=log) as serving:
        bucket.s3.refusal = "AccessDenied"  # at the first try
        assert serving.ask("linear").status == 200
        serving.process.send_signal(signal.SIGTERM)
        wait_for(lambda: "captured predictions wait" in log.read_text(), 20)
        bucket.s3.refusal = None
        serving.process.wait(40)
    objects = bucket.client.list_objects_v2(Bucket="bucket")["Contents"]
    (key,) = (entry["Key"] for entry in objects)
    assert re.fullmatch(r"captured/20\d\d/\d\d/\d\d/\d\d/capture-[\w.-]+\.jsonl", key)
    assert "AccessDenied" in log.read_text()
    for place in ("s3://bucket/captured", f"s3://bucket/{key}"):
        result = mms_handler("replay", place, "--against", EXAMPLES / "linear", env=env)
        assert result.returncode == 0, result.stderr
        assert b"1 are the same to the last byte" in result.stdout
