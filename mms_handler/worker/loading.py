"""Load a model_dir, phase by phase: its script, its model, and the functions for its requests.

Any failure becomes one LoadError that names the phase, the exception and the line of the script.
"""

from __future__ import annotations

import functools
import importlib
import json
import logging
import multiprocessing
import sys
from pathlib import Path
from typing import Any, Callable, Mapping, NamedTuple, Sequence

from mms_handler import codecs, manifest, models, names, numpy_import, worker_files
from mms_handler import schema as schemas
from mms_handler.codecs import compiled
from mms_handler.errors import ModelError
from mms_handler.schema import Schema
from mms_handler.script import containers
from mms_handler.script.find import find_script
from mms_handler.script.load import Script, add_to_path
from mms_handler.script.signature import BoundHook, bind, doubts
from mms_handler.settings import (
    Settings,
    cache_folder,
    environment,
    export,
    export_defaults,
    forbid_telemetry,
    path_of_programs,
)
from mms_handler.worker import engine, inference, pipeline, sample, shapes
from mms_handler.worker.functions import Options
from mms_handler.worker.load_phases import Worker, note, phase
from mms_handler.worker.packed import packed_int8, packed_sample, packed_schema
from mms_handler.worker.request import Request

log = logging.getLogger(__name__)

#: Modules that only a request needs.  They are imported at load, before a file of the script can
#: take their names.
_NEEDED_LATER = ("fractions", "mms.service", "sagemaker_inference.errors", *codecs.LATER)


class Loaded(NamedTuple):
    """A model that can answer requests."""

    pipeline: Any  # whole.Whole or pipeline.Steps
    script: Script
    hooks: Sequence[BoundHook]  # the functions in the order in which they are called
    seconds: Mapping[str, float]  # how long each phase took, by name
    doubts: Sequence[str]  # sentences about names that are nearly those of the contract
    inference: Any  # inference.Inference: the pipeline for tensors
    find_schema: Callable[[], Schema]  # what the model takes and gives, as far as is known
    learning: Any = None  # learning.Learning; None if requests teach nothing
    request_s: float | None = None  # processor seconds of a request like the sample, if known


def load(context: Any, settings: Settings, script_path: Path | None = None) -> Loaded:
    """Load the model_dir that MMS names.

    Args:
        context: MMS's.
        settings: this process's.
        script_path: a script that is not in the model_dir; None: the model_dir's.

    Raises:
        LoadError: names the phase, the exception and the line of the script.
    """
    if settings.log_level == "debug":
        logging.getLogger("mms_handler").setLevel(logging.DEBUG)
    forbid_telemetry()  # before a script, or the twin, imports ONNX Runtime
    properties = context.system_properties
    model_dir, gpu_id = Path(properties["model_dir"]), properties["gpu_id"]
    worker = Worker(model_dir, context, settings, gpu_id, {}, [], script=script_path)
    properties["script_folders"] = worker.folders  # for the errors of requests
    compiled.use(settings.core == "auto")
    with phase("model_dir", worker):
        check_not_empty(worker.model_dir)
    with phase("script", worker):
        program = manifest.script_name(context.manifest)
        path = script_path or find_script(worker.model_dir, settings.program, program)
    twin, alone = None, False
    if engine.has_twin(model_dir):
        with phase("onnx", worker):
            twin = engine.open_twin(model_dir, settings, gpu_id)
            alone = twin is not None and engine.may_do_without_mxnet(path)
    with phase("mxnet", worker):
        if path is not None or not alone:
            numpy_import.finish()  # a script gets the numpy that it knows
            for name in _NEEDED_LATER:
                importlib.import_module(name)
        worker = worker if alone else start_mxnet(worker)
    script = load_script(path, worker)
    if alone and engine.needs_mxnet(script):
        alone = False
        with phase("mxnet", worker):
            worker = start_mxnet(worker)
    built = _build(script, worker, twin)
    if alone and not _proved(built, worker, twin):
        with phase("mxnet", worker):
            worker = start_mxnet(worker)
        built = _build(script, worker, None)
    hooks, answering, packed, prepared, find_schema = built
    if settings.supervised:
        worker_files.write_load_times(worker.model_dir, worker.seconds)
        if engine.has_twin(model_dir):
            worker_files.write_engine(model_dir, engine.of(answering))
    called = [*hooks, *answering.hooks]
    # Only under serve do workers have a private folder, and time between two requests.
    optimizes = settings.optimize != "off" and worker.gpu_id is None
    learns = settings.supervised and packed is None and optimizes
    taught = None
    if learns:
        from mms_handler.worker import learning  # which most workers do without

        taught = learning.Learning(answering, model_dir, properties["batch_size"])
    name = names.of_model(str(context.model_name))
    tensors = inference.Inference(answering, name, settings.max_array_bytes)
    facts = worker.seconds, worker.doubts
    return Loaded(
        answering, script, called, *facts, tensors, find_schema, taught, prepared.request_s
    )


class _Built(NamedTuple):
    """A model with the functions for its requests, once it has answered its sample."""

    hooks: Sequence[BoundHook]  # that were called to load it
    pipeline: Any
    packed: Request | None
    prepared: Any  # sample.Prepared
    find_schema: Callable[[], Schema]


def _build(script: Script, worker: Worker, twin: Any) -> _Built:
    """Load the model, by its twin alone if MXNet was not imported, and let it answer its sample."""
    settings, folder = worker.settings, worker.model_dir
    alone = worker.device is None
    model, hooks = load_model(script, worker, _twin_model(worker, twin) if alone else None)
    with phase("functions", worker):
        options = Options(
            worker.device,
            settings.accept,
            settings.predict_order,
            settings.max_array_bytes,
            models.saved_shapes(folder),
        )
        answering = pipeline.build(script, model, options)
        for hook in (*hooks, *answering.hooks):
            note(doubts(hook), worker)
    with phase("sample", worker):
        has_int8 = settings.optimize == "on" and not alone
        packed = packed_sample(folder, worker.context)
        prepared = sample.prepare(
            answering,
            packed,
            worker.context.system_properties["batch_size"],
            faster=settings.optimize != "off" and not alone,
            int8=packed_int8(folder) if has_int8 else None,
        )
        if twin and not alone:
            engine.try_twin(script, answering, packed, twin)

        def find_schema() -> Schema:
            saved, known = options.saved_shapes, packed_schema(folder)
            return known or shapes.schema_of(answering, packed, prepared.reply, saved)

        if settings.supervised:  # serve tells clients what the model takes
            worker_files.write_schema(folder, json.dumps(schemas.encode(find_schema())))
    return _Built(hooks, answering, packed, prepared, find_schema)


def _proved(built: _Built, worker: Worker, twin: Any) -> bool:
    """Whether the twin alone answers the sample as the model did; the log says why not."""
    recorded = manifest.read_sample(worker.model_dir)
    entry = recorded[0] if recorded else None
    if "mxnet" in sys.modules:  # it answered in the twin's place
        reason = "it fails for the sample"
    else:
        reason = engine.mismatch(entry, built.prepared.reply, twin.entry.tolerance)
    if reason:
        engine.refuse(reason)
    else:
        log.info("the model's ONNX twin answers, without MXNet")
    return not reason


def _twin_model(worker: Worker, twin: Any) -> Any:
    """What stands for the model that the default model_fn loads."""

    def load_mxnet() -> Any:
        """The default predict_fn of that model."""
        models.start()
        device = models.device(None)
        settings, folder = worker.settings, worker.model_dir
        model = _default_model(str(folder), settings.first_dimension, device)
        return models.make_predictor(model, device, True, models.saved_shapes(folder))

    return models.TwinModel(twin, load_mxnet)


def check_not_empty(model_dir: Path) -> None:
    """Refuse an empty folder.  MMS makes one when it unpacks a file that is not an archive.

    Raises:
        ModelError: the folder is empty, or does not exist.
    """
    if not model_dir.is_dir():
        raise ModelError("the folder does not exist")
    if not any(model_dir.iterdir()):
        raise ModelError(
            "the folder is empty: MMS unpacks a file that is not an archive to nothing; register "
            "an archive (.mar)"
        )


def start_mxnet(worker: Worker) -> Worker:
    """Import mxnet, set up for serving; find the worker's device."""
    models.start(gpu=worker.gpu_id is not None)
    gpus = models.gpu_count()
    gpu_id = worker.context.system_properties["gpu_id"] = visible_gpu(worker.gpu_id, gpus)
    return worker._replace(gpu_id=gpu_id, gpus=gpus, device=models.device(gpu_id))


def visible_gpu(gpu_id: int | None, gpus: int) -> int | None:
    """The GPU to use.

    MMS counts the GPUs that nvidia-smi lists, which CUDA_VISIBLE_DEVICES does not change.

    Args:
        gpu_id: the GPU that MMS assigned; None: the CPU.
        gpus: how many GPUs MXNet can use.

    Raises:
        ModelError: MXNet can use none.
    """
    if gpu_id is None or gpu_id < gpus:
        return gpu_id
    if not gpus:
        raise ModelError(
            f"MMS assigned GPU {gpu_id}, but MXNet can use none; to serve on the CPU set "
            "number_of_gpu=0 in MMS's configuration"
        )
    log.warning(
        "MMS assigned GPU %d, but MXNet can use only %d GPUs; GPU %d is used",
        gpu_id,
        gpus,
        gpu_id % gpus,
    )
    return gpu_id % gpus


def load_script(path: Path | None, worker: Worker) -> Script:
    """Install the script's requirements and import it, if there is a script."""
    if path is None:
        return Script()
    code = worker.model_dir / "code"
    folder = code if code in path.parents else path.parent
    above = [folder] if folder != path.parent else []  # of a script in a subfolder of code/
    with phase("requirements", worker):
        from mms_handler.script import requirements  # imports venv and more

        cache, shared = cache_folder(worker.settings), worker.settings.cache_dir is not None
        add_to_path([*above, *requirements.paths(folder, cache, shared=shared)])
    with phase("script", worker):
        containers.install()  # an installed package has precedence, so requirements come first
        model_dir = str(worker.model_dir)
        cpus = multiprocessing.cpu_count()
        export_defaults(containers.hosting_variables(model_dir, worker.gpus, cpus))
        export("PATH", path_of_programs(environment().get("PATH")))
        sys.path.append(model_dir)  # for modules beside code/; last, so that they shadow nothing
        script = Script.load(path)
        note(script.doubts, worker)
        return script


def load_model(
    script: Script, worker: Worker, twin_model: Any = None
) -> tuple[Any, list[BoundHook]]:
    """Call pre_model_fn, model_fn and model_warmup_fn, each in its own phase.

    Args:
        script: the script.
        worker: the worker.
        twin_model: what the default model_fn returns, where MXNet is not imported.

    Returns:
        What model_fn returned, and the hooks that were called.
    """
    default = functools.partial(
        _default_model,
        first_dimension=worker.settings.first_dimension,
        device=worker.device,
        twin_model=twin_model,
    )
    values = {
        "model_dir": str(worker.model_dir),
        "context": worker.context,
        "ctx": worker.device,
        "gpu_id": worker.gpu_id,
    }
    hooks = []
    for name in ("pre_model_fn", "model_fn", "model_warmup_fn"):
        with phase(name, worker):
            if name in script or name == "model_fn":
                hook = bind(name, script.get(name, default))
                hooks.append(hook)
                result = hook(values)
                if name == "model_fn":
                    values["model"] = result
    return values["model"], hooks


def _default_model(
    model_dir: str, first_dimension: int, device: Any, twin_model: Any = None
) -> Any:
    """The contract's default model_fn; ``twin_model`` stands for what it returns."""
    return twin_model or models.load(Path(model_dir), first_dimension, device)
