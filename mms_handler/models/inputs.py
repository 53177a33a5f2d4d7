"""What a request's arrays are to a Module or a Block: rows for each of its inputs."""

from __future__ import annotations

import inspect
import math
from typing import Any, Iterable, Mapping

import mxnet as mx

from mms_handler.errors import BadInput, UnsupportedShape
from mms_handler.models.mx import first_line


class UnboundModule(mx.mod.Module):  # type: ignore[misc]
    """A Module saved without its input shapes: each request's own are bound."""

    @classmethod
    def of(
        cls, symbol: Any, names: list[str], arg_params: Any, aux_params: Any, on: Any
    ) -> UnboundModule:
        module = cls(symbol, data_names=names, label_names=None, context=on)
        module._arg_params, module._aux_params = arg_params, aux_params  # as Module.load does
        module.params_initialized = True
        return module

    def fit(self, inputs: list[tuple[str, Any]]) -> None:
        """Bind for samples of these shapes, unless it is."""
        shapes = [(name, tuple(array.shape)) for name, array in inputs]
        bound = [described(desc) for desc in self.data_shapes] if self.binded else []
        if [shape[1:] for _, shape in shapes] != [shape[1:] for _, shape in bound]:
            self.bind(data_shapes=shapes, for_training=False, force_rebind=True)


def to_data(value: Any, module: Any) -> Any:
    """Rows cut into batches of a Module's bound size.

    Args:
        value: NDArray or ndarray: (N, *sample), or N rows of as many values in another shape
            (lines of a CSV body), or one sample alone.  For several inputs a dict of them.
        module: bound to (B, *sample), or saved without shapes.

    Returns:
        An ``NDArrayIter`` of ceil(N / B) batches.  It fills the last one from the first rows
        and says how many to drop again (``getpad``), which ``Module.predict`` does: N rows
        in, N rows out.

    Raises:
        BadInput: the values do not divide into samples, or the names are not the inputs'.
        UnsupportedShape: the Module has several inputs and the body is one array.

    Source: the developer guide, "Request handlers for Module models".
    """
    given = rows_of(value, module)
    if isinstance(module, UnboundModule):
        _fit(module, given)
    data = mx.io.NDArrayIter(
        given, batch_size=described(module.data_shapes[0])[1][0], last_batch_handle="pad"
    )
    order = list(given)  # NDArrayIter sorts by name, Module.forward takes data in its own order
    data.data.sort(key=lambda pair: order.index(pair[0]))
    return data


def rows_of(value: Any, module: Any) -> dict[str, Any]:
    """``value`` as (N, *sample) for each of a Module's inputs, in their order.

    Raises:
        BadInput, UnsupportedShape: as ``to_data``.
    """
    given = by_name(value, list(module.data_names))
    if isinstance(module, UnboundModule):
        rows = {name: given[name] for name in module.data_names}
    else:
        shapes = [described(desc) for desc in module.data_shapes]
        rows = {
            name: _rows(given[name], shape[1:], f" as {name}" if len(shapes) > 1 else "")
            for name, shape in shapes
        }
    counts = {name: array.shape[0] if array.shape else 0 for name, array in rows.items()}
    if len(set(counts.values())) > 1:
        raise BadInput(f"the inputs have different numbers of rows: {counts}")
    if 0 in counts.values():
        raise BadInput("the model takes rows, the body has none")
    return rows


def single_array(value: Mapping[str, Any]) -> Any:
    """The one array of a body that names its arrays, whatever it calls it.

    Raises:
        BadInput: there are several.
    """
    if len(value) != 1:
        raise BadInput(f"one array was wanted, the body names {_listed(value)}")
    return next(iter(value.values()))


def by_name(value: Any, names: list[str]) -> dict[str, Any]:
    """``value`` as a dict by input; one array is the only input's, whatever it is called.

    Raises:
        BadInput: an input is missing, or there is one the model does not have.
        UnsupportedShape: one array, several inputs.
    """
    if not isinstance(value, dict):
        if len(names) > 1:
            raise UnsupportedShape(
                f"the model has {len(names)} inputs ({', '.join(names)}), the body has one"
            )
        return {names[0]: value}
    if len(names) == 1:
        return {names[0]: single_array(value)}
    if set(value) != set(names):
        raise BadInput(f"the model's inputs are {', '.join(names)}, the body's {_listed(value)}")
    return value


def _listed(names: Iterable[str]) -> str:
    return ", ".join(map(repr, names))[:200]  # a client's, of any length


def _fit(module: UnboundModule, given: Mapping[str, Any]) -> None:
    try:
        module.fit([(name, given[name]) for name in module.data_names])
    except (mx.base.MXNetError, RuntimeError) as exc:
        raise BadInput(f"the model does not take this body: {first_line(exc)}") from exc


def described(desc: Any) -> tuple[str, tuple[int, ...]]:
    """Name and shape of a DataDesc, or of the pair that older MXNet had in its place."""
    return desc[0], tuple(desc[1])


def _rows(value: Any, sample: tuple[int, ...], called: str) -> Any:
    """``value`` as (N, *sample), never mixing the values of two rows."""
    shape, size = tuple(value.shape), math.prod(sample)
    if shape and shape[0] and math.prod(shape[1:]) == size:
        return value.reshape((shape[0], *sample))
    whole = len(shape) == 1 or [d for d in shape if d != 1] == [d for d in sample if d != 1]
    if shape and whole and math.prod(shape) == size:
        return value.reshape((1, *sample))
    wanted = ", ".join(map(str, ("N", *sample)))
    raise BadInput(f"the model takes shape ({wanted}){called}, the body has {shape}")


def in_order(value: Any, names: list[str]) -> list[Any]:
    """An array, or a dict of them, in the order of the parameters that a Block's forward has.

    Raises:
        BadInput, UnsupportedShape: the body names others, or is one where several are wanted.
    """
    if len(names) < 2:
        return [single_array(value) if isinstance(value, dict) else value]
    named = by_name(value, names)
    return [named[name] for name in names]


def parameters(block: Any) -> list[str]:
    """The names of the arrays that a Block's forward takes; [] where that cannot be told."""
    if isinstance(block, mx.gluon.SymbolBlock):
        return [symbol.name for symbol in block._cached_graph[0]]
    hybrid = isinstance(block, mx.gluon.HybridBlock)
    forward = block.hybrid_forward if hybrid else block.forward
    known = block._reg_params if hybrid else {}  # passed to hybrid_forward by MXNet itself
    names = [
        p.name
        for p in inspect.signature(forward).parameters.values()
        if p.kind is p.POSITIONAL_OR_KEYWORD and p.default is p.empty and p.name not in known
    ]
    return names[1:] if hybrid else names  # the first is F
