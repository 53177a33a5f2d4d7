"""Import MXNet, set up for serving."""

from __future__ import annotations

import importlib

from mms_handler import numpy_import, settings
from mms_handler.mxnet_import import fast_import, without


def start(*, gpu: bool = False) -> None:
    """Import MXNet and what runs its models; a second call does nothing.

    Args:
        gpu: whether it shall compute on a GPU.
    """
    if not gpu:
        # The legacy containers' choice.  Tiny models are up to twice as fast without the threads
        # of the default engine.
        settings.export_defaults({"MXNET_ENGINE_TYPE": "NaiveEngine"})
    # Else a line for each shape that is bound.
    settings.export_defaults({"MXNET_SUBGRAPH_VERBOSE": "0"})
    numpy_import.finish()
    with without("sklearn"), fast_import():
        for name in ("artifacts", "predictor"):
            importlib.import_module(f"mms_handler.models.{name}")
    from mms_handler.models.gluon_patch import defer_gradients

    defer_gradients()
