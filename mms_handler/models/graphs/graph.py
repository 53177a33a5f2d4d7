"""The graph that a Module or a HybridBlock computes: a symbol, its inputs and its parameters."""

from __future__ import annotations

import math
from typing import Any, Mapping, NamedTuple, Sequence

import mxnet as mx
import numpy as np

from mms_handler.errors import Failed, ModelError, attempt
from mms_handler.models import gluon_patch
from mms_handler.models.arrays import is_cpu_ndarray, leaves
from mms_handler.models.inputs import UnboundModule
from mms_handler.models.kinds import is_module
from mms_handler.models.mx import first_line

Shapes = Sequence[Sequence[int]]

#: Bytes of the largest activations in one forward, on a CPU and on a GPU.  Further rows go into
#: another forward: convolutions gain nothing from more rows than fit into the CPU's cache.
CPU_BYTES, GPU_BYTES = 2**23, 2**28


class Graph(NamedTuple):
    """A symbol, and all that is needed to run it."""

    symbol: Any
    names: tuple[str, ...]  # of the inputs, in the order of the arrays
    dtypes: tuple[Any, ...]  # in which the graph takes each input
    parameters: Mapping[str, Any]  # arguments and auxiliary states by name
    device: Any

    @classmethod
    def of_symbol(
        cls, symbol: Any, names: Sequence[str], parameters: Mapping[str, Any], device: Any
    ) -> Graph:
        """The graph of a symbol and loaded parameters, which are cast to the symbol's types.

        Raises:
            MXNetError: the types do not fit together.
        """
        attributes = symbol.attr_dict()
        untyped = [name for name in names if "__dtype__" not in attributes.get(name, {})]
        types, _, states = symbol.infer_type_partial(**dict.fromkeys(untyped, np.float32))
        arguments = [*symbol.list_arguments(), *symbol.list_auxiliary_states()]
        dtypes = dict(zip(arguments, [*types, *states]))
        parameters = {  # a type that cannot be inferred stays as it was saved
            name: array.astype(dtypes[name] or array.dtype, copy=False).as_in_context(device)
            for name, array in parameters.items()
            if name in dtypes
        }
        return cls(symbol, tuple(names), tuple(dtypes[name] for name in names), parameters, device)

    @property
    def bytes(self) -> int:
        """Bytes of the parameters."""
        return sum(_bytes(array.shape) for array in self.parameters.values())

    def max_rows(self, shapes: Shapes) -> int:
        """The limit of rows that one forward should take, for samples as in ``shapes``."""
        limit = CPU_BYTES if self.device.device_type == "cpu" else GPU_BYTES
        return max(1, limit * shapes[0][0] // self.activations(shapes))

    def activations(self, shapes: Shapes) -> int:
        """An estimate of a forward's bytes: twice its largest array, for input and output."""
        internals = self.symbol.get_internals()
        sizes = zip(internals.list_outputs(), self._replace(symbol=internals).infer(shapes)[1])
        return 2 * max(_bytes(size) for name, size in sizes if name not in self.parameters)

    def infer(self, shapes: Shapes) -> tuple[Any, Any, Any]:
        """The shapes of the arguments, outputs and auxiliary states, for inputs of ``shapes``.

        Raises:
            MXNetError: the graph does not take these shapes, or they do not define all others.
        """
        inputs = dict(zip(self.names, map(tuple, shapes)))
        inferred: tuple[Any, Any, Any] = self.symbol.infer_shape(**inputs)
        if inferred[0] is None:
            unknown = self._unknown(inputs)
            raise mx.base.MXNetError(f"the shapes {inputs} leave that of {unknown} undefined")
        return inferred

    def _unknown(self, inputs: Mapping[str, Any]) -> str:
        """The first array whose shape MXNet does not infer."""
        internals = self.symbol.get_internals()
        shapes = internals.infer_shape_partial(**inputs)[1]
        names = zip(internals.list_outputs(), shapes)
        return next((name for name, shape in names if not shape or 0 in shape), "an array")


def with_rows(rows: int, shapes: Shapes) -> list[tuple[int, ...]]:
    """``shapes`` with another number of rows."""
    return [(rows, *shape[1:]) for shape in shapes]


def _bytes(shape: Sequence[int]) -> int:
    return 4 * math.prod(shape)


def graph_of(model: Any, arrays: Sequence[Any]) -> Graph:
    """The graph of a Module, or of a Block that is called with ``arrays``.

    Raises:
        ModelError: the model has no graph that computes the same.
    """
    if is_module(model):
        module_graph = of_module(model)
        if module_graph is None:
            raise ModelError(
                "the Module does not just compute its symbol: it uses several devices, has states, "
                "is in training, is of a subclass, or its rows are not the first dimension"
            )
        return module_graph
    if not has_graph(model, arrays):
        raise ModelError(
            "the Block has no graph: a Block in it has Python in its forward, or hooks, or it was "
            "called with something that is not a dense array on the CPU"
        )
    graph = attempt(of_block, model, arrays)
    if isinstance(graph, Failed):
        raise ModelError(f"the Block has no graph: {first_line(graph.exc)}")
    block_graph: Graph = graph
    return block_graph


# --- Modules ---------------------------------------------------------------------------------


def of_module(module: Any) -> Graph | None:
    """The graph of a Module, with the Module's own parameters.

    None if the Module does not just compute its symbol: it uses several devices, has states, is in
    training, is of a subclass, or its rows are not the first dimension.
    """
    if not _is_plain(module):
        return None
    names = tuple(module.data_names)
    if not module.binded:  # an UnboundModule
        parameters = {**module._arg_params, **module._aux_params}
        dtypes: tuple[Any, ...] = (np.float32,) * len(names)
    else:
        (executor,) = module._exec_group.execs
        parameters = {**executor.arg_dict, **executor.aux_dict}
        dtypes = tuple(parameters.pop(name).dtype for name in names)
    return Graph(module.symbol, names, dtypes, parameters, module._context[0])


def _is_plain(module: Any) -> bool:
    if not (type(module) is mx.mod.Module or isinstance(module, UnboundModule)):
        return False
    if any(hasattr(type(module), name) for name in vars(module)):  # module.predict = ...
        return False
    if len(module._context) > 1 or module._state_names or not module.data_names:
        return False
    if not module.binded:
        return bool(module.params_initialized)
    # MXNet binds all inputs to the same number of rows.
    axes = {mx.io.DataDesc.get_batch_axis(desc.layout) for desc in module.data_shapes}
    return axes == {0} and not module.for_training


# --- Blocks ----------------------------------------------------------------------------------


def has_graph(block: Any, arguments: Sequence[Any]) -> bool:
    """Whether a graph can replace a Block that is called with ``arguments``."""
    return bool(is_hybrid(block) and arguments and all(map(is_cpu_ndarray, arguments)))


_FORWARDS = (mx.gluon.HybridBlock.forward, mx.gluon.SymbolBlock.forward)


def is_hybrid(block: Any) -> bool:
    """Whether all Blocks are HybridBlocks with MXNet's forward, and none inside has hooks."""
    return (
        isinstance(block, mx.gluon.HybridBlock)
        and type(block).forward in _FORWARDS
        and "forward" not in vars(block)
        and all(map(is_hybrid, gluon_patch.children(block)))
        and not any_child_has_hooks(block)
    )


def any_child_has_hooks(block: Any) -> bool:
    """Whether calling a Block also calls hooks of Blocks in it, at any depth."""
    return any(
        gluon_patch.has_hooks(child) or any_child_has_hooks(child)
        for child in gluon_patch.children(block)
    )


def traced(block: Any, inputs: int) -> tuple[Any, tuple[str, ...]]:
    """The symbol of a Block that is called with this many arrays, and their names in it.

    Raises:
        Exception: the Block cannot be traced.
    """
    names = tuple(f"mms_handler_input{place}" for place in range(inputs))
    return mx.sym.Group(list(leaves(block.forward(*map(mx.sym.var, names))))), names


def of_block(block: Any, arguments: Sequence[Any]) -> Graph:
    """Trace a HybridBlock that is called with ``arguments``; the graph has the Block's parameters.

    Raises:
        Exception: the Block cannot be traced, or its graph does not take these arguments.
    """
    symbol, names = traced(block, len(arguments))
    block_parameters, device = block.collect_params(), arguments[0].context
    parameters = {
        name: block_parameters[name].data(device)
        for name in symbol.list_inputs()
        if name not in names
    }
    dtypes = tuple(argument.dtype for argument in arguments)
    graph = Graph(symbol, names, dtypes, parameters, device)
    graph.infer([argument.shape for argument in arguments])
    return graph
