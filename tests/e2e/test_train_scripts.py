"""Scripts as people wrote them for SageMaker: train them as SageMaker does, check the results."""

from __future__ import annotations

import json
import os
import re
import subprocess
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from running_mms import BIN

SCRIPTS = Path(__file__).parent / "scripts"

SHARES = """
def share(rows, hosts, current_host):
    return rows[sorted(hosts).index(current_host) :: len(hosts)]
"""


def run(*words: object, cwd: Path, **env: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [str(BIN / "mms-handler"), *map(str, words)],
        capture_output=True,
        cwd=cwd,
        env={**os.environ, "PIP_CONFIG_FILE": "/dev/null", "OMP_NUM_THREADS": "1", **env},
        timeout=120,
        check=False,
    )


def numbers(done: subprocess.CompletedProcess) -> list[float]:
    """The first numbers of the reply that ``check`` prints; it prints 200 characters of it."""
    assert done.returncode == 0, done.stderr.decode()
    text = done.stdout.decode().partition("200 application/json: ")[2].rpartition(",")[0]
    return [float(word) for word in re.findall(r"[\d.e-]+", text)]


def outputs(prefix: Path, x: np.ndarray) -> np.ndarray:
    """The saved model's outputs for ``x``, computed by MXNet itself."""
    import mxnet as mx

    symbol, arguments, auxiliary = mx.model.load_checkpoint(str(prefix), 0)
    module = mx.mod.Module(symbol, label_names=None)
    module.bind([("data", x.shape)], for_training=False)
    module.set_params(arguments, auxiliary, allow_missing=True)
    return module.predict(mx.io.NDArrayIter(x, batch_size=len(x))).asnumpy()


# --- script mode -----------------------------------------------------------------------------


def bars(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Pictures with a bright row, column or diagonal, and which of them each has: 0, 1 or 2."""
    rng = np.random.RandomState(seed)
    pictures, kinds = rng.rand(count, 1, 4, 4) * 0.3, rng.randint(0, 3, count)
    for picture, kind in zip(pictures[:, 0], kinds):
        at = rng.randint(0, 4)
        where = [(at, slice(None)), (slice(None), at), (range(4), range(4))][kind]
        picture[where] += 0.7
    return pictures.astype("float32"), kinds


def wheel(folder: Path, name: str, source: str) -> None:
    """Write a wheel ``name`` 1.0 with one module."""
    info = f"{name}-1.0.dist-info"
    files = {
        f"{name}.py": source,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nTag: py3-none-any\n",
        f"{info}/RECORD": "",
    }
    folder.mkdir()
    with zipfile.ZipFile(folder / f"{name}-1.0-py3-none-any.whl", "w") as file:
        for inner, text in files.items():
            file.writestr(inner, text)


@pytest.fixture(scope="module")
def submitted(tmp_path_factory) -> Path:
    """sourcedir.tar.gz as the SDK uploads it: script, requirements.txt and wheels/.

    The cache of installed requirements, which all jobs of this file share, is beside it.
    """
    home = tmp_path_factory.mktemp("submitted")
    wheel(home / "wheels", "fair_shares", SHARES)
    (home / "requirements.txt").write_text("fair_shares==1.0\n")
    with tarfile.open(home / "sourcedir.tar.gz", "w:gz") as packed:
        packed.add(SCRIPTS / "strokes" / "strokes.py", "strokes.py")
        packed.add(home / "requirements.txt", "requirements.txt")
        packed.add(home / "wheels", "wheels")
    return home / "sourcedir.tar.gz"


def opt_ml(folder: Path, submitted: Path) -> Path:
    """Make a folder like /opt/ml, as for a job that the SDK's estimator starts for strokes.py."""
    hyperparameters = {
        "epochs": 20,
        "batch-size": 20,
        "learning-rate": 0.3,
        "momentum": None,
        "sagemaker_program": "strokes.py",
        "sagemaker_submit_directory": str(submitted),
        "sagemaker_region": "us-west-2",
        "sagemaker_job_name": "strokes-2019-03-01",
        "sagemaker_container_log_level": 20,
        "sagemaker_enable_cloudwatch_metrics": False,
    }
    channel = {"TrainingInputMode": "File", "S3DistributionType": "FullyReplicated"}
    files = {
        "hyperparameters": {name: json.dumps(value) for name, value in hyperparameters.items()},
        "inputdataconfig": {"train": channel, "test": channel},
        "resourceconfig": {"current_host": "algo-1", "hosts": ["algo-1"]},
    }
    (folder / "ml" / "input" / "config").mkdir(parents=True)
    for name, content in files.items():
        (folder / "ml" / "input" / "config" / f"{name}.json").write_text(json.dumps(content))
    for name in ("train", "test"):
        (folder / "ml" / "input" / "data" / name).mkdir(parents=True)
    x, y = bars(240, 1)
    table = np.column_stack([y, x.reshape(len(x), 16)])
    np.savetxt(folder / "ml/input/data/train/bars.csv", table, delimiter=",", fmt="%.4f")
    x, y = bars(60, 2)
    np.savez(folder / "ml/input/data/test/bars.npz", x=x, y=y)
    return folder / "ml"


@pytest.fixture
def base(tmp_path, submitted) -> Path:
    """``opt_ml`` for one test."""
    return opt_ml(tmp_path, submitted)


def train_strokes(base: Path, submitted: Path, *words: object) -> subprocess.CompletedProcess:
    cache = {"MMS_HANDLER_CACHE_DIR": str(submitted.parent / "cache")}
    return run("train", "--base-dir", base, *words, cwd=base.parent, **cache)


def accuracy(prefix: Path) -> float:
    """The saved model's accuracy for 90 new pictures, from 0 to 1."""
    x, y = bars(90, 3)
    return (outputs(prefix, x).argmax(axis=1) == y).mean()


@pytest.fixture(scope="module")
def packed(tmp_path_factory, submitted) -> Path:
    """The job's folder after a run on two hosts; the archives are in ``store`` beside it."""
    base = opt_ml(tmp_path_factory.mktemp("packed"), submitted)
    store = base.parent / "store"
    done = train_strokes(
        base, submitted, "--local-hosts", 2, "--hp", "sagemaker_parameter_server_enabled=true",
        "--archive", "strokes", "--model-store", store,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr.decode()
    assert b"script mode: " in done.stderr
    return base


def test_a_script_mode_file_from_sourcedir_tar_gz(packed):
    """Its wheel is installed, each host has half the rows, only the first saves: a good model."""
    for host, folder in (("algo-1", packed), ("algo-2", packed / "hosts" / "algo-2")):
        assert (folder / "output" / "success").exists()
        result = json.loads((folder / "output" / "data" / f"result-{host}.json").read_text())
        assert result.pop("accuracy") > 0.9
        assert result == {"rows": 120, "workers": 2, "momentum": "", "cwd": str(packed / "code")}
    assert list((packed / "hosts" / "algo-2" / "model").iterdir()) == []
    assert sorted(path.name for path in (packed / "model").iterdir()) == [
        "model-0000.params",
        "model-shapes.json",
        "model-symbol.json",
    ]
    shapes = json.loads((packed / "model" / "model-shapes.json").read_text())
    assert shapes == [{"name": "data", "shape": [20, 1, 4, 4]}]
    assert accuracy(packed / "model" / "model") > 0.9


def test_its_archive_serves_it(packed, submitted, tmp_path):
    """With the wheel that the script imports at module level."""
    x, y = bars(2, 5)
    (tmp_path / "bars.json").write_text(json.dumps(x.tolist()))
    cache = {"MMS_HANDLER_CACHE_DIR": str(submitted.parent / "cache")}
    mar = packed.parent / "store" / "strokes.mar"
    done = run("check", mar, "--sample", tmp_path / "bars.json", cwd=tmp_path, **cache)
    expected = outputs(packed / "model" / "model", x)
    assert list(expected.argmax(axis=1)) == list(y)
    reply = numbers(done)
    assert len(reply) >= 5
    assert reply == pytest.approx(expected.ravel()[: len(reply)], rel=1e-4, abs=1e-6)


def test_a_hyperparameter_that_argparse_refuses(base, submitted):
    """The script exits with 2, the job with 1, and the failure file begins with the reason."""
    done = train_strokes(base, submitted, "--hp", "epochs=many")
    reason = "algo-1: the script: strokes.py: error: argument --epochs: invalid int value: 'many'"
    assert done.returncode == 1
    assert done.stderr.decode().splitlines()[-1] == f"error: {reason}"
    lines = (base / "output" / "failure").read_text().splitlines()
    assert lines[:2] == [reason, "ExitCode 2"]
    assert not (base / "output" / "success").exists()


# --- legacy ----------------------------------------------------------------------------------


def scans(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Dark scans of 8 by 8 pixels with a bright spot of 3 by 3, and masks of the spots."""
    rng = np.random.RandomState(seed)
    pictures, masks = rng.rand(count, 1, 8, 8) * 0.4, np.zeros((count, 8, 8))
    for mask in masks:
        row, column = rng.randint(0, 6, 2)
        mask[row : row + 3, column : column + 3] = 1
    return (pictures + 0.6 * masks[:, None]).astype("float32"), masks


def test_a_module_bound_again_is_saved_as_it_was_returned(tmp_path):
    """Siblings are imported, a nested list arrives as one, channel and cwd are writable."""
    channel, work = tmp_path / "scans", tmp_path / "work"
    channel.mkdir()
    work.mkdir()
    x, y = scans(64, 1)
    np.savez(tmp_path / "scans.npz", scans=x, masks=y)
    with tarfile.open(channel / "scans.tar.gz", "w:gz") as packed:
        packed.add(tmp_path / "scans.npz", "scans.npz")
    done = run(
        "train", "--source-dir", SCRIPTS / "scans", "--entry-point", "segmentation.py",
        "--base-dir", tmp_path / "base", "--channel", f"train={channel}",
        "--hp", "class_weights=[[1.0, 4.5]]", "--hp", "epochs=15",
        "--archive", "scans", "--model-store", tmp_path / "store",
        cwd=work,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr.decode()
    assert b"legacy mode: " in done.stderr
    assert (channel / "scans.npz").is_file()
    model = tmp_path / "base" / "model"
    shapes = json.loads((model / "model-shapes.json").read_text())
    assert shapes == [{"name": "data", "shape": [1, 1, 8, 8]}]
    assert [path.name for path in work.iterdir()] == ["params"]

    import mxnet as mx

    trained, saved = (
        mx.nd.load(str(path)) for path in (work / "params", model / "model-0000.params")
    )
    assert sorted(saved) == sorted(trained)
    assert "aux:normal_moving_var" in saved
    for name, value in saved.items():
        assert np.array_equal(value.asnumpy(), trained[name].asnumpy()), name

    x, y = scans(5, 2)
    expected = np.concatenate([outputs(model / "model", x[n : n + 1]) for n in range(5)])
    masks = expected.argmax(axis=1)
    assert 2 * (masks * y).sum() / (masks.sum() + y.sum()) > 0.8
    (tmp_path / "scans.json").write_text(json.dumps(x.tolist()))
    done = run(
        "check", tmp_path / "store" / "scans.mar", "--sample", tmp_path / "scans.json", cwd=work
    )
    reply = numbers(done)
    assert len(reply) >= 8
    assert reply == pytest.approx(expected.ravel()[: len(reply)], rel=1e-4)


def points(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Points in a square, and on which side of a line each of them is: 0 or 1."""
    x = np.random.RandomState(seed).uniform(-1, 1, (count, 2))
    return x, (x[:, 0] > x[:, 1] / 2).astype(int)


def test_save_is_called_on_every_host(tmp_path):
    """On the first it renames the best file; on the other it finds no file, which is fine."""
    (tmp_path / "data").mkdir()
    x, y = points(200, 1)
    table = np.column_stack([x, y])
    np.savetxt(tmp_path / "data" / "points.csv", table, delimiter=",", fmt="%.4f")
    done = run(
        "train", "--entry-point", SCRIPTS / "points" / "points.py", "--base-dir",
        tmp_path / "base", "--channel", f"train={tmp_path / 'data'}", "--local-hosts", 2,
        "--hp", "lr=0.5", "--hp", "epochs=10",
        cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr.decode()
    log = done.stderr.decode()
    for line in (
        "algo-1 saw 100 points, workers: 2",
        "algo-2 saw 100 points, workers: 2",
        "save on algo-1, files there: True",
        "save on algo-2, files there: False",
    ):
        assert f"{line}\n" in log
    model = tmp_path / "base" / "model"
    assert [path.name for path in model.iterdir()] == ["model.params"]
    second = tmp_path / "base" / "hosts" / "algo-2"
    assert list((second / "model").iterdir()) == []
    assert (second / "output" / "success").exists()

    from mxnet import gluon, nd

    net = gluon.nn.HybridSequential()
    net.add(gluon.nn.Dense(8, activation="relu"), gluon.nn.Dense(2))
    net.load_parameters(str(model / "model.params"))
    x, y = points(200, 2)
    assert (net(nd.array(x)).argmax(axis=1).asnumpy() == y).mean() > 0.9
