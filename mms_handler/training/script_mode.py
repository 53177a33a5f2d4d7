"""A script-mode script: its command line, its variables and its working directory.

hyperparameters ──▶ python SCRIPT --epochs 3 ...      SM_HOSTS, SM_CHANNEL_TRAIN, ...      code_dir
"""

from __future__ import annotations

import contextlib
import importlib.machinery
import json
import multiprocessing
import os
import shlex
import sys
from pathlib import Path
from typing import Any, Mapping, Sequence

from mms_handler.errors import TrainingError
from mms_handler.script import containers, run
from mms_handler.training import mpi
from mms_handler.training.arguments import host_gpu_count, input_data_config
from mms_handler.training.job import Job
from mms_handler.training.supervise import Command
from mms_handler.training.variables import shared_variables

_PREFIX = "sagemaker_"
_TUNING_METRIC = "_tuning_objective_metric"

#: SageMaker's hyperparameters for every framework.  SM_FRAMEWORK_PARAMS has its other ones.
_COMMON = frozenset(
    f"{_PREFIX}{name}"
    for name in (
        "container_log_level enable_cloudwatch_metrics job_name program region s3_output "
        "submit_directory"
    ).split()
)


def command(
    job: Job, environment: Mapping[str, str], folders: Sequence[Path], scratch: Path
) -> Command:
    """The command that runs the script; with MPI on several hosts, one of its processes.

    Args:
        job: this host's part.
        environment: of this process.
        folders: to import from, after the script's own folder.
        scratch: an empty folder, for the old containers' modules.

    Raises:
        TrainingError: a hyperparameter or channel cannot be passed on, or MPI cannot be used.
    """
    report = scratch / "report.json"
    words = command_line(job.entry_point, job.code_dir, job.hyperparameters, report, seed=job.seed)
    folders = [*folders, *stand_ins(scratch)]
    gpus = host_gpu_count()
    sm_variables = variables(job, environment, folders, num_gpus=gpus)
    command = Command(words, sm_variables, job.code_dir, job.code_dir, report)
    if not mpi.enabled(job) or len(job.hosts) > 1:
        return command
    # Always localhost, so that mpirun need not resolve the host's own name.
    words = mpi.command_line(job, ["localhost"], words)
    return command._replace(words=words, reason=mpi.reason)


# --- the command line ------------------------------------------------------------------------


def command_line(
    entry_point: Path,
    code_dir: Path,
    hyperparameters: Mapping[str, Any],
    report: Path,
    *,
    seed: int | None = None,
) -> list[str]:
    """The words that run the script, with ``code_dir`` as the working directory.

    Args:
        entry_point: a ``.py`` file, a module of the package that ``code_dir``/setup.py makes, or
            any program.  A program is made executable, as the old containers did.
        code_dir: the code's folder.
        hyperparameters: SageMaker's own may be among them.
        report: the file in which a Python script's process says why it failed.
        seed: of the generators of a Python script's process; None leaves them alone.

    Source: CONTRACT A7.
    """
    seeds = [] if seed is None else [f"--seed={seed}"]
    python = [sys.executable, run.__file__, *seeds, str(report)]
    name, arguments = _script_name(entry_point, code_dir), to_arguments(hyperparameters)
    if not name.endswith(".sh") and (code_dir / "setup.py").is_file():
        return [*python, "module", _module_name(name).replace("/", "."), *arguments]
    if name.endswith(".py"):
        return [*python, "file", name, *arguments]
    if not os.access(entry_point, os.X_OK):
        with contextlib.suppress(OSError):  # missing, or another user's; the shell will report it
            entry_point.chmod(entry_point.stat().st_mode | 0o111)
    program = name if os.path.isabs(name) else f"./{name}"
    return ["/bin/sh", "-c", " ".join(map(shlex.quote, [program, *arguments]))]


def to_arguments(hyperparameters: Mapping[str, Any]) -> list[str]:
    """The user's hyperparameters as words of a command line, sorted by name.

    Source: CONTRACT A7, ``to_cmd_args``.
    """
    words = []
    for name, value in sorted(_users(hyperparameters).items()):
        words.append(f"--{name}" if len(name) > 1 else f"-{name}")
        if isinstance(value, Mapping):
            words.append(",".join(f"{key}={value[key]}" for key in sorted(value)))
        else:
            words.append("" if value is None else str(value))
    return words


def _users(hyperparameters: Mapping[str, Any]) -> dict[str, Any]:
    """The hyperparameters that are not SageMaker's own."""
    return {
        name: value
        for name, value in hyperparameters.items()
        if name and not name.startswith(_PREFIX) and name != _TUNING_METRIC
    }


def _script_name(entry_point: Path, code_dir: Path) -> str:
    """The script's path in ``code_dir``; its absolute path if it is elsewhere."""
    try:
        return entry_point.resolve().relative_to(code_dir.resolve()).as_posix()
    except ValueError:
        return str(entry_point.resolve())


def _module_name(name: str) -> str:
    return name[: -len(".py")] if name.endswith(".py") else name


# --- the variables ---------------------------------------------------------------------------


def variables(
    job: Job, environment: Mapping[str, str], folders: Sequence[Path] = (), *, num_gpus: int
) -> dict[str, str]:
    """The variables of the script's process, in addition to those of ``environment``.

    Args:
        job: this host's part.
        environment: of this process; its PYTHONPATH is kept.
        folders: to import from, after the script's own folder.
        num_gpus: of this host.

    Returns:
        SM_*, as texts: lists and dicts are compact JSON with sorted keys, None is ''.  And
        SAGEMAKER_JOB_NAME, PYTHONPATH, and the shared variables of both modes.

    Raises:
        TrainingError: a hyperparameter or channel cannot be a variable.

    Source: CONTRACT A7, ``to_env_vars``.
    """
    python_path = [str(job.code_dir.resolve()), *map(str, folders)]
    if environment.get("PYTHONPATH"):
        python_path.append(environment["PYTHONPATH"])
    texts = {}
    for key, value in _sm_values(job, environment, num_gpus).items():
        name, text = f"SM_{key}".upper(), _to_text(value)
        if "=" in name or "\0" in name + text:
            raise TrainingError(
                f"{name!r} cannot be an environment variable: "
                "its name has a '=', or it has a zero byte"
            )
        texts[name] = text
    return {
        **texts,
        "SAGEMAKER_JOB_NAME": job.name(environment),
        **shared_variables(job, environment),
        "PYTHONPATH": os.pathsep.join(python_path),
    }


def _sm_values(job: Job, environment: Mapping[str, str], num_gpus: int) -> dict[str, Any]:
    """The values of the SM_* variables, by their names without SM_."""
    training_env = _training_env(job, environment, num_gpus)
    folders, users = training_env["channel_input_dirs"], training_env["hyperparameters"]
    only_in_training_env = (
        "additional_framework_parameters",
        "channel_input_dirs",
        "hyperparameters",
        "is_master",
        "job_name",
        "master_hostname",
    )
    return {
        **{name: value for name, value in training_env.items() if name not in only_in_training_env},
        "hps": users,
        "framework_params": training_env["additional_framework_parameters"],
        "channels": sorted(folders),
        "user_args": to_arguments(users),
        "training_env": training_env,
        **{f"channel_{name}": folder for name, folder in folders.items()},
        **{f"hp_{name}": value for name, value in users.items()},
    }


def _training_env(job: Job, environment: Mapping[str, str], num_gpus: int) -> dict[str, Any]:
    """The value of SM_TRAINING_ENV."""
    base = job.base_dir.resolve()
    name = _script_name(job.entry_point, job.code_dir)
    hosts = list(job.hosts)
    return {
        "additional_framework_parameters": {
            name: value
            for name, value in job.hyperparameters.items()
            if name.startswith(_PREFIX) and name not in _COMMON
        },
        "channel_input_dirs": channel_input_dirs(job),
        "current_host": job.current_host,
        "framework_module": "sagemaker_mxnet_container.training:main",
        "hosts": hosts,
        "hyperparameters": _users(job.hyperparameters),
        "input_config_dir": str(base / "input" / "config"),
        "input_data_config": input_data_config(job),
        "input_dir": str(base / "input"),
        "is_master": job.current_host == hosts[0],
        "job_name": job.name(environment) or None,
        "log_level": job.hyperparameters.get(f"{_PREFIX}container_log_level", 20),
        "master_hostname": hosts[0],
        "model_dir": str(job.model_dir.resolve()),
        "module_dir": str(job.hyperparameters.get(f"{_PREFIX}submit_directory", job.code_dir)),
        "module_name": _module_name(name),
        "network_interface_name": job.network_interface,
        "num_cpus": multiprocessing.cpu_count(),
        "num_gpus": num_gpus,
        "output_data_dir": str(job.output_data_dir.resolve()),
        "output_dir": str(base / "output"),
        "output_intermediate_dir": str(base / "output" / "intermediate"),
        "resource_config": {
            **job.resources,
            "current_host": job.current_host,
            "hosts": hosts,
            "network_interface_name": job.network_interface,
        },
        "user_entry_point": name,
    }


def channel_input_dirs(job: Job) -> dict[str, str]:
    """The channels' folders; for a channel in PIPE mode, the prefix of its pipes' paths."""
    data = job.base_dir.resolve() / "input" / "data"
    folders = {name: data / name for name in input_data_config(job)}
    folders.update((name, folder.resolve()) for name, folder in job.channels.items())
    return {name: str(folder) for name, folder in folders.items()}


def _to_text(value: Any) -> str:
    if isinstance(value, str):
        return value
    return "" if value is None else json.dumps(value, sort_keys=True, separators=(",", ":"))


# --- the old containers' modules ---------------------------------------------------------------


def stand_ins(folder: Path) -> list[Path]:
    """Write the modules of the old containers that are not installed.

    Scripts import them at module level.  A script-mode script runs in a
    separate process, so the modules are files here, unlike those of ``containers.install``.

    Args:
        folder: where the modules go.

    Returns:
        Folders for PYTHONPATH: ``folder``, or none if all modules are installed.

    Source: CONTRACT A7.
    """
    missing = [
        name
        for name in containers.PACKAGES
        if importlib.machinery.PathFinder.find_spec(name) is None  # unlike sys.modules: on disk
    ]
    for name in missing:
        (folder / name).mkdir(parents=True)
        lines = {"": ""}
        for submodule, members in containers.PACKAGES[name].items():
            lines[""] += f"from . import {submodule}\n" if submodule else ""
            lines[submodule] = f"from {containers.__name__} import {', '.join(members)}\n"
        for submodule, text in lines.items():
            (folder / name / f"{submodule or '__init__'}.py").write_text(text)
    return [folder] if missing else []
