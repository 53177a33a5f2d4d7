"""The public Python API, behind ``import mms_handler``.  It runs what ``mms-handler`` runs."""

from __future__ import annotations

from mms_handler.api.checking import check
from mms_handler.api.commands import pack, serve, train
from mms_handler.api.diagnosis import doctor
from mms_handler.api.management import Management
from mms_handler.api.model import Model, load
from mms_handler.api.starting import init

__all__ = ["Management", "Model", "check", "doctor", "init", "load", "pack", "serve", "train"]
