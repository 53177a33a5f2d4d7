"""What a person sees while a real MXNet training runs, and what is known of its metrics after."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys

import pytest
from running_mms import BIN

FITS = """
import mxnet as mx

def train(hyperparameters, current_host, **kwargs):
    mx.random.seed(1)
    x = mx.nd.random.uniform(-1, 1, shape=(64, 2))
    y = (x[:, 0] > x[:, 1])
    data = mx.io.NDArrayIter(x, y, 8)
    layer = mx.sym.FullyConnected(mx.sym.var("data"), num_hidden=2)
    module = mx.mod.Module(mx.sym.SoftmaxOutput(layer, name="softmax"))
    print(f"{current_host} begins")
    module.fit(data, eval_data=data, num_epoch=3, eval_metric=["acc", "ce"],
               batch_end_callback=mx.callback.Speedometer(8, 4))
    assert not hyperparameters.get("fails"), "no model"
"""


@pytest.fixture
def script(tmp_path):
    path = tmp_path / "train.py"
    path.write_text(FITS)
    return path


def train(script, *words, **options):
    base = script.parent / "base"
    return subprocess.run(
        [str(BIN / "mms-handler"), "train", "--entry-point", str(script), "--base-dir", str(base),
         *map(str, words)],
        capture_output=True, text=True, timeout=120, **options,
    )  # fmt: skip


NAMES = {"Train-accuracy", "Train-cross-entropy", "Validation-accuracy",
         "Validation-cross-entropy", "Time cost", "Speed", "accuracy", "cross-entropy"}  # fmt: skip


def test_two_hosts(script, tmp_path):
    """Each line has its host; the metrics of both are in the file, the table and the picture."""
    done = train(script, "--local-hosts", 2, "--metrics", tmp_path / "m" / "all.jsonl", "--plot")
    assert done.returncode == 0, done.stderr
    assert sorted(done.stdout.splitlines()[:2]) == [
        "[algo-1] algo-1 begins",
        "[algo-2] algo-2 begins",
    ]
    log, table = done.stderr.split("\n\n")
    assert all(re.match(r"\[algo-[12]\] ", line) for line in log.splitlines()), log
    assert len(re.findall(r"^\[algo-2\] .+Epoch\[2\] Train-accuracy=", log, re.MULTILINE)) == 1
    entries = [json.loads(line) for line in (tmp_path / "m" / "all.jsonl").read_text().splitlines()]
    for host in ("algo-1", "algo-2"):
        own = [entry for entry in entries if entry["host"] == host]
        assert {entry["name"] for entry in own} == NAMES
        assert [e["epoch"] for e in own if e["name"] == "Train-accuracy"] == [0, 1, 2]
        assert {(e["epoch"], e["step"]) for e in own if e["name"] == "Speed"} == {
            (epoch, step) for epoch in range(3) for step in (4,)
        }
    rows = table.splitlines()
    assert re.split(r"\s{2,}", rows[0].strip()) == ["host", "metric", "last", "best", "at epoch"]
    assert len(rows) == 1 + 2 * len(NAMES) + 1
    assert re.match(r"algo-1 +\S+ +[\d.]+ +[\d.]+ +\d$", rows[1])
    picture = script.parent / "base" / "output" / "data" / "learning-curve.svg"
    assert rows[-1] == f"learning curve: {picture}"
    assert picture.read_text().startswith("<?xml")


def test_metric_definitions(script, tmp_path):
    """They replace the usual patterns; the metrics of a job that failed are shown too."""
    definitions = tmp_path / "definitions.json"
    definitions.write_text('[{"Name": "train:acc", "Regex": "Train-accuracy=([0-9.]+)"}]')
    done = train(script, "--metric-definitions", definitions, "--hp", "fails=1")
    assert done.returncode == 1
    *_, empty, header, row, error = done.stderr.splitlines()
    assert (empty, header.split()[0]) == ("", "metric")
    assert re.match(r"train:acc +[01]\.?\d* +[01]\.?\d* +\d$", row)
    assert error.startswith("error: algo-1: train: AssertionError: no model")


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["--metric-definitions", "{bad}"],
         "metric definition 0 of {bad}: the Regex of a is not a regular expression: "),
        (["--metrics", "{bad}/file"], "{bad}/file cannot be written: "),
        (["--plot", "{bad}.pdf"], "--plot draws .svg and .png, not bad.json.pdf"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_before_anything_runs(script, tmp_path, words, reason):
    bad = tmp_path / "bad.json"
    bad.write_text('[{"Name": "a", "Regex": "(b"}]')
    done = train(script, *(word.format(bad=bad) for word in words))
    assert done.returncode == 1
    assert done.stderr.startswith(f"error: algo-1: reading the job: {reason.format(bad=bad)}")
    assert done.stdout == ""


def rendered(written):
    """The lines that a terminal shows, of infinite height, for the escape sequences in use."""
    lines, row, column = [""], 0, 0
    for text, code, letter in re.findall(
        r"([^\x1b\r\n]+|[\r\n])|\x1b\[([?\d;]*)([A-Za-z])", written
    ):
        if text == "\n":
            row += 1
            lines += [""] * (row == len(lines))
        elif text == "\r":
            column = 0
        elif text:
            lines[row] = lines[row][:column] + text
            column += len(text)
        elif letter == "A":
            row -= int(code)
        elif letter in "JK":
            lines[row:] = [""] if letter == "J" else ["", *lines[row + 1 :]]
    return [line.rstrip() for line in lines]


def test_a_terminal(script):
    """The lines scroll above the time, the epoch and the newest metrics; the table is last."""
    master, slave = os.openpty()
    process = subprocess.Popen(
        [str(BIN / "mms-handler"), "train", "--entry-point", str(script), "--base-dir",
         str(script.parent / "base")],
        stdin=slave, stdout=slave, stderr=slave, env={**os.environ, "TERM": "xterm"},
    )  # fmt: skip
    os.close(slave)
    written = b""
    while True:
        try:
            data = os.read(master, 1 << 16)
        except OSError:  # the other end is closed
            break
        written += data
    os.close(master)
    assert process.wait(20) == 0
    assert re.search(rb"\x1b\[1m0:00:\d\d", written)
    lines = rendered(written.decode())
    assert lines[0].startswith("legacy mode: ")
    assert lines[1] == "algo-1 begins"
    assert sum("Epoch[2] Train-accuracy=" in line for line in lines) == 1
    table = lines[lines.index("") + 1 : -1]
    assert table[0].split()[0] == "metric"
    assert {row.partition("  ")[0] for row in table[1:]} == NAMES


FLOODS = """
import sys
for number in range(200000):
    sys.stdout.write("line %d\\n" % number)
sys.stdout.buffer.write(b"x" * 20000000)
print("\\nEpoch[1] Train-accuracy=0.5")
"""


def test_a_flood(script):
    """All of it arrives, in order."""
    script.write_text(FLOODS)
    done = train(script)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.split("\n")
    assert lines[:200_000] == [f"line {number}" for number in range(200_000)]
    assert lines[200_000:] == ["x" * 20_000_000, "Epoch[1] Train-accuracy=0.5", ""]
    assert re.search(r"^Train-accuracy +0\.5 +0\.5 +1$", done.stderr, re.MULTILINE)


def test_a_reader_that_goes_away(script):
    """A reader that has gone ends the script, as it would without mms-handler."""
    script.write_text("import time\nwhile True:\n    print('x' * 1000)\n    time.sleep(0.001)\n")
    process = subprocess.Popen(
        [sys.executable, "-m", "mms_handler", "train", "--entry-point", str(script), "--base-dir",
         str(script.parent / "base")],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    process.stdout.read(1)
    process.stdout.close()
    assert process.wait(60) == 1
    failure = (script.parent / "base" / "output" / "failure").read_text()
    assert failure.startswith("algo-1: the script: BrokenPipeError")
