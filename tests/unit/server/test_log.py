"""log: which records serve writes, and in which form."""

from __future__ import annotations

import json
import logging

import pytest

from mms_handler.server.log import Log

RECORD = {"time": "2026-11-27T01:30:12.345Z", "level": "INFO", "source": "serve", "message": "a"}


@pytest.mark.parametrize(
    ("level", "fields", "written"),
    [
        ("info", {"level": "DEBUG"}, False),
        ("info", {"level": "INFO"}, True),
        ("warning", {"level": "INFO"}, False),
        ("warning", {"level": "WARNING"}, True),
        ("error", {"level": "WARNING"}, False),
        ("debug", {"level": "DEBUG"}, True),
        ("error", {"level": "NOTICE"}, True),
        ("info", {"level": "DEBUG", "source": "worker"}, False),
        ("info", {"level": "DEBUG", "source": "worker", "logger": "mine"}, True),
    ],
)
def test_the_level(level, fields, written):
    """A script's own logger may have a lower one."""
    lines = []
    Log(lines.append, "text", level).put({**RECORD, **fields})
    assert bool(lines) == written


def test_the_forms():
    lines = []
    Log(lines.append, "json", "info", colours=True).put({**RECORD, "level": "ERROR"})
    assert json.loads(lines[0]) == {**RECORD, "level": "ERROR"}
    log = Log(lines.append, "text", "info")
    for fields in ({}, {"model": "longer", "worker": 12}, {}, {"model": "m" * 40}, {}):
        log.put({**RECORD, **fields})
    assert [line[32:] for line in lines[1:]] == [
        "serve  a",
        "longer/12  a",
        "serve      a",
        "m" * 40 + "  a",
        "serve" + " " * 23 + "  a",
    ]


def test_what_the_server_logs(caplog):
    """For the length of a block, and once; nothing of other packages."""
    lines = []
    logger = logging.getLogger("mms_handler.server")
    before = logger.level, logger.propagate, list(logger.handlers)
    with Log(lines.append, "text", "info").following():
        logging.getLogger("mms_handler.server.x").info("seen")
        logging.getLogger("mms_handler.server.x").debug("not seen")
        logging.getLogger("mms_handler.api").warning("not seen")  # the lines may go there
    logging.getLogger("mms_handler.server.x").warning("later")
    assert [line[24:] for line in lines] == ["INFO    serve  seen"]
    assert caplog.messages == ["not seen", "later"]
    assert (logger.level, logger.propagate, logger.handlers) == before


ACCESS = {
    "time": "2026-11-27T01:30:12.345Z",
    "level": "INFO",
    "source": "access",
    "model": "m x",
    "version": "2",
    "worker": 7,
    "request_id": "i",
    "trace_id": "ab",
    "method": "POST",
    "path": "/invocations",
    "status": 200,
    "bytes_in": 12,
    "bytes_out": 34,
    "queue_ms": 0.012,
    "predict_ms": 1.251,
    "total_ms": 1.5,
    "batch_size": 3,
}


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        (
            ACCESS,
            '"m x"/7  request i: 200 POST /invocations, in 12 B, out 34 B, queue 0.0 ms, '
            "predict 1.3 ms, total 1.5 ms, batch 3, version 2",
        ),
        (
            {
                **{key: ACCESS[key] for key in ("time", "level", "source")},
                **{"status": 400, "bytes_in": 0, "bytes_out": 0, "total_ms": 0.0},
            },
            "access  400 malformed, in 0 B, out 0 B, total 0.0 ms",
        ),
    ],
    ids=["all", "little"],
)
def test_the_access_log(fields, text):
    """Has its own setting, not a level."""
    lines = []
    line = json.dumps(fields)
    Log(lines.append, "json", "error").put_access(line)
    Log(lines.append, "text", "error").put_access(line)
    assert lines == [line, f"2026-11-27 01:30:12.345 INFO    {text}"]
