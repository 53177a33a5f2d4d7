"""Load a model_dir: find and import its script, load its model once, fit its functions.

What goes wrong is one LoadError that names the phase, the exception and the line of the script.
"""

from __future__ import annotations

import base64
import dataclasses
import functools
import importlib
import json
import logging
import multiprocessing
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Iterator

from mms_handler import errors, manifest, media, settings
from mms_handler.errors import LoadError, ModelError
from mms_handler.script import containers, requirements
from mms_handler.script.find import find_script
from mms_handler.script.load import Script, add_to_path
from mms_handler.script.signature import bind
from mms_handler.settings import Settings
from mms_handler.worker import mxnet_import

log = logging.getLogger(__name__)

#: Left in a model_dir for the gate (Batches.java): company would only make its requests wait, and
#: a script that ends its process would take them with it.
ONE_BY_ONE = "MAR-INF/one-by-one"

#: What is imported when a request needs it, and must then not be a file of the script's.
_NEEDED_LATER = ("fractions", "mms.service", "sagemaker_inference.errors")


def load(context: Any, chosen: Settings) -> Any:
    """The Pipeline of a model_dir: import the script, load the model once, bind the functions.

    Raises:
        LoadError: names the phase, the exception and the line of the script.
    """
    model_dir = Path(context.system_properties["model_dir"])
    with _phase("model_dir", model_dir):
        _check(model_dir)
    gpu_id = context.system_properties["gpu_id"]
    if gpu_id is None:
        # The legacy containers' choice; tiny models are up to twice as fast without the engine's
        # threads.
        settings.export_defaults({"MXNET_ENGINE_TYPE": "NaiveEngine"})
    settings.export_defaults({"MXNET_SUBGRAPH_VERBOSE": "0"})  # a line for each shape bound
    with _phase("mxnet", model_dir), mxnet_import.swiftly():
        from mms_handler import models
        from mms_handler.worker.pipeline import Pipeline

        models.defer_gradients()
        for name in _NEEDED_LATER:
            importlib.import_module(name)
        gpus = models.gpu_count()
        gpu_id = context.system_properties["gpu_id"] = visible(gpu_id, gpus)
    with _phase("script", model_dir):
        path = find_script(model_dir, chosen.program, manifest.script_name(context.manifest))
    script = Script()
    if path:
        with _phase("requirements", model_dir):
            add_to_path(requirements.paths(path.parent, settings.cache_folder(chosen)))
        with _phase("script", model_dir):
            containers.install()  # where no real package, of the requirements perhaps, has the name
            cpus = multiprocessing.cpu_count()
            variables = containers.hosting_variables(str(model_dir), gpus, cpus)
            settings.export_defaults(variables)
            sys.path.append(str(model_dir))  # for what lies beside code/; it shadows nothing
            script = Script.load(path)
    device = models.device(gpu_id)
    given = {"model_dir": str(model_dir), "context": context, "ctx": device, "gpu_id": gpu_id}
    default = functools.partial(_default_model, first_dimension=chosen.first_dimension, on=device)
    bound = []
    for hook in ("pre_model_fn", "model_fn", "model_warmup_fn"):
        with _phase(hook, model_dir):
            if hook in script or hook == "model_fn":
                bound.append(bind(hook, script.get(hook, default)))
                result = bound[-1](given)
        if hook == "model_fn":
            given["model"] = result
    with _phase("functions", model_dir):
        pipeline = Pipeline(
            script.hooks,
            given["model"],
            device=device,
            accept=chosen.accept,
            predict_order=chosen.predict_order,
            batch_predict=script.batch_predict,
        )
    by_name = {"context": context, "gpu_id": gpu_id, "request_id": "sample", "headers": {}}
    with _phase("sample", model_dir):
        most = context.system_properties["batch_size"]
        if chosen.supervised:  # the gate has made that one, and chooses up to what was registered
            most = chosen.max_batch_size
        pipeline.prepare(
            _sample(model_dir, by_name),
            most,
            chosen.optimize != "off",
            _int8(model_dir) if chosen.optimize == "on" else None,
            gated=chosen.supervised,
        )
        if chosen.supervised and not chosen.batch_size and not pipeline.shares:
            (model_dir / ONE_BY_ONE).parent.mkdir(exist_ok=True)
            (model_dir / ONE_BY_ONE).touch()
    pipeline.bound = [*bound, *pipeline.bound]
    return pipeline


def _check(model_dir: Path) -> None:
    """MMS takes an archive that is none, such as a .tar.gz, for an empty one."""
    if not model_dir.is_dir():
        raise ModelError("there is no such folder")
    if not any(model_dir.iterdir()):
        raise ModelError("it is empty; was what was registered an archive (.mar)?")


def visible(gpu_id: int | None, gpus: int) -> int | None:
    """The GPU to use, of the ``gpus`` that there are for MXNet, where MMS gave ``gpu_id``.

    MMS counts what nvidia-smi lists, which CUDA_VISIBLE_DEVICES does not change.

    Raises:
        ModelError: there is none.
    """
    if gpu_id is None or gpu_id < gpus:
        return gpu_id
    if not gpus:
        raise ModelError(
            f"MMS gave GPU {gpu_id}, MXNet has none; for the CPU set number_of_gpu=0 in MMS's "
            "configuration"
        )
    log.warning("MMS gave GPU %d, of %d; GPU %d is used", gpu_id, gpus, gpu_id % gpus)
    return gpu_id % gpus


def _sample(model_dir: Path, by_name: dict[str, Any]) -> Any:
    """The request that was packed with a model, if one was."""
    from mms_handler.worker.pipeline import Request

    packed = manifest.read_sample(model_dir)
    if packed is None:
        return None
    sample, body = packed
    return Request(body, sample.content_type, sample.accept, by_name)


def _int8(model_dir: Path) -> Any:
    """The int8 graph that was packed with a model, if one was."""
    from mms_handler import models

    packed = manifest.read_folder(model_dir)
    quantized = packed.quantized if packed else None
    return models.PackedInt8(model_dir / quantized.symbol, quantized.most) if quantized else None


def _default_model(model_dir: str, first_dimension: int, on: Any) -> Any:
    """The contract's default model_fn."""
    from mms_handler import models

    return models.load(Path(model_dir), first_dimension, on)


def inspect(model_dir: Path, sample: tuple[bytes, str, str] | None) -> dict[str, Any]:
    """Load a model_dir as a worker would, in this process, and say what was found.

    Args:
        model_dir: this process's working directory, as it is a worker's.
        sample: body, Content-Type and Accept of a request to answer; or None.

    Returns:
        script, functions, files, model, and with a sample status, content_type, the beginning
        of the reply, and its body in base64 if it is the same each time; or an error alone.
    """
    from mms.context import Context

    chosen = settings.current()
    if chosen.optimize == "on":  # the packed reply is the model's own, not its int8 graph's
        chosen = dataclasses.replace(chosen, optimize="float")
    kept = model_dir / "MAR-INF" / "MANIFEST.json"
    packed = json.loads(kept.read_text()) if kept.is_file() else None
    context = Context(model_dir.name, str(model_dir), packed, 1, None, "")
    try:
        pipeline = load(context, chosen)
    except LoadError as exc:
        return {"error": str(exc)}
    path = find_script(model_dir, chosen.program, manifest.script_name(packed))
    found: dict[str, Any] = {
        "script": str(path.relative_to(model_dir)) if path else None,
        "functions": [(one.name, one.is_default, str(one)) for one in pipeline.bound],
        "files": sorted(p.name for p in model_dir.iterdir() if p.is_file()),
        "model": f"{type(pipeline.model).__module__}.{type(pipeline.model).__qualname__}",
    }
    return {**found, **_answered(pipeline, *sample)} if sample else found


def _answered(pipeline: Any, body: bytes, content_type: str, accept: str) -> dict[str, Any]:
    try:
        reply, again = (pipeline.transform(body, content_type, accept, {}) for _ in range(2))
    except BaseException as exc:
        fault = errors.fault(exc)
        return {"status": fault.status, "content_type": media.JSON, "reply": fault.message}
    shown = reply.body[:200].decode("utf-8", "replace")
    found = {"status": reply.status, "content_type": reply.content_type, "reply": shown}
    if reply != again:  # a time, a random number: nothing that could be expected
        return found
    return {**found, "body": base64.b64encode(reply.body).decode()}


@contextmanager
def _phase(name: str, model_dir: Path) -> Iterator[None]:
    try:
        yield
    except BaseException as exc:
        raise LoadError(f"{name}: {errors.cause(exc, str(model_dir))}") from exc
