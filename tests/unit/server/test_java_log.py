"""java_log: what Java prints, as records."""

from __future__ import annotations

import json

import pytest

from mms_handler.server.java_log import record_of

TIME = "2026-11-27T01:30:12.345Z"
OWN = {"time": "2026-11-27T01:30:12.300Z", "level": "DEBUG", "source": "worker", "model": "m" * 30}


def log4j(text, thread="W-m-1-stdout", logger="WorkerLifeCycle", level="INFO", traceback=""):
    """A line as log4j2.xml has it."""
    entry = {"thread": thread, "time": TIME, "level": level, "logger": logger, "message": text}
    return json.dumps({**entry, "traceback": traceback})


def test_a_record_of_mms():
    line = log4j("no\nfile", "main", "ModelServer", "WARN", "java.io.IOException: x\n\tat y\n")
    assert record_of(line) == {
        "time": TIME,
        "level": "WARNING",
        "source": "mms",
        "logger": "ModelServer",
        "message": "no\nfile",
        "traceback": "java.io.IOException: x\n\tat y",
    }


def test_a_worker_that_ends():
    """MMS's line has the reason, and no trace of it."""
    line = log4j("Worker error", "W-m-1", "WorkerThread", "WARN", "it did not respond")
    assert record_of(line)["message"] == "Worker error: it did not respond"
    assert "traceback" not in record_of(line)


@pytest.mark.parametrize(
    ("thread", "model"),
    [
        ("W-m-1-stdout", "m"),
        ("W-9000-m-stdout", "m"),
        ("W-a-b.c-12-stderr", "a-b.c"),
        ("W-9001-a-b-stderr", "a-b"),
        ("other", ""),
    ],
)
def test_what_native_code_prints(thread, model):
    """Has the model of the thread that reads it, and the level of its stream."""
    record = record_of(log4j("text", thread, level="WARN"))
    assert record["level"] == "WARNING"
    assert record["message"] == "text"
    assert record.get("model", "") == model
    assert record["source"] == ("worker" if model else "mms")


def test_a_record_of_a_worker():
    """Is passed on as it is; MMS cuts the name in the thread's."""
    own = {**OWN, "worker": 7, "message": "a\nb", "request_id": "i"}
    assert record_of(log4j(json.dumps(own), f"W-{'m' * 25}-1-stdout")) == own
    assert record_of(log4j(json.dumps(own), f"W-9000-{'m' * 25}-stdout")) == own


def test_a_version():
    """Is in MMS's name."""
    own = {**OWN, "model": "iris", "version": "2.b", "message": "a"}
    for thread in ("W-9000-iris~2.b-stdout", "W-iris~2.b-1-stdout"):
        assert record_of(log4j(json.dumps(own), thread)) == own
        text = record_of(log4j("text", thread))
        assert (text["model"], text["version"]) == ("iris", "2.b")


@pytest.mark.parametrize(
    "text",
    [
        json.dumps({**OWN, "message": "a", "model": "another"}),
        json.dumps({**OWN, "message": 5}),
        json.dumps(OWN),
        '{"time":',
        '{"time": {}}' * 2,
    ],
    ids=["another model's", "no text", "no message", "half", "two"],
)
def test_what_only_looks_like_a_record(text):
    """Is text of its worker."""
    record = record_of(log4j(text, f"W-{'m' * 25}-1-stdout"))
    assert (record["model"], record["message"], record["level"]) == ("m" * 25, text, "INFO")


@pytest.mark.parametrize(
    "line",
    [
        log4j("attachIOStreams() threadName=W-m-1"),
        log4j("[PID] 12"),
        log4j("[02:10:00] ../src/engine/engine.cc:54: MXNet start using engine: NaiveEngine"),
        log4j("Load model failed: m, error: Worker died.", "W-m-1", "WorkerThread", "WARN"),
        "Model server started.",
    ],
)
def test_what_is_for_debugging(line):
    assert record_of(line)["level"] == "DEBUG"


def test_other_lines():
    """Of the JVM; or halves, if two processes wrote at once."""
    for line in ("Error: x", '{"thread":"main"', '{"thread":"main"}'):
        record = record_of(line)
        assert (record["level"], record["source"]) == ("WARNING", "mms")
        assert record["message"] == line
    assert record_of("  ") is None
