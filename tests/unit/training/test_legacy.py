"""training.legacy: the process that calls a script's train()."""

from __future__ import annotations

import sys
from pathlib import Path

from mms_handler.training import legacy
from mms_handler.training.job import Job


def test_command(tmp_path):
    """Its variables are those of CONTRACT A1, and none of SM_*."""
    (tmp_path / "train.py").write_text("def train(hosts): pass")
    job = Job(
        entry_point=tmp_path / "train.py",
        hyperparameters={"sagemaker_job_name": "job-7", "sagemaker_region": "eu-west-1"},
        channels={},
        model_dir=tmp_path / "model",
        output_data_dir=tmp_path / "output" / "data",
    )
    (tmp_path / "scratch").mkdir()
    command = legacy.command(job, {}, [Path("/lib")], tmp_path / "scratch")
    assert command.words == [
        *(sys.executable, "-m", "mms_handler", "train-here"),
        *(str(tmp_path / "scratch"), "/lib"),
    ]
    assert command.variables == {
        "JOB_NAME": "job-7",
        "CURRENT_HOST": "algo-1",
        "SAGEMAKER_REGION": "eu-west-1",
        "PYTHONUNBUFFERED": "1",
    }
    assert command.cwd == Path.cwd()
    assert command.report == tmp_path / "scratch" / "report.json"
    assert Job.from_json((tmp_path / "scratch" / "job.json").read_text()) == job
