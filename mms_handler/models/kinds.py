"""Which values are MXNet's: none are where MXNet has not been imported, and this imports it not."""

from __future__ import annotations

import sys
from typing import Any


def is_ndarray(value: Any) -> bool:
    mxnet = sys.modules.get("mxnet")
    return mxnet is not None and isinstance(value, mxnet.nd.NDArray)


def is_module(model: Any) -> bool:
    mxnet = sys.modules.get("mxnet")
    return mxnet is not None and isinstance(model, mxnet.module.BaseModule)


def is_block(model: Any) -> bool:
    mxnet = sys.modules.get("mxnet")
    return mxnet is not None and isinstance(model, mxnet.gluon.Block)


def blocks(model: Any) -> list[Any]:
    """The HybridBlocks with MXNet's ``forward``: the model itself, or items of a list or tuple."""
    mxnet = sys.modules.get("mxnet")
    if mxnet is None:
        return []
    members = model if isinstance(model, (list, tuple)) else [model]
    hybrid = {id(block): block for block in members if isinstance(block, mxnet.gluon.HybridBlock)}
    return [block for block in hybrid.values() if "forward" not in vars(block)]
