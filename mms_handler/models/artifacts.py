"""Save and load the files of a trained model.

model-symbol.json  model-0000.params  model-shapes.json     the default save
PREFIX-symbol.json PREFIX-EPOCH.params                      save_checkpoint, HybridBlock.export
"""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Iterable, Sequence

import mxnet as mx

from mms_handler.errors import ModelError
from mms_handler.models.files import PARAMS, SHAPES, SYMBOL, Artifacts, find, read_shapes
from mms_handler.models.gluon_patch import cached_input_names, device_of
from mms_handler.models.graphs.executors import Executors, may_fuse, unfused
from mms_handler.models.graphs.graph import Graph
from mms_handler.models.inputs import UnboundModule, name_and_shape
from mms_handler.models.kinds import is_module
from mms_handler.models.mx import first_line


def save(model: Any, model_dir: Path, shapes: Sequence[tuple[int, ...]] = ()) -> None:
    """Write the symbol, parameters and input shapes of a model; each file is complete or absent.

    Args:
        model: a bound Module with parameters, or a HybridBlock that was called.  Without
            ``shapes`` it must have been hybridized, and model-shapes.json is not written.
        model_dir: gets model-symbol.json, model-0000.params (``arg:`` and ``aux:`` keys) and
            model-shapes.json (``[{"name": str, "shape": [ints]}]``, with the batch size of the
            training).  Files with these names are replaced.
        shapes: shapes of a HybridBlock's inputs; see ``recorded_shapes``.

    Raises:
        ModelError: the model is not one of these.

    Source: the developer guide, ``save``; CONTRACT A5 for names and bytes.
    """
    is_block = isinstance(model, mx.gluon.HybridBlock)
    if not (is_module(model) or (is_block and (shapes or model._cached_graph))):
        raise ModelError(
            "the default save writes a Module, or a HybridBlock that was called; train returned a "
            f"{type(model).__name__}: define save(model, model_dir) in the script, or save the "
            "model in train and return nothing"
        )
    model_dir.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".saving-", dir=str(model_dir)) as partial:
        if is_block and shapes:
            _save_block(model, Path(partial), shapes)
        elif is_block:
            model.export(str(Path(partial) / "model"), epoch=0)
            (model_dir / SHAPES).unlink(missing_ok=True)
        else:
            _save_module(model, Path(partial))
        for path in Path(partial).iterdir():
            os.replace(path, model_dir / path.name)


def _save_module(module: Any, folder: Path) -> None:
    module.symbol.save(str(folder / SYMBOL))
    module.save_params(str(folder / PARAMS))
    _write_shapes(folder, map(name_and_shape, module.data_shapes))


def _save_block(block: Any, folder: Path, shapes: Sequence[tuple[int, ...]]) -> None:
    block.hybridize()
    with mx.autograd.predict_mode():
        block(*[mx.nd.zeros(shape, ctx=device_of(block, mx.cpu())) for shape in shapes])
    block.export(str(folder / "model"), epoch=0)
    _write_shapes(folder, zip(cached_input_names(block), shapes))


def _write_shapes(folder: Path, shapes: Iterable[tuple[str, tuple[int, ...]]]) -> None:
    inputs = [{"name": name, "shape": list(shape)} for name, shape in shapes]
    (folder / SHAPES).write_text(json.dumps(inputs))


# --- loading ---------------------------------------------------------------------------------


def load(model_dir: Path, first_dimension: int, device: Any) -> Any:
    """Load the artifacts of a model_dir as a Module for inference.

    Args:
        model_dir: has files of ``save``, Module.save_checkpoint or HybridBlock.export.
        first_dimension: rows to bind for; 0: the number it was saved with.  Without a file of
            shapes the first request binds the Module.
        device: the device on which the Module computes.

    Raises:
        ModelError: a file is missing or broken; names the file.

    Source: the developer guide, ``model_fn``; CONTRACT B3, C15.
    """
    artifacts = find(model_dir)
    try:
        epoch = int(artifacts.params.stem[-4:])
        prefix = str(model_dir / artifacts.prefix)
        symbol, arg_params, aux_params = mx.model.load_checkpoint(prefix, epoch)
        if artifacts.shapes is None:
            names = _inputs(symbol, {*arg_params, *aux_params})
            return UnboundModule.of(symbol, names, arg_params, aux_params, device)
        shapes = read_shapes(artifacts.shapes)
        if first_dimension:
            shapes = [(name, (first_dimension, *shape[1:])) for name, shape in shapes]
        names = [name for name, _ in shapes]
        _check_names(symbol, names, {*arg_params, *aux_params}, artifacts)
        graph = Graph.of_symbol(symbol, names, {**arg_params, **aux_params}, device)
        return _bound_module(graph, shapes)
    except (mx.base.MXNetError, ValueError, RuntimeError) as exc:
        raise ModelError(f"the artifacts do not make a Module: {first_line(exc)}") from exc


def _bound_module(graph: Graph, shapes: list[tuple[str, tuple[int, ...]]]) -> Any:
    """A Module bound to ``shapes`` on the parameters of a graph, without copying them.

    Module.bind allocates two more sets of parameters and copies into them, unless it shares those
    of another Module.  That other Module needs only an executor.
    """
    sizes = [shape for _, shape in shapes]
    executor = Executors(graph).executor(tuple(sizes))
    shared = _module(graph)
    shared._exec_group = SimpleNamespace(execs=[executor], shared_data_arrays=[{}])
    shared._arg_params = {name: executor.arg_dict[name] for name in shared._param_names}
    shared._aux_params = dict(executor.aux_dict)
    shared.binded = shared.params_initialized = True
    module = _module(graph)
    with contextlib.nullcontext() if may_fuse(graph, sizes) else unfused():
        module.bind(data_shapes=shapes, for_training=False, shared_module=shared)
    return module


def _module(graph: Graph) -> Any:
    names = list(graph.names)
    return mx.mod.Module(graph.symbol, data_names=names, label_names=None, context=graph.device)


def _inputs(symbol: Any, parameters: set[str]) -> list[str]:
    """The arguments of a symbol that are neither parameters nor labels."""
    names = [
        name
        for name in symbol.list_arguments()
        if name not in parameters and not name.endswith("label")
    ]
    if not names:
        raise ModelError("the symbol has no input: all its arguments are parameters or labels")
    return names


def _check_names(
    symbol: Any, inputs: list[str], parameters: set[str], artifacts: Artifacts
) -> None:
    """Check that the symbol has these inputs, and that all its other arguments have values.

    MXNet would silently use zeros for a missing parameter.  Labels are needed only in training.

    Raises:
        ModelError: names the inputs or the parameters.
    """
    names = [*symbol.list_arguments(), *symbol.list_auxiliary_states()]
    unknown = [name for name in inputs if name not in names]
    if unknown:
        raise ModelError(
            f"{artifacts.prefix}-shapes.json names an input {', '.join(unknown)}, which the symbol "
            "does not have"
        )
    available = {*parameters, *inputs}
    missing = [name for name in names if name not in available and not name.endswith("label")]
    if missing:
        raise ModelError(f"{artifacts.params.name} has no values for {', '.join(missing)}")
