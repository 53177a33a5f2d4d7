"""Run a script in several processes of this host, with Open MPI's mpirun."""

from __future__ import annotations

import argparse
import shlex
import shutil
from typing import Sequence

from mms_handler.errors import TrainingError
from mms_handler.training.job import Job


def under_mpirun(job: Job, command: Sequence[str]) -> list[str]:
    """The words that run ``command`` in as many processes as the hyperparameters say, by default 1.

    Raises:
        TrainingError: the job has several hosts, mpirun is not installed, or a hyperparameter
            is invalid.
    """
    if len(job.hosts) > 1:
        raise TrainingError(
            f"MPI on {len(job.hosts)} hosts needs an sshd on each host, which mms-handler does "
            "not start; use one host with several processes"
        )
    count = job.whole_number("sagemaker_mpi_num_of_processes_per_host", 1)
    options = str(job.hyperparameters.get("sagemaker_mpi_custom_mpi_options", ""))
    # Always localhost, so that mpirun need not resolve the host's own name.
    return mpirun(["localhost"], count, options, command)


def mpirun(
    hosts: Sequence[str],
    processes_per_host: int,
    options: str,
    command: Sequence[str],
    variables: Sequence[str] = (),
) -> list[str]:
    """The command line that runs ``command`` on all hosts.

    Args:
        hosts: names; mpirun reaches other hosts by ssh.
        processes_per_host: 1 or more.
        options: further options of mpirun, quoted as for a shell
            (``sagemaker_mpi_custom_mpi_options``).
        command: what each process runs.
        variables: variables that processes on other hosts get too: NAME, or NAME=VALUE.

    Raises:
        TrainingError: mpirun is not installed, or a quote in the options is not closed.
    """
    program = shutil.which("mpirun")
    if program is None:
        raise TrainingError("mpirun is not installed: apt-get install openmpi-bin")
    try:
        custom = shlex.split(options)
    except ValueError as exc:
        raise TrainingError(
            f"sagemaker_mpi_custom_mpi_options are not valid options of mpirun: {options!r}: {exc}"
        ) from exc
    # SageMaker's toolkit takes this one for itself; mpirun knows no such option.
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--NCCL_DEBUG", nargs="?")
    toolkit, custom = parser.parse_known_args(custom)
    if toolkit.NCCL_DEBUG:
        variables = [*variables, f"NCCL_DEBUG={toolkit.NCCL_DEBUG}"]
    places = ",".join(f"{host}:{processes_per_host}" for host in hosts)
    count = str(len(hosts) * processes_per_host)
    exported = [word for name in variables for word in ("-x", name)]
    # mpirun would bind each process to one core, on which all threads of MXNet would then run.
    fixed = ["--allow-run-as-root", "--tag-output", "--bind-to", "none", "--map-by", "slot"]
    fixed += ["-mca", "orte_abort_on_non_zero_status", "1"]
    return [program, "--host", places, "-np", count, *fixed, *exported, *custom, *command]
