"""What a script-mode script is run with: its command, its variables, its folder.

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
from mms_handler.script import containers
from mms_handler.training.job import FILE_MODE, Job

_PREFIX = "sagemaker_"
_TUNING = "_tuning_objective_metric"

#: SageMaker's own hyperparameters that every framework has; SM_FRAMEWORK_PARAMS has the others.
_COMMON = frozenset(
    f"{_PREFIX}{name}"
    for name in (
        "container_log_level enable_cloudwatch_metrics job_name program region s3_output "
        "submit_directory"
    ).split()
)

#: What a script prints is seen at once, and before what kills it, as in SageMaker's images.
_SEEN = {"PYTHONUNBUFFERED": "1"}


# --- the command -----------------------------------------------------------------------------


def command(entry_point: Path, code_dir: Path, hyperparameters: Mapping[str, Any]) -> list[str]:
    """How the script is run, with ``code_dir`` as working directory.

    Args:
        entry_point: a ``.py`` file, a module of the package that ``code_dir``/setup.py makes, or
            any program; a program is made executable, as the originals did.
        code_dir: the folder of the code.
        hyperparameters: those of SageMaker may be among them.

    Source: CONTRACT A7.
    """
    name, said = _name(entry_point, code_dir), arguments(hyperparameters)
    if not name.endswith(".sh") and (code_dir / "setup.py").is_file():
        return [sys.executable, "-m", _module_name(name).replace("/", "."), *said]
    if name.endswith(".py"):
        return [sys.executable, name, *said]
    _make_executable(entry_point)
    program = name if os.path.isabs(name) else f"./{name}"
    return ["/bin/sh", "-c", " ".join(map(shlex.quote, [program, *said]))]


def arguments(hyperparameters: Mapping[str, Any]) -> list[str]:
    """The user's hyperparameters as words of a command line, by name.

    Source: CONTRACT A7, ``to_cmd_args``.
    """
    own = _own(hyperparameters)
    pairs = [(f"--{k}" if len(k) > 1 else f"-{k}", _word(own[k])) for k in sorted(own)]
    return [word for pair in pairs for word in pair]


def _word(value: Any) -> str:
    if isinstance(value, Mapping):
        return ",".join(f"{name}={value[name]}" for name in sorted(value))
    return "" if value is None else str(value)


def _own(hyperparameters: Mapping[str, Any]) -> dict[str, Any]:
    """Those that are not SageMaker's."""
    return {
        name: value
        for name, value in hyperparameters.items()
        if name and not name.startswith(_PREFIX) and name != _TUNING
    }


def _name(entry_point: Path, code_dir: Path) -> str:
    """The script as ``code_dir`` sees it."""
    try:
        return entry_point.resolve().relative_to(code_dir.resolve()).as_posix()
    except ValueError:
        return str(entry_point.resolve())


def _module_name(name: str) -> str:
    return name[: -len(".py")] if name.endswith(".py") else name


def _make_executable(path: Path) -> None:
    if not os.access(path, os.X_OK):
        with contextlib.suppress(OSError):  # not there, or not ours: the shell will say so
            path.chmod(path.stat().st_mode | 0o111)


# --- the variables ---------------------------------------------------------------------------


def variables(
    job: Job, environment: Mapping[str, str], also: Sequence[Path] = (), *, num_gpus: int
) -> dict[str, str]:
    """The variables that a script-mode script is run with, beside those of ``environment``.

    Args:
        job: this host's part.
        environment: this process's; the PYTHONPATH in it is kept.
        also: folders to import from, behind the script's own.
        num_gpus: of this host.

    Returns:
        SM_*, as texts: lists and dicts as compact JSON with sorted keys, None as ''; and
        SAGEMAKER_JOB_NAME, CURRENT_HOST, SAGEMAKER_REGION, PYTHONPATH, PYTHONUNBUFFERED.

    Raises:
        TrainingError: a hyperparameter or channel cannot be a variable.

    Source: CONTRACT A7, ``to_env_vars``.
    """
    told = _told(job, environment, num_gpus)
    name, host, region = _place(job, environment)
    rest = [environment["PYTHONPATH"]] if environment.get("PYTHONPATH") else []
    path = [str(job.code_dir.resolve()), *map(str, also), *rest]
    return {
        **_checked({f"SM_{key}".upper(): _text(value) for key, value in told.items()}),
        "SAGEMAKER_JOB_NAME": name,
        "CURRENT_HOST": host,
        "SAGEMAKER_REGION": region,
        "PYTHONPATH": os.pathsep.join(path),
        **_SEEN,
    }


def legacy_variables(job: Job, environment: Mapping[str, str]) -> dict[str, str]:
    """The variables that a legacy script finds, beside those of ``environment``.

    Source: CONTRACT A1.
    """
    name, host, region = _place(job, environment)
    return {"JOB_NAME": name, "CURRENT_HOST": host, "SAGEMAKER_REGION": region, **_SEEN}


def _place(job: Job, environment: Mapping[str, str]) -> tuple[str, str, str]:
    """The job's name, this host's, and the region; '' for what nobody says."""
    given = job.hyperparameters
    regions = ("SAGEMAKER_REGION", "AWS_REGION", "AWS_DEFAULT_REGION")
    here = next((environment[one] for one in regions if environment.get(one)), "")
    name = given.get(f"{_PREFIX}job_name") or environment.get("TRAINING_JOB_NAME", "")
    return str(name), job.current_host, str(given.get(f"{_PREFIX}region") or here)


def _told(job: Job, environment: Mapping[str, str], num_gpus: int) -> dict[str, Any]:
    """What the SM_* tell, by their names without SM_."""
    about = _about(job, num_gpus)
    folders, own = about["channel_input_dirs"], about["hyperparameters"]
    whole = {
        **about,
        "is_master": job.current_host == job.hosts[0],
        "job_name": _place(job, environment)[0] or None,
        "master_hostname": job.hosts[0],
    }
    renamed = ("hyperparameters", "additional_framework_parameters", "channel_input_dirs")
    return {
        **{name: value for name, value in about.items() if name not in renamed},
        "hps": own,
        "framework_params": about["additional_framework_parameters"],
        "channels": sorted(folders),
        "user_args": arguments(own),
        "training_env": whole,
        **{f"channel_{name}": folder for name, folder in folders.items()},
        **{f"hp_{name}": value for name, value in own.items()},
    }


def _about(job: Job, num_gpus: int) -> dict[str, Any]:
    """The training environment, under the names that SM_TRAINING_ENV has for it."""
    base, given = job.base_dir.resolve(), job.hyperparameters
    name = _name(job.entry_point, job.code_dir)
    hosts = list(job.hosts)
    return {
        "additional_framework_parameters": _framework(given),
        "channel_input_dirs": _channels(job),
        "current_host": job.current_host,
        "framework_module": "sagemaker_mxnet_container.training:main",
        "hosts": hosts,
        "hyperparameters": _own(given),
        "input_config_dir": str(base / "input" / "config"),
        "input_data_config": _input_data_config(job),
        "input_dir": str(base / "input"),
        "log_level": given.get(f"{_PREFIX}container_log_level", 20),
        "model_dir": str(job.model_dir.resolve()),
        "module_dir": str(given.get(f"{_PREFIX}submit_directory", job.code_dir.resolve())),
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


def _framework(hyperparameters: Mapping[str, Any]) -> dict[str, Any]:
    """SageMaker's hyperparameters for this framework alone: whether there is a parameter server."""
    return {
        name: value
        for name, value in hyperparameters.items()
        if name.startswith(_PREFIX) and name not in _COMMON
    }


def _input_data_config(job: Job) -> dict[str, Any]:
    if job.input_data_config is None:
        return {name: dict(FILE_MODE) for name in job.channels}
    return dict(job.input_data_config)


def _channels(job: Job) -> dict[str, str]:
    """The folders of the channels; in PIPE mode, what the pipes' names begin with."""
    data = job.base_dir.resolve() / "input" / "data"
    folders = {name: str(data / name) for name in _input_data_config(job)}
    return {**folders, **{name: str(path.resolve()) for name, path in job.channels.items()}}


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    return "" if value is None else json.dumps(value, sort_keys=True, separators=(",", ":"))


def _checked(told: dict[str, str]) -> dict[str, str]:
    """``told``, if a process can be given it."""
    for name, value in told.items():
        if "=" in name or "\0" in name + value:
            raise TrainingError(f"{name!r} cannot be a variable: it has a '=', or a zero byte")
    return told


# --- the old containers' modules ---------------------------------------------------------------


def stand_ins(folder: Path) -> list[Path]:
    """Folders to import the old containers' modules from, in a process that is not ours.

    Args:
        folder: those modules that are not installed are written here.

    Source: CONTRACT A7; scripts import ``training_utils`` at their top.
    """
    missing = [name for name in containers.PACKAGES if not _is_installed(name)]
    for name in missing:
        (folder / name).mkdir(parents=True)
        (folder / name / "__init__.py").write_text("from . import training_utils\n")
        utils = f"from {containers.__name__} import save, scheduler_host\n"
        (folder / name / "training_utils.py").write_text(utils)
    return [folder] if missing else []


def _is_installed(name: str) -> bool:
    """Whether there is such a package, whatever stands in for it in this process."""
    return importlib.machinery.PathFinder.find_spec(name) is not None
