"""MXNet: load and save models, feed and run them, and turn what they give into NumPy.

The only package that imports mxnet (two seconds; NumPy a fifth of one).
"""

from __future__ import annotations

import numpy as np

from mms_handler.errors import ModelError

if np.lib.NumpyVersion(np.__version__) >= "1.24.0":  # pip replaces it for other packages' sake
    raise ModelError(
        f"mxnet 1.9.1 needs numpy < 1.24, this is {np.__version__}: pip install 'numpy<1.24'"
    )

from mms_handler.models.artifacts import load, save, watching
from mms_handler.models.int8 import Int8
from mms_handler.models.int8 import swap as swap_int8
from mms_handler.models.optimize import blocks, noted, swap
from mms_handler.models.parameters import spare
from mms_handler.models.predicting import predictor
from mms_handler.models.quantizing import Agreement, Quantized, graph_of, quantize
from mms_handler.models.running import (
    decode_image,
    device,
    gpu_count,
    is_array,
    is_block,
    is_module,
    only,
    predict,
    to_data,
    to_ndarray,
    to_ndarrays,
    to_plain,
)
from mms_handler.models.stacking import Together

__all__ = [
    "Agreement",
    "Int8",
    "Quantized",
    "Together",
    "blocks",
    "decode_image",
    "device",
    "gpu_count",
    "graph_of",
    "is_array",
    "is_block",
    "is_module",
    "load",
    "noted",
    "only",
    "predict",
    "predictor",
    "quantize",
    "save",
    "spare",
    "swap",
    "swap_int8",
    "to_data",
    "to_ndarray",
    "to_ndarrays",
    "to_plain",
    "watching",
]
