"""training.legacy: the process that calls a script's train()."""

from __future__ import annotations

import functools
import subprocess
import sys
import types
from pathlib import Path

import pytest

from mms_handler import models
from mms_handler.errors import TrainingError
from mms_handler.script.report import read_phase, read_report
from mms_handler.training import legacy
from mms_handler.training.job import Job


def test_command(tmp_path):
    """Its variables are those of CONTRACT A1, and two of SM_* that both modes have."""
    (tmp_path / "train.py").write_text("def train(hosts): pass")
    job = Job(
        entry_point=tmp_path / "train.py",
        hyperparameters={"sagemaker_job_name": "job-7", "sagemaker_region": "eu-west-1"},
        channels={},
        model_dir=tmp_path / "model",
        output_data_dir=tmp_path / "output" / "data",
        checkpoints=tmp_path / "checkpoints",
        seed=7,
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
        "SM_CHECKPOINT_DIR": f"{tmp_path}/checkpoints",
        "SM_SEED": "7",
        "PYTHONHASHSEED": "7",
        "PYTHONUNBUFFERED": "1",
    }
    assert command.cwd == Path.cwd()
    assert command.report == tmp_path / "scratch" / "report.json"
    assert Job.from_json((tmp_path / "scratch" / "job.json").read_text()) == job


@pytest.mark.parametrize(
    ("level", "number"), [(None, 20), (10, 10), ("warning", 30), ("ERROR", 40)]
)
def test_the_log_level(tmp_path, level, number):
    """A number, or a name in any case."""
    parameters = {} if level is None else {"sagemaker_container_log_level": level}
    job = Job(tmp_path / "train.py", parameters, {}, tmp_path, tmp_path)
    assert legacy.log_level(job) == number


@pytest.mark.parametrize("level", ["loud", [10], 1.5])
def test_a_log_level_that_is_none(tmp_path, level):
    job = Job(tmp_path / "t.py", {"sagemaker_container_log_level": level}, {}, tmp_path, tmp_path)
    with pytest.raises(TrainingError, match="^hyperparameter sagemaker_container_log_level: "):
        legacy.log_level(job)


class Trained:
    """What a script's train has returned."""


@pytest.mark.parametrize(
    ("save", "folder_first"),
    [
        (lambda model, model_dir: (model, model_dir), False),
        (lambda model_dir, model: (model_dir, model), True),
        (lambda net, folder="": (net, folder), False),
        (lambda *arguments: arguments, False),
        (lambda model_dir, *others: (model_dir, *others), True),
    ],
)
def test_the_scripts_save(tmp_path, save, folder_first):
    """The guide has the folder second; names may say otherwise.  Every host calls it."""
    calls = []
    module, model = types.ModuleType("script"), Trained()
    module.save = functools.wraps(save)(lambda *arguments: calls.append(save(*arguments)))
    job = Job(tmp_path / "t.py", {}, {}, tmp_path / "m", tmp_path, current_host="algo-2")
    legacy._save(module, model, job, None)
    folder = str(tmp_path / "m")
    assert calls == [(folder, model) if folder_first else (model, folder)]


def test_the_default_save_is_for_the_first_host(tmp_path, monkeypatch):
    """Every other one has the same model."""
    calls = []
    recorded = types.SimpleNamespace(shapes=lambda model: "shapes")
    monkeypatch.setattr(models, "save", lambda *arguments: calls.append(arguments))
    job = Job(
        tmp_path / "t.py", {}, {}, tmp_path / "m", tmp_path, hosts=("b", "a"), current_host="b"
    )
    for part in (job, job._replace(current_host="a")):
        legacy._save(types.ModuleType("script"), "model", part, recorded)
    assert calls == [("model", tmp_path / "m", "shapes")]


def test_the_traceback_of_a_script(tmp_path):
    """It begins in the script's code, if it ever gets there."""
    job = Job(tmp_path / "train.py", {"sagemaker_container_log_level": "?"}, {}, tmp_path, tmp_path)

    def script(name):
        raise KeyError(name)

    with pytest.raises(KeyError) as caught:
        legacy.train(job, enter=script)
    ours = caught.value.__traceback__.tb_next
    assert ours.tb_frame.f_code is legacy.train.__code__
    frames = legacy._of_script(caught.value.with_traceback(ours))
    assert frames.tb_frame.f_code is script.__code__
    with pytest.raises(TrainingError) as caught:
        legacy.log_level(job)
    ours = caught.value.__traceback__.tb_next
    assert legacy._of_script(caught.value.with_traceback(ours)) is ours


def test_what_fails_before_the_script_is_called(tmp_path):
    """Its phase is known, too."""
    parameters = {"sagemaker_container_log_level": "loud"}
    job = Job(tmp_path / "train.py", parameters, {}, tmp_path, tmp_path)
    (tmp_path / "job.json").write_text(job.to_json())
    program = "import sys, pathlib; from mms_handler.training import legacy; "
    program += f"sys.exit(legacy.main(pathlib.Path({str(tmp_path)!r}), []))"
    done = subprocess.run([sys.executable, "-c", program], check=False)
    assert done.returncode == 1
    assert read_phase(tmp_path / "report.json") == "starting the script"
    assert "sagemaker_container_log_level" in read_report(tmp_path / "report.json")["line"]


def test_packages_of_the_requirements(tmp_path, monkeypatch):
    """The script can import them, and its own folder has precedence."""
    monkeypatch.setattr(sys, "path", sys.path[:])
    packages = tmp_path / "packages"
    packages.mkdir()
    (packages / "required_by_a_test.py").write_text("VALUE = 5")
    script = tmp_path / "train.py"
    script.write_text(
        "import required_by_a_test\n"
        "def train(channel_input_dirs):\n"
        "    channel_input_dirs['value'] = required_by_a_test.VALUE\n"
    )
    channels = {}
    monkeypatch.setattr(legacy, "keyword_arguments", lambda job: {"channel_input_dirs": channels})
    job = Job(script, {}, {}, tmp_path / "m", tmp_path / "o")
    assert legacy.train(job, [packages]) is None
    assert channels == {"value": 5}
