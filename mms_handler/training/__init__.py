"""The training contract: one host's part of a job, from its inputs to what it leaves.

Only ``contract``, which calls the script, needs mxnet; it runs in a process of its own.
"""

from __future__ import annotations

from mms_handler.training.job import Job, Options, hyperparameter, hyperparameters, read
from mms_handler.training.run import Stopped, run, run_local_hosts

__all__ = [
    "Job",
    "Options",
    "Stopped",
    "hyperparameter",
    "hyperparameters",
    "read",
    "run",
    "run_local_hosts",
]
