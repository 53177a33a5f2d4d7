"""The example of docs/distributed.md: several hosts learn what one does."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest
from running_mms import BIN, ROOT
from sklearn.datasets import load_digits


@pytest.fixture(scope="module")
def channels(tmp_path_factory):
    """1,437 pictures to train with, 360 to test with."""
    folder = tmp_path_factory.mktemp("channels")
    pictures, labels = load_digits(return_X_y=True)
    rows = np.column_stack([labels, pictures])[np.random.RandomState(7).permutation(len(labels))]
    for name, part in (("train", rows[360:]), ("test", rows[:360])):
        (folder / name).mkdir()
        np.savetxt(folder / name / "digits.csv", part, delimiter=",", fmt="%d")
    return folder


@pytest.mark.parametrize("hosts", [1, 3])
def test_as_accurate_as_one_host(channels, tmp_path, hosts):
    """With batches of 32 on each of three hosts, the accuracy would be about 0.84."""
    words = ["--entry-point", ROOT / "docs" / "examples" / "several_hosts.py", "--seed", 1]
    words += ["--channel", f"train={channels}/train", "--channel", f"test={channels}/test"]
    words += ["--base-dir", tmp_path, "--local-hosts", hosts]
    done = subprocess.run(
        [BIN / "mms-handler", "train", *map(str, words)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        timeout=120,
        check=False,
    )
    assert done.returncode == 0
    for host in range(2, hosts + 1):  # each has the same weights, and so the same accuracy
        other = tmp_path / "hosts" / f"algo-{host}" / "output" / "data" / "accuracy"
        assert other.read_text() == (tmp_path / "output" / "data" / "accuracy").read_text()
    assert float((tmp_path / "output" / "data" / "accuracy").read_text()) > 0.88


def test_ray_tune(channels, tmp_path):
    """The example searches with Ray Tune on this machine, and prints the best of four trials."""
    pytest.importorskip("ray.tune", exc_type=ImportError)  # the extra ray is without it
    done = subprocess.run(
        [sys.executable, ROOT / "docs/examples/ray_tune.py", channels / "train", channels / "test"],
        env={
            **os.environ,
            "PATH": f"{BIN}:{os.environ['PATH']}",
            "HOME": str(tmp_path),
            "OMP_NUM_THREADS": "1",
            "RAY_USAGE_STATS_ENABLED": "0",
        },
        stdout=subprocess.PIPE,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0
    (best,) = (line for line in done.stdout.splitlines() if line.startswith("{'learning_rate'"))
    accuracy, model = best.partition("} ")[2].split(" ")
    assert float(accuracy) > 0.5
    assert (tmp_path / "ray_results").as_posix() in model
    assert os.path.exists(f"{model}/model-0000.params")
