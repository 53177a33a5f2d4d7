"""Load a model as a worker does, and make its int8 graph of requests like those to come."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any, Iterable, Sequence

from mms_handler import errors, settings
from mms_handler.errors import LoadError, ModelError
from mms_handler.worker import loading

#: MXNet reads it when it is imported.  Convolutions that are fused with the sum of a residual block
#: may be wrong in eight bits: the small ResNet of the tests by 5 %, and by 0.2 % with sums apart.
_BEFORE_MXNET = {"MXNET_DISABLE_MKLDNN_FUSE_CONV_SUM": "1"}


def quantize(model_dir: Path, bodies: Sequence[tuple[Path, str]]) -> dict[str, Any]:
    """The int8 graph of the model in a model_dir, and how it did.

    Args:
        model_dir: this process's working directory, as it is a worker's.
        bodies: files that are requests, each with its content type; some are kept for judging.

    Returns:
        symbol, as JSON; operators, of, inputs, and the agreement's rows, top, mean, most; part,
        speed for a person.  Or an error alone.
    """
    settings.export_defaults(_BEFORE_MXNET)
    chosen = dataclasses.replace(settings.current(), optimize="off")
    kept = model_dir / "MAR-INF" / "MANIFEST.json"
    manifest = json.loads(kept.read_text()) if kept.is_file() else None
    try:
        from mms.context import Context

        context = Context(model_dir.name, str(model_dir), manifest, 1, None, "")
        return _quantized(loading.load(context, chosen), bodies)
    except LoadError as exc:
        return {"error": f"it would not load: {exc}"}
    except ModelError as exc:
        return {"error": str(exc)}


def _quantized(pipeline: Any, bodies: Iterable[tuple[Path, str]]) -> dict[str, Any]:
    from mms_handler import models

    calls = [_call(pipeline, path, content_type) for path, content_type in bodies]
    model, arrays = calls[0]
    if any(other is not model for other, _ in calls):
        raise ModelError("the requests run different Blocks; one is wanted")
    graph = models.graph_of(model, arrays)
    found = models.quantize(graph, [models.to_plain(arrays) for _, arrays in calls])
    agreement = found.agreement
    numbers = {"operators": found.operators, "of": found.of, "inputs": found.inputs}
    told = {"symbol": found.symbol.tojson(), "part": agreement.part, "speed": found.speed}
    agreed = {"rows": agreement.rows, "top": agreement.top, "mean": agreement.mean}
    return {**numbers, **agreed, "most": agreement.largest, **told}


def _call(pipeline: Any, path: Path, content_type: str) -> tuple[Any, Sequence[Any]]:
    """The model that a request runs, and its arrays.

    Raises:
        ModelError: the request fails, or that cannot be told.
    """
    from mms_handler import models
    from mms_handler.worker.pipeline import Request

    name = path.name
    request = Request(path.read_bytes(), content_type, "", {})
    calls = errors.attempt(pipeline.calls, request)
    if isinstance(calls, errors.Failed):
        raise ModelError(f"{name} is answered {_words(calls.exc)}") from calls.exc
    if len(calls) != 1:
        raise ModelError(
            f"{name} runs {len(calls) or 'no'} graphs of the model that could be seen; one is "
            "wanted: that of a Module without predict_fn, or of a HybridBlock that the script calls"
        )
    ((model, arrays),) = calls
    if not isinstance(arrays, (list, tuple)) or not all(map(models.is_array, arrays)):
        raise ModelError(f"{name}: input_fn gives no arrays")
    return model, arrays


def _words(exc: BaseException) -> str:
    fault = errors.fault(exc) if isinstance(exc, Exception) else None
    return f"{fault.status}: {fault.message}" if fault else f"with {type(exc).__name__}"
