"""Run one host's part of a job.

job ──▶ legacy: train() and save()      ┐
    └─▶ script mode: python SCRIPT ...  ┘ ──▶ supervise.run ──▶ model_dir
"""

from __future__ import annotations

import contextlib
import logging
import socket
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
from mms_handler.training.job import Job
from mms_handler.training.mode import choose_mode
from mms_handler.training.phases import phase

log = logging.getLogger(__name__)


def run(job: Job, *, mode: str | None = None, local_port: int | None = None) -> None:
    """Run ``job`` to its end.

    Args:
        job: this host's part.
        mode: "legacy" or "script"; None decides by the script.
        local_port: the scheduler's port in a trial in which every host is 127.0.0.1; None
            resolves the hosts' names.

    Raises:
        TrainingError: the job failed.
        Stopped: this process got SIGTERM or SIGINT, and the script did not end with 0.
    """
    with phase("checking the job"):
        job.check()
        if not job.force:
            model_folder.check(job.model_dir)
        for folder in (job.output_data_dir, job.model_dir, job.checkpoint_dir):
            folder.mkdir(parents=True, exist_ok=True)
        choice = choose_mode(job.entry_point, job.hyperparameters, mode)
        log.info("%s: %s mode: %s", job.current_host, choice.name, choice.reason)
        if choice.legacy:  # before its requirements are installed
            check_required(source.required_parameters(job.entry_point) or ())
        current = settings.current()
        environment = settings.environment()
    with phase("installing requirements"):
        folders = requirements.paths(
            job.code_dir, settings.cache_folder(current), shared=current.cache_dir is not None
        )
    with phase("starting the script"), model_folder.emptied(
        job.model_dir
    ), tempfile.TemporaryDirectory(prefix="mms-handler-") as scratch:
        command_of = legacy.command if choice.legacy else script_mode.command
        command = command_of(job, environment, folders, Path(scratch))
        with phase("joining the other hosts"), contextlib.ExitStack() as stack:
            member = stack.enter_context(_cluster(job, choice.legacy, environment, local_port))
            if member and _has_mpi_on_several_hosts(job, choice.legacy):
                stack.enter_context(phase("preparing MPI"))
                folder, port = Path(scratch) / "mpi", None if local_port else _port(job) + 2
                command = stack.enter_context(mpi_hosts.spread(command, job, member, folder, port))
            supervise.run(command, environment, member, host=job.current_host, stall_s=job.stall_s)


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
    resolve = (lambda host: "127.0.0.1") if local_port else socket.gethostbyname
    with cluster.joined(
        job.hosts,
        job.current_host,
        addresses=cluster.addresses(job.hosts, resolve),
        env=environment,
        port=local_port or _port(job),
        verbose=job.whole_number("_ps_verbose", 0),
        parameter_server=server,
    ) as member:
        yield member


def _has_mpi_on_several_hosts(job: Job, legacy: bool) -> bool:
    return not legacy and mpi.enabled(job) and len(job.hosts) > 1


def _port(job: Job) -> int:
    """The first of the successive ports that hosts use for each other."""
    return job.whole_number("_ps_port", 8000)
