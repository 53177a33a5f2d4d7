"""The inputs of a Module and the parameters of a Block's forward, as MXNet takes them."""

from __future__ import annotations

import inspect
from typing import Any, Mapping

import mxnet as mx

from mms_handler.errors import BadInput
from mms_handler.models import gluon_patch
from mms_handler.models.mx import first_line
from mms_handler.models.rows import rows_by_input


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


def fixed_shapes(module: Any) -> list[tuple[int, ...]] | None:
    """The shapes that a Module's inputs have, in their order; None if those of requests bind it."""
    if isinstance(module, UnboundModule):
        return None
    return [name_and_shape(desc)[1] for desc in module.data_shapes]


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
    rows = rows_by_input(value, list(module.data_names), fixed_shapes(module))
    if isinstance(module, UnboundModule):
        module.fit(rows)
    batch_size = name_and_shape(module.data_shapes[0])[1][0]
    data = mx.io.NDArrayIter(rows, batch_size=batch_size, last_batch_handle="pad")
    order = list(rows)  # NDArrayIter sorts by name, Module.forward uses the Module's own order
    data.data.sort(key=lambda pair: order.index(pair[0]))
    return data


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
