"""Run one host's part of a job.

job ──▶ legacy: train() and save()      ┐
    └─▶ script mode: python SCRIPT ...  ┘ ──▶ supervise.run ──▶ model_dir
"""

from __future__ import annotations

import contextlib
import logging
import tempfile
from pathlib import Path
from typing import Iterator, Mapping

from mms_handler import settings
from mms_handler.script import requirements
from mms_handler.training import (
    cluster,
    legacy,
    model_folder,
    mpi,
    mpi_hosts,
    script_mode,
    source,
    supervise,
)
from mms_handler.training.arguments import check_required
from mms_handler.training.before_joining import first_port, reported, resolver
from mms_handler.training.job import Job
from mms_handler.training.mode import choose_mode
from mms_handler.training.output import Output
from mms_handler.training.phases import phase

log = logging.getLogger(__name__)


def run(
    job: Job,
    *,
    mode: str | None = None,
    local_port: int | None = None,
    output: Output | None = None,
) -> None:
    """Run ``job`` to its end.

    Args:
        job: this host's part.
        mode: "legacy" or "script"; None decides by the script.
        local_port: the scheduler's port in a trial in which every host is 127.0.0.1; None
            resolves the hosts' names.
        output: passes on what the script prints; by default as it is.

    Raises:
        TrainingError: the job failed.
        Stopped: this process got SIGTERM or SIGINT, and the script did not end with 0.
    """
    with reported(job, local_port), phase("checking the job"):
        job.check()
        choice = choose_mode(job.entry_point, job.hyperparameters, mode)
        log.info("%s mode: %s", choice.name, choice.reason)
    current = settings.current()
    environment = settings.environment()
    environment["PATH"] = settings.path_of_programs(environment.get("PATH"))
    # What fails from here on is reported to the other hosts, which may wait already.
    with phase("joining the other hosts"), _cluster(
        job, choice.legacy, environment, local_port
    ) as member:
        with phase("checking the job"):
            if not job.force:
                model_folder.check(job.model_dir)
            for folder in (job.output_data_dir, job.model_dir):
                folder.mkdir(parents=True, exist_ok=True)
            _make_checkpoint_dir(job)
            if choice.legacy:  # before its requirements are installed
                check_required(source.required_parameters(job.entry_point) or ())
        with phase("installing requirements"):
            folders = requirements.paths(
                job.code_dir, settings.cache_folder(current), shared=current.cache_dir is not None
            )
        with phase("starting the script"), contextlib.ExitStack() as stack:
            stack.enter_context(model_folder.emptied(job.model_dir))
            scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="mms-handler-")))
            command_of = legacy.command if choice.legacy else script_mode.command
            command = command_of(job, environment, folders, scratch)
            if member and _has_mpi_on_several_hosts(job, choice.legacy):
                stack.enter_context(phase("preparing MPI"))
                port = None if local_port else first_port(job) + 2
                spread = mpi_hosts.spread(command, job, member, scratch / "mpi", port)
                command = stack.enter_context(spread)
            supervise.run(
                command,
                environment,
                member,
                host=job.current_host,
                stall_s=job.stall_s,
                output=output,
            )


def _make_checkpoint_dir(job: Job) -> None:
    """Make the folder for checkpoints; few scripts need it, so it may fail unless it is named."""
    try:
        job.checkpoint_dir.mkdir(parents=True, exist_ok=True)
    except OSError as exc:  # a container's root may be read-only
        if job.checkpoints:
            raise
        log.warning("%s: checkpoints cannot be saved: %s", job.current_host, exc)


@contextlib.contextmanager
def _cluster(
    job: Job, legacy: bool, environment: Mapping[str, str], local_port: int | None
) -> Iterator[cluster.Member | None]:
    """Join the other hosts, if they work together, with this host's part of the parameter server.

    Legacy scripts have one on several hosts, script-mode scripts if a hyperparameter enables it
    (CONTRACT A6).
    """
    several = legacy and len(job.hosts) > 1
    server = several or bool(job.hyperparameters.get("sagemaker_parameter_server_enabled"))
    if not (server or _has_mpi_on_several_hosts(job, legacy)):
        yield None
        return
    with cluster.joined(
        job.hosts,
        job.current_host,
        addresses=cluster.addresses(job.hosts, resolver(local_port)),
        env=environment,
        port=first_port(job, local_port),
        verbose=job.whole_number("_ps_verbose", 0),
        parameter_server=server,
    ) as member:
        yield member


def _has_mpi_on_several_hosts(job: Job, legacy: bool) -> bool:
    return not legacy and mpi.enabled(job) and len(job.hosts) > 1
