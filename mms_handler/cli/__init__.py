"""The command ``mms-handler``: turns options into calls, and results into lines and exit codes.

Exit codes are 0 for success, 1 for a failure with one line about it, 2 for wrong usage.  Only this
package prints.  Commands import what they need when they run, so that ``--help`` does not wait for
mxnet.
"""

from __future__ import annotations

from mms_handler.cli import (
    archives,
    bench,
    diagnosis,
    exporting,
    invoking,
    managing,
    packing,
    replaying,
    running,
    serving,
    starting,
    train,
    transforming,
    trials,
    tune,
)
from mms_handler.cli.command import group, main

__all__ = [
    "archives",
    "bench",
    "diagnosis",
    "exporting",
    "group",
    "invoking",
    "main",
    "managing",
    "packing",
    "replaying",
    "running",
    "serving",
    "starting",
    "train",
    "transforming",
    "trials",
    "tune",
]
