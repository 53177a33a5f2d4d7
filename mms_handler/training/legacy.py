"""A legacy script: a separate process calls ``train``, then ``save`` or the default save.

hyperparameters, channels, hosts ──▶ train(**kwargs) ──▶ model ──save──▶ model_dir
"""

from __future__ import annotations

import contextlib
import faulthandler
import importlib
import inspect
import logging
import os
import signal
import sys
import traceback
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any, Callable, Mapping, Sequence

from mms_handler.causes import cause
from mms_handler.errors import HandlerError, TrainingError
from mms_handler.mxnet_import import fast_import
from mms_handler.script import containers
from mms_handler.script.load import add_to_path, import_script
from mms_handler.script.report import end_now, enter_phase, record_stacks, write_report
from mms_handler.script.seeds import seed_generators
from mms_handler.training import script_mode
from mms_handler.training.arguments import keyword_arguments, select
from mms_handler.training.job import Job
from mms_handler.training.sigterm import Terminated, exit_at_sigterm
from mms_handler.training.supervise import Command
from mms_handler.training.variables import shared_variables

log = logging.getLogger(__name__)

#: The legacy containers' (container_support/environment.py).
_LOG_FORMAT = "%(asctime)s %(levelname)s - %(name)s - %(message)s"

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

    Source: CONTRACT A1, for the variables.
    """
    (scratch / "job.json").write_text(job.to_json())
    words = [sys.executable, "-m", "mms_handler", "train-here", str(scratch), *map(str, folders)]
    folders_and_pipes = script_mode.channel_input_dirs(job)
    variables = {
        # channel_input_dirs, a parameter of train, has no channels in PIPE mode.
        **{
            f"SM_CHANNEL_{name}".upper(): folders_and_pipes[name]
            for name in folders_and_pipes.keys() - job.channels.keys()
        },
        "JOB_NAME": job.name(environment),
        **shared_variables(job, environment),
    }
    report = scratch / "report.json"
    return Command(words, variables, Path.cwd(), job.code_dir, report, reports_success=True)


# --- in the process of that command ----------------------------------------------------------


def main(scratch: Path, folders: Sequence[Path]) -> int:
    """Train in this process, with the job that ``command`` wrote; returns 0.

    If training fails, the report is written and the process ends at once, with exit code 1.  To
    return would free the script's KVStore, which waits for the other hosts, while they wait for
    this one (KVStore::Barrier in its destructor).
    """
    exit_at_sigterm()
    os.register_at_fork(after_in_child=lambda: signal.signal(signal.SIGTERM, signal.SIG_DFL))
    job, report = Job.from_json((scratch / "job.json").read_text()), scratch / "report.json"
    record_stacks(scratch)
    enter_phase(scratch, "starting the script")
    try:
        logging.basicConfig(level=log_level(job), format=_LOG_FORMAT)
        train(job, folders, lambda name: enter_phase(scratch, name))
    except BaseException as exc:
        stack = "".join(traceback.format_exception(type(exc), exc, _of_script(exc)))
        if not isinstance(exc, (HandlerError, Terminated)):
            with contextlib.suppress(OSError, ValueError):  # the script has closed it
                sys.stderr.write(stack)
        line = str(exc) if isinstance(exc, HandlerError) else cause(exc, str(job.code_dir))
        write_report(report, line, stack)
        end_now(1)
    report.touch()
    return 0


def _of_script(exc: BaseException) -> TracebackType | None:
    """The traceback of ``exc`` without this file's frames; all of it if there are no others."""
    frames = exc.__traceback__
    while frames and frames.tb_frame.f_code.co_filename == __file__:
        frames = frames.tb_next
    return frames or exc.__traceback__


def log_level(job: Job) -> int:
    """The root logger's level: the hyperparameter sagemaker_container_log_level, else INFO.

    Raises:
        TrainingError: it is neither a number nor a level's name.
    """
    level = job.hyperparameters.get("sagemaker_container_log_level", logging.INFO)
    number = logging.getLevelName(level.upper()) if isinstance(level, str) else level
    if not isinstance(number, int):
        raise TrainingError(
            f"hyperparameter sagemaker_container_log_level: {level!r} is not a level of Python's "
            "logging; use a number or a name, such as 20 or INFO"
        )
    return number


def train(
    job: Job, folders: Sequence[Path] = (), enter: Callable[[str], None] = lambda name: None
) -> Any:
    """Call the script's ``train``, and save what it returns to the job's model_dir.

    Args:
        job: this host's part.
        folders: for ``sys.path``, after the script's own folder.
        enter: called with the name of each phase.

    Returns:
        What the script's ``train`` returned.

    Raises:
        TrainingError: the job cannot start, or its result cannot be saved.
        ModelError: the default save cannot write what ``train`` returned.
        Exception: from the script.

    Source: the developer guide, "training code interface".
    """
    enter("importing mxnet")
    # Only this process needs mxnet.  It is imported before the script's folder is on sys.path,
    # where a file could take the place of one of its modules.
    with fast_import():
        importlib.import_module("mms_handler.models.artifacts")
    from mms_handler import models

    faulthandler.enable()  # before MXNet's handler of SIGSEGV, which it calls afterwards

    job.check()
    arguments = keyword_arguments(job)
    job.model_dir.mkdir(parents=True, exist_ok=True)
    job.output_data_dir.mkdir(parents=True, exist_ok=True)
    above = [] if job.code_dir == job.entry_point.resolve().parent else [job.code_dir]
    add_to_path([*above, *folders])
    containers.install()
    if job.seed is not None:
        seed_generators(job.seed)
    enter("importing the script")
    script = import_script(job.entry_point)
    function = getattr(script, "train", None)
    if not callable(function):
        raise TrainingError(f"{job.entry_point.name} defines no function train()")
    arguments = select(function, arguments)
    enter("train")
    with models.recorded_shapes() as recorded:
        model = function(**arguments)
    if model is not None:
        enter("save")
        _save(script, model, job, recorded)
        if job.current_host == job.first_host and not any(job.model_dir.iterdir()):
            log.warning(
                "%s: train returned a %s, but nothing was saved to the model's folder %s",
                job.entry_point.name,
                type(model).__name__,
                job.model_dir,
            )
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
