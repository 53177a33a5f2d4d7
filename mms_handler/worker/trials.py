"""Make the int8 graph of a model_dir in a process of its own: for ``archive --quantize``."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any, Iterable, Sequence

from mms_handler import causes, errors, settings
from mms_handler.errors import Failed, LoadError, ModelError, attempt
from mms_handler.manifest import MANIFEST
from mms_handler.script.frames import as_edited
from mms_handler.worker.loading import load
from mms_handler.worker.request import request_without_mms

#: Variables that MXNet reads when it is imported.  A convolution fused with the sum of a residual
#: block may be wrong in int8: the tests' small ResNet is off by 5 %, and by 0.2 % without fusion.
_BEFORE_MXNET = {"MXNET_DISABLE_MKLDNN_FUSE_CONV_SUM": "1"}


def context_of(model_dir: Path, gpu_id: int | None = None) -> Any:
    """MMS's context for a worker that loads ``model_dir`` and answers one request at a time."""
    from mms.context import Context

    path = model_dir / MANIFEST
    manifest = json.loads(path.read_text()) if path.is_file() else None
    return Context(model_dir.name, str(model_dir), manifest, 1, gpu_id, "")


def quantize(model_dir: Path, bodies: Sequence[tuple[Path, str]]) -> dict[str, Any]:
    """Make the int8 graph of the model in a model_dir, and judge it.

    Args:
        model_dir: this process's working directory, as in a worker.
        bodies: requests' bodies as files, each with its content type; some are kept for judging.

    Returns:
        ``error`` alone, or ``symbol`` as JSON; ``operators``, ``of`` and ``inputs``; the
        agreement's ``rows``, ``top``, ``mean`` and ``most``; ``part`` and ``speed`` for a person.
    """
    settings.export_defaults(_BEFORE_MXNET)
    worker_settings = dataclasses.replace(settings.current(), optimize="off")
    context = context_of(model_dir)
    try:
        return _quantize(load(context, worker_settings).pipeline, context, bodies)
    except LoadError as exc:
        return {"error": f"the model does not load: {exc}"}
    except ModelError as exc:
        return {"error": str(exc)}


def _quantize(pipeline: Any, context: Any, bodies: Iterable[tuple[Path, str]]) -> dict[str, Any]:
    from mms_handler import models

    calls = [model_call(pipeline, context, path, type_, "int8") for path, type_ in bodies]
    model, arrays = calls[0]
    if any(other is not model for other, _ in calls):
        raise ModelError(
            "the calibration requests run different Blocks; int8 needs one Block that all of "
            "them run"
        )
    graph = models.graph_of(model, arrays)
    quantized = models.quantize(graph, [models.to_plain(arrays) for _, arrays in calls])
    agreement = quantized.agreement
    return {
        "symbol": quantized.symbol.tojson(),
        "operators": quantized.quantized_operators,
        "of": quantized.operators,
        "inputs": quantized.requests,
        "rows": agreement.rows,
        "top": agreement.top,
        "mean": agreement.mean,
        "most": agreement.largest,
        "part": agreement.part,
        "speed": quantized.speed,
    }


def model_call(
    pipeline: Any, context: Any, path: Path, content_type: str, purpose: str
) -> tuple[Any, Sequence[Any]]:
    """The model that a request runs, and its arrays.

    Args:
        pipeline: answers the request.
        context: MMS's.
        path: the request's body.
        content_type: the body's.
        purpose: for which this is, as the subject of a sentence.

    Raises:
        ModelError: the request fails, or its call of a model cannot be recorded.
    """
    from mms_handler import models

    request = attempt(request_without_mms, context, path.read_bytes(), content_type, "", path.name)
    if pipeline.predictor and models.is_module(pipeline.model):
        data = attempt(pipeline.read, request)
        calls, outcome = [(pipeline.model, data)], data
    else:
        with models.recorded_calls(models.blocks(pipeline.model)) as calls:
            (outcome,) = pipeline.answer([request])
    if isinstance(outcome, Failed):
        exc = outcome.exc
        fault = errors.fault(exc) if isinstance(exc, Exception) else None
        text = f"{fault.status}: {fault.message}" if fault else type(exc).__name__
        if fault and fault.status >= 500:  # no client reads this
            folders = context.system_properties["script_folders"]
            text = f"{fault.status}: {as_edited(causes.cause(exc, *folders), folders[0])}"
        raise ModelError(f"{path.name} gets {text}") from exc
    if len(calls) != 1:
        raise ModelError(
            f"{path.name} runs {len(calls) or 'no'} graphs that could be recorded; {purpose} "
            "needs exactly one: that of a Module without predict_fn, or of a HybridBlock that the "
            "script calls"
        )
    ((model, arrays),) = calls
    if not isinstance(arrays, (list, tuple)) or not all(map(models.is_array, arrays)):
        raise ModelError(
            f"{path.name}: input_fn does not return arrays; {purpose} needs arrays for the model"
        )
    return model, arrays
