"""Export models: as ONNX that is proved, in the layout of a server, or as arrays of NumPy.

MODEL ──a process that loads it──▶ model.onnx, report ──layout──▶ files, written when whole
"""

from __future__ import annotations

from mms_handler.export.layouts import LAYOUTS, write
from mms_handler.export.models import TOLERANCE, Exported, export_npz, export_onnx

__all__ = ["LAYOUTS", "TOLERANCE", "Exported", "export_npz", "export_onnx", "write"]
