"""training.mpi: the command line of mpirun."""

from __future__ import annotations

import pytest

from mms_handler.errors import TrainingError
from mms_handler.training import mpi
from mms_handler.training.job import Job


def test_command(monkeypatch):
    monkeypatch.setattr(mpi.shutil, "which", lambda name: f"/usr/bin/{name}")
    options = "--display-map -x 'A=b c'"
    command = mpi.mpirun(["algo-1", "algo-2"], 4, options, ["python", "train.py"], ["SM_HPS"])
    assert " ".join(command) == (
        "/usr/bin/mpirun --host algo-1:4,algo-2:4 -np 8 --allow-run-as-root --tag-output "
        "--bind-to none --map-by slot -mca orte_abort_on_non_zero_status 1 "
        "-x SM_HPS --display-map -x A=b c python train.py"
    )
    assert command[-3] == "A=b c"
    with pytest.raises(TrainingError, match="are not valid options of mpirun"):
        mpi.mpirun(["algo-1", "algo-2"], 1, "'open", ["x"])


def test_no_mpirun(monkeypatch):
    monkeypatch.setattr(mpi.shutil, "which", lambda name: None)
    with pytest.raises(TrainingError, match="mpirun is not installed"):
        mpi.mpirun(["algo-1"], 1, "", ["python", "train.py"])


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({}, "--host localhost:1 -np 1 ... python train.py"),
        (
            {
                "sagemaker_mpi_num_of_processes_per_host": "3",
                "sagemaker_mpi_custom_mpi_options": "-x A=1",
            },
            "--host localhost:3 -np 3 ... -x A=1 python train.py",
        ),
        (
            {"sagemaker_mpi_custom_mpi_options": "-verbose --NCCL_DEBUG INFO -x A=1"},
            "-np 1 ... -x NCCL_DEBUG=INFO -verbose -x A=1 python train.py",
        ),
        ({"sagemaker_mpi_custom_mpi_options": "--NCCL_DEBUG"}, "-np 1 ... 1 python train.py"),
    ],
)
def test_processes_of_one_host(monkeypatch, tmp_path, parameters, words):
    """As many as the hyperparameters say."""
    monkeypatch.setattr(mpi.shutil, "which", lambda name: name)
    job = Job(tmp_path / "train.py", parameters, {}, tmp_path, tmp_path, current_host="algo-9")
    command = " ".join(mpi.under_mpirun(job, ["python", "train.py"]))
    for part in words.split(" ... "):
        assert part in command
    several = job._replace(hosts=("a", "b"))
    with pytest.raises(TrainingError, match="^MPI on 2 hosts needs an sshd on each host"):
        mpi.under_mpirun(several, ["python"])
