"""Call the script's ``train``, then its ``save`` or the default one, in this process.

hyperparameters, channels, hosts ──▶ train(**kwargs) ──▶ model ──save──▶ model_dir
"""

from __future__ import annotations

import inspect
import multiprocessing
from pathlib import Path
from types import ModuleType
from typing import Any, Callable, Mapping, Sequence

from mms_handler import models
from mms_handler.errors import TrainingError
from mms_handler.script import containers
from mms_handler.script.load import add_to_path, import_script
from mms_handler.training.job import FILE_MODE, Job, gpu_count
from mms_handler.training.mode import NINE, check_required


def train(job: Job, also: Sequence[Path] = ()) -> Any:
    """Run ``job``: its model_dir then holds what the script, or the default save, wrote.

    Args:
        job: this host's part.
        also: folders for ``sys.path`` behind the script's own.

    Returns:
        What the script's ``train`` returned.

    Raises:
        TrainingError: the job cannot start, or its result cannot be saved.
        ModelError: the default save was given something it cannot write.
        Exception: the script's own.

    Source: the developer guide, "training code interface".
    """
    job.check()
    given = arguments(job)
    job.model_dir.mkdir(parents=True, exist_ok=True)
    job.output_data_dir.mkdir(parents=True, exist_ok=True)
    add_to_path(also)
    containers.install()
    module = import_script(job.entry_point)
    func = getattr(module, "train", None)
    if not callable(func):
        raise TrainingError(f"{job.entry_point.name} defines no function train")
    matched = matching(func, given)
    with models.recorded_shapes() as watched:
        model = func(**matched)
    if model is not None:
        _save(module, model, job, watched)
    return model


def arguments(job: Job) -> dict[str, Any]:
    """The nine keyword arguments of the contract, by name.

    Source: the developer guide, ``train``; CONTRACT A2.
    """
    config = job.input_data_config
    values: tuple[Any, ...] = (
        dict(job.hyperparameters),
        dict(config) if config is not None else {name: dict(FILE_MODE) for name in job.channels},
        {name: str(path.resolve()) for name, path in job.channels.items()},
        str(job.output_data_dir.resolve()),
        str(job.model_dir.resolve()),
        gpu_count(),
        multiprocessing.cpu_count(),
        list(job.hosts),
        job.current_host,
    )
    return dict(zip(NINE, values))


def matching(func: Callable[..., Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """The part of ``given`` that ``func`` has parameters for; all of it for ``**kwargs``.

    Raises:
        TrainingError: a parameter without a default is not in ``given``; names it.
    """
    parameters = inspect.signature(func).parameters.values()
    taken = [p for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    missing = [p.name for p in taken if p.name not in given and p.default is p.empty]
    check_required(missing + [p.name for p in parameters if p.kind is p.POSITIONAL_ONLY])
    if any(p.kind is p.VAR_KEYWORD for p in parameters):
        return dict(given)
    return {p.name: given[p.name] for p in taken if p.name in given}


def _save(module: ModuleType, model: Any, job: Job, watched: Any) -> None:
    """The script's save on every host; the default one on the first host alone."""
    save = getattr(module, "save", None)
    if save is not None and getattr(save, "__module__", "") != containers.__name__:
        _call_save(save, model, str(job.model_dir.resolve()))
    elif job.current_host == job.first_host:
        models.save(model, job.model_dir, watched.shapes(model))


def _call_save(save: Callable[..., Any], model: Any, model_dir: str) -> None:
    """Pass the folder to the parameter called model_dir, else as the guide has it: second."""
    names = list(inspect.signature(save).parameters)
    if names[:1] == ["model_dir"] and len(names) > 1:
        save(model_dir, model)
    else:
        save(model, model_dir)
