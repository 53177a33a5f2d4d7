"""Convert a model's graph to ONNX, and prove that ONNX Runtime answers as MXNet does.

Graph ──convert──▶ Converted (onnx.ModelProto) ──prove──▶ Proof, or a ModelError
"""

from __future__ import annotations

from mms_handler.models.onnx.convert import Converted, Tensor, convert
from mms_handler.models.onnx.proof import (
    TOLERANCE,
    Difference,
    Proof,
    prove,
    rows_are_independent,
    session,
)

__all__ = [
    "TOLERANCE",
    "Converted",
    "Difference",
    "Proof",
    "Tensor",
    "convert",
    "prove",
    "rows_are_independent",
    "session",
]
