"""MXNet: load and save a Module, feed it and Blocks, and turn what they give into NumPy.

The only module that imports mxnet (two seconds; NumPy a fifth of one).
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mms_handler.errors import BadInput, ModelError, UnsupportedShape

if np.lib.NumpyVersion(np.__version__) >= "1.24.0":  # pip replaces it for other packages' sake
    raise ModelError(
        f"mxnet 1.9.1 needs numpy < 1.24, this is {np.__version__}: pip install 'numpy<1.24'"
    )
import mxnet as mx

SYMBOL, PARAMS, SHAPES = "model-symbol.json", "model-0000.params", "model-shapes.json"


def device(gpu_id: int | None) -> Any:
    """Where a worker computes: the GPU that MMS gave it, or the CPU."""
    return mx.cpu() if gpu_id is None else mx.gpu(int(gpu_id))


def is_module(model: Any) -> bool:
    return isinstance(model, mx.module.BaseModule)


def is_block(model: Any) -> bool:
    return isinstance(model, mx.gluon.Block)


# --- the default save format -----------------------------------------------------------------


def save(module: Any, model_dir: Path) -> None:
    """Write a Module's symbol, parameters and input shapes, each under its final name at once.

    Args:
        module: bound, with parameters.
        model_dir: gets model-symbol.json, model-0000.params (``arg:`` and ``aux:`` keys) and
            model-shapes.json (``[{"name": str, "shape": [ints]}]``, the training batch size
            included); what had these names is replaced.

    Raises:
        ModelError: it is not a Module.

    Source: the developer guide, ``save``; CONTRACT A5 for names and bytes.
    """
    if not is_module(module):
        raise ModelError(
            f"the default save writes Modules, train returned a {type(module).__name__}; "
            "define save(model, model_dir) in the script, or save in train and return nothing"
        )
    shapes = [
        {"name": name, "shape": list(shape)} for name, shape in map(_described, module.data_shapes)
    ]
    model_dir.mkdir(parents=True, exist_ok=True)
    for name, write in (
        (SYMBOL, lambda path: module.symbol.save(path)),
        (PARAMS, lambda path: module.save_params(path)),
        (SHAPES, lambda path: Path(path).write_text(json.dumps(shapes))),
    ):
        partial = model_dir / f".{name}"
        write(str(partial))
        os.replace(partial, model_dir / name)


def load(model_dir: Path, first_dimension: int, on: Any) -> Any:
    """The Module that the default save wrote, bound for inference.

    Args:
        model_dir: has the three files of ``save``.
        first_dimension: rows to bind for; 0: as many as it was saved with.
        on: the device.

    Raises:
        ModelError: names the file that is missing, or is not what it should be.

    Source: the developer guide, ``model_fn``; CONTRACT B3.
    """
    missing = [name for name in (SYMBOL, PARAMS, SHAPES) if not (model_dir / name).is_file()]
    if missing:
        raise ModelError(
            f"no {', '.join(missing)} in the model directory: the default model_fn reads what "
            "the default save wrote; a script with a model_fn can load anything"
        )
    shapes = _saved_shapes(model_dir / SHAPES)
    if first_dimension:
        shapes = [(name, (first_dimension, *shape[1:])) for name, shape in shapes]
    try:
        symbol, arg_params, aux_params = mx.model.load_checkpoint(str(model_dir / "model"), 0)
        _check_names(symbol, [name for name, _ in shapes], {*arg_params, *aux_params})
        module = mx.mod.Module(
            symbol, data_names=[name for name, _ in shapes], label_names=None, context=on
        )
        module.bind(data_shapes=shapes, for_training=False)
        module.set_params(arg_params, aux_params, allow_missing=True)
    except (mx.base.MXNetError, ValueError, RuntimeError) as exc:
        raise ModelError(f"the artifacts do not make a Module: {_first_line(exc)}") from exc
    return module


def _saved_shapes(path: Path) -> list[tuple[str, tuple[int, ...]]]:
    """The input names and shapes that the default save wrote."""
    try:
        saved = json.loads(path.read_text())
        shapes = [(one["name"], tuple(one["shape"])) for one in saved]
    except (ValueError, TypeError, KeyError):
        shapes = []
    sizes = [size for _, shape in shapes for size in shape]
    right = all(isinstance(size, int) and size > 0 for size in sizes)
    if not (shapes and right and all(isinstance(name, str) for name, _ in shapes)):
        wanted = '[{"name": "data", "shape": [1, 784]}]'
        raise ModelError(f"{path.name} is not a list of names and shapes such as {wanted}")
    return shapes


def _check_names(symbol: Any, inputs: list[str], parameters: set[str]) -> None:
    """Every input and parameter is where it should be.

    Labels apart, which only training has, a parameter left out would silently be zero.
    """
    wanted = [*symbol.list_arguments(), *symbol.list_auxiliary_states()]
    strange = [name for name in inputs if name not in wanted]
    if strange:
        raise ModelError(f"the symbol has no input {', '.join(strange)}; {SHAPES} names it")
    given = {*parameters, *inputs}
    missing = [name for name in wanted if name not in given and not name.endswith("label")]
    if missing:
        raise ModelError(f"{PARAMS} has no values for {', '.join(missing)}")


# --- running ---------------------------------------------------------------------------------


def to_ndarray(array: npt.NDArray[Any], model: Any, on: Any) -> Any:
    """``array`` as an NDArray where ``model`` computes."""
    if is_block(model):
        parameters = model.collect_params().values()
        on = next((p.list_ctx()[0] for p in parameters if p._data is not None), on)
    return mx.nd.array(array, ctx=on)


def is_array(value: Any) -> bool:
    return isinstance(value, (mx.nd.NDArray, np.ndarray))


def to_data(value: Any, module: Any) -> Any:
    """Rows cut into batches of a Module's bound size.

    Args:
        value: NDArray or ndarray: (N, *sample), or N rows of as many values in another shape
            (lines of a CSV body), or one sample alone.
        module: has one input, bound to (B, *sample).

    Returns:
        An ``NDArrayIter`` of ceil(N / B) batches.  It fills the last one from the first rows
        and says how many to drop again (``getpad``), which ``Module.predict`` does: N rows
        in, N rows out.

    Raises:
        BadInput: the values do not divide into samples.
        UnsupportedShape: the Module has several inputs.

    Source: the developer guide, "Request handlers for Module models".
    """
    if len(module.data_shapes) != 1:
        names = ", ".join(name for name, _ in map(_described, module.data_shapes))
        raise UnsupportedShape(
            f"the model has {len(module.data_shapes)} inputs ({names}), the body has one"
        )
    name, (bound, *sample) = _described(module.data_shapes[0])
    rows = _rows(value, tuple(sample))
    return mx.io.NDArrayIter(rows, batch_size=bound, last_batch_handle="pad", data_name=name)


def _described(desc: Any) -> tuple[str, tuple[int, ...]]:
    """Name and shape of a DataDesc, or of the pair that older MXNet had in its place."""
    return desc[0], tuple(desc[1])


def _rows(value: Any, sample: tuple[int, ...]) -> Any:
    """``value`` as (N, *sample), never mixing the values of two rows."""
    shape, size = tuple(value.shape), int(np.prod(sample))
    if shape and shape[0] and int(np.prod(shape[1:])) == size:
        return value.reshape((shape[0], *sample))
    whole = len(shape) == 1 or [d for d in shape if d != 1] == [d for d in sample if d != 1]
    if shape and whole and int(np.prod(shape)) == size:
        return value.reshape((1, *sample))
    wanted = ", ".join(map(str, ("N", *sample)))
    raise BadInput(f"the model takes shape ({wanted}), the body has {shape}")


def predict(model: Any, data: Any) -> Any:
    """The contract's default predict_fn: ``module.predict(data)`` or ``block(array)``.

    Raises:
        BadInput: MXNet finds the shape of the data inconsistent with the model's.
    """
    try:
        return _settled(model.predict(data) if is_module(model) else model(data))
    except mx.base.MXNetError as exc:
        reason = _first_line(exc)
        if re.search(r"shape", reason, re.IGNORECASE):
            raise BadInput(f"the model does not take this body: {reason}") from exc
        raise


def _settled(prediction: Any) -> Any:
    """``prediction`` when it is computed: MXNet raises what went wrong only then."""
    for one in prediction if isinstance(prediction, (list, tuple)) else [prediction]:
        if isinstance(one, mx.nd.NDArray):
            one.wait_to_read()
    return prediction


def to_plain(value: Any) -> Any:
    """``value`` with every NDArray in it, however deep in lists, as an ndarray."""
    if isinstance(value, mx.nd.NDArray):
        return value.asnumpy()
    if isinstance(value, (list, tuple)):
        return [to_plain(one) for one in value]
    if isinstance(value, dict):
        return {key: to_plain(one) for key, one in value.items()}
    return value


def _first_line(exc: BaseException) -> str:
    """An MXNet error's own sentence, without the C++ stack that comes before or after it."""
    lines = [line.strip() for line in str(exc).splitlines() if line.strip()]
    told = [line for line in lines if line.startswith(("MXNetError:", "Error", "Check failed"))]
    line = (told or lines or [type(exc).__name__])[0]
    return line.replace("MXNetError: ", "")[:400]
