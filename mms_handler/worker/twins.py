"""Make the ONNX twin of a model_dir in a process of its own: for ``archive --engine onnx``."""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path
from typing import Any

from mms_handler import manifest, models, settings
from mms_handler.errors import Failed, LoadError, ModelError, attempt
from mms_handler.worker.loading import load
from mms_handler.worker.request import request_without_mms
from mms_handler.worker.trials import context_of

#: The usual number of a worker's threads, with which both engines are timed.
_THREADS = {"OMP_NUM_THREADS": "1"}


def make(model_dir: Path, target: Path, sample: Path, types: tuple[str, str]) -> dict[str, Any]:
    """Convert the model in a model_dir to ONNX, prove that it agrees, and write it.

    Args:
        model_dir: this process's working directory, as in a worker.
        target: the file to write.
        sample: the body of a request that the model answers.
        types: its Content-Type and its Accept.

    Returns:
        ``error`` alone, or the twin's ``entry`` in the manifest.
    """
    settings.export_defaults(_THREADS)
    current = dataclasses.replace(settings.current(), optimize="float", engine="mxnet")
    context = context_of(model_dir)
    try:
        loaded = load(context, current)
        body, (content_type, accept) = sample.read_bytes(), types
        request = request_without_mms(context, body, content_type, accept, "sample")
        return {"entry": _make(loaded, request, target)._asdict()}
    except LoadError as exc:
        return {"error": f"the model does not load: {exc}"}
    except ModelError as exc:
        return {"error": str(exc)}
    except ImportError as exc:
        return {"error": f"{exc.name or exc} is not installed: {models.EXTRA}"}


def _make(loaded: Any, request: Any, target: Path) -> manifest.Twin:
    model, pipeline = loaded.pipeline.model, loaded.pipeline
    written = [hook.name for hook in loaded.hooks if not hook.is_default]
    if pipeline.predictor is None or "model_fn" in written or not models.is_module(model):
        raise ModelError(
            "a twin replaces the default model_fn and predict_fn; the script has its own"
        )
    data = attempt(pipeline.read, request)
    if isinstance(data, Failed):
        raise ModelError(f"the sample cannot be read: {data.exc}")
    if not isinstance(data, models.Arrays):
        raise ModelError("input_fn does not return arrays")
    shared = pipeline.predictor.shared
    if not (pipeline.passes.may_share(data) if shared is None and pipeline.passes else shared):
        raise ModelError(
            "the rows of its batches depend on one another, or take no other number of rows"
        )
    twin, content = models.make_twin(model, pipeline.predictor, data)
    target.write_bytes(content)
    return twin._replace(sha256=hashlib.sha256(content).hexdigest())
