"""The command of KServe's runtime serves what KServe's storage initializer leaves in a folder."""

from __future__ import annotations

import json
import os
import signal
import subprocess

import pytest
import yaml
from running_mms import BIN, EXAMPLES, ROOT, free_ports, mms_handler, wait_for

from mms_handler import client

RUNTIME = yaml.safe_load((ROOT / "deploy" / "kserve" / "runtime.yaml").read_text())


@pytest.mark.parametrize("kind", ["folder", "archive"])
def test_the_command_serves_the_model_by_the_name_of_its_service(tmp_path, kind):
    """The folders of the container are others here."""
    models, temp = tmp_path / "models", tmp_path / "tmp"
    temp.mkdir()
    if kind == "folder":
        models.symlink_to(EXAMPLES / "linear")
    else:
        models.mkdir()
        mms_handler("archive", EXAMPLES / "linear", "--model-store", models, "--name", "other")
    (container,) = RUNTIME["spec"]["containers"]
    (script,) = container["args"]
    script = script.replace("/tmp/", f"{temp}/").replace("/mnt/models", str(models))
    ports = free_ports()
    env = {
        **os.environ,
        "PATH": f"{BIN}:{os.environ['PATH']}",
        "MODEL_NAME": "digits",
        "SAGEMAKER_BIND_TO_PORT": str(ports[0]),
        "MMS_HANDLER_MANAGEMENT_PORT": str(ports[1]),
    }
    log = tmp_path / "log"
    with open(log, "wb") as output:
        process = subprocess.Popen([*container["command"], script], env=env, stderr=output)
    try:
        url = f"http://127.0.0.1:{ports[0]}/v2/models/digits"
        wait_for(lambda: client.listening(url.rpartition("/v2")[0]), 60)
        wait_for(lambda: client.call("GET", f"{url}/ready").status == 200, 60)
        tensor = {"name": "data", "datatype": "FP32", "shape": [1, 2], "data": [1, 2]}
        answer = client.invoke(f"{url}/infer", json.dumps({"inputs": [tensor]}).encode())
        assert json.loads(answer.body)["outputs"][0]["data"] == [4.9999918937683105]
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=40)
