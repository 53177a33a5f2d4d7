"""mms-handler train with MPI on two hosts, which are two addresses of this machine."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from pathlib import Path

import psutil
import pytest
from running_mms import BIN, wait_for

from mms_handler.training import cluster

SSHD = shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin:/usr/local/sbin")
MISSING = [
    package
    for package, program in {"openmpi-bin": shutil.which("mpirun"), "openssh-server": SSHD}.items()
    if program is None
]
pytestmark = pytest.mark.skipif(bool(MISSING), reason=f"not installed: {' '.join(MISSING)}")

HOSTS = ("127.0.0.2", "127.0.0.3")
MPI = ("--hp", "sagemaker_mpi_enabled=true", "--hp", "sagemaker_mpi_num_of_processes_per_host=2")

SCRIPT = """\
import json, os, sys, time
rank = int(os.environ["OMPI_COMM_WORLD_RANK"])
names = ("SM_CURRENT_HOST", "SM_HP_EPOCHS", "OMPI_COMM_WORLD_SIZE", "A")
with open(os.path.join(os.environ["SM_MODEL_DIR"], str(rank)), "w") as file:
    json.dump([os.environ.get(name) for name in names], file)
"""


class Host:
    """One host, as a process."""

    def __init__(self, folder: Path, name: str, port: int, *words: str, **env: str):
        self.base = folder / name
        command = [
            *(str(BIN / "mms-handler"), "train", "--base-dir", str(self.base), *MPI),
            *("--hosts", ",".join(HOSTS), "--current-host", name, "--hp", f"_ps_port={port}"),
            *("--entry-point", "train.py", *words),
        ]
        self.process = subprocess.Popen(
            command,
            cwd=folder,
            env={**os.environ, "TMPDIR": str(folder), **env},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def end(self) -> tuple[int, str]:
        """Wait; returns the exit code and the first line of the failure file."""
        output, _ = self.process.communicate(timeout=100)
        failure = self.base / "output" / "failure"
        reason = failure.read_text().splitlines()[0] if failure.exists() else output
        return self.process.returncode, reason

    def ranks(self) -> dict[str, list[str]]:
        """What each rank wrote into this host's model folder."""
        files = (self.base / "model").glob("*")
        return {path.name: json.loads(path.read_text()) for path in files}


@pytest.fixture
def start(tmp_path):
    """Start both hosts with a script.  Afterwards none of their processes is left."""
    started = []

    def hosts(script: str, *words: str, others_path: str = os.environ["PATH"]) -> list[Host]:
        (tmp_path / "train.py").write_text(SCRIPT + script)
        port = cluster.local_port()
        for name, path in zip(HOSTS, (os.environ["PATH"], others_path)):
            started.append(Host(tmp_path, name, port, *words, PATH=path))
        return started

    yield hosts
    for host in started:
        host.process.kill()  # has ended already, unless the test failed
        host.process.communicate()
    wait_for(lambda: not commands(tmp_path), 20)


def commands(folder: Path) -> list[list[str]]:
    """The living processes that were started for a job in ``folder``."""
    lines = []
    for process in psutil.process_iter():
        try:
            words = process.cmdline()
            if str(folder) in " ".join([*words, *process.environ().values()]):
                lines.append(words)
        except psutil.Error:
            continue
    return lines


def test_the_ranks_of_two_hosts(start):
    """They have the variables of their own host, and those of mpirun's options."""
    options = "sagemaker_mpi_custom_mpi_options=-x A=b"
    first, other = start("", "--hp", "epochs=3", "--hp", options)
    assert [first.end()[0], other.end()[0]] == [0, 0], (first.end(), other.end())
    for host, name, ranks in ((first, HOSTS[0], "01"), (other, HOSTS[1], "23")):
        assert host.ranks() == {rank: [name, "3", "4", "b"] for rank in ranks}


def test_local_hosts(tmp_path, start):
    """The same on one address; each host then has a port of its own for ssh."""
    (tmp_path / "train.py").write_text(SCRIPT)
    command = [str(BIN / "mms-handler"), "train", "--local-hosts", "3", *MPI[:2]]
    done = subprocess.run(
        [*command, "--entry-point", "train.py"],
        cwd=tmp_path,
        env={**os.environ, "TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr
    models = [tmp_path / "model", *(tmp_path / "hosts" / f"algo-{n}" / "model" for n in (2, 3))]
    assert [sorted(os.listdir(model)) for model in models] == [["0"], ["1"], ["2"]]


@pytest.mark.parametrize(
    ("rank", "how", "reason"),
    [
        (3, "raise ValueError('a bad batch')", "ValueError: a bad batch (train.py, line 7)"),
        (0, "os.kill(os.getpid(), 9)", "rank 0 was killed by SIGKILL"),
    ],
)
def test_a_rank_fails(start, rank, how, reason):
    """Its exception is the reason on every host; mpirun tells of one that could not."""
    hosts = start(f"if rank == {rank}:\n    {how}\ntime.sleep(100)\n")
    ends = [host.end() for host in hosts]
    failed = rank // 2
    assert ends[failed] == (1, f"{HOSTS[failed]}: the script: {reason}")
    code, lost = ends[1 - failed]
    assert code == 1
    assert lost.startswith(f"{HOSTS[1 - failed]}: ")
    assert lost.endswith(f": host {HOSTS[failed]} was lost: the script: {reason}")


def test_a_host_is_killed(start, tmp_path):
    """With its processes, of which none is left, nor its keys; the other host names it."""
    first, other = start("time.sleep(100)\n")
    wait_for(lambda: all(len(list(h.base.glob("model/*"))) == 2 for h in (first, other)), 100)
    other.process.send_signal(signal.SIGKILL)
    lost = f"host {HOSTS[1]} was lost: its connection closed"
    assert first.end() == (1, f"{HOSTS[0]}: the script: {lost}")
    wait_for(lambda: not list(tmp_path.glob("mms-handler-*")), 30)


def test_a_program_is_missing(start, tmp_path):
    """The host where it is says which, and the other one says so, too."""
    ends = [host.end() for host in start("", others_path=str(tmp_path))]
    reason = "preparing MPI: mpirun is not installed: apt-get install openmpi-bin"
    assert ends[1] == (1, f"{HOSTS[1]}: {reason}")
    lost = f"host {HOSTS[1]} was lost: {reason}"
    assert ends[0] == (1, f"{HOSTS[0]}: preparing MPI: {lost}")
