"""mms-handler train --sweep: what it prints, and how it ends."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess

import pytest
from click.testing import CliRunner
from running_mms import BIN, wait_for

from mms_handler.cli import group

SCRIPT = """
import argparse, time
parser = argparse.ArgumentParser()
parser.add_argument("--lr", type=float)
parser.add_argument("--layers")
parser.add_argument("--sleep", type=float, default=0)
args = parser.parse_args()
assert args.layers in (None, "[1, 2]")
if args.lr > 1:
    raise ValueError("too large")
print("ready", flush=True)
print(f"epoch 1: loss {args.lr / 8}, accuracy 0.9")
print("own=7")
time.sleep(args.sleep)
"""


@pytest.fixture
def sweep(tmp_path):
    """Start a sweep of the script."""
    (tmp_path / "train.py").write_text(SCRIPT)

    def start(*words: str) -> subprocess.Popen:
        command = [BIN / "mms-handler", "train", "--entry-point", tmp_path / "train.py", "--sweep"]
        return subprocess.Popen(
            [*command, "--base-dir", tmp_path / "ml", *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "MMS_HANDLER_CACHE_DIR": str(tmp_path / "cache")},
        )

    return start


def without_seconds(text: str) -> list[str]:
    lines = [re.sub(r"\b\d+\.\d\b", "0.0", line) for line in text.splitlines()]
    return [re.sub(" +", " ", line) for line in lines]


def test_a_grid(sweep, tmp_path):
    """A table, whose failed run fails the command; a list in JSON is one value."""
    definitions = tmp_path / "definitions.json"
    definitions.write_text(
        json.dumps(
            [{"Name": "own", "Regex": "own=([0-9]+)"}, {"Name": "loss", "Regex": "loss ([0-9.]+)"}]
        )
    )
    process = sweep(
        "--hp", "lr=1,2", "--hp", "layers=[1,2]", "--metric-definitions", str(definitions)
    )
    out, err = process.communicate(timeout=120)
    assert process.returncode == 1
    assert without_seconds(out) == [
        "run lr layers state seconds loss own reason",
        "001 1 [1,2] succeeded 0.0 0.125 7",
        "002 2 [1,2] failed 0.0 algo-1: the script: ValueError: too large (train.py, line 10)",
    ]
    reason = (
        "algo-1: sweeping: 1 of 2 runs failed: 002; each has its output in "
        f"{tmp_path}/ml/sweep/NNN/log"
    )
    assert (tmp_path / "ml" / "output" / "failure").read_text().splitlines()[0] == reason
    assert err.splitlines()[-1] == f"error: {reason}"
    assert without_seconds(err)[:2] == [
        "001 lr=1 layers=[1,2]: running",
        "001 lr=1 layers=[1,2]: succeeded after 0.0 s",
    ]


def test_ctrl_c(sweep, tmp_path):
    """The table has what had ended; no run is left, and none is started."""
    process = sweep("--hp", "sleep=0,600,601", "--hp", "lr=1")
    log = tmp_path / "ml" / "sweep" / "002" / "log"
    wait_for(lambda: log.exists() and "ready" in log.read_text(), 60)
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    states = [line.split()[3] for line in out.splitlines()[1:]]
    assert states[:2] == ["succeeded", "stopped"]
    assert states[2] in ("stopped", "not")
    failure = (tmp_path / "ml" / "output" / "failure").read_text()
    assert failure.startswith("algo-1: sweeping: stopped by SIGINT")


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["--hp", "lr=1,2", "--model-dir", "m"], "--model-dir is for one run, and --sweep makes"),
        (["--hp", "lr=1", "--archive", "a"], "--archive is for one run, and --sweep makes several"),
        (["--hp", "lr=1", "--metrics", "m"], "--metrics is for one run, and --sweep makes several"),
        ([], "--sweep needs --hp NAME=VALUE,VALUE"),
    ],
)
def test_options_that_do_not_go_with_a_sweep(words, reason):
    done = CliRunner().invoke(group, ["train", "--entry-point", "train.py", "--sweep", *words])
    assert done.exit_code == 2
    assert reason in done.output
