"""MXNet itself: its devices, its C functions and its errors."""

from __future__ import annotations

import contextlib
import ctypes
import re
from typing import Any, Iterator

import mxnet as mx

from mms_handler.errors import BadInput


def device(gpu_id: int | None) -> Any:
    """The device on which a worker computes: the GPU that MMS assigned to it, or the CPU."""
    return mx.cpu() if gpu_id is None else mx.gpu(int(gpu_id))


def gpu_count() -> int:
    """The number of GPUs that this MXNet can use; 0 for a build without CUDA."""
    return int(mx.context.num_gpus()) if mx.runtime.Features().is_enabled("CUDA") else 0


def lend_functions(core: Any) -> None:
    """Tell the compiled core where the C functions of MXNet are that run an executor."""
    library = mx.base._LIB
    functions = (
        library.MXNDArraySyncCopyFromCPU,
        library.MXExecutorForward,
        library.MXNDArraySyncCopyToCPU,
    )
    core.use_mxnet(*(ctypes.cast(each, ctypes.c_void_p).value for each in functions))


@contextlib.contextmanager
def shape_errors_as_bad_input() -> Iterator[None]:
    """Turn MXNet's errors about shapes into BadInput.

    Only such an error shows that a model does not take a shape.
    """
    try:
        yield
    except mx.base.MXNetError as exc:
        reason = shape_error(exc)
        if reason:
            raise BadInput(f"the model does not take this body: {reason}") from exc
        raise


def shape_error(exc: Exception) -> str | None:
    """The sentence of an error of MXNet if it looks like one about shapes, else None."""
    reason = first_line(exc) if isinstance(exc, mx.base.MXNetError) else ""
    return reason if re.search(r"shape|Incompatible attr", reason, re.IGNORECASE) else None


def first_line(exc: BaseException) -> str:
    """The sentence of an MXNet error, without the C++ stack trace around it."""
    lines = [line.strip() for line in str(exc).splitlines() if line.strip()]
    sentences = [
        line for line in lines if line.startswith(("MXNetError:", "Error", "Check failed"))
    ]
    line = (sentences or lines or [type(exc).__name__])[0]
    return line.replace("MXNetError: ", "")[:400]
