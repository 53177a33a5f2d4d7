"""SageMaker's Python SDK 2 and 3 train and serve with this package: make test-sdks.

Each has an environment of its own, which is made once and stays in pytest's cache: together they
are more than a gigabyte and take minutes to install.  The examples of docs/migration are run as
they are, and talk to sagemaker_platform.py.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
import venv
from pathlib import Path
from typing import Iterator

import local_s3
import pytest
from running_mms import ROOT

from tests.sdks.sagemaker_platform import Platform

pytestmark = pytest.mark.sdks

EXAMPLES = ROOT / "docs" / "examples" / "migration"
NO_TELEMETRY = """
SchemaVersion: "1.0"
SageMaker: {PythonSDK: {Modules: {TelemetryOptOut: true}}}
"""
LARGER = '{"larger": ["second", "first"]}'


@pytest.fixture
def platform(tmp_path) -> Iterator[Platform]:
    """The service, with the data, the code and a packed model in its S3."""
    folder = tmp_path / "platform"
    folder.mkdir()
    with local_s3.serving() as s3:
        platform = Platform(folder, s3.url)
        platform.s3.create_bucket(Bucket="bucket")
        for name, root, members in (
            ("code/sourcedir.tar.gz", EXAMPLES, ["gluon_train.py"]),
            ("models/pairs.tar.gz", EXAMPLES / "artifacts", ["."]),
            ("models/linear.tar.gz", ROOT / "model_archives" / "linear", ["."]),
        ):
            path = folder / Path(name).name
            with tarfile.open(path, "w:gz") as tar:
                for member in members:
                    tar.add(root / member, member)
                if name == "models/pairs.tar.gz":
                    tar.add(EXAMPLES / "serving" / "code", "code")
            platform.s3.upload_file(str(path), "bucket", name)
        platform.s3.upload_file(str(EXAMPLES / "data/pairs.csv"), "bucket", "pairs/pairs.csv")
        yield platform
        platform.end()


def run(request, platform: Platform, requirement: str, example: Path) -> list[str]:
    """Run an example with its SDK; returns the lines that it prints."""
    version = ".".join(map(str, sys.version_info[:2]))
    folder = request.config.cache.mkdir(f"sdk-{requirement[-1]}-{version}")
    python, done = folder / "bin" / "python", folder / "done"
    if not (done.exists() and done.read_text() == requirement):
        venv.create(folder, clear=True, symlinks=True)
        pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet"]
        subprocess.run([*pip, "--no-compile", requirement], check=True)
        done.write_text(requirement)
    env = {name: os.environ[name] for name in ("PATH", "TMPDIR") if name in os.environ}
    env.update(platform.variables, HOME=str(folder), NO_PROXY="*")
    config = folder / ".config" / "sagemaker" / "config.yaml"
    config.parent.mkdir(parents=True, exist_ok=True)
    config.write_text(NO_TELEMETRY)
    completed = subprocess.run(
        [python, example], cwd=ROOT, env=env, capture_output=True, text=True, check=False
    )
    assert completed.returncode == 0, completed.stderr[-5000:]
    return completed.stdout.splitlines()


def test_a_notebook_of_version_2(request, platform):
    """MXNet trains, and MXNetModel deploys, with this package's image and no other change."""
    lines = run(request, platform, "sagemaker>=2.200,<3", EXAMPLES / "sdk2_notebook.py")
    assert lines[-1].endswith(LARGER)  # after the SDK's own "!"


@pytest.mark.skipif(sys.version_info < (3, 10), reason="version 3 needs Python 3.10")
def test_a_notebook_of_version_3(request, platform):
    """ModelTrainer trains; ModelBuilder deploys, and so do the resources, call by call."""
    lines = run(request, platform, "sagemaker>=3,<4", EXAMPLES / "sdk3_notebook.py")
    assert len([line for line in lines if line.endswith(LARGER)]) == 2
    jobs = [entry for (kind, _), entry in platform.created.items() if kind == "TrainingJob"]
    assert jobs[-1]["TrainingJobStatus"] == "Completed"
    assert jobs[-1]["TrainingJobName"].startswith("pairs")
    assert {("Endpoint", "pairs"), ("Endpoint", "pairs-2")} <= platform.created.keys()


@pytest.mark.skipif(sys.version_info < (3, 10), reason="version 3 needs Python 3.10")
def test_the_client_of_version_3(request, platform):
    """Its serializers write what the server reads, and its deserializers read the replies."""
    client = Path(__file__).with_name("v3_client.py")
    answers = json.loads(run(request, platform, "sagemaker>=3,<4", client)[-1])
    refusal = answers.pop("too wide")
    one, two = 4.9999918937683105, 10.999981880187988  # float32, as doubles
    assert answers == {
        "JSON": [[one], [two]],
        "CSV": [["4.999992"], ["10.999982"]],
        "JSON Lines": [[one], [two]],
        "NPY": [[one], [two]],
        "JSON in, NPY out": [[one], [two]],
    }
    fault = json.loads(refusal[len("ModelError: ") :])
    message = "the model takes (N, 2), the body has (1, 3)"
    assert (fault["code"], fault["message"]) == (400, message)
