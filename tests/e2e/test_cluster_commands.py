"""The commands that run a job on Kubernetes and Slurm, as two hosts on this machine.

The hosts' names are in an /etc/hosts of their own, in a mount namespace.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Mapping

import pytest
import yaml
from running_mms import BIN, ROOT

from mms_handler.training import cluster

_IN_NAMESPACE = [
    *("unshare", "--map-root-user", "--mount", "/bin/sh", "-c"),
    'mount --bind "$NAMES" /etc/hosts && exec "$@"',
    "sh",
]


@pytest.fixture
def folder(tmp_path):
    """A folder, with the names of hosts."""
    names = {"127.0.0.1": "localhost", "127.0.0.2": "n-0.n n1", "127.0.0.3": "n-1.n n2"}
    lines = "".join(f"{address} {name}\n" for address, name in names.items())
    (tmp_path / "names").write_text(lines)
    done = subprocess.run(
        [*_IN_NAMESPACE, "true"],
        env={**os.environ, "NAMES": str(tmp_path / "names")},
        capture_output=True,
        text=True,
    )
    if done.returncode:
        pytest.skip(f"no mount namespace here: {done.stderr.strip()}")
    return tmp_path


def start(folder: Path, command: list[str], variables: Mapping[str, str]) -> subprocess.Popen:
    """Start a command where the hosts have names."""
    path = f"{BIN}:{os.environ['PATH']}"
    return subprocess.Popen(
        [*_IN_NAMESPACE, *command],
        env={**os.environ, "PATH": path, "NAMES": str(folder / "names"), **variables},
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


SUM = """\
import mxnet as mx

def train(hosts, current_host, hyperparameters, channel_input_dirs):
    kv = mx.kv.create("dist_sync")
    kv.init("sum", mx.nd.zeros(1))
    kv.push("sum", mx.nd.ones(1))
    out = mx.nd.zeros(1)
    kv.pull("sum", out=out)
    print(current_host, hosts, hyperparameters["epochs"], *channel_input_dirs, int(out.asscalar()))
"""


def test_the_pods_of_kubernetes(folder):
    """Each with its index; together they are one job with a parameter server."""
    with open(ROOT / "deploy" / "training-job.yaml") as file:
        job = next(yaml.safe_load_all(file))
    (container,) = job["spec"]["template"]["spec"]["containers"]
    (script,) = container["args"]
    pods = []
    for index in range(2):
        base = folder / str(index)
        for name in ("code", "input/config", "input/data/training"):
            (base / name).mkdir(parents=True)
        (base / "code" / "train.py").write_text(SUM)
    port = cluster.local_port()
    for index in range(2):
        base = folder / str(index)
        config = base / "input" / "config" / "hyperparameters.json"
        config.write_text(json.dumps({"_ps_port": port}))
        command = [*container["command"], script.replace("/opt/ml", str(base))]
        variables = {"JOB": "n", "HOSTS": "2", "JOB_COMPLETION_INDEX": str(index)}
        pods.append(start(folder, command, variables))
    outputs = [pod.communicate(timeout=100)[0] for pod in pods]
    for index, (pod, output) in enumerate(zip(pods, outputs)):
        assert pod.returncode == 0, output
        assert f"n-{index}.n ['n-0.n', 'n-1.n'] 20 training 2\n" in output


def test_the_nodes_of_slurm(folder):
    """With stand-ins for srun and scontrol, the page's command starts a host on each node."""
    page = (ROOT / "docs" / "distributed.md").read_text()
    (command,) = re.findall(r"```\n(srun .+?)```", page, re.DOTALL)
    stand_ins = {
        "srun": 'shift 2; for n in n1 n2; do SLURMD_NODENAME=$n "$@" || exit & done; wait',
        "scontrol": '[ "$*" = "show hostnames" ] && printf "n1\\nn2\\n"',
    }
    (folder / "bin").mkdir()
    for name, script in stand_ins.items():
        (folder / "bin" / name).write_text(f"#!/bin/bash\n{script}\n")
        (folder / "bin" / name).chmod(0o755)
    (folder / "train.py").write_text(
        "import os, sys\n"
        "if __name__ == '__main__':\n"
        "    line = os.environ['SM_CURRENT_HOST'] + ' ' + os.environ['SM_HOSTS']\n"
        "    sys.stdout.write(line + '\\n')  # at once: both nodes write to this log\n"
    )
    path = f"{folder / 'bin'}:{BIN}:{os.environ['PATH']}"
    job = start(folder, ["bash", "-c", command], {"PATH": path})
    output, _ = job.communicate(timeout=100)
    assert job.returncode == 0, output
    for node in ("n1", "n2"):
        assert f'{node} ["n1","n2"]\n' in output
        assert (folder / "runs" / node / "output" / "success").exists()
