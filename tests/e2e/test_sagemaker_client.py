"""The users' own client: the SageMaker Python SDK, with a server started like a container.

The SDK needs another numpy than mxnet, so it has a virtual environment of its own, which is made
once and stays in pytest's cache.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path
from typing import Iterator

import pytest
from running_mms import EXAMPLES, Serving, free_ports

SDK = "sagemaker>=2.200,<3"  # the last with local mode and MXNetPredictor

ONE, TWO = 4.9999918937683105, 10.999981880187988  # float32, as doubles


@pytest.fixture(scope="session")
def sdk(request) -> Path:
    """A Python with the SDK."""
    version = ".".join(map(str, sys.version_info[:2]))
    folder = request.config.cache.mkdir(f"sagemaker-sdk-{version}")
    python, done = folder / "bin" / "python", folder / "done"
    with folder.with_name(f"{folder.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # another process of this run may be installing it
        if not (python.exists() and done.exists() and done.read_text() == SDK):
            venv.create(folder, clear=True, symlinks=True)
            pip = [sys.executable, "-m", "pip", "--python", str(python), "install"]
            subprocess.run(
                [*pip, "--quiet", "--no-compile", SDK], check=True
            )  # most of it is never imported
            done.write_text(SDK)
    return python


@pytest.fixture(scope="session")
def port(tmp_path_factory) -> Iterator[int]:
    """The port of a server with its model in SageMaker's folder."""
    base = tmp_path_factory.mktemp("opt") / "ml"
    shutil.copytree(EXAMPLES / "linear", base / "model")
    ports = free_ports()
    with Serving(ports, env={**os.environ, "SAGEMAKER_BASE_DIR": str(base)}) as serving:
        assert serving.first_line == f"model is ready: http://0.0.0.0:{ports[0]}/predictions/model"
        yield ports[0]


@pytest.fixture(scope="session", params=["local", "boto3"])
def answers(request, sdk, port, tmp_path_factory) -> dict[str, object]:
    """The answers of one client by name; one process sends all its requests."""
    home = tmp_path_factory.mktemp("home")
    (home / ".sagemaker").mkdir()
    (home / ".sagemaker" / "config.yaml").write_text(f"local: {{serving_port: {port}}}\n")
    # Local mode runs the command docker, and fails without it.
    (home / "docker").write_text("#!/bin/sh\necho there is no engine >&2\nexit 1\n")
    (home / "docker").chmod(0o755)
    done = subprocess.run(
        [sdk, Path(__file__).with_name("sdk_client.py"), request.param, str(port)],
        env={"HOME": str(home), "PATH": f"{home}:/usr/bin:/bin", "NO_PROXY": "*"},
        stdout=subprocess.PIPE,
        check=True,
    )
    return {**json.loads(done.stdout.splitlines()[-1]), "client": request.param}


@pytest.mark.parametrize(
    ("name", "answer"),
    [
        pytest.param("defaults", [[ONE], [TWO]], id="MXNetPredictor with its defaults"),
        pytest.param("JSON", [[ONE], [TWO]], id="JSON"),
        pytest.param("JSON by name", [[ONE], [TWO]], id="JSON by name"),
        pytest.param("CSV", [["4.999992"], ["10.999982"]], id="CSV"),
        pytest.param("JSON Lines", [[ONE], [TWO]], id="JSON Lines"),
        pytest.param("NPY", [[ONE], [TWO]], id="NPY"),
        pytest.param("type of NPY", "float32", id="type of NPY"),
        pytest.param("CSV in, JSON out", [[ONE], [TWO]], id="CSV in, JSON out"),
        pytest.param("JSON in, NPY out", [[ONE], [TWO]], id="JSON in, NPY out"),
        pytest.param("SageMaker's headers", [[ONE], [TWO]], id="SageMaker's headers"),
    ],
)
def test_predictions(answers, name, answer):
    """The server reads each serializer's body, and each deserializer reads the reply."""
    assert answers[name] == answer


@pytest.mark.parametrize(
    ("name", "message"),
    [
        pytest.param("too wide", "the model takes (N, 2), the body has (1, 3)", id="too wide"),
        pytest.param(
            "unreadable",
            "not valid text/csv: line 1, column 2: 'two' is not a number",
            id="unreadable",
        ),
    ],
)
def test_refusals(answers, name, message):
    """The user gets our message: boto3 raises it, local mode returns it."""
    if answers["client"] == "boto3":
        prefix = "ClientError: An error occurred (400) when calling the InvokeEndpoint operation: "
        assert answers[name] == prefix + message
    else:
        fault = answers[name]
        assert (fault["code"], fault["type"], fault["message"]) == (400, "BadInput", message)
