"""The training contract: call the script's ``train``, then its ``save`` or the default one.

hyperparameters, channels, hosts ──▶ train(**kwargs) ──▶ model ──save──▶ model_dir
"""

from __future__ import annotations

import inspect
import json
import multiprocessing
import subprocess
from pathlib import Path
from types import ModuleType
from typing import Any, Callable, Mapping, NamedTuple

from mms_handler import models, script
from mms_handler.errors import TrainingError


class Job(NamedTuple):
    """One host's part of a training, with what SageMaker tells a script about it."""

    entry_point: Path  # the script
    hyperparameters: Mapping[str, Any]
    channels: Mapping[str, Path]  # name to folder
    model_dir: Path
    output_data_dir: Path
    hosts: tuple[str, ...] = ("algo-1",)
    current_host: str = "algo-1"


def train(job: Job) -> Any:
    """Run ``job``: its model_dir then holds what the script, or the default save, wrote.

    Returns:
        What the script's ``train`` returned.

    Raises:
        TrainingError: the job cannot start, or its result cannot be saved.
        ModelError: the default save was given something that is no Module.
        Exception: the script's own.

    Source: the developer guide, "training code interface".
    """
    _check(job)
    given = arguments(job)
    job.model_dir.mkdir(parents=True, exist_ok=True)
    job.output_data_dir.mkdir(parents=True, exist_ok=True)
    module = script.load(job.entry_point)
    func = getattr(module, "train", None)
    if not callable(func):
        raise TrainingError(f"{job.entry_point.name} defines no function train")
    model = func(**matching(func, given))
    if model is not None:
        _save(module, model, job)
    return model


def arguments(job: Job) -> dict[str, Any]:
    """The nine keyword arguments of the contract, by name.

    Source: the developer guide, ``train``; CONTRACT A2.
    """
    return {
        "hyperparameters": dict(job.hyperparameters),
        "input_data_config": {
            name: {
                "TrainingInputMode": "File",
                "S3DistributionType": "FullyReplicated",
                "RecordWrapperType": "None",
            }
            for name in job.channels
        },
        "channel_input_dirs": {name: str(path.resolve()) for name, path in job.channels.items()},
        "output_data_dir": str(job.output_data_dir.resolve()),
        "model_dir": str(job.model_dir.resolve()),
        "num_gpus": gpu_count(),
        "num_cpus": multiprocessing.cpu_count(),
        "hosts": list(job.hosts),
        "current_host": job.current_host,
    }


def matching(func: Callable[..., Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """The part of ``given`` that ``func`` has parameters for; all of it for ``**kwargs``.

    Raises:
        TrainingError: a parameter without a default is not in ``given``; names it.
    """
    parameters = inspect.signature(func).parameters.values()
    taken = [p for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    missing = [p.name for p in taken if p.name not in given and p.default is p.empty]
    missing += [p.name for p in parameters if p.kind is p.POSITIONAL_ONLY]
    if missing:
        raise TrainingError(
            f"train wants {', '.join(missing)}, which nothing passes; passed are {', '.join(given)}"
        )
    if any(p.kind is p.VAR_KEYWORD for p in parameters):
        return dict(given)
    return {p.name: given[p.name] for p in taken if p.name in given}


def hyperparameter(text: str) -> Any:
    """A hyperparameter's value: decoded where ``text`` is JSON, else ``text`` itself.

    Source: CONTRACT A2; the SDK writes every value as JSON, people write ``adam``.
    """
    try:
        return json.loads(text)
    except ValueError:
        return text


def hyperparameters(path: Path) -> dict[str, Any]:
    """Read a hyperparameters.json: an object whose texts are JSON where they can be.

    Raises:
        TrainingError: it is not an object of JSON.
    """
    try:
        read = json.loads(path.read_text())
    except (OSError, ValueError) as exc:
        raise TrainingError(f"hyperparameters cannot be read from {path}: {exc}") from exc
    if not isinstance(read, dict):
        raise TrainingError(f"{path} holds a {type(read).__name__}, not an object of names")
    return {k: hyperparameter(v) if isinstance(v, str) else v for k, v in read.items()}


def gpu_count() -> int:
    """GPUs of this host, as ``nvidia-smi`` lists them; 0 without it."""
    try:
        listed = subprocess.run(
            ["nvidia-smi", "--list-gpus"], capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return 0
    return sum(line.startswith("GPU ") for line in listed.stdout.splitlines())


def _check(job: Job) -> None:
    if not job.entry_point.is_file():
        raise TrainingError(f"there is no script {job.entry_point}")
    for name, folder in job.channels.items():
        if not folder.is_dir():
            raise TrainingError(f"channel {name}: there is no folder {folder}")
    if job.current_host not in job.hosts:
        raise TrainingError(f"host {job.current_host} is not among {', '.join(job.hosts)}")


def _save(module: ModuleType, model: Any, job: Job) -> None:
    """The script's save on every host; the default one on the first host alone."""
    save = getattr(module, "save", None)
    if save is not None:
        _call_save(save, model, str(job.model_dir.resolve()))
    elif job.current_host == sorted(job.hosts)[0]:
        models.save(model, job.model_dir)


def _call_save(save: Callable[..., Any], model: Any, model_dir: str) -> None:
    """Pass the folder to the parameter called model_dir, else as the guide has it: second."""
    names = [name for name in inspect.signature(save).parameters if name != "self"]
    if names[:1] == ["model_dir"] and len(names) > 1:
        save(model_dir, model)
    else:
        save(model, model_dir)
