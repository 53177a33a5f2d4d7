"""log_records: no text of a client or a script can look like another record."""

from __future__ import annotations

import json
import logging
import os
import time

import pytest

from mms_handler.log_records import (
    RecordHandler,
    as_json,
    as_text,
    log_with_traceback,
    make_record,
    timestamp,
)

RECORD = {"time": "2026-11-27T01:30:12.345+01:00", "level": "INFO", "source": "serve"}


@pytest.mark.parametrize(
    ("zone", "text"),
    [
        ("UTC", "2026-11-27T01:30:12.345Z"),
        ("XXX-5:30", "2026-11-27T07:00:12.345+05:30"),
        ("XXX3:30", "2026-11-26T22:00:12.345-03:30"),
    ],
)
def test_a_timestamp(monkeypatch, zone, text):
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        assert timestamp(1_795_743_012.3456) == text
    finally:
        monkeypatch.undo()
        time.tzset()


def test_a_record_has_what_is_known():
    record = make_record("ERROR", "why", source="worker", model="m", worker=None, request_id="")
    assert list(record) == ["time", "level", "source", "model", "message"]
    assert list(make_record("INFO", "x", traceback="t"))[-2:] == ["message", "traceback"]


@pytest.mark.parametrize(
    ("fields", "width", "text"),
    [
        ({"message": "a"}, 0, "2026-11-27 01:30:12.345 INFO    serve  a"),
        ({"message": "a"}, 7, "2026-11-27 01:30:12.345 INFO    serve    a"),
        (
            {"message": "a", "source": "worker", "model": "m", "worker": 7, "request_id": "i-1"},
            0,
            "2026-11-27 01:30:12.345 INFO    m/7  request i-1: a",
        ),
        (
            {"message": "a", "model": "m", "request_id": "x: ERROR"},
            0,
            '2026-11-27 01:30:12.345 INFO    m  request "x: ERROR": a',
        ),
        (
            {"message": "a\nb", "traceback": "c\r\n d", "level": "WARNING"},
            0,
            "2026-11-27 01:30:12.345 WARNING serve  a\n    b\n    c\n     d",
        ),
        (
            {"message": "a\rb\x1b[2Jc\u2028d\x85e\x7ff\tg\ud800"},
            0,
            "2026-11-27 01:30:12.345 INFO    serve  a\\rb\\x1b[2Jc\\u2028d\\x85e\\x7ff\tg\\ud800",
        ),
    ],
    ids=["serve", "a width", "a worker", "a strange id", "several lines", "control characters"],
)
def test_text(fields, width, text):
    assert as_text({**RECORD, **fields}, width) == text


@pytest.mark.parametrize(("level", "code"), [("WARNING", 33), ("ERROR", 31), ("CRITICAL", 31)])
def test_colours(level, code):
    """Only of the level."""
    text = as_text({**RECORD, "level": level, "message": "a"}, colours=True)
    assert text == f"2026-11-27 01:30:12.345 \x1b[{code}m{level:<7}\x1b[0m serve  a"
    assert "\x1b" not in as_text({**RECORD, "message": "a"}, colours=True)


def test_json_is_one_line_of_ascii():
    record = {**RECORD, "message": 'a\nb\r\u2028"é\x1b\ud800'}
    line = as_json(record)
    assert line.isascii()
    assert line.isprintable()
    assert json.loads(line) == record


@pytest.fixture
def logged():
    """A logger, and the records that its handler writes."""
    logger, records = logging.getLogger(f"test.{os.urandom(4).hex()}"), []
    logger.addHandler(RecordHandler(records.append, {"source": "worker", "model": "m"}))
    logger.propagate = False
    return logger, records


def test_the_records_of_a_logger(logged):
    """With the traceback of an exception, or another one, as a field."""
    logger, records = logged
    logger.warning("%d\n%s", 1, "two")
    try:
        raise KeyError("x")
    except KeyError:
        logger.exception("failed")
    log_with_traceback(logger, logging.ERROR, "failed", "Traceback:\n  line")
    log_with_traceback(logger, logging.ERROR, "failed", "")
    logger.error("failed", extra={"traceback": "of a script"})
    names = [(r["level"], r["source"], r["model"], r["logger"], r["message"]) for r in records]
    same = ("worker", "m", logger.name)
    assert names == [("WARNING", *same, "1\ntwo")] + [("ERROR", *same, "failed")] * 4
    assert "traceback" not in records[0]
    assert records[1]["traceback"].endswith("KeyError: 'x'")
    assert records[2]["traceback"] == "Traceback:\n  line"
    assert "traceback" not in records[3]
    assert records[4]["traceback"] == "of a script"


def test_a_logger_without_records_has_the_traceback_in_its_text(caplog):
    log_with_traceback(logging.getLogger("a"), logging.ERROR, "failed", "Traceback:\n  line")
    assert caplog.messages == ["failed\nTraceback:\n  line"]
    assert (
        caplog.records[0].funcName == "test_a_logger_without_records_has_the_traceback_in_its_text"
    )


def test_a_message_that_cannot_be_formatted(logged, capsys):
    """Is the script's mistake, and ends nothing.  Python's logging says so."""
    logger, records = logged
    record = logger.makeRecord(logger.name, logging.ERROR, "file", 1, "%d", ("x",), None)
    (handler,) = (each for each in logger.handlers if isinstance(each, RecordHandler))
    handler.handle(record)  # pytest's own handler would raise
    assert records == []
    assert "--- Logging error ---" in capsys.readouterr().err
