"""The nine keyword arguments of a legacy script's ``train``.

Source: the developer guide, "training code interface"; CONTRACT A2 and A3.
"""

from __future__ import annotations

import inspect
import multiprocessing
import subprocess
from typing import Any, Callable, Mapping, Sequence

from mms_handler.errors import TrainingError
from mms_handler.training.job import Job

#: The arguments' names, in the guide's order.
NAMES = (
    "hyperparameters",
    "input_data_config",
    "channel_input_dirs",
    "output_data_dir",
    "model_dir",
    "num_gpus",
    "num_cpus",
    "hosts",
    "current_host",
)

#: The configuration of a channel that inputdataconfig.json does not describe.
FILE_MODE = {
    "TrainingInputMode": "File",
    "S3DistributionType": "FullyReplicated",
    "RecordWrapperType": "None",
}


def keyword_arguments(job: Job) -> dict[str, Any]:
    """The nine arguments by name; folders are absolute paths, as texts."""
    values: tuple[Any, ...] = (
        dict(job.hyperparameters),
        input_data_config(job),
        {name: str(folder.resolve()) for name, folder in job.channels.items()},
        str(job.output_data_dir.resolve()),
        str(job.model_dir.resolve()),
        host_gpu_count(),
        multiprocessing.cpu_count(),
        list(job.hosts),
        job.current_host,
    )
    return dict(zip(NAMES, values))


def input_data_config(job: Job) -> dict[str, Any]:
    """The configuration of each channel: SageMaker's, or FILE mode."""
    return {**{name: dict(FILE_MODE) for name in job.channels}, **job.input_data_config}


def host_gpu_count() -> int:
    """The number of this host's GPUs that ``nvidia-smi`` lists; 0 without it."""
    try:
        listing = subprocess.run(
            ["nvidia-smi", "--list-gpus"], capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return 0
    return sum(line.startswith("GPU ") for line in listing.stdout.splitlines())


def select(function: Callable[..., Any], arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments that ``function`` has parameters for; all of them if it has ``**kwargs``.

    Raises:
        TrainingError: a parameter without a default is not among the arguments.
    """
    parameters = inspect.signature(function).parameters.values()
    by_name = [p for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    missing = [p.name for p in by_name if p.name not in arguments and p.default is p.empty]
    check_required(missing + [p.name for p in parameters if p.kind is p.POSITIONAL_ONLY])
    if any(p.kind is p.VAR_KEYWORD for p in parameters):
        return dict(arguments)
    return {p.name: arguments[p.name] for p in by_name if p.name in arguments}


def check_required(required: Sequence[str]) -> None:
    """Check that ``train`` requires only parameters that it is called with.

    Raises:
        TrainingError: it requires other parameters; names them.
    """
    unknown = [name for name in required if name not in NAMES]
    if unknown:
        raise TrainingError(
            f"train() requires {', '.join(unknown)}, but is called only with {', '.join(NAMES)}; "
            "use --mode script if the file trains when it is run"
        )
