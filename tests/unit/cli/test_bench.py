"""cli.bench: what the command prints and writes, on servers that answer well and badly."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from bench.servers import RIGHT, answering, reply

from mms_handler.cli import group

COMMAND = Path(sys.executable).with_name("mms-handler")
SHORT = ("--seconds", "0.5", "--warmup-s", "0")


@pytest.fixture
def row(tmp_path):
    path = tmp_path / "row.json"
    path.write_text("[[1]]")
    return str(path)


@pytest.fixture
def bench(capsys):
    """Run the command; returns its exit code, standard output and standard error, as lines."""

    def run(*words):
        code = 0
        try:
            group(["bench", *map(str, words)], standalone_mode=False)
        except SystemExit as ended:
            code = ended.code
        output = capsys.readouterr()
        return code, output.out.splitlines(), output.err.splitlines()

    return run


def test_a_table_has_a_row_for_each_load(bench, row):
    with answering(lambda number: RIGHT) as port:
        url = f"http://127.0.0.1:{port}/x"
        code, lines, _ = bench(url, row, "--clients", "1,2", "--rate", "50", *SHORT)
    assert code == 0
    heading, *rows, caption = lines
    assert heading.split() == [
        *("LOAD", "REPLIES/S", "P50", "P90", "P99", "P99.9", "MAX", "ERRORS", "WRONG"),
        *("CPU-FRONT", "CPU-WORKERS", "MB-FRONT", "MB-WORKERS"),
    ]
    assert [re.split(r" {2,}", line)[0] for line in rows] == ["1 client", "2 clients", "50/s"]
    assert all(line.endswith(tuple("0123456789")) for line in rows)
    assert caption.startswith("Latencies are in ms.")


def test_wrong_replies_are_a_failure(bench, row):
    """The first reply is taken for the right one, if no sample has one."""
    with answering(lambda number: reply(b"[[6]]") if number == 5 else RIGHT) as port:
        code, _, lines = bench(f"http://127.0.0.1:{port}", row, "--rate", "40", *SHORT)
    assert code == 1
    assert "40/s: 1 wrong replies, the first is '[[6]]'" in lines


def test_errors_are_a_failure(bench, row):
    with answering(lambda number: reply(b"", b"503 Busy") if number % 2 else RIGHT) as port:
        code, _, lines = bench(f"http://127.0.0.1:{port}", row, "--rate", "40", *SHORT)
    assert code == 1
    assert "40/s: 10 x status 503" in lines


def test_what_was_measured_is_written(bench, row, tmp_path):
    """As JSON, as a picture, and as a page that loads nothing."""
    files = [tmp_path / name for name in ("a.json", "a.svg", "a.html")]
    options = ("--json", files[0], "--plot", files[1], "--html", files[2])
    with answering(lambda number: RIGHT) as port:
        url = f"http://127.0.0.1:{port}/x"
        code, *_ = bench(url, row, "--clients", "2", "--rate", "20", *SHORT, *options)
    assert code == 0
    written = json.loads(files[0].read_text())
    closed, opened = written["results"]
    assert written["target"] == url
    assert (closed["clients"], closed["rate"]) == (2, None)
    assert (opened["clients"], opened["rate"]) == (None, 20)
    assert opened["replies"] == 10
    assert 0 < opened["replies_per_second"] <= 20
    assert list(opened["latency_ms"]) == ["p50", "p90", "p99", "p99.9", "max"]
    assert (opened["errors"], opened["wrong_replies"]) == ({}, 0)
    assert opened["server"]["front_mb"] > 1
    assert "<svg" in files[1].read_text()
    page = files[2].read_text()
    assert "<svg" in page
    assert "20/s" in page
    assert not re.search(r"""(src|href)=["'](?!#)|@import|url\((?!#)""", page)


def test_nothing_listens(bench, row):
    """It says what to do."""
    with socket.create_server(("127.0.0.1", 0)) as unused:
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/x"
    code, lines, errors = bench(url, row, *SHORT)
    assert (code, lines) == (1, [])
    assert errors == [
        f"error: no answer from {url}: Connection refused; start a server (mms-handler serve "
        "MODEL), or name a MODEL instead of a URL"
    ]


def test_a_request_that_is_refused_is_not_measured(bench, row):
    refused = reply(b'{"message": "no rows"}', b"400 Bad Input")
    with answering(lambda number: refused) as port:
        code, lines, errors = bench(f"http://127.0.0.1:{port}", row, *SHORT)
    assert (code, lines) == (1, [])
    assert errors == [
        f"error: the request ({row}) gets 400 no rows; it must be answered before it can be "
        "measured"
    ]


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["http://127.0.0.1:1/x"], "a URL needs a request: name a FILE, or a model with --sample"),
        (["http://127.0.0.1:1/x", "ROW", "--clients", "1,x"], "'1,x' is not a list of positive"),
        (["http://127.0.0.1:1/x", "ROW", "--rate", "0"], "'0' is not a list of positive"),
        (
            ["http://127.0.0.1:1/x", "ROW", "--plot", "a.pdf"],
            "--plot draws .svg and .png, not a.pdf",
        ),
        (["https://127.0.0.1:1/x", "ROW"], "is not an http:// address; bench sends plain HTTP"),
    ],
    ids=["no request", "no number", "zero", "another picture", "https"],
)
def test_what_cannot_be_measured(words, reason, row):
    """It is said before anything is sent."""
    command = [COMMAND, "bench", *(row if word == "ROW" else word for word in words)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode in (1, 2)
    assert reason in done.stderr


def test_ctrl_c_prints_what_there_is(row):
    with answering(lambda number: RIGHT) as port:
        process = subprocess.Popen(
            [COMMAND, "bench", f"http://127.0.0.1:{port}", row, "--clients", "2,3",
             "--warmup-s", "0", "--seconds", "1"],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        wait_for_generator(process.pid, count=2)
        time.sleep(0.6)
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=30)
    assert process.returncode == 130
    assert [line.split("  ")[0] for line in output.splitlines()[1:-1]] == ["2 clients", "3 clients"]
    assert errors.endswith("interrupted: this is what there was\n")


def wait_for_generator(pid: int, count: int) -> None:
    """Wait until so many processes of the load were started, one after the other."""
    seen = set()
    deadline = time.monotonic() + 30
    while len(seen) < count:
        assert time.monotonic() < deadline
        seen |= set(Path(f"/proc/{pid}/task/{pid}/children").read_text().split())
        time.sleep(0.01)
    assert os.path.exists(f"/proc/{pid}")
