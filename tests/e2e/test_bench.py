"""bench on a real server: both loops, a stall, wrong replies, and what the server uses."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path

import pytest
from running_mms import BIN, EXAMPLES

SCRIPT = """
import time

COUNT = [0]


def model_fn(model_dir):
    return None


def transform_fn(model, data, content_type, accept):
    COUNT[0] += 1
    {then}
    return "[5]", "application/json"
"""


@pytest.fixture
def scripted(tmp_path):
    """Make a model whose only worker does something with the number of each request."""

    def make(then):
        code = tmp_path / "counts" / "code"
        code.mkdir(parents=True)
        (code / "inference.py").write_text(SCRIPT.format(then=then))
        (tmp_path / "row.json").write_text("[[1]]")
        return code.parent, tmp_path / "row.json"

    return make


def bench(*words, code=0):
    """Run the command; returns the results, and what it printed."""
    path = Path(words[0]).with_name("bench.json")
    done = subprocess.run(
        [BIN / "mms-handler", "bench", *map(str, words), "--json", str(path)],
        env={**os.environ, "SAGEMAKER_MODEL_SERVER_WORKERS": "1"},
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == code, done.stderr
    return json.loads(path.read_text())["results"], done


@pytest.fixture
def linear(tmp_path):
    command = [BIN / "mms-handler", "archive", EXAMPLES / "linear", "--model-store", tmp_path]
    subprocess.run(command, check=True, capture_output=True)
    return tmp_path / "linear.mar"


def test_an_archive_is_served_and_measured(linear):
    """By its packed sample; its front end and its worker are this machine's."""
    loads = ("--clients", "2", "--rate", "50", "--seconds", "2", "--warmup-s", "0.5")
    results, done = bench(linear, *loads)
    closed, opened = results
    assert closed["replies"] > 50
    assert opened["replies"] == 100
    for result in results:
        assert (result["errors"], result["wrong_replies"]) == ({}, 0)
        server = result["server"]
        assert server["front_cpu_s"] > 0.01
        assert server["workers_cpu_s"] > 0.01
        assert server["front_mb"] > 30
        assert server["workers_mb"] > 30
        assert server["workers"] >= 1
    assert re.match(r"LOAD +REPLIES/S .*\n2 clients .*\n50/s .*\n", done.stdout)


def test_a_stall_shows_in_the_percentiles_of_a_rate(scripted):
    """A quarter of the requests was planned while the worker slept for a second."""
    model, row = scripted("COUNT[0] == 50 and time.sleep(1)")
    (result,), _ = bench(model, row, "--rate", "40", "--seconds", "4", "--warmup-s", "0")
    assert result["replies"] == 160
    assert result["latency_ms"]["p99"] > 900


def test_wrong_replies_are_counted(scripted):
    model, row = scripted("if COUNT[0] % 10 == 0: return '[6]', accept")
    options = ("--rate", "50", "--seconds", "2", "--warmup-s", "0")
    (result,), done = bench(model, row, *options, code=1)
    assert result["wrong_replies"] == 10
    assert result["wrong_reply"] == "[6]"
    assert "10 wrong replies, the first is '[6]'" in done.stderr
