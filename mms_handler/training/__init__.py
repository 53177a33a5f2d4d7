"""Training: run one host's part of a job, from its inputs to its results.

read_job ──▶ Job ──▶ run_job ──▶ model_dir, BASE/output/success or failure

Only the process that calls a legacy script (``legacy``) imports mxnet.
"""

from __future__ import annotations

from mms_handler.training.grid import points
from mms_handler.training.job import (
    Job,
    JobOptions,
    decode_hyperparameters,
    host_name,
    read_hyperparameters,
    read_job,
)
from mms_handler.training.local_hosts import run_job
from mms_handler.training.metrics import rank
from mms_handler.training.mode import choose_mode
from mms_handler.training.observer import Curve
from mms_handler.training.outcome import recorded
from mms_handler.training.phases import JobFailed, Stopped, phase
from mms_handler.training.progress import Watching, watching

__all__ = [
    "Curve",
    "Job",
    "JobFailed",
    "JobOptions",
    "Stopped",
    "Watching",
    "choose_mode",
    "decode_hyperparameters",
    "host_name",
    "phase",
    "points",
    "rank",
    "read_hyperparameters",
    "read_job",
    "recorded",
    "run_job",
    "watching",
]
