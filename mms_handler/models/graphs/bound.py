"""An executor that is called through MXNet's C API, as MXNet's own Python methods call it.

For a small model those methods take as long as the forward: ``Executor.forward`` makes new NDArrays
of its outputs (mxnet/executor.py:150), and the copies in and out make ctypes' objects for shapes
and types that are known here (mxnet/ndarray/ndarray.py:1326, 2568).
"""

from __future__ import annotations

from ctypes import c_int, c_size_t, c_void_p
from typing import Any, Sequence

import mxnet as mx
import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

_INFERENCE = c_int(0)


class Bound:
    """An executor with the arrays that it reads and writes.

    Attributes:
        executor: MXNet's.
    """

    def __init__(self, executor: Any, names: Sequence[str]) -> None:
        """``names`` are those of the inputs, in the order of a call's arrays."""
        self.executor = executor
        arguments = executor.arg_dict
        self._inputs = [_Buffer(arguments[name]) for name in names]
        # The executor writes to the same outputs each time, unless their shapes depend on values.
        known = all(_is_known(each) for each in executor.outputs)
        self._outputs = [_Buffer(each) for each in executor.outputs] if known else None

    def __call__(self, arrays: Sequence[Array]) -> list[Array]:
        """Run the executor on arrays of its inputs' shapes; the outputs are copies.

        Raises:
            MXNetError: an operator failed.
        """
        for buffer, array in zip(self._inputs, arrays):
            buffer.write(array)
        if self._outputs is None:
            return [output.asnumpy() for output in self.executor.forward()]
        mx.base.check_call(mx.base._LIB.MXExecutorForward(self.executor.handle, _INFERENCE))
        return [buffer.read() for buffer in self._outputs]


class _Buffer:
    """An NDArray that is copied from or to; its shape and type are looked up once."""

    def __init__(self, array: Any) -> None:
        self._array = array  # its end would free the handle
        self._handle, self._shape, self._dtype = array.handle, array.shape, array.dtype

    def write(self, values: Array) -> None:
        """Copy ``values``, of this array's size, once what is computed before is done."""
        source = np.asarray(values, self._dtype, order="C")
        address, size = c_void_p(source.ctypes.data), c_size_t(source.size)
        mx.base.check_call(mx.base._LIB.MXNDArraySyncCopyFromCPU(self._handle, address, size))

    def read(self) -> Array:
        """A copy of the values, once they are computed."""
        values: Array = np.empty(self._shape, self._dtype)
        address, size = c_void_p(values.ctypes.data), c_size_t(values.size)
        mx.base.check_call(mx.base._LIB.MXNDArraySyncCopyToCPU(self._handle, address, size))
        return values


def _is_known(output: Any) -> bool:
    try:
        shape = output.shape
    except mx.base.MXNetError:  # not even the number of its dimensions is known
        return False
    return output.stype == "default" and bool(shape) and min(shape) > 0
