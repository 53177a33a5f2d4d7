"""What a Module or a HybridBlock computes: a symbol, its inputs and its parameters."""

from __future__ import annotations

import math
from typing import Any, Mapping, NamedTuple, Sequence

import mxnet as mx
import numpy as np

from mms_handler.errors import Failed, ModelError, attempt
from mms_handler.models.arrays import is_plain, leaves
from mms_handler.models.inputs import UnboundModule
from mms_handler.models.mx import first_line, is_module

Shapes = Sequence[Sequence[int]]

#: Bytes of the largest activations that a forward on a CPU makes at once.  Rows beyond these are
#: another forward: convolutions gain nothing from more rows than the cache holds.
CPU_BYTES, GPU_BYTES = 2**23, 2**28


class Graph(NamedTuple):
    """What a Module or a HybridBlock computes, and with what."""

    symbol: Any
    names: tuple[str, ...]  # inputs, in the order of the arrays
    dtypes: tuple[Any, ...]  # what each input is computed in
    parameters: Mapping[str, Any]  # arguments and auxiliary states by name
    device: Any

    @classmethod
    def of(cls, symbol: Any, names: Sequence[str], parameters: Mapping[str, Any], on: Any) -> Graph:
        """A symbol's graph on loaded parameters, made what it computes in.

        Raises:
            MXNetError: the types do not go together.
        """
        told = symbol.attr_dict()
        given = [name for name in names if "__dtype__" not in told.get(name, {})]
        types, _, states = symbol.infer_type_partial(**dict.fromkeys(given, np.float32))
        inputs = [*symbol.list_arguments(), *symbol.list_auxiliary_states()]
        dtypes = dict(zip(inputs, [*types, *states]))
        kept = {  # what the inputs leave open stays of the type it was saved in
            name: one.astype(dtypes[name] or one.dtype, copy=False).as_in_context(on)
            for name, one in parameters.items()
            if name in dtypes
        }
        return cls(symbol, tuple(names), tuple(dtypes[name] for name in names), kept, on)

    @property
    def bytes(self) -> int:
        """Bytes of the parameters."""
        return sum(_bytes(one.shape) for one in self.parameters.values())

    def most(self, shapes: Shapes) -> int:
        """Rows that one forward should take at most, of samples as in ``shapes``."""
        room = CPU_BYTES if self.device.device_type == "cpu" else GPU_BYTES
        return max(1, room * shapes[0][0] // self.activations(shapes))

    def activations(self, shapes: Shapes) -> int:
        """About the bytes that a forward needs: of its largest array, twice, in and out."""
        internals = self.symbol.get_internals()
        made = zip(internals.list_outputs(), self._replace(symbol=internals).infer(shapes)[1])
        return 2 * max(_bytes(size) for name, size in made if name not in self.parameters)

    def infer(self, shapes: Shapes) -> tuple[Any, Any, Any]:
        """The shapes of the arguments, outputs and auxiliary states.

        Raises:
            MXNetError: the graph does not take these shapes, or they leave others open.
        """
        given = dict(zip(self.names, map(tuple, shapes)))
        found: tuple[Any, Any, Any] = self.symbol.infer_shape(**given)
        if found[0] is None:
            raise mx.base.MXNetError(f"the shapes {given} leave others open")
        return found


def of_rows(rows: int, shapes: Shapes) -> list[tuple[int, ...]]:
    """``shapes`` with as many rows."""
    return [(rows, *shape[1:]) for shape in shapes]


def _bytes(shape: Sequence[int]) -> int:
    return 4 * math.prod(shape)


def graph_of(model: Any, arrays: Sequence[Any]) -> Graph:
    """What a Module, or a Block that is called with ``arrays``, computes.

    Raises:
        ModelError: it does more, or something else, than a graph can tell.
    """
    if is_module(model):
        graph = of_module(model)
        if graph is None:
            raise ModelError("the Module does more than its symbol says")
    elif not swappable(model, arrays):
        raise ModelError("a Block has Python in its forward, or hooks, or what is no dense array")
    else:
        traced_graph = attempt(traced, model, arrays)
        if isinstance(traced_graph, Failed):
            raise ModelError(f"the Block has no graph: {first_line(traced_graph.exc)}")
        graph = traced_graph
    if graph.device.device_type != "cpu":
        raise ModelError(f"int8 is for a CPU, the model is on {graph.device}")
    return graph


# --- Modules ---------------------------------------------------------------------------------


def of_module(module: Any) -> Graph | None:
    """A Module's graph on its own parameters; None for one that does more than its symbol says.

    That is one of several devices, with states, in training, of a class of its own, or whose rows
    are not the first dimension.
    """
    if not _is_plain(module):
        return None
    names = tuple(module.data_names)
    if not module.binded:  # UnboundModule
        parameters = {**module._arg_params, **module._aux_params}
        dtypes: tuple[Any, ...] = (np.float32,) * len(names)
    else:
        (executor,) = module._exec_group.execs
        parameters = {**executor.arg_dict, **executor.aux_dict}
        dtypes = tuple(parameters.pop(name).dtype for name in names)
    return Graph(module.symbol, names, dtypes, parameters, module._context[0])


def _is_plain(module: Any) -> bool:
    usual = type(module) is mx.mod.Module or isinstance(module, UnboundModule)
    own = any(hasattr(type(module), name) for name in vars(module))  # module.predict = ...
    if not usual or own or len(module._context) > 1 or module._state_names or not module.data_names:
        return False
    if not module.binded:
        return bool(module.params_initialized)
    axes = {mx.io.DataDesc.get_batch_axis(desc.layout) for desc in module.data_shapes}
    rows = {desc.shape[0] for desc in module.data_shapes}
    return axes == {0} and len(rows) == 1 and not module.for_training


# --- Blocks ----------------------------------------------------------------------------------


def traced(block: Any, args: Sequence[Any]) -> Graph:
    """What a HybridBlock computes of such arrays, on its own parameters.

    Raises:
        Exception: it computes something else, or cannot be told.
    """
    names = tuple(f"mms_handler_input{place}" for place in range(len(args)))
    symbol = mx.sym.Group(list(leaves(block.forward(*map(mx.sym.var, names)))))
    given = block.collect_params()
    device = args[0].context
    parameters = {
        name: given[name].data(device) for name in symbol.list_inputs() if name not in names
    }
    graph = Graph(symbol, names, tuple(one.dtype for one in args), parameters, device)
    graph.infer([one.shape for one in args])
    return graph


def swappable(block: Any, args: Sequence[Any]) -> bool:
    """Whether a graph can tell all that a Block does when it is called with ``args``."""
    return bool(_is_pure(block) and args and all(map(is_plain, args)))


def _is_pure(block: Any) -> bool:
    """Whether a Block and all in it are HybridBlocks as MXNet runs them, and nobody listens in."""
    return (
        isinstance(block, mx.gluon.HybridBlock)
        and type(block).forward in _FORWARDS
        and "forward" not in vars(block)
        and all(map(_is_pure, block._children.values()))
        and not any(map(_listened, block._children.values()))
    )


_FORWARDS = (mx.gluon.HybridBlock.forward, mx.gluon.SymbolBlock.forward)


def _listened(block: Any) -> bool:
    """Whether a Block, or one in it, calls a hook when it is called."""
    return is_listened(block) or any(map(_listened, block._children.values()))


def is_listened(block: Any) -> bool:
    """Whether a Block calls hooks of its own when it is called."""
    return bool(block._forward_hooks or block._forward_pre_hooks)
