"""A legacy script: a separate process calls ``train``, then ``save`` or the default save.

hyperparameters, channels, hosts ──▶ train(**kwargs) ──▶ model ──save──▶ model_dir
"""

from __future__ import annotations

import inspect
import json
import signal
import sys
import traceback
from pathlib import Path
from types import ModuleType
from typing import Any, Mapping, Sequence

from mms_handler.errors import HandlerError, TrainingError, cause
from mms_handler.mxnet_import import fast_import
from mms_handler.script import containers
from mms_handler.script.load import add_to_path, import_script
from mms_handler.training import source
from mms_handler.training.arguments import check_required, keyword_arguments, select
from mms_handler.training.job import Job
from mms_handler.training.supervise import Command

# --- in mms-handler train --------------------------------------------------------------------


def command(
    job: Job, environment: Mapping[str, str], folders: Sequence[Path], scratch: Path
) -> Command:
    """The command whose process calls the script's ``train``.

    Args:
        job: this host's part.
        environment: of this process.
        folders: to import from, after the script's own folder.
        scratch: an empty folder, for the files that pass on the job and a failure.

    Raises:
        TrainingError: ``train`` requires a parameter that it would not be called with.

    Source: CONTRACT A1, for the variables.
    """
    check_required(source.required_parameters(job.entry_point) or ())
    (scratch / "job.json").write_text(job.to_json())
    words = [sys.executable, "-m", "mms_handler", "train-here", str(scratch), *map(str, folders)]
    variables = {
        "JOB_NAME": job.name(environment),
        "CURRENT_HOST": job.current_host,
        "SAGEMAKER_REGION": job.region(environment),
        "PYTHONUNBUFFERED": "1",  # prints appear at once, even if the process is killed later
    }
    return Command(words, variables, cwd=Path.cwd(), report=scratch / "report.json")


# --- in the process of that command ----------------------------------------------------------


def main(scratch: Path, folders: Sequence[Path]) -> int:
    """Train in this process, with the job that ``command`` wrote; returns the exit code."""
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    job = Job.from_json((scratch / "job.json").read_text())
    try:
        train(job, folders)
    except BaseException as exc:
        if not isinstance(exc, HandlerError):
            traceback.print_exc()
        line = str(exc) if isinstance(exc, HandlerError) else cause(exc, str(job.code_dir))
        report = {"line": line, "details": traceback.format_exc()}
        (scratch / "report.json").write_text(json.dumps(report))
        return 1
    return 0


def train(job: Job, folders: Sequence[Path] = ()) -> Any:
    """Call the script's ``train``, and save what it returns to the job's model_dir.

    Args:
        job: this host's part.
        folders: for ``sys.path``, after the script's own folder.

    Returns:
        What the script's ``train`` returned.

    Raises:
        TrainingError: the job cannot start, or its result cannot be saved.
        ModelError: the default save cannot write what ``train`` returned.
        Exception: from the script.

    Source: the developer guide, "training code interface".
    """
    # Only this process needs mxnet.  It is imported before the script's folder is on sys.path,
    # where a file could take the place of one of its modules.
    with fast_import():
        from mms_handler import models

    job.check()
    arguments = keyword_arguments(job)
    job.model_dir.mkdir(parents=True, exist_ok=True)
    job.output_data_dir.mkdir(parents=True, exist_ok=True)
    add_to_path(folders)
    containers.install()
    script = import_script(job.entry_point)
    function = getattr(script, "train", None)
    if not callable(function):
        raise TrainingError(f"{job.entry_point.name} defines no function train()")
    arguments = select(function, arguments)
    with models.recorded_shapes() as recorded:
        model = function(**arguments)
    if model is not None:
        _save(script, model, job, recorded)
    return model


def _save(script: ModuleType, model: Any, job: Job, recorded: Any) -> None:
    """Call the script's ``save`` on every host, or the default save on the first host alone."""
    from mms_handler import models

    save = getattr(script, "save", None)
    if save is not None and getattr(save, "__module__", "") != containers.__name__:
        folder = str(job.model_dir.resolve())
        names = list(inspect.signature(save).parameters)
        folder_first = names[:1] == ["model_dir"] and len(names) > 1  # the guide has it second
        save(*((folder, model) if folder_first else (model, folder)))
    elif job.current_host == job.first_host:
        models.save(model, job.model_dir, recorded.shapes(model))
