"""A training that is interrupted and run again ends as if nothing had happened."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import numpy as np
import pytest
from running_mms import BIN, ROOT, wait_for


def train(script: Path, base: Path, channel: Path, epochs: int) -> subprocess.Popen:
    return subprocess.Popen(
        [
            *(BIN / "mms-handler", "train", "--entry-point", script, "--base-dir", base),
            *("--channel", f"train={channel}", "--seed", "3", "--hp", f"epochs={epochs}"),
        ],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def parameters(base: Path) -> dict[str, np.ndarray]:
    import mxnet as mx

    saved = mx.nd.load(str(base / "model" / "model-0000.params"))
    return {name: value.asnumpy() for name, value in saved.items()}


@pytest.mark.parametrize(
    ("script", "pattern"),
    [
        pytest.param("resume_module.py", "model-*.states", id="Module, legacy"),
        pytest.param("resume_gluon.py", "epoch-*", id="Gluon, script mode"),
    ],
)
def test_resuming(tmp_path, script, pattern):
    """The weights are those of a run that was not interrupted, to the bit; the seed is the same."""
    x = np.random.RandomState(1).uniform(-1, 1, (200, 2))
    table = np.column_stack([x[:, 0] > x[:, 1] / 2, x])
    (tmp_path / "data").mkdir()
    np.savetxt(tmp_path / "data" / "points.csv", table, delimiter=",")
    script = ROOT / "docs" / "examples" / script
    checkpoints = tmp_path / "interrupted" / "checkpoints"

    interrupted = train(script, tmp_path / "interrupted", tmp_path / "data", 10**6)
    wait_for(lambda: len(list(checkpoints.glob(pattern))) >= 3, 60)
    interrupted.send_signal(signal.SIGTERM)
    assert interrupted.wait(60) == 143
    ended = len(list(checkpoints.glob(pattern)))
    assert not list((tmp_path / "interrupted" / "model").iterdir())

    resumed = train(script, tmp_path / "interrupted", tmp_path / "data", ended + 2)
    assert resumed.wait(60) == 0
    assert len(list(checkpoints.glob(pattern))) == ended + 2
    whole = train(script, tmp_path / "whole", tmp_path / "data", ended + 2)
    assert whole.wait(120) == 0
    first, second = parameters(tmp_path / "interrupted"), parameters(tmp_path / "whole")
    assert sorted(first) == sorted(second)
    for name, value in first.items():
        assert np.array_equal(value, second[name]), name
