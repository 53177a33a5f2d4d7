"""Import ONNX Runtime, and let it upload nothing."""

from __future__ import annotations

import importlib
from typing import Any

from mms_handler import settings


def import_onnx_runtime() -> Any:
    """The module.

    Raises:
        ImportError: it is not installed.
    """
    settings.forbid_telemetry()
    return importlib.import_module("onnxruntime")
