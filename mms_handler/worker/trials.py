"""What ``check`` and ``archive --quantize`` run: load a model_dir as a worker does, and try it."""

from __future__ import annotations

import base64
import dataclasses
import json
from pathlib import Path
from typing import Any, Iterable, Sequence

from mms_handler import errors, media, settings
from mms_handler.errors import Failed, LoadError, ModelError, attempt
from mms_handler.manifest import MANIFEST
from mms_handler.worker.loading import load
from mms_handler.worker.request import request_without_mms

#: MXNet reads it when it is imported.  Convolutions that are fused with the sum of a residual block
#: may be wrong in eight bits: the small ResNet of the tests by 5 %, without the fusion by 0.2 %.
_BEFORE_MXNET = {"MXNET_DISABLE_MKLDNN_FUSE_CONV_SUM": "1"}


def context_of(model_dir: Path, gpu_id: int | None = None) -> Any:
    """MMS's context for a worker that loads ``model_dir`` and answers one request at a time."""
    from mms.context import Context

    path = model_dir / MANIFEST
    manifest = json.loads(path.read_text()) if path.is_file() else None
    return Context(model_dir.name, str(model_dir), manifest, 1, gpu_id, "")


# --- check -----------------------------------------------------------------------------------


def inspect(model_dir: Path, sample: tuple[bytes, str, str] | None) -> dict[str, Any]:
    """Load a model_dir as a worker would, in this process, and describe it.

    Args:
        model_dir: this process's working directory, as it is a worker's.
        sample: body, Content-Type and Accept of a request to answer; or None.

    Returns:
        script, functions, files, model, and with a sample status, content_type, the beginning
        of the reply, and its body in base64 if it is the same each time; or an error alone.
    """
    worker_settings = settings.current()
    if worker_settings.optimize == "on":  # the packed reply is the model's, not its int8 graph's
        worker_settings = dataclasses.replace(worker_settings, optimize="float")
    context = context_of(model_dir)
    try:
        loaded = load(context, worker_settings)
    except LoadError as exc:
        return {"error": str(exc)}
    model, path = type(loaded.pipeline.model), loaded.script.path
    report: dict[str, Any] = {
        "script": str(path.relative_to(model_dir)) if path else None,
        "functions": [(hook.name, hook.is_default, str(hook)) for hook in loaded.hooks],
        "files": sorted(p.name for p in model_dir.iterdir() if p.is_file()),
        "model": f"{model.__module__}.{model.__qualname__}",
    }
    return {**report, **_answer(loaded.pipeline, context, *sample)} if sample else report


def _answer(
    pipeline: Any, context: Any, body: bytes, content_type: str, accept: str
) -> dict[str, Any]:
    replies = []
    for _ in range(2):
        request = attempt(request_without_mms, context, body, content_type, accept, "sample")
        (reply,) = pipeline.answer([request])
        if isinstance(reply, Failed):
            fault = errors.fault(reply.exc)
            return {"status": fault.status, "content_type": media.JSON, "reply": fault.message}
        replies.append(reply)
    reply, again = replies
    beginning = reply.body[:200].decode("utf-8", "replace")
    report = {"status": reply.status, "content_type": reply.content_type, "reply": beginning}
    if reply != again:  # a time or a random number: no body can be expected
        return report
    return {**report, "body": base64.b64encode(reply.body).decode()}


# --- archive --quantize ----------------------------------------------------------------------


def quantize(model_dir: Path, bodies: Sequence[tuple[Path, str]]) -> dict[str, Any]:
    """Make the int8 graph of the model in a model_dir, and judge it.

    Args:
        model_dir: this process's working directory, as it is a worker's.
        bodies: files that are requests, each with its content type; some are left for judging.

    Returns:
        symbol, as JSON; operators, of, inputs, and the agreement's rows, top, mean, most; part,
        speed for a person.  Or an error alone.
    """
    settings.export_defaults(_BEFORE_MXNET)
    worker_settings = dataclasses.replace(settings.current(), optimize="off")
    context = context_of(model_dir)
    try:
        return _quantize(load(context, worker_settings).pipeline, context, bodies)
    except LoadError as exc:
        return {"error": f"it would not load: {exc}"}
    except ModelError as exc:
        return {"error": str(exc)}


def _quantize(pipeline: Any, context: Any, bodies: Iterable[tuple[Path, str]]) -> dict[str, Any]:
    from mms_handler import models

    calls = [_call(pipeline, context, path, content_type) for path, content_type in bodies]
    model, arrays = calls[0]
    if any(other is not model for other, _ in calls):
        raise ModelError(
            "the requests run different Blocks; int8 needs requests that all run the same one"
        )
    graph = models.graph_of(model, arrays)
    quantized = models.quantize(graph, [models.to_plain(arrays) for _, arrays in calls])
    agreement = quantized.agreement
    return {
        "symbol": quantized.symbol.tojson(),
        "operators": quantized.operators,
        "of": quantized.of,
        "inputs": quantized.inputs,
        "rows": agreement.rows,
        "top": agreement.top,
        "mean": agreement.mean,
        "most": agreement.largest,
        "part": agreement.part,
        "speed": quantized.speed,
    }


def _call(pipeline: Any, context: Any, path: Path, content_type: str) -> tuple[Any, Sequence[Any]]:
    """The model that a request runs, and its arrays.

    Raises:
        ModelError: the request fails, or its call of a model cannot be seen.
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
        raise ModelError(f"{path.name} gets {_words(outcome.exc)}") from outcome.exc
    if len(calls) != 1:
        raise ModelError(
            f"{path.name} runs {len(calls) or 'no'} graphs that could be recorded; int8 needs "
            "exactly one: of a Module without predict_fn, or of a HybridBlock that the script calls"
        )
    ((model, arrays),) = calls
    if not isinstance(arrays, (list, tuple)) or not all(map(models.is_array, arrays)):
        raise ModelError(
            f"{path.name}: input_fn returns no arrays; int8 needs arrays for the model"
        )
    return model, arrays


def _words(exc: BaseException) -> str:
    fault = errors.fault(exc) if isinstance(exc, Exception) else None
    return f"{fault.status}: {fault.message}" if fault else type(exc).__name__
