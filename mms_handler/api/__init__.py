"""The public Python API, behind ``import mms_handler``.  It runs what ``mms-handler`` runs."""

from __future__ import annotations

from mms_handler.api.checking import check
from mms_handler.api.commands import pack, serve, train
from mms_handler.api.model import Model, load

__all__ = ["Model", "check", "load", "pack", "serve", "train"]
