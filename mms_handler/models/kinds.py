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
