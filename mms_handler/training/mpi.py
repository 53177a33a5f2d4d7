"""Run a script in several processes, with Open MPI's mpirun."""

from __future__ import annotations

import argparse
import re
import shlex
import shutil
import signal
from typing import Mapping, Sequence

from mms_handler.errors import TrainingError
from mms_handler.training.job import Job


def enabled(job: Job) -> bool:
    """Whether a hyperparameter asks for MPI."""
    return bool(job.hyperparameters.get("sagemaker_mpi_enabled"))


def find() -> str:
    """The path of mpirun.

    Raises:
        TrainingError: it is not installed.
    """
    program = shutil.which("mpirun")
    if program is None:
        raise TrainingError("mpirun is not installed: apt-get install openmpi-bin")
    return program


def command_line(
    job: Job,
    hosts: Sequence[str],
    command: Sequence[str],
    mca: Mapping[str, str] = {},
    more: Sequence[str] = (),
) -> list[str]:
    """The words that run ``command`` in as many processes as the hyperparameters say, by default 1.

    Args:
        job: its hyperparameters say how many processes each host has, and further options.
        hosts: names; "localhost" is this one, whatever its name.
        command: what each process runs.
        mca: parameters of Open MPI that the job's own options may override.
        more: further options of mpirun.

    Raises:
        TrainingError: mpirun is not installed, or a hyperparameter is invalid.
    """
    processes_per_host = job.whole_number("sagemaker_mpi_num_of_processes_per_host", 1)
    options = str(job.hyperparameters.get("sagemaker_mpi_custom_mpi_options", ""))
    custom = _custom(options)
    places = ",".join(f"{host}:{processes_per_host}" for host in hosts)
    # mpirun would bind each process to one core, on which all threads of MXNet would then run.
    fixed = ["--allow-run-as-root", "--tag-output", "--bind-to", "none", "--map-by", "slot", *more]
    parameters = {"orte_abort_on_non_zero_status": "1", **mca}
    for name, value in parameters.items():
        fixed += [] if name in custom else ["-mca", name, value]
    count = str(len(hosts) * processes_per_host)
    return [find(), "--host", places, "-np", count, *fixed, *custom, *command]


def _custom(options: str) -> list[str]:
    """The words of ``sagemaker_mpi_custom_mpi_options``, quoted as for a shell."""
    try:
        words = shlex.split(options)
    except ValueError as exc:
        raise TrainingError(
            f"sagemaker_mpi_custom_mpi_options are not valid options of mpirun: {options!r}: {exc}"
        ) from exc
    # SageMaker's toolkit takes this one for itself; mpirun knows no such option.
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--NCCL_DEBUG", nargs="?")
    toolkit, custom = parser.parse_known_args(words)
    return [*(["-x", f"NCCL_DEBUG={toolkit.NCCL_DEBUG}"] if toolkit.NCCL_DEBUG else []), *custom]


_SIGNAL = re.compile(
    r"mpirun noticed that process rank (\d+) .*on node (\S+) exited on signal (\d+)"
)
_NAME = re.compile(r"\s*Process name: \[\[\d+,\d+\],(\d+)\]")
_CODE = re.compile(r"\s*Exit code: +(\d+)")


def reason(lines: Sequence[str], hosts: Sequence[str] = ()) -> str:
    """Why mpirun failed, from the lines of its standard error that are not empty.

    Args:
        lines: what it wrote.
        hosts: the hosts that mpirun knows by the job's names.
    """
    text = "\n".join(lines)
    killed, name, code = (pattern.search(text) for pattern in (_SIGNAL, _NAME, _CODE))
    if killed:
        rank = f"rank {killed[1]} on {killed[2]}" if killed[2] in hosts else f"rank {killed[1]}"
        return f"{rank} was killed by {signal.Signals(int(killed[3])).name}"
    if name and code:
        tag = f",{name[1]}]<stderr>:"
        last = [line.partition(tag)[2] for line in lines if tag in line][-1:]
        return "".join(last) or f"rank {name[1]} ended with exit code {code[1]}"
    # mpirun's own words are between rows of dashes.  What ssh says comes before.  Lines of ranks
    # and warnings begin with their origin.
    words = [line for line in lines if line.strip("-") and not line.startswith("[")]
    return (words or lines)[0]
