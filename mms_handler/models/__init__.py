"""Load, save and run MXNet's models, and convert between its arrays and NumPy's.

No other package imports mxnet, which takes two seconds; NumPy alone takes a fifth of one.
"""

from __future__ import annotations

import numpy as np

from mms_handler.errors import ModelError

if np.lib.NumpyVersion(np.__version__) >= "1.24.0":  # another package may have upgraded it
    raise ModelError(
        f"mxnet 1.9.1 needs numpy < 1.24, found {np.__version__}: pip install 'numpy<1.24'"
    )

from mms_handler.models.arrays import (
    Arrays,
    Stack,
    is_array,
    size_bytes,
    to_ndarray,
    to_ndarrays,
    to_plain,
)
from mms_handler.models.artifacts import load, save, saved_shapes
from mms_handler.models.expected import Expected
from mms_handler.models.gluon_patch import defer_gradients, recorded_shapes
from mms_handler.models.graphs.faster import (
    FasterGraph,
    blocks,
    recorded_calls,
    try_graph,
    use_graph,
)
from mms_handler.models.graphs.graph import graph_of
from mms_handler.models.graphs.int8 import PackedInt8, try_int8
from mms_handler.models.graphs.quantize import quantize
from mms_handler.models.graphs.shapes import ShapeRules
from mms_handler.models.images import decode_image
from mms_handler.models.inputs import single_array, to_data
from mms_handler.models.mx import device, gpu_count, is_block, is_module
from mms_handler.models.passes import STACK_BYTES, Passes
from mms_handler.models.predictor import predict, predictor

__all__ = [
    "STACK_BYTES",
    "Arrays",
    "Expected",
    "FasterGraph",
    "PackedInt8",
    "Passes",
    "ShapeRules",
    "Stack",
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
    "predict",
    "predictor",
    "quantize",
    "recorded_calls",
    "recorded_shapes",
    "save",
    "saved_shapes",
    "single_array",
    "size_bytes",
    "to_data",
    "to_ndarray",
    "to_ndarrays",
    "to_plain",
    "try_graph",
    "try_int8",
    "use_graph",
]
