"""The weights of a model as NumPy's arrays, by name."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from mms_handler.errors import ModelError
from mms_handler.models.graphs.graph import of_module
from mms_handler.models.kinds import is_block, is_module


def weights_by_name(model: Any) -> dict[str, npt.NDArray[Any]]:
    """The parameters and auxiliary states of a model.

    Args:
        model: a Module, or a Block.  A Block's names are those of ``save_parameters``, by place:
            ``0.weight``.  Sparse arrays become dense.

    Raises:
        ModelError: it is something else, or a parameter has no values yet.
    """
    if is_module(model):
        graph = of_module(model)
        if graph is None:
            arguments, states = model.get_params()
            arrays = {**arguments, **states}
        else:
            arrays = {n: a for n, a in graph.parameters.items() if not n.endswith("label")}
    elif is_block(model):
        arrays = {}
        for name, parameter in model._collect_params_with_prefix().items():
            try:
                arrays[name] = parameter.data()
            except RuntimeError as exc:  # DeferredInitializationError is one
                raise ModelError(f"the parameter {name} has no values yet: {exc}") from exc
    else:
        raise ModelError(
            f"model_fn returns a {type(model).__name__}; only a Module or a Block has weights that "
            "can be exported"
        )
    return {name: np.asarray(array.asnumpy()) for name, array in arrays.items()}
