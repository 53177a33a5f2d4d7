"""replay.report: what is counted of a replay, and what is said of it."""

from __future__ import annotations

import json
import struct

import pytest

from mms_handler.client import Answer
from mms_handler.replay.captured import Captured
from mms_handler.replay.report import Report

JSON = "application/json"


def captured(name: str, reply: bytes | None = b"[1.0, 2.0]", status: int = 200, **more) -> Captured:
    fields = {
        "id": name, "time_s": 0.0, "model": "m", "body": b"[]", "headers": {}, "status": status,
        "latency_s": 0.002, "reply": reply, "reply_type": JSON,
    }  # fmt: skip
    return Captured(**{**fields, **more})


def answer(body: bytes, status: int = 200, content_type: str = JSON) -> Answer:
    return Answer(status, {"content-type": content_type}, body)


@pytest.fixture
def report() -> Report:
    """Of a prediction of each kind."""
    report = Report(0.01)
    report.add(captured("same"), answer(b"[1.0, 2.0]"), 0.004)
    report.add(captured("near"), answer(b"[1.0, 2.01]"), 0.004)
    report.add(captured("far"), answer(b"[1.0, 4.0]"), 0.004)
    report.add(captured("shape"), answer(b"[1.0]"), 0.004)
    report.add(captured("type"), answer(b"1.0,2.0", content_type="text/csv"), 0.004)
    report.add(captured("late"), answer(b"busy", 503), 0.100)
    report.add(captured("both bad", b"id 1", 400), answer(b"id 2", 400), 0.004)
    report.add(captured("not kept", None), answer(b"[1.0]"), 0.004)
    report.lost(captured("gone"), "connection refused")
    report.lost(captured("gone too"), "connection reset")
    return report


def test_for_a_program(report):
    """Numbers are compared in the two replies that differ in numbers alone."""
    document = report.as_dict()
    assert json.loads(json.dumps(document)) == document
    numbers = document.pop("numbers")
    assert document == {
        "predictions": 10,
        "tolerance": 0.01,
        "different": 6,
        "replies": {
            "identical": 2, "close": 1, "apart": 1, "other": 2, "status": 1, "unanswered": 2,
            "unknown": 1,
        },
        "statuses": {"200 to 503": 1},
        "latency_ms": {"then": {"p50": 2.0, "p99": 2.0}, "now": {"p50": 4.0, "p99": 100.0}},
        "first": [
            {"id": "far", "reply": "apart"},
            {"id": "shape", "reply": "other"},
            {"id": "type", "reply": "other"},
            {"id": "late", "reply": "status"},
            {"id": "gone", "reply": "unanswered"},
        ],
    }  # fmt: skip
    assert numbers == {
        "count": 4,
        "max_relative": pytest.approx(0.5),
        "mean_relative": pytest.approx((0.01 / 2.01 + 2 / 4) / 4),
        "max_absolute": pytest.approx(2),
        "mean_absolute": pytest.approx((0.01 + 2) / 4),
    }


def test_for_people(report):
    assert report.reason == "connection refused"
    rows = report.rows()
    assert rows[0] == ("predictions", "10")
    assert ("  apart", "1 have numbers beyond the tolerance") in rows
    assert ("  status", "1 from 200 to 503") in rows
    assert ("latency then", "p50 2 ms, p99 2 ms") in rows
    assert [row for row in rows if row[0].startswith("first ")] == [
        ("first apart", "far"), ("first other", "shape"), ("first other", "type"),
        ("first status", "late"), ("first unanswered", "gone"),
    ]  # fmt: skip
    (numbers,) = [text for name, text in rows if name == "numbers"]
    assert numbers.startswith("4 in replies that are not identical, at most 0.5 apart relatively")


def test_of_nothing():
    """There are no times and no numbers, and none is missing."""
    document = Report(0).as_dict()
    assert document["latency_ms"] == {"then": {}, "now": {}}
    assert (document["predictions"], document["different"]) == (0, 0)
    assert document["numbers"]["mean_relative"] == 0
    assert Report(0).rows() == [("predictions", "0")]


def test_an_infinite_difference():
    """JSON has no infinity."""
    report = Report(0.1)
    report.add(captured("a", b"[1e308]"), answer(b"[-1e308]"), 0.001)
    assert report.as_dict()["numbers"]["max_absolute"] is None


def test_a_latency_that_is_unknown():
    report = Report(0)
    report.add(captured("a", latency_s=None), answer(b"[1.0, 2.0]"), 0.001)
    assert report.as_dict()["latency_ms"] == {"then": {}, "now": {"p50": 1.0, "p99": 1.0}}


def tensors(*values: float) -> tuple[bytes, str]:
    """A reply whose values follow its JSON, and the bytes of that."""
    parameters = {"binary_data_size": 4 * len(values)}
    output = {"name": "y", "datatype": "FP32", "shape": [len(values)], "parameters": parameters}
    head = json.dumps({"model_name": "m", "outputs": [output]}).encode()
    return head + struct.pack(f"<{len(values)}f", *values), str(len(head))


def test_tensors_with_values_in_binary():
    """Both replies say where their JSON ends."""
    report = Report(0.5)
    for now in (4, 8, 16):
        (then, length), (body, now_length) = tensors(1, 4), tensors(1, now)
        headers = {"content-type": JSON, "inference-header-content-length": now_length}
        captured_tensors = captured("a", then, tensors=True, reply_header_length=length)
        report.add(captured_tensors, Answer(200, headers, body), 0.001)
    assert report.counts == {"identical": 1, "close": 1, "apart": 1}


@pytest.mark.parametrize(
    ("now", "kind"), [(b"[2]", "identical"), (b"[2.5]", "close"), (b"[2.51]", "apart")]
)
def test_the_tolerance_itself_is_close(now, kind):
    report = Report(0.2)
    report.add(captured("a", b"[2]"), answer(now), 0.001)
    assert report.counts == {kind: 1}
    assert report.failed == (kind == "apart")


@pytest.mark.parametrize(
    ("status", "kind"), [(399, "other"), (400, "identical"), (500, "identical")]
)
def test_errors_are_the_same_by_their_status(status, kind):
    """Their texts have ids of requests."""
    report = Report(0)
    report.add(captured("a", b'"id 1"', status), answer(b'"id 2"', status), 0.001)
    assert report.counts == {kind: 1}


def test_a_type_with_other_parameters_is_the_same():
    report = Report(0)
    body = b"[1.0, 2.0]"
    report.add(captured("a", body), answer(body, content_type=f"{JSON}; charset=utf-8"), 0.001)
    assert report.counts == {"identical": 1}


def test_a_prediction_without_an_id_is_not_named():
    report = Report(0)
    report.lost(captured(""), "gone")
    report.lost(captured("b"), "too")
    assert report.as_dict()["first"] == [{"id": "b", "reply": "unanswered"}]
    assert report.reason == "gone"


@pytest.mark.parametrize(
    ("count", "p50", "p99"), [(1, 1, 1), (2, 1, 2), (3, 2, 3), (100, 50, 99), (101, 51, 100)]
)
def test_percentiles(count, p50, p99):
    """The least time that so many percent did not exceed."""
    report = Report(0)
    for milliseconds in range(count, 0, -1):
        report.add(captured("a", latency_s=None), answer(b"[1.0, 2.0]"), milliseconds / 1000)
    assert report.as_dict()["latency_ms"]["now"] == {"p50": p50, "p99": p99}
