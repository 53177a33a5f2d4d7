"""The example of Horovod, where that is installed."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess

import numpy as np
import pytest
from running_mms import BIN, ROOT

pytestmark = pytest.mark.skipif(
    not (shutil.which("mpirun") and importlib.util.find_spec("horovod")),
    reason="Horovod is not installed; docs/distributed.md says how to build it",
)


def test_processes_equal_one(tmp_path):
    """One, two of a host, and one of each of two hosts: the weights differ only by rounding."""
    import mxnet as mx

    points = np.random.RandomState(1).uniform(-1, 1, (200, 2))
    (tmp_path / "data").mkdir()
    table = np.column_stack([points[:, 0] > points[:, 1] / 2, points])
    np.savetxt(tmp_path / "data" / "points.csv", table, delimiter=",")
    results = []
    for name, words in {
        "one": (),
        "two": ("--hp", "sagemaker_mpi_num_of_processes_per_host=2"),
        "hosts": ("--local-hosts", "2"),
    }.items():
        command = [
            *(BIN / "mms-handler", "train", "--base-dir", tmp_path / name),
            *("--entry-point", ROOT / "docs" / "examples" / "train_horovod.py"),
            *("--channel", f"train={tmp_path / 'data'}", "--hp", "epochs=3", *words),
            *("--hp", "sagemaker_mpi_enabled=true"),
        ]
        env = {**os.environ, "OMP_NUM_THREADS": "1"}
        done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=100)
        assert done.returncode == 0, done.stderr
        assert done.stdout.count("epoch 2: loss=") == 1, done.stdout
        saved = mx.nd.load(str(tmp_path / name / "model" / "model-0000.params"))
        results.append({key: value.asnumpy() for key, value in saved.items()})
    one, *others = results
    for other in others:
        assert one.keys() == other.keys()
        for key, value in one.items():
            np.testing.assert_allclose(other[key], value, rtol=1e-4, atol=1e-6)
