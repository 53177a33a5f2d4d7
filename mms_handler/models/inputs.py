"""Fit the arrays of a request to the inputs of a Module or the parameters of a Block's forward."""

from __future__ import annotations

import inspect
import math
from typing import Any, Iterable, Mapping

import mxnet as mx

from mms_handler.errors import BadInput, UnsupportedShape
from mms_handler.models import gluon_patch
from mms_handler.models.mx import first_line


class UnboundModule(mx.mod.Module):  # type: ignore[misc]
    """A Module that was saved without its input shapes, and is bound to those of requests."""

    @classmethod
    def of(
        cls, symbol: Any, names: list[str], arg_params: Any, aux_params: Any, device: Any
    ) -> UnboundModule:
        module = cls(symbol, data_names=names, label_names=None, context=device)
        module._arg_params, module._aux_params = arg_params, aux_params  # as Module.load does
        module.params_initialized = True
        return module

    def fit(self, arrays: Mapping[str, Any]) -> None:
        """Bind to the shapes of these arrays, unless it is bound to samples of these shapes.

        Raises:
            BadInput: the symbol does not take these shapes.
        """
        shapes = [(name, tuple(arrays[name].shape)) for name in self.data_names]
        bound = [name_and_shape(desc) for desc in self.data_shapes] if self.binded else []
        if [shape[1:] for _, shape in shapes] == [shape[1:] for _, shape in bound]:
            return
        try:
            self.bind(data_shapes=shapes, for_training=False, force_rebind=True)
        except (mx.base.MXNetError, RuntimeError) as exc:
            raise BadInput(f"the model does not take this body: {first_line(exc)}") from exc


def name_and_shape(desc: Any) -> tuple[str, tuple[int, ...]]:
    """The name and shape of a DataDesc, or of a pair, which older versions of MXNet used."""
    return desc[0], tuple(desc[1])


# --- Modules ---------------------------------------------------------------------------------


def to_data(value: Any, module: Any) -> Any:
    """Cut rows into batches of a Module's bound size.

    Args:
        value: an NDArray or ndarray: (N, *sample); or N rows, each with a sample's values in
            another shape, such as lines of CSV; or a single sample.  For several inputs, a dict
            of these.
        module: bound to (B, *sample), or saved without shapes.

    Returns:
        An ``NDArrayIter`` of ceil(N / B) batches.  It pads the last batch with the first rows
        and tells ``Module.predict`` how many rows to drop (``getpad``): N rows in, N rows out.

    Raises:
        BadInput: the values do not divide into samples, or the names are not the inputs'.
        UnsupportedShape: the Module has several inputs and the body is one array.

    Source: the developer guide, "Request handlers for Module models".
    """
    rows = rows_by_input(value, module)
    if isinstance(module, UnboundModule):
        module.fit(rows)
    batch_size = name_and_shape(module.data_shapes[0])[1][0]
    data = mx.io.NDArrayIter(rows, batch_size=batch_size, last_batch_handle="pad")
    order = list(rows)  # NDArrayIter sorts by name, Module.forward uses the Module's own order
    data.data.sort(key=lambda pair: order.index(pair[0]))
    return data


def rows_by_input(value: Any, module: Any) -> dict[str, Any]:
    """``value`` as (N, *sample) for each input of a Module, in the order of its inputs.

    Raises:
        BadInput, UnsupportedShape: as ``to_data``.
    """
    arrays = by_name(value, list(module.data_names))
    if isinstance(module, UnboundModule):
        rows = {name: arrays[name] for name in module.data_names}
    else:
        shapes = [name_and_shape(desc) for desc in module.data_shapes]
        rows = {
            name: _as_rows(arrays[name], shape[1:], f" as {name}" if len(shapes) > 1 else "")
            for name, shape in shapes
        }
    counts = {name: array.shape[0] if array.shape else 0 for name, array in rows.items()}
    if len(set(counts.values())) > 1:
        raise BadInput(f"the inputs have different numbers of rows: {counts}")
    if 0 in counts.values():
        raise BadInput("the body has no rows; the model takes one or more")
    return rows


def _as_rows(value: Any, sample: tuple[int, ...], role: str) -> Any:
    """``value`` as (N, *sample).  The values of two rows are never mixed."""
    shape, size = tuple(value.shape), math.prod(sample)
    if shape and shape[0] and math.prod(shape[1:]) == size:
        return value.reshape((shape[0], *sample))
    is_sample = len(shape) == 1 or [d for d in shape if d != 1] == [d for d in sample if d != 1]
    if shape and is_sample and math.prod(shape) == size:
        return value.reshape((1, *sample))
    expected = ", ".join(map(str, ("N", *sample)))
    raise BadInput(f"the model takes ({expected}){role}, the body has {shape}")


# --- Blocks ----------------------------------------------------------------------------------


def forward_names(block: Any) -> list[str]:
    """The names of the arrays that a Block's forward takes; [] if its signature has none."""
    if isinstance(block, mx.gluon.SymbolBlock):
        return gluon_patch.cached_input_names(block)
    hybrid = isinstance(block, mx.gluon.HybridBlock)
    forward = block.hybrid_forward if hybrid else block.forward
    # MXNet itself passes a HybridBlock's own parameters to hybrid_forward.
    parameters = gluon_patch.own_parameters(block) if hybrid else {}
    names = [
        p.name
        for p in inspect.signature(forward).parameters.values()
        if p.kind is p.POSITIONAL_OR_KEYWORD and p.default is p.empty and p.name not in parameters
    ]
    return names[1:] if hybrid else names  # the first parameter of hybrid_forward is F


def in_order(value: Any, names: list[str]) -> list[Any]:
    """An array, or a dict of arrays, in the order of a forward's parameters.

    Raises:
        BadInput: the body has other names.
        UnsupportedShape: the body is one array and the forward takes several.
    """
    if len(names) < 2:
        return [single_array(value) if isinstance(value, dict) else value]
    arrays = by_name(value, names)
    return [arrays[name] for name in names]


# --- names -----------------------------------------------------------------------------------


def by_name(value: Any, names: list[str]) -> dict[str, Any]:
    """``value`` as a dict by input.  If the model has one input, the body may call it anything.

    Raises:
        BadInput: an input is missing, or the body has one that the model does not have.
        UnsupportedShape: the body is one array and the model has several inputs.
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
        raise BadInput(f"the model's inputs are {', '.join(names)}, the body's {_quoted(value)}")
    return value


def single_array(value: Mapping[str, Any]) -> Any:
    """The array of a body that has one array, by any name.

    Raises:
        BadInput: the body has several arrays.
    """
    if len(value) != 1:
        raise BadInput(f"the model takes one array, the body has {_quoted(value)}")
    return next(iter(value.values()))


def _quoted(names: Iterable[str]) -> str:
    return ", ".join(map(repr, names))[:200]  # a client's names may be long
