"""The variables that every script's process gets, in legacy and in script mode."""

from __future__ import annotations

from typing import Mapping

from mms_handler.training.job import Job


def shared_variables(job: Job, environment: Mapping[str, str]) -> dict[str, str]:
    """The variables of the script's process, whatever its mode.

    SM_CHECKPOINT_DIR and SM_SEED are this package's own: SageMaker has no variables for them.

    Args:
        job: this host's part.
        environment: of this process.
    """
    seeds = {} if job.seed is None else dict.fromkeys(("SM_SEED", "PYTHONHASHSEED"), str(job.seed))
    return {
        "CURRENT_HOST": job.current_host,
        "SAGEMAKER_REGION": job.region(environment),
        "SM_CHECKPOINT_DIR": str(job.checkpoint_dir.resolve()),
        "PYTHONUNBUFFERED": "1",  # prints appear at once, even if the process is killed later
        **seeds,
    }
