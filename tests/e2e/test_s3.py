"""Models in S3: serve and POST /models fetch them from a local S3 server."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import tarfile
import tempfile
import time
from pathlib import Path
from typing import Iterator

import pytest
from running_mms import BIN, EXAMPLES, Serving, free_ports, mms_handler

from mms_handler import archive, client

pytest_plugins = ["local_s3"]

RIGHT = (200, b"[[4.9999918937683105]]")


@pytest.fixture
def models(bucket, tmp_path):
    """The linear example in S3: as an archive, as a model.tar.gz and as a folder."""
    archive.pack(EXAMPLES / "linear", tmp_path / "packed.mar")
    archive.convert(tmp_path / "packed.mar", tmp_path / "model.tar.gz")
    bucket.put("packed.mar", tmp_path / "packed.mar")
    bucket.put("model.tar.gz", tmp_path / "model.tar.gz")
    bucket.put("more/again.mar", tmp_path / "packed.mar")
    for path in (EXAMPLES / "linear").rglob("*"):
        if path.is_file() and "__pycache__" not in path.parts:
            bucket.put(f"more/folder/{path.relative_to(EXAMPLES / 'linear')}", path)
    return bucket


@pytest.fixture
def temp() -> Iterator[Path]:
    """A folder for temporary files, with a path short enough for sockets."""
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


@pytest.fixture
def env(models, temp):
    return {**os.environ, "TMPDIR": str(temp)}


@pytest.fixture
def serving(env, tmp_path) -> Iterator[Serving]:
    addresses = ("s3://bucket/packed.mar", "s3://bucket/model.tar.gz", "s3://bucket/more/folder/")
    words = (*addresses, "--workers", "1", "--allowed-urls", "s3://bucket/more/")
    with Serving(free_ports(), *words, log=tmp_path / "log", env=env) as serving:
        yield serving


def test_models_in_s3(serving, temp, tmp_path):
    """Of each form, at the start and later; what was downloaded is only in the server's folder."""
    for name in ("packed", "model", "folder"):
        answer = serving.ask(name)
        assert (answer.status, answer.body) == RIGHT, (tmp_path / "log").read_text()
    assert "fetching s3://bucket/model.tar.gz" in (tmp_path / "log").read_text()

    def register(url):
        return client.call("POST", f"{serving.management}/models?url={url}&initial_workers=1")

    assert register("s3://bucket/more/again.mar&model_name=again").status == 200
    assert (serving.ask("again").status, serving.ask("again").body) == RIGHT
    listed = json.loads(client.call("GET", f"{serving.management}/models").body)["models"]
    assert {model["modelName"]: model["modelUrl"] for model in listed} == {
        "again": "s3://bucket/more/again.mar",
        "folder": "s3://bucket/more/folder/",
        "model": "s3://bucket/model.tar.gz",
        "packed": "s3://bucket/packed.mar",
    }

    elsewhere = register("s3://bucket/packed.mar")
    assert (elsewhere.status, elsewhere.message()) == (
        400,
        "s3://bucket/packed.mar is not fetched: no address in MMS_HANDLER_ALLOWED_URLS allows it",
    )
    gone = register("s3://bucket/more/gone.mar")
    assert (gone.status, gone.message()) == (
        400,
        "s3://bucket/more/gone.mar cannot be downloaded: the bucket has no such object; the "
        "address of a folder ends with / (NoSuchKey)",
    )

    (folder,) = temp.glob("mms-handler-*")
    assert [path.name for path in folder.rglob("*") if path.suffix in (".mar", ".gz")] == []
    serving.process.terminate()
    serving.process.wait(40)
    assert list(temp.glob("mms-handler-*")) == []


def test_a_model_that_is_not_in_s3(env, temp):
    """The command ends before Java starts, and says what to do."""
    result = mms_handler("serve", "s3://no-such-bucket/model.tar.gz", env=env)
    assert (result.returncode, result.stderr.decode().splitlines()[-1]) == (
        1,
        "error: s3://no-such-bucket/model.tar.gz cannot be downloaded: there is no bucket of this "
        "name; for an S3 that is not AWS's, set AWS_ENDPOINT_URL (NoSuchBucket)",
    )
    assert list(temp.iterdir()) == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_the_end_of_a_download(models, env, temp, number):
    """Nothing of it is left."""
    models.put("large.mar", bytes(10 << 20))
    models.s3.slow = True
    command = [str(BIN / "mms-handler"), "serve", "s3://bucket/large.mar"]
    with subprocess.Popen(command, env=env, stderr=subprocess.PIPE) as process:
        deadline = time.monotonic() + 30
        while not [path for path in temp.rglob("large.mar*") if path.stat().st_size]:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        process.send_signal(number)
        process.wait(20)
    deadline = time.monotonic() + 20
    while list(temp.iterdir()):
        assert time.monotonic() < deadline, list(temp.rglob("*"))
        time.sleep(0.05)


def test_code_of_mxnet_1_3(bucket, temp, tmp_path):
    """The SDK named it in a variable of the endpoint, and left it out of the model.tar.gz."""
    shutil.copytree(EXAMPLES / "linear", tmp_path / "ml" / "model")
    (tmp_path / "jobs").mkdir()
    (tmp_path / "jobs" / "old.py").write_text(
        "def output_fn(prediction, accept):\n    return 'old', 'text/plain'\n"
    )
    with tarfile.open(tmp_path / "sourcedir.tar.gz", "w:gz") as tar:
        tar.add(tmp_path / "jobs" / "old.py", "old.py")
        tar.add(tmp_path / "jobs" / "old.py", "other.py")
    bucket.put("job/sourcedir.tar.gz", tmp_path / "sourcedir.tar.gz")
    env = {
        **os.environ,
        "TMPDIR": str(temp),
        "SAGEMAKER_BASE_DIR": str(tmp_path / "ml"),
        "SAGEMAKER_PROGRAM": "old.py",
        "SAGEMAKER_SUBMIT_DIRECTORY": "s3://bucket/job/sourcedir.tar.gz",
    }
    with Serving(free_ports(), "--workers", "1", log=tmp_path / "log", env=env) as serving:
        assert serving.first_line, (tmp_path / "log").read_text()
        assert serving.ask("model").body == b"old", (tmp_path / "log").read_text()
    assert "fetching s3://bucket/job/sourcedir.tar.gz" in (tmp_path / "log").read_text()
    env["SAGEMAKER_SUBMIT_DIRECTORY"] = "s3://bucket/job/gone.tar.gz"
    ended = mms_handler("serve", env=env)
    assert ended.returncode == 1
    assert b"s3://bucket/job/gone.tar.gz" in ended.stderr
    # Since MXNet 1.4 the variable names the folder of the code that is in the model.
    shutil.copytree(tmp_path / "jobs", tmp_path / "ml" / "model" / "code")
    with Serving(free_ports(), "--workers", "1", log=tmp_path / "log-2", env=env) as serving:
        assert serving.first_line, (tmp_path / "log-2").read_text()
        assert serving.ask("model").body == b"old", (tmp_path / "log-2").read_text()
