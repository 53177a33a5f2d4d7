"""MXNet as a whole: devices, kinds of models, and its errors."""

from __future__ import annotations

import contextlib
import re
from typing import Any, Iterator

import mxnet as mx

from mms_handler.errors import BadInput


def device(gpu_id: int | None) -> Any:
    """Where a worker computes: the GPU that MMS gave it, or the CPU."""
    return mx.cpu() if gpu_id is None else mx.gpu(int(gpu_id))


def gpu_count() -> int:
    """GPUs that this MXNet can use; none for a build without CUDA."""
    return int(mx.context.num_gpus()) if mx.runtime.Features().is_enabled("CUDA") else 0


def is_module(model: Any) -> bool:
    return isinstance(model, mx.module.BaseModule)


def is_block(model: Any) -> bool:
    return isinstance(model, mx.gluon.Block)


def device_of(model: Any, on: Any) -> Any:
    """The device of a Block's parameters; ``on`` for other models, and Blocks without any."""
    parameters = model.collect_params().values() if is_block(model) else ()
    return next((p.list_ctx()[0] for p in parameters if p._data is not None), on)


@contextlib.contextmanager
def shapes_are_the_clients() -> Iterator[None]:
    """MXNet's errors about shapes as BadInput: a model says what it takes only by failing."""
    try:
        yield
    except mx.base.MXNetError as exc:
        reason = first_line(exc)
        if re.search(r"shape|Incompatible attr", reason, re.IGNORECASE):
            raise BadInput(f"the model does not take this body: {reason}") from exc
        raise


def first_line(exc: BaseException) -> str:
    """An MXNet error's own sentence, without the C++ stack that comes before or after it."""
    lines = [line.strip() for line in str(exc).splitlines() if line.strip()]
    told = [line for line in lines if line.startswith(("MXNetError:", "Error", "Check failed"))]
    line = (told or lines or [type(exc).__name__])[0]
    return line.replace("MXNetError: ", "")[:400]
