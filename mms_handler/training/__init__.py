"""Training: run one host's part of a job, from its inputs to its results.

read_job ──▶ Job ──▶ run ──▶ model_dir, BASE/output/success or failure

Only the process that calls a legacy script (``legacy``) imports mxnet.
"""

from __future__ import annotations

from mms_handler.training.job import (
    Job,
    JobOptions,
    decode_hyperparameters,
    read_hyperparameters,
    read_job,
)
from mms_handler.training.local_hosts import run_local_hosts
from mms_handler.training.outcome import recorded
from mms_handler.training.run import run
from mms_handler.training.supervise import Stopped

__all__ = [
    "Job",
    "JobOptions",
    "Stopped",
    "decode_hyperparameters",
    "read_hyperparameters",
    "read_job",
    "recorded",
    "run",
    "run_local_hosts",
]
