"""Export the model of a model_dir in a process of its own: for ``mms-handler export``."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, Callable, Sequence

import numpy as np

from mms_handler import settings
from mms_handler.errors import HandlerError, LoadError
from mms_handler.worker.loading import Loaded, load
from mms_handler.worker.trials import context_of, model_call

#: Functions of a script that are no part of a graph.
_AROUND = ("transform_fn", "process_request_fn", "input_fn", "predict_fn", "output_fn")


def export_onnx(
    model_dir: Path, target: Path, body: Path, content_type: str, tolerance: float
) -> dict[str, Any]:
    """Write the model of a model_dir as ONNX, if ONNX Runtime answers as MXNet does.

    Args:
        model_dir: this process's working directory, as in a worker.
        target: the file to write.
        body: a request that the model answers.
        content_type: the body's.
        tolerance: the largest difference, relative to an output's largest value.

    Returns:
        ``error`` alone, or ``inputs`` and ``outputs`` with ``name``, ``shape`` and ``type``;
        ``rows``, whether a server may put those of several requests together; ``differences`` with
        ``output``, ``largest`` and ``data``; ``cases`` that were compared; ``functions`` of the
        script that are not exported.
    """

    def write(loaded: Loaded, context: Any) -> dict[str, Any]:
        return _write_onnx(loaded, context, target, body, content_type, tolerance)

    return _with_model(model_dir, write)


def export_npz(model_dir: Path, target: Path) -> dict[str, Any]:
    """Write the weights of the model of a model_dir as arrays that NumPy reads without pickle.

    Args:
        model_dir: this process's working directory, as in a worker.
        target: the file to write.

    Returns:
        ``error`` alone, or ``arrays`` with ``name``, ``shape`` and ``type``; and ``functions``.
    """

    def write(loaded: Loaded, context: Any) -> dict[str, Any]:
        from mms_handler import models

        arrays = models.weights_by_name(loaded.pipeline.model)
        with target.open("wb") as file:  # savez would add a suffix to a path
            np.savez(file, **arrays)
        entries = [_entry(name, array.shape, array.dtype) for name, array in arrays.items()]
        return {"arrays": entries, "functions": _functions(loaded)}

    return _with_model(model_dir, write)


def _with_model(model_dir: Path, write: Callable[[Loaded, Any], dict[str, Any]]) -> dict[str, Any]:
    """Load the model as MXNet has it, without other graphs, and write it."""
    context = context_of(model_dir)
    try:
        loaded = load(
            context, dataclasses.replace(settings.current(), optimize="off", engine="mxnet")
        )
        return write(loaded, context)
    except LoadError as exc:
        return {"error": f"the model does not load: {exc}"}
    except HandlerError as exc:
        return {"error": str(exc)}


def _write_onnx(
    loaded: Loaded, context: Any, target: Path, body: Path, content_type: str, tolerance: float
) -> dict[str, Any]:
    from mms_handler import models
    from mms_handler.models.onnx import convert, prove, rows_are_independent

    pipeline = loaded.pipeline
    model, arrays = model_call(pipeline, context, body, content_type, "ONNX")
    predictor = pipeline.predictor
    if predictor is None or pipeline.model is not model:  # the script calls it
        predictor = models.make_predictor(model, models.device(None), plain=True)
    prediction = models.to_plain(predictor(models.Arrays(arrays)))
    graph = models.graph_of(model, arrays)
    plain = models.to_plain(list(arrays))
    inputs, outputs = _names(predictor, len(plain), prediction)
    converted = convert(graph, [array.shape for array in plain], inputs, outputs)
    proof = prove(converted, graph, plain, models.plain_leaves(prediction), tolerance)
    target.write_bytes(converted.model.SerializeToString())
    return {
        "inputs": [_entry(*tensor) for tensor in converted.inputs],
        "outputs": [_entry(*tensor) for tensor in converted.outputs],
        "rows": rows_are_independent(converted, graph, plain),
        "differences": [each._asdict() for each in proof.differences],
        "cases": list(proof.cases),
        "functions": _functions(loaded),
    }


def _names(predictor: Any, count: int, prediction: Any) -> tuple[Sequence[str], Sequence[str]]:
    """The names of the inputs and outputs, which are those that ``/v2`` has for them."""
    from mms_handler import models
    from mms_handler.worker import inference

    inputs: Sequence[str] = predictor.input_names
    if len(inputs) != count:
        inputs = ["input"] if count == 1 else [f"input_{place}" for place in range(count)]
    arrays = models.plain_leaves(prediction)
    if isinstance(prediction, (list, tuple)):  # perhaps with lists in it
        prediction = arrays
    return inputs, list(inference.named(prediction, predictor.output_names))


def _entry(name: str, shape: Sequence[Any], dtype: Any) -> dict[str, Any]:
    sides = [str(side) if getattr(side, "times", 0) else int(str(side)) for side in shape]
    return {"name": name, "shape": sides, "type": np.dtype(dtype).name}


def _functions(loaded: Loaded) -> list[str]:
    """The script's own functions around its model, none of which is exported."""
    return [name for name in _AROUND if name in loaded.script]
