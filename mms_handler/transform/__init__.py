"""Batch transform: the records of files go through a model, and its replies into files.

    inputs ─cutting─▶ parts ─executor─▶ done parts ─job─▶ journal ─▶ outputs
                               │  ▲
                            a worker: answering, with a model here (local) or a server (remote)

A part is a value, and a worker turns it into another one, wherever it runs.  The job keeps their
order, and what is done when it is stopped.
"""

from __future__ import annotations

from mms_handler.transform.part import DonePart, Options, Part, RecordError, Worker
from mms_handler.transform.report import Report
from mms_handler.transform.run import transform

__all__ = ["DonePart", "Options", "Part", "RecordError", "Report", "Worker", "transform"]
