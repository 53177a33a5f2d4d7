"""training.script_mode: command line and variables, exactly as in the old containers."""

from __future__ import annotations

import json
import multiprocessing
import stat
import subprocess
import sys
from pathlib import Path

import pytest

import mms_handler.script
from mms_handler.errors import TrainingError
from mms_handler.training import mpi, script_mode
from mms_handler.training.job import Job

REPORT = Path("report.json")
PYTHON = [sys.executable, str(Path(mms_handler.script.__file__).with_name("run.py")), str(REPORT)]


@pytest.fixture
def code_dir(tmp_path):
    """A code folder with one script, in a base folder."""
    folder = tmp_path / "code"
    folder.mkdir()
    (folder / "train.py").touch()
    return folder


@pytest.fixture
def job(tmp_path, code_dir):
    """A job on the first of two hosts."""
    (tmp_path / "data").mkdir()
    return Job(
        entry_point=code_dir / "train.py",
        hyperparameters={
            "epochs": 3,
            "batch-size": 64,
            "optimizer": "adam",
            "sagemaker_program": "train.py",
            "sagemaker_job_name": "job-7",
            "sagemaker_region": "eu-west-1",
            "sagemaker_submit_directory": "s3://bucket/job-7/sourcedir.tar.gz",
            "sagemaker_container_log_level": 10,
            "sagemaker_parameter_server_enabled": True,
            "_tuning_objective_metric": "acc",
        },
        channels={"train": tmp_path / "data"},
        model_dir=tmp_path / "model",
        output_data_dir=tmp_path / "output" / "data",
        hosts=("algo-1", "algo-2"),
        base_dir=tmp_path,
    )


# --- the command ---


@pytest.mark.parametrize(
    ("hyperparameters", "words"),
    [
        pytest.param({}, [], id="none"),
        pytest.param({"b": 1, "aa": 2, "C": 3}, ["-C", "3", "--aa", "2", "-b", "1"], id="by name"),
        pytest.param({"batch-size": 64}, ["--batch-size", "64"], id="a hyphen stays"),
        pytest.param({"rate": 0.1, "small": 1e-07}, ["--rate", "0.1", "--small", "1e-07"],
                     id="floats"),
        pytest.param({"name": "two words"}, ["--name", "two words"], id="a text is one word"),
        pytest.param({"name": None}, ["--name", ""], id="None"),
        pytest.param({"yes": True, "no": False}, ["--no", "False", "--yes", "True"], id="bools"),
        pytest.param({"map": {"b": 2, "a": "x"}}, ["--map", "a=x,b=2"], id="a dict"),
        pytest.param({"map": {}}, ["--map", ""], id="an empty dict"),
        pytest.param({"list": [1, "two", None]}, ["--list", "[1, 'two', None]"], id="a list"),
        pytest.param({"sagemaker_program": "x", "_tuning_objective_metric": "m", "_ps_port": 1},
                     ["--_ps_port", "1"], id="SageMaker's own are left out"),
        pytest.param({"name": "--é"}, ["--name", "--é"], id="as it is"),
    ],
)  # fmt: skip
def test_arguments(code_dir, hyperparameters, words):
    """``to_cmd_args``."""
    command = script_mode.command_line(code_dir / "train.py", code_dir, hyperparameters, REPORT)
    assert command == [*PYTHON, "file", "train.py", *words]


def test_a_script_in_a_folder(code_dir):
    """Its name is relative to the working directory."""
    command = script_mode.command_line(code_dir / "sub" / "train.py", code_dir, {"a": 1}, REPORT)
    assert command == [*PYTHON, "file", "sub/train.py", "-a", "1"]


def test_a_script_from_elsewhere(tmp_path, code_dir):
    """Its name is its absolute path."""
    command = script_mode.command_line(tmp_path / "other.py", code_dir, {}, REPORT)
    assert command == [*PYTHON, "file", str((tmp_path / "other.py").resolve())]


@pytest.mark.parametrize(
    ("entry", "module"),
    [("train.py", "train"), ("trainer/task.py", "trainer.task"), ("trainer", "trainer")],
)
def test_a_package(code_dir, entry, module):
    """With a setup.py, the module is run."""
    (code_dir / "setup.py").touch()
    command = script_mode.command_line(code_dir / entry, code_dir, {"epochs": 1}, REPORT)
    assert command == [*PYTHON, "module", module, "--epochs", "1"]


@pytest.mark.parametrize("name", ["train.sh", "launch it"])
def test_a_program(code_dir, name):
    """Any other file is made executable and run by the shell, with its arguments unchanged."""
    (code_dir / name).write_text('#!/bin/sh\nprintf "%s|" "$@"\n')
    (code_dir / name).chmod(0o644)
    (code_dir / "setup.py" if name.endswith(".sh") else code_dir / "other").touch()
    command = script_mode.command_line(
        code_dir / name, code_dir, {"a": "x y", "b": "$HOME;'\"", "c": ""}, REPORT
    )
    assert command[:2] == ["/bin/sh", "-c"]
    done = subprocess.run(command, cwd=code_dir, capture_output=True, text=True, check=True)
    assert done.stdout == "-a|x y|-b|$HOME;'\"|-c||"
    assert stat.S_IMODE((code_dir / name).stat().st_mode) == 0o755


def test_a_seed(job, tmp_path):
    """The runner gets it, and the variables have it."""
    (tmp_path / "scratch").mkdir()
    command = script_mode.command(job._replace(seed=7), {}, [], tmp_path / "scratch")
    report = str(tmp_path / "scratch" / "report.json")
    assert command.words[:4] == [*PYTHON[:2], "--seed=7", report]
    assert command.variables["SM_SEED"] == command.variables["PYTHONHASHSEED"] == "7"


def test_a_plain_program(code_dir, tmp_path):
    command = script_mode.command_line(code_dir / "train.sh", code_dir, {"epochs": 3}, REPORT)
    assert command == ["/bin/sh", "-c", "./train.sh --epochs 3"]
    elsewhere = script_mode.command_line(tmp_path / "train", code_dir, {}, REPORT)
    assert elsewhere == ["/bin/sh", "-c", str(tmp_path / "train")]


# --- the variables ---


def test_variables(job, tmp_path):
    """Every one of them, as the old containers wrote it."""
    base, cpus = str(tmp_path.resolve()), multiprocessing.cpu_count()
    variables = script_mode.variables(job, {"PYTHONPATH": "/x:/y", "HOME": "/root"}, num_gpus=2)
    training_env = json.loads(variables.pop("SM_TRAINING_ENV"))
    assert variables == {
        "SM_HOSTS": '["algo-1","algo-2"]',
        "SM_NETWORK_INTERFACE_NAME": "eth0",
        "SM_HPS": '{"batch-size":64,"epochs":3,"optimizer":"adam"}',
        "SM_USER_ENTRY_POINT": "train.py",
        "SM_FRAMEWORK_PARAMS": '{"sagemaker_parameter_server_enabled":true}',
        "SM_RESOURCE_CONFIG": '{"current_host":"algo-1","hosts":["algo-1","algo-2"],'
        '"network_interface_name":"eth0"}',
        "SM_INPUT_DATA_CONFIG": '{"train":{"RecordWrapperType":"None",'
        '"S3DistributionType":"FullyReplicated","TrainingInputMode":"File"}}',
        "SM_OUTPUT_DATA_DIR": f"{base}/output/data",
        "SM_CHANNELS": '["train"]',
        "SM_CURRENT_HOST": "algo-1",
        "SM_MODULE_NAME": "train",
        "SM_LOG_LEVEL": "10",
        "SM_FRAMEWORK_MODULE": "sagemaker_mxnet_container.training:main",
        "SM_INPUT_DIR": f"{base}/input",
        "SM_INPUT_CONFIG_DIR": f"{base}/input/config",
        "SM_OUTPUT_DIR": f"{base}/output",
        "SM_NUM_CPUS": str(cpus),
        "SM_NUM_GPUS": "2",
        "SM_MODEL_DIR": f"{base}/model",
        "SM_MODULE_DIR": "s3://bucket/job-7/sourcedir.tar.gz",
        "SM_USER_ARGS": '["--batch-size","64","--epochs","3","--optimizer","adam"]',
        "SM_OUTPUT_INTERMEDIATE_DIR": f"{base}/output/intermediate",
        "SM_CHANNEL_TRAIN": f"{base}/data",
        "SM_HP_BATCH-SIZE": "64",
        "SM_HP_EPOCHS": "3",
        "SM_HP_OPTIMIZER": "adam",
        "SAGEMAKER_JOB_NAME": "job-7",
        "CURRENT_HOST": "algo-1",
        "SAGEMAKER_REGION": "eu-west-1",
        "SM_CHECKPOINT_DIR": f"{base}/checkpoints",
        "PYTHONPATH": f"{base}/code:/x:/y",
        "PYTHONUNBUFFERED": "1",
    }
    assert list(training_env) == sorted(training_env)
    assert training_env == {
        "additional_framework_parameters": {"sagemaker_parameter_server_enabled": True},
        "channel_input_dirs": {"train": f"{base}/data"},
        "current_host": "algo-1",
        "framework_module": "sagemaker_mxnet_container.training:main",
        "hosts": ["algo-1", "algo-2"],
        "hyperparameters": {"batch-size": 64, "epochs": 3, "optimizer": "adam"},
        "input_config_dir": f"{base}/input/config",
        "input_data_config": json.loads(variables["SM_INPUT_DATA_CONFIG"]),
        "input_dir": f"{base}/input",
        "is_master": True,
        "job_name": "job-7",
        "log_level": 10,
        "master_hostname": "algo-1",
        "model_dir": f"{base}/model",
        "module_dir": "s3://bucket/job-7/sourcedir.tar.gz",
        "module_name": "train",
        "network_interface_name": "eth0",
        "num_cpus": cpus,
        "num_gpus": 2,
        "output_data_dir": f"{base}/output/data",
        "output_dir": f"{base}/output",
        "output_intermediate_dir": f"{base}/output/intermediate",
        "resource_config": json.loads(variables["SM_RESOURCE_CONFIG"]),
        "user_entry_point": "train.py",
    }


def test_a_job_from_options_alone(job, code_dir):
    """Name and region are empty, and SM_MODULE_DIR is the code's folder."""
    variables = script_mode.variables(job._replace(hyperparameters={}), {}, num_gpus=0)
    assert variables["SM_HPS"] == "{}"
    assert variables["SM_USER_ARGS"] == "[]"
    assert variables["SM_LOG_LEVEL"] == "20"
    assert variables["SM_MODULE_DIR"] == variables["PYTHONPATH"] == str(code_dir.resolve())
    assert variables["SAGEMAKER_JOB_NAME"] == variables["SAGEMAKER_REGION"] == ""
    assert json.loads(variables["SM_TRAINING_ENV"])["job_name"] is None


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, ""), ("a b", "a b"), (True, "true"), (0.5, "0.5"), ([1, "é"], '[1,"\\u00e9"]'),
     ({"b": 1, "a": None}, '{"a":null,"b":1}')],
)  # fmt: skip
def test_values(job, value, text):
    """Texts stay as they are, None is '', everything else is compact JSON with sorted keys."""
    variables = script_mode.variables(job._replace(hyperparameters={"Lr": value}), {}, num_gpus=0)
    assert variables["SM_HP_LR"] == text


def test_channels(job, tmp_path):
    """By name; for a channel in PIPE mode, what the names of its pipes begin with."""
    config = {"train": {"TrainingInputMode": "File"}, "live": {"TrainingInputMode": "Pipe"}}
    variables = script_mode.variables(job._replace(input_data_config=config), {}, num_gpus=0)
    assert variables["SM_CHANNELS"] == '["live","train"]'
    assert variables["SM_CHANNEL_LIVE"] == f"{tmp_path.resolve()}/input/data/live"
    assert variables["SM_CHANNEL_TRAIN"] == f"{tmp_path.resolve()}/data"


def test_another_host(job):
    variables = script_mode.variables(job._replace(current_host="algo-2"), {}, num_gpus=0)
    assert variables["SM_CURRENT_HOST"] == variables["CURRENT_HOST"] == "algo-2"
    assert json.loads(variables["SM_TRAINING_ENV"])["is_master"] is False


def test_name_and_region_from_the_environment(job):
    """SageMaker's own variables give name and region if no hyperparameter does."""
    environment = {"TRAINING_JOB_NAME": "job-8", "AWS_REGION": "us-west-2"}
    variables = script_mode.variables(job._replace(hyperparameters={}), environment, num_gpus=0)
    assert (variables["SAGEMAKER_JOB_NAME"], variables["SAGEMAKER_REGION"]) == (
        "job-8",
        "us-west-2",
    )
    assert json.loads(variables["SM_TRAINING_ENV"])["job_name"] == "job-8"


def test_folders_to_import_from(job, code_dir):
    """The script's own first, then those of its requirements, then the user's."""
    variables = script_mode.variables(
        job, {"PYTHONPATH": "/x"}, [Path("/lib"), Path("/r")], num_gpus=0
    )
    assert variables["PYTHONPATH"] == f"{code_dir.resolve()}:/lib:/r:/x"


@pytest.mark.parametrize("hyperparameters", [{"a=b": 1}, {"a": "x\0y"}, {"a\0": 1}])
def test_what_cannot_be_a_variable(job, hyperparameters):
    """It is refused, with its name, before a process is started."""
    with pytest.raises(TrainingError, match="'SM_HP_A.*cannot be an environment variable"):
        script_mode.variables(job._replace(hyperparameters=hyperparameters), {}, num_gpus=0)


# --- run for real ---


def test_a_script_sees_it_all(job, code_dir, tmp_path):
    """A real process gets arguments, SM_* variables, siblings and the old modules."""
    (code_dir / "sibling.py").write_text("NAME = 'sibling'")
    (code_dir / "train.py").write_text(
        "import argparse, json, os, sys\n"
        "from sagemaker_mxnet_container.training_utils import save, scheduler_host\n"
        "import sagemaker_mxnet_training\n"
        "import sagemaker_containers\n"
        "from sagemaker_training import environment\n"
        "import sibling\n"
        "parser = argparse.ArgumentParser()\n"
        "parser.add_argument('--epochs', type=int)\n"
        "parser.add_argument('--batch-size', type=int)\n"
        "parser.add_argument('--optimizer')\n"
        "parser.add_argument('--train', default=os.environ['SM_CHANNEL_TRAIN'])\n"
        "args = parser.parse_args()\n"
        "print(json.dumps([vars(args), os.getcwd(), sibling.NAME,\n"
        "    scheduler_host(json.loads(os.environ['SM_HOSTS'])),\n"
        "    sagemaker_mxnet_training.training_utils.save.__name__,\n"
        "    sagemaker_containers.training_env().channel_input_dirs,\n"
        "    environment.Environment().hyperparameters['epochs']]))\n"
    )
    folders = script_mode.stand_ins(tmp_path / "scratch")
    done = subprocess.run(
        script_mode.command_line(
            job.entry_point, job.code_dir, job.hyperparameters, tmp_path / "report"
        ),
        env={"PATH": "/usr/bin:/bin", **script_mode.variables(job, {}, folders, num_gpus=0)},
        cwd=job.code_dir,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    expected = {"epochs": 3, "batch_size": 64, "optimizer": "adam"}
    expected["train"] = str((tmp_path / "data").resolve())
    assert json.loads(done.stdout) == [
        expected,
        str(code_dir.resolve()),
        "sibling",
        "algo-1",
        "save",
        {"train": expected["train"]},
        3,
    ]


def test_modules_that_are_installed_need_no_stand_in(tmp_path, monkeypatch):
    """The real ones are imported."""
    for name in script_mode.containers.PACKAGES:
        (tmp_path / "site" / name).mkdir(parents=True)
        (tmp_path / "site" / name / "__init__.py").touch()
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    assert script_mode.stand_ins(tmp_path / "scratch") == []
    assert not (tmp_path / "scratch").exists()


@pytest.mark.parametrize(("hosts", "program"), [(1, "/bin/mpirun"), (2, sys.executable)])
def test_mpi(job, tmp_path, monkeypatch, hosts, program):
    """On one host mpirun runs the script, and says why it failed; on several, each is started."""
    monkeypatch.setattr(mpi.shutil, "which", lambda name: f"/bin/{name}")
    parameters = {**job.hyperparameters, "sagemaker_mpi_enabled": True}
    job = job._replace(hyperparameters=parameters, hosts=job.hosts[:hosts])
    command = script_mode.command(job, {}, [], tmp_path)
    assert command.words[0] == program
    assert (command.reason is mpi.reason) is (hosts == 1)
    if hosts == 1:
        assert command.words[1:3] == ["--host", "localhost:1"]
