"""Training: run one host's part of a job, from its inputs to what it leaves behind.

read_job ──▶ Job ──▶ run ──▶ model_dir, BASE/output/success or failure

mxnet is imported only in the process that calls a legacy script (``legacy``).
"""

from __future__ import annotations

from mms_handler.training.job import (
    Job,
    Options,
    decode_hyperparameters,
    read_hyperparameters,
    read_job,
)
from mms_handler.training.local_hosts import run_local_hosts
from mms_handler.training.run import run
from mms_handler.training.supervise import Stopped

__all__ = [
    "Job",
    "Options",
    "Stopped",
    "decode_hyperparameters",
    "read_hyperparameters",
    "read_job",
    "run",
    "run_local_hosts",
]
