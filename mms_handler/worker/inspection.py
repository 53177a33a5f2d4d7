"""Load a model as a worker does, let it answer a request, and describe both: for ``check``."""

from __future__ import annotations

import base64
import dataclasses
from pathlib import Path
from typing import Any, Callable, NamedTuple, Sequence

from mms_handler import causes, errors, manifest, media, schema, settings
from mms_handler.errors import Failed, LoadError, attempt
from mms_handler.script.frames import as_edited
from mms_handler.script.load import HOOKS, Script
from mms_handler.script.signature import BoundHook, bind, doubts
from mms_handler.settings import Settings
from mms_handler.worker import faults, plain
from mms_handler.worker.load_phases import Worker, note, phase
from mms_handler.worker.loading import load, load_script, start_mxnet
from mms_handler.worker.reply import Reply
from mms_handler.worker.request import request_without_mms
from mms_handler.worker.trials import context_of


class Sample(NamedTuple):
    """A request to answer."""

    body: bytes
    content_type: str
    accept: str


def inspect(model_dir: Path, sample: Sample | None, script: Path | None = None) -> dict[str, Any]:
    """Load a model_dir as a worker would, in this process, and describe it.

    Args:
        model_dir: this process's working directory, as in a worker.
        sample: a request to answer; or None.
        script: a script that is not in the model_dir; None: the model_dir's.

    Returns:
        ``error``, and ``traceback`` of the script, if the model does not load; else ``files``,
        ``model``, ``script``, ``functions``, ``doubts`` about names, and ``schema`` as a manifest
        keeps it; for an archive with another handler than ours only ``files`` and ``handler``.
        With a sample also ``status``, ``content_type``, ``reply`` (its beginning, or the reason of
        a failure), ``traceback`` if the script failed, and ``body`` in base64 if two replies are
        equal.
    """
    handler = None if script else manifest.foreign_handler(model_dir)
    if handler:
        return _inspect_plain(model_dir, handler, sample)
    context = context_of(model_dir)
    folders = [str(model_dir), *([str(script.parent)] if script else [])]
    try:
        loaded = load(context, _settings(), script)
    except LoadError as exc:
        return _refusal(exc)
    from mms_handler import models  # imported with the model

    path, kind = loaded.script.path, type(loaded.pipeline.model)
    report = {
        "script": _name(path, model_dir),
        "functions": _described(loaded.hooks),
        "files": _files(model_dir),
        "model": f"{kind.__module__}.{kind.__qualname__}",
        "doubts": loaded.doubts,
    }
    saved = models.saved_shapes(model_dir)
    if sample is None:
        return {**report, **_schema(loaded.pipeline, None, None, saved)}
    request = attempt(request_without_mms, context, *sample, "sample")
    replies = []

    def answer() -> Any:
        replies.extend(loaded.pipeline.answer([request]))
        return replies[-1]

    answered = _answered(answer, folders)
    good = isinstance(replies[0], Reply) and replies[0].status < 400
    arrays = _schema(loaded.pipeline, request if good else None, replies[0], saved)
    return {**report, **answered, **arrays}


def _schema(pipeline: Any, request: Any, reply: Any, saved: Any) -> dict[str, Any]:
    """What the model takes and gives, as a manifest keeps it."""
    from mms_handler.worker.shapes import schema_of  # imports mxnet

    arrays = schema_of(pipeline, request, reply, saved, searches=True)
    return {"schema": schema.encode(arrays)}


def _inspect_plain(model_dir: Path, handler: str, sample: Sample | None) -> dict[str, Any]:
    """As ``inspect``, for an archive with another handler than ours."""
    try:
        answer = plain.load(model_dir, handler)
    except LoadError as exc:
        return _refusal(exc)
    report = {"handler": handler, "files": _files(model_dir)}
    if sample is None:
        return report
    return {**report, **_answered(lambda: attempt(answer, *sample), [str(model_dir)])}


def inspect_script(path: Path, scratch: Path) -> dict[str, Any]:
    """Import a script that has no model yet, and describe its functions.

    Args:
        path: the script.
        scratch: stands for the model_dir.

    Returns:
        ``error``, and ``traceback`` of the script; or ``script``, ``functions`` and ``doubts``.
    """
    context = context_of(scratch)
    worker = Worker(scratch, context, _settings(), None, {}, [], script=path)
    try:
        with phase("mxnet", worker):
            worker = start_mxnet(worker)
        script = load_script(path, worker)
        with phase("functions", worker):
            hooks = _bound(script)
            for hook in hooks:
                note(doubts(hook), worker)
    except LoadError as exc:
        return _refusal(exc)
    return {"script": str(path), "functions": _described(hooks), "doubts": worker.doubts}


def _bound(script: Script) -> list[BoundHook]:
    """The script's hooks, each bound to its arguments."""
    hooks = {name: bind(name, script.hooks[name]) for name in HOOKS if name in script}
    if "input_fn" in hooks and "predict_fn" in hooks:
        model_first = hooks["input_fn"].model_first
        hooks["predict_fn"] = bind(
            "predict_fn", script.hooks["predict_fn"], model_first=model_first
        )
    return list(hooks.values())


def _settings() -> Settings:
    # The packed reply is the model's, not its int8 graph's, nor its ONNX twin's.
    current = dataclasses.replace(settings.current(), engine="mxnet")
    return dataclasses.replace(current, optimize="float") if current.optimize == "on" else current


def _refusal(exc: LoadError) -> dict[str, Any]:
    return {"error": str(exc), **({"traceback": exc.traceback} if exc.traceback else {})}


def _described(hooks: Sequence[BoundHook]) -> list[tuple[str, bool, str]]:
    return [(hook.name, hook.is_default, str(hook)) for hook in hooks]


def _files(model_dir: Path) -> list[str]:
    return sorted(path.name for path in model_dir.iterdir() if path.is_file())


def _name(path: Path | None, model_dir: Path) -> str | None:
    """A script's name in the model_dir; its path if it is elsewhere."""
    if path is None:
        return None
    return causes.name_in_folders(str(path), [str(model_dir)]) or str(path)


def _answered(answer: Callable[[], Any], folders: Sequence[str]) -> dict[str, Any]:
    """What is known of a reply: ``answer`` is called twice, and returns a Reply or a Failed."""
    reply = answer()
    if isinstance(reply, Failed):
        return _failed(reply.exc, folders)
    beginning = reply.body[:200].decode("utf-8", "replace")
    report = {"status": reply.status, "content_type": reply.content_type, "reply": beginning}
    if reply != answer():  # a time or a random number in it: no body can be expected
        return report
    return {**report, "body": base64.b64encode(reply.body).decode()}


def _failed(exc: BaseException, folders: Sequence[str]) -> dict[str, Any]:
    """A failed request: its reason is here, and not in a server's log."""
    fault = errors.fault(exc)
    report = {"status": fault.status, "content_type": media.JSON, "reply": fault.message}
    if fault.status < 500:
        return report
    reason = as_edited(causes.cause(exc, *folders), folders[0])
    return {**report, "reply": reason, "traceback": faults.bug_traceback(exc, *folders)}
