"""The command ``mms-handler``: words to calls, results to lines and exit codes.

0: done.  1: it failed, and one line says why.  2: wrong usage.  The only place that prints.
What a command needs is imported inside it, so that ``--help`` does not wait for mxnet.
"""

from __future__ import annotations

from mms_handler.cli import archives, asking, serving, train
from mms_handler.cli.command import group, main

__all__ = ["archives", "asking", "group", "main", "serving", "train"]
