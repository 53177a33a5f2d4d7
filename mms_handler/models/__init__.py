"""Load, save and run MXNet's models, and convert between its arrays and NumPy's.

No other package imports mxnet, which takes two seconds; NumPy alone takes a fifth of one.  A name
is imported when it is first used: a worker that answers from an ONNX twin does without MXNet.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

import numpy as np

from mms_handler.errors import ModelError

if np.lib.NumpyVersion(np.__version__) >= "1.24.0":  # another package may have upgraded it
    raise ModelError(
        f"mxnet 1.9.1 needs numpy < 1.24, found {np.__version__}: pip install 'numpy<1.24'"
    )

if TYPE_CHECKING:
    from mms_handler.models.arrays import (
        Arrays,
        Stack,
        is_array,
        plain_leaves,
        size_bytes,
        to_ndarray,
        to_ndarrays,
        to_plain,
    )
    from mms_handler.models.artifacts import load, save
    from mms_handler.models.expected import Expected
    from mms_handler.models.files import saved_shapes
    from mms_handler.models.gluon_patch import defer_gradients, recorded_shapes
    from mms_handler.models.graphs.faster import (
        FasterGraph,
        recorded_calls,
        try_graph,
        use_graph,
    )
    from mms_handler.models.graphs.graph import graph_of
    from mms_handler.models.graphs.int8 import PackedInt8, try_int8
    from mms_handler.models.graphs.quantize import quantize
    from mms_handler.models.graphs.shapes import ShapeRules
    from mms_handler.models.images import decode_image
    from mms_handler.models.inputs import to_data
    from mms_handler.models.kinds import blocks, is_block, is_module
    from mms_handler.models.mx import device, gpu_count
    from mms_handler.models.passes import STACK_BYTES, Passes
    from mms_handler.models.predictor import make_predictor, predict
    from mms_handler.models.rows import single_array
    from mms_handler.models.starting import start
    from mms_handler.models.twin import EXTRA, Session, TwinModel, TwinPredictor, near
    from mms_handler.models.twin_making import make_twin
    from mms_handler.models.weights import weights_by_name

__all__ = [
    "EXTRA",
    "STACK_BYTES",
    "Arrays",
    "Expected",
    "FasterGraph",
    "PackedInt8",
    "Passes",
    "Session",
    "ShapeRules",
    "Stack",
    "TwinModel",
    "TwinPredictor",
    "blocks",
    "decode_image",
    "defer_gradients",
    "device",
    "gpu_count",
    "graph_of",
    "is_array",
    "is_block",
    "is_module",
    "load",
    "make_predictor",
    "make_twin",
    "near",
    "plain_leaves",
    "predict",
    "quantize",
    "recorded_calls",
    "recorded_shapes",
    "save",
    "saved_shapes",
    "single_array",
    "size_bytes",
    "start",
    "to_data",
    "to_ndarray",
    "to_ndarrays",
    "to_plain",
    "try_graph",
    "try_int8",
    "use_graph",
    "weights_by_name",
]

#: The names of each module.
_NAMES = {
    "arrays": "Arrays Stack is_array plain_leaves size_bytes to_ndarray to_ndarrays to_plain",
    "artifacts": "load save",
    "expected": "Expected",
    "files": "saved_shapes",
    "gluon_patch": "defer_gradients recorded_shapes",
    "graphs.faster": "FasterGraph recorded_calls try_graph use_graph",
    "graphs.graph": "graph_of",
    "graphs.int8": "PackedInt8 try_int8",
    "graphs.quantize": "quantize",
    "graphs.shapes": "ShapeRules",
    "images": "decode_image",
    "inputs": "to_data",
    "kinds": "blocks is_block is_module",
    "mx": "device gpu_count",
    "passes": "STACK_BYTES Passes",
    "predictor": "make_predictor predict",
    "rows": "single_array",
    "starting": "start",
    "weights": "weights_by_name",
    "twin": "EXTRA Session TwinModel TwinPredictor near",
    "twin_making": "make_twin",
}

_MODULES = {name: module for module, names in _NAMES.items() for name in names.split()}


def __getattr__(name: str) -> Any:
    """Import a name when it is first used."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
    globals()[name] = value  # it is found at once from now on
    return value
