"""What was packed with a model: its sample request, its inputs and outputs, its int8 graph."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mms_handler import manifest, models
from mms_handler.schema import Schema
from mms_handler.worker.request import Request, request_without_mms


def packed_sample(model_dir: Path, context: Any) -> Request | None:
    """The request that was packed with a model, if any.

    Args:
        model_dir: the model's folder.
        context: MMS's.
    """
    packed = manifest.read_sample(model_dir)
    if packed is None:
        return None
    sample, body = packed
    return request_without_mms(context, body, sample.content_type, sample.accept, "sample")


def packed_schema(model_dir: Path) -> Schema | None:
    """The inputs and outputs that were found when a model was packed, if they were."""
    packed = manifest.read_folder(model_dir)
    return packed.schema if packed else None


def packed_int8(model_dir: Path) -> Any:
    """The int8 graph that was packed with a model, if any."""
    packed = manifest.read_folder(model_dir)
    quantized = packed.quantized if packed else None
    if quantized is None:
        return None
    return models.PackedInt8(model_dir / quantized.symbol, quantized.max_difference)
