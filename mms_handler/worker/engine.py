"""Decide what computes a model's predictions: the ONNX twin of its archive, or MXNet.

The twin is used for the default predict_fn of a Module that the default model_fn loads.  A script
that takes nothing of MXNet lets the worker do without it: then the proof is the one of packing, and
the packed sample's reply.  Otherwise MXNet is loaded, and the twin is compared with it.
"""

from __future__ import annotations

import json
import logging
import sys
from pathlib import Path
from typing import Any, Mapping

import numpy as np

from mms_handler import codecs, manifest, media, models
from mms_handler.errors import Failed, HandlerError, ModelError, attempt
from mms_handler.script.load import Script
from mms_handler.script.signature import bind
from mms_handler.settings import Settings

log = logging.getLogger(__name__)

#: What a worker says of the engine that answers.
ONNX, MXNET = "onnx", "mxnet"

#: Arguments of a script's functions that are MXNet's.
_OF_MXNET = {"model", "ctx"}

#: A twin that was slower than this, as a part of MXNet's speed, when it was packed, is not used.
_GAIN = 1.0


def open_twin(model_dir: Path, current: Settings, gpu_id: int | None) -> models.Session | None:
    """The ONNX twin that was packed with a model, if it may be used; the log says why if not."""
    packed = attempt(manifest.read_folder, model_dir)
    entry = packed.twin if isinstance(packed, manifest.Manifest) else None
    if entry is None:
        return None
    try:
        if current.engine == MXNET:
            raise ModelError("MMS_HANDLER_ENGINE=mxnet")
        if gpu_id is not None:
            raise ModelError("the model is on a GPU")
        if entry.gain < _GAIN:
            raise ModelError(f"its ONNX twin was {entry.gain:.2f} times as fast when it was packed")
        return models.Session.load(entry, model_dir, current.threads or 0)
    except ModelError as exc:
        refuse(str(exc))
    return None


def has_twin(model_dir: Path) -> bool:
    """Whether an ONNX twin was packed with a model."""
    packed = attempt(manifest.read_folder, model_dir)
    return isinstance(packed, manifest.Manifest) and packed.twin is not None


def of(pipeline: Any) -> str:
    """The engine that computes a model's predictions."""
    return ONNX if pipeline.predictor and pipeline.predictor.by_twin else MXNET


def refuse(reason: str) -> None:
    """Say why a model's twin is not used."""
    log.warning("MXNet answers, not the model's ONNX twin: %s", reason)


# --- without MXNet ---------------------------------------------------------------------------


def may_do_without_mxnet(path: Path | None) -> bool:
    """Whether a script, at ``path``, seems to need nothing of MXNet: no file of it has the word."""
    if path is None:
        return True
    return not any(_mentions_mxnet(file) for file in [path, *path.parent.rglob("*.py")])


def _mentions_mxnet(path: Path) -> bool:
    text = attempt(path.read_bytes)
    return isinstance(text, Failed) or b"mxnet" in text


def needs_mxnet(script: Script) -> bool:
    """Whether a script that was imported needs MXNet after all."""
    if "mxnet" in sys.modules or set(script.hooks) - {"input_fn"}:
        return True
    hooks = [bind(name, function) for name, function in script.hooks.items()]
    return any({*hook.positional, *hook.keywords} & _OF_MXNET for hook in hooks)


def mismatch(packed: manifest.Sample | None, reply: Any, tolerance: float) -> str:
    """How a reply to the packed sample differs from the packed reply; "" if it does not.

    Args:
        packed: the sample, with the reply of MXNet.
        reply: a Reply; None: there is none.
        tolerance: as a part of the reply's largest value.
    """
    expected = packed.reply if packed else None
    if not expected or not ("body" in expected or "base64" in expected):
        return "no reply to a sample was packed whole"
    if reply is None:
        return "it does not answer the sample"
    kind = (reply.status, reply.content_type)
    if kind != (expected.get("status"), expected.get("content_type")):
        return f"it answers the sample {kind}"
    try:
        pair = [_values(body, reply.content_type) for body in (_body(expected), reply.body)]
    except (ValueError, TypeError, HandlerError) as exc:
        return f"the sample's reply cannot be compared: {exc}"
    same = models.near(pair[0], pair[1], tolerance)
    return "" if same else f"its reply to the sample differs by more than {tolerance:g}"


def _body(reply: Mapping[str, Any]) -> bytes:
    import base64

    return base64.b64decode(reply["base64"]) if "base64" in reply else str(reply["body"]).encode()


def _values(body: bytes, content_type: str) -> Any:
    """The numbers of a body, in its structure."""
    if media.main_type(content_type) == media.JSON:
        return _leaves(json.loads(body))
    return codecs.decode(body, content_type)


def _leaves(value: Any) -> Any:
    """JSON with an array for each list whose numbers have a shape."""
    try:
        return np.asarray(value, np.float64)
    except ValueError:  # the lists in it differ in their lengths
        if not isinstance(value, list):
            raise
        return list(map(_leaves, value))


# --- beside MXNet ----------------------------------------------------------------------------


def try_twin(script: Script, pipeline: Any, sample: Any, twin: models.Session) -> None:
    """From now on let the twin answer, if it agrees with the model and is faster for a sample."""
    predictor = pipeline.predictor
    if "model_fn" in script or predictor is None or not models.is_module(pipeline.model):
        refuse("a function of the script loads or runs the model")
        return
    data = attempt(pipeline.read, sample) if sample else None
    reason = predictor.try_twin(data, twin) if data is not None else "there is no sample"
    if reason:
        refuse(reason)
    else:
        log.info("the model's ONNX twin answers")
