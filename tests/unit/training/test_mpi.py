"""training.mpi: the command line of mpirun."""

from __future__ import annotations

import pytest

from mms_handler.errors import TrainingError
from mms_handler.training import mpi


def test_command(monkeypatch):
    monkeypatch.setattr(mpi.shutil, "which", lambda name: f"/usr/bin/{name}")
    options = "--bind-to none -x 'A=b c'"
    command = mpi.mpirun(["algo-1", "algo-2"], 4, options, ["python", "train.py"], ["SM_HPS"])
    assert " ".join(command) == (
        "/usr/bin/mpirun --host algo-1:4,algo-2:4 -np 8 --allow-run-as-root --tag-output "
        "-mca orte_abort_on_non_zero_status 1 -x SM_HPS --bind-to none -x A=b c python train.py"
    )
    assert command[-3] == "A=b c"
    with pytest.raises(TrainingError, match="are not valid options of mpirun"):
        mpi.mpirun(["algo-1", "algo-2"], 1, "'open", ["x"])


def test_no_mpirun(monkeypatch):
    monkeypatch.setattr(mpi.shutil, "which", lambda name: None)
    with pytest.raises(TrainingError, match="mpirun is not installed"):
        mpi.mpirun(["algo-1"], 1, "", ["python", "train.py"])
