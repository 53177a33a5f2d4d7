"""training.mpi: the command line of mpirun, and why it failed."""

from __future__ import annotations

import pytest

from mms_handler.errors import TrainingError
from mms_handler.training import mpi
from mms_handler.training.job import Job


@pytest.fixture
def job(monkeypatch, tmp_path):
    """A job with hyperparameters, where mpirun is installed."""
    monkeypatch.setattr(mpi.shutil, "which", lambda name: f"/usr/bin/{name}")

    def make(**parameters: str) -> Job:
        names = {"options": "sagemaker_mpi_custom_mpi_options",
                 "count": "sagemaker_mpi_num_of_processes_per_host"}  # fmt: skip
        parameters = {names[key]: value for key, value in parameters.items()}
        return Job(tmp_path / "train.py", parameters, {}, tmp_path, tmp_path)

    return make


def test_command(job):
    """The options of the job come last, before the command."""
    words = mpi.command_line(
        job(options="--display-map -x 'A=b c'", count="4"),
        ["localhost", "algo-2"],
        ["python", "train.py"],
        {"oob_tcp_if_include": "lo"},
        ["--noprefix"],
    )
    assert " ".join(words) == (
        "/usr/bin/mpirun --host localhost:4,algo-2:4 -np 8 --allow-run-as-root --tag-output "
        "--bind-to none --map-by slot --noprefix -mca orte_abort_on_non_zero_status 1 "
        "-mca oob_tcp_if_include lo --display-map -x A=b c python train.py"
    )
    assert words[-3] == "A=b c"


@pytest.mark.parametrize(
    ("options", "end"),
    [
        ("", "status 1 -mca btl b x"),
        ("-mca btl self", "status 1 -mca btl self x"),
        ("-verbose --NCCL_DEBUG INFO -x A=1", "-mca btl b -x NCCL_DEBUG=INFO -verbose -x A=1 x"),
        ("--NCCL_DEBUG", "-mca btl b x"),
        ("--NCCL A", "-mca btl b --NCCL A x"),
        ("-h", "-mca btl b -h x"),
    ],
)
def test_own_options(job, options, end):
    """They win over the same parameters; NCCL_DEBUG is a variable, as in SageMaker's toolkit."""
    command = " ".join(mpi.command_line(job(options=options), ["localhost"], ["x"], {"btl": "b"}))
    assert command.startswith("/usr/bin/mpirun --host localhost:1 -np 1 ")
    assert command.endswith(end)


def test_invalid_options(job):
    with pytest.raises(TrainingError, match="are not valid options of mpirun"):
        mpi.command_line(job(options="'open"), ["localhost"], ["x"])


def test_no_mpirun(job, monkeypatch):
    monkeypatch.setattr(mpi.shutil, "which", lambda name: None)
    with pytest.raises(TrainingError, match="mpirun is not installed"):
        mpi.command_line(job(), ["localhost"], ["x"])


DASHES = "-" * 74
#: What Open MPI 4.1.4 wrote.
EXIT_CODE = f"""\
[1,1]<stderr>:a warning
[1,0]<stderr>:another rank's
{DASHES}
Primary job  terminated normally, but 1 process returned
a non-zero exit code. Per user-direction, the job has been aborted.
{DASHES}
{DASHES}
mpirun detected that one or more processes exited with non-zero status, thus causing
the job to be terminated. The first process to do so was:
  Process name: [[14938,1],1]
  Exit code:    3
{DASHES}"""
KILLED = f"""\
{DASHES}
mpirun noticed that process rank 1 with PID 0 on node algo-2 exited on signal 9 (Killed).
{DASHES}"""
REFUSED = f"""\
[algo-1:1] plm:rsh: Warning: setpgid(2,2) failed in parent with errno=Permission denied(13)
ssh: connect to host 10.0.0.2 port 8002: Connection refused
{DASHES}
ORTE was unable to reliably start one or more daemons.
{DASHES}"""


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        pytest.param(EXIT_CODE, "a warning", id="the failing rank's last words"),
        pytest.param(
            EXIT_CODE.replace("[1,1]<stderr>", "[1,2]<stderr>"),
            "rank 1 ended with exit code 3",
            id="a silent rank",
        ),
        pytest.param(KILLED, "rank 1 on algo-2 was killed by SIGKILL", id="a killed rank"),
        pytest.param(
            KILLED.replace("algo-2", "vm"), "rank 1 was killed by SIGKILL", id="of this host"
        ),
        pytest.param(
            REFUSED, "ssh: connect to host 10.0.0.2 port 8002: Connection refused", id="ssh"
        ),
        pytest.param(
            f"{DASHES}\nThere are not enough slots available\n{DASHES}",
            "There are not enough slots available",
            id="mpirun's own words",
        ),
        pytest.param(DASHES, DASHES, id="nothing else"),
    ],
)
def test_reason(text, reason):
    """It names the rank that failed, and is no row of dashes."""
    assert mpi.reason(text.splitlines(), ["algo-1", "algo-2"]) == reason
