"""What a training leaves on disk: the default save's files, and what else people saved.

model-symbol.json  model-0000.params  model-shapes.json     the default save
PREFIX-symbol.json PREFIX-EPOCH.params                      save_checkpoint, HybridBlock.export
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Iterable, Iterator, NamedTuple, Sequence

import mxnet as mx

from mms_handler.errors import ModelError
from mms_handler.models.graphs.executors import Executors, affordable, unfused
from mms_handler.models.graphs.graph import Graph
from mms_handler.models.inputs import UnboundModule, described
from mms_handler.models.mx import device_of, first_line, is_module

SYMBOL, PARAMS, SHAPES = "model-symbol.json", "model-0000.params", "model-shapes.json"


def save(model: Any, model_dir: Path, shapes: Sequence[tuple[int, ...]] = ()) -> None:
    """Write a model's symbol, parameters and input shapes, each under its final name at once.

    Args:
        model: a Module, bound, with parameters; or a HybridBlock that was called.
        model_dir: gets model-symbol.json, model-0000.params (``arg:`` and ``aux:`` keys) and
            model-shapes.json (``[{"name": str, "shape": [ints]}]``, the training batch size
            included); what had these names is replaced.
        shapes: of a HybridBlock's inputs; see ``recorded_shapes``.

    Raises:
        ModelError: it is neither.

    Source: the developer guide, ``save``; CONTRACT A5 for names and bytes.
    """
    called = isinstance(model, mx.gluon.HybridBlock) and shapes
    if not (is_module(model) or called):
        raise ModelError(
            f"the default save writes Modules and HybridBlocks that were called, train returned a "
            f"{type(model).__name__}; define save(model, model_dir) in the script, or save in "
            "train and return nothing"
        )
    model_dir.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".saving-", dir=str(model_dir)) as partial:
        if called:
            _save_block(model, Path(partial), shapes)
        else:
            _save_module(model, Path(partial))
        for name in (SYMBOL, PARAMS, SHAPES):
            os.replace(Path(partial) / name, model_dir / name)


def _save_module(module: Any, folder: Path) -> None:
    module.symbol.save(str(folder / SYMBOL))
    module.save_params(str(folder / PARAMS))
    _write_shapes(folder, map(described, module.data_shapes))


def _save_block(block: Any, folder: Path, shapes: Sequence[tuple[int, ...]]) -> None:
    block.hybridize()
    with mx.autograd.predict_mode():
        block(*[mx.nd.zeros(shape, ctx=device_of(block, mx.cpu())) for shape in shapes])
    names = [symbol.name for symbol in block._cached_graph[0]]
    block.export(str(folder / "model"), epoch=0)
    _write_shapes(folder, zip(names, shapes))


def _write_shapes(folder: Path, shapes: Iterable[tuple[str, tuple[int, ...]]]) -> None:
    written = [{"name": name, "shape": list(shape)} for name, shape in shapes]
    (folder / SHAPES).write_text(json.dumps(written))


class Watched:
    """The shapes of the arrays that each Block was last called with."""

    def __init__(self) -> None:
        self._seen: dict[int, tuple[tuple[int, ...], ...]] = {}

    def see(self, block: Any, arrays: Sequence[Any]) -> None:
        if all(isinstance(array, mx.nd.NDArray) for array in arrays):
            self._seen[id(block)] = tuple(tuple(array.shape) for array in arrays)

    def shapes(self, block: Any) -> tuple[tuple[int, ...], ...]:
        return self._seen.get(id(block), ())


@contextlib.contextmanager
def recorded_shapes() -> Iterator[Watched]:
    """Note, while a script trains, what shapes its Blocks take: MXNet does not keep them."""
    watched = Watched()
    call = mx.gluon.Block.__call__

    def recording(self: Any, *arrays: Any) -> Any:
        watched.see(self, arrays)
        return call(self, *arrays)

    mx.gluon.Block.__call__ = recording
    try:
        yield watched
    finally:
        mx.gluon.Block.__call__ = call


# --- loading ---------------------------------------------------------------------------------


class Artifacts(NamedTuple):
    """Files that make one model."""

    prefix: str  # "model"
    params: Path
    symbol: Path
    shapes: Path | None


def find(model_dir: Path) -> Artifacts:
    """The artifacts of a model_dir: the default save's, else the only pair of other names.

    Raises:
        ModelError: there are none, or two candidates; lists what is there.
    """
    if (model_dir / SYMBOL).is_file() and (model_dir / PARAMS).is_file():
        return _artifacts(model_dir / PARAMS, "model")
    pairs = [
        _artifacts(path, match.group(1))
        for path in sorted(model_dir.glob("*.params"))
        for match in [re.fullmatch(r"(.+)-\d{4}\.params", path.name)]
        if match and (model_dir / f"{match.group(1)}-symbol.json").is_file()
    ]
    if len(pairs) > 1:
        raise ModelError(
            f"which model is it? {', '.join(pair.params.name for pair in pairs)}; "
            "leave one, or load it in a model_fn"
        )
    if not pairs:
        there = ", ".join(sorted(path.name for path in model_dir.iterdir())[:20]) or "nothing"
        raise ModelError(
            f"no {SYMBOL} and {PARAMS} in the model directory, nor another PREFIX-symbol.json and "
            f"PREFIX-EPOCH.params; a script with a model_fn can load anything (there: {there})"
        )
    return pairs[0]


def _artifacts(params: Path, prefix: str) -> Artifacts:
    shapes = params.with_name(f"{prefix}-shapes.json")
    symbol = params.with_name(f"{prefix}-symbol.json")
    return Artifacts(prefix, params, symbol, shapes if shapes.is_file() else None)


def load(model_dir: Path, first_dimension: int, on: Any) -> Any:
    """The Module that a model_dir's artifacts make, for inference.

    Args:
        model_dir: has what ``save``, Module.save_checkpoint or HybridBlock.export wrote.
        first_dimension: rows to bind for; 0: as many as it was saved with.  Without a file of
            shapes the Module is bound by the first request.
        on: the device.

    Raises:
        ModelError: names the file that is missing, or is not what it should be.

    Source: the developer guide, ``model_fn``; CONTRACT B3, C15.
    """
    found = find(model_dir)
    try:
        epoch = int(found.params.stem[-4:])
        prefix = str(model_dir / found.prefix)
        symbol, arg_params, aux_params = mx.model.load_checkpoint(prefix, epoch)
        if found.shapes is None:
            names = _inputs(symbol, {*arg_params, *aux_params})
            return UnboundModule.of(symbol, names, arg_params, aux_params, on)
        shapes = _saved_shapes(found.shapes)
        if first_dimension:
            shapes = [(name, (first_dimension, *shape[1:])) for name, shape in shapes]
        names = [name for name, _ in shapes]
        _check_names(symbol, names, {*arg_params, *aux_params}, found)
        return _bound(Graph.of(symbol, names, {**arg_params, **aux_params}, on), shapes)
    except (mx.base.MXNetError, ValueError, RuntimeError) as exc:
        raise ModelError(f"the artifacts do not make a Module: {first_line(exc)}") from exc


def _bound(graph: Graph, shapes: list[tuple[str, tuple[int, ...]]]) -> Any:
    """A Module bound to ``shapes`` on a graph's parameters themselves.

    Module.bind makes two more sets of parameters, which are then copied to, unless it shares
    another Module's: one that has nothing but an executor serves.
    """
    sizes = [shape for _, shape in shapes]
    executor = Executors(graph).executor(tuple(sizes))
    given = _module(graph)
    given._exec_group = SimpleNamespace(execs=[executor], shared_data_arrays=[{}])
    given._arg_params = {name: executor.arg_dict[name] for name in given._param_names}
    given._aux_params = dict(executor.aux_dict)
    given.binded = given.params_initialized = True
    module = _module(graph)
    with contextlib.nullcontext() if affordable(graph, sizes) else unfused():
        module.bind(data_shapes=shapes, for_training=False, shared_module=given)
    return module


def _module(graph: Graph) -> Any:
    names = list(graph.names)
    return mx.mod.Module(graph.symbol, data_names=names, label_names=None, context=graph.device)


def _inputs(symbol: Any, parameters: set[str]) -> list[str]:
    """The names that a symbol takes and its parameters do not give; labels are not inputs."""
    names = [
        name
        for name in symbol.list_arguments()
        if name not in parameters and not name.endswith("label")
    ]
    if not names:
        raise ModelError("the symbol takes no input that its parameters leave open")
    return names


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


def _check_names(symbol: Any, inputs: list[str], parameters: set[str], found: Artifacts) -> None:
    """Every input and parameter is where it should be.

    Labels apart, which only training has, a parameter left out would silently be zero.
    """
    wanted = [*symbol.list_arguments(), *symbol.list_auxiliary_states()]
    strange = [name for name in inputs if name not in wanted]
    if strange:
        names = ", ".join(strange)
        raise ModelError(f"the symbol has no input {names}; {found.prefix}-shapes.json names it")
    given = {*parameters, *inputs}
    missing = [name for name in wanted if name not in given and not name.endswith("label")]
    if missing:
        raise ModelError(f"{found.params.name} has no values for {', '.join(missing)}")
