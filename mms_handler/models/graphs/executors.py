"""Run a graph on any number of rows: an executor for each shape, all on the same parameters.

For a small model an executor is forty times as fast as ``Module.predict`` over an iterator: each
request is copied into the executor's input array, and nothing else is allocated for it.
"""

from __future__ import annotations

import contextlib
import sys
import threading
from collections import OrderedDict
from typing import Any, Iterator, NamedTuple, Sequence

import mxnet as mx
import numpy as np
import numpy.typing as npt

from mms_handler import settings
from mms_handler.codecs import compiled
from mms_handler.models.arrays import in_steps
from mms_handler.models.graphs.graph import Graph, Shapes
from mms_handler.models.mx import lend_functions
from mms_handler.models.passes import KINDS, Passes

Array = npt.NDArray[Any]

#: Bytes that all executors may hold together, except the one in use.
KEPT_BYTES = 2**26

#: Fused operators copy their weights into each executor.  A model is bound unfused if these copies
#: would exceed COPIED_BYTES; at most SIZES numbers of rows are counted.
COPIED_BYTES, SIZES = 2**26, 32


class Quick(NamedTuple):
    """An executor of one input and one output, both float32, as the compiled core runs it."""

    handles: tuple[int, int, int]  # the executor's, its input's and its output's
    values_in: int
    values_out: int
    shape: tuple[int, ...]  # of the output
    output: Any  # it owns the output's handle

    def __call__(self, numbers: Any) -> bytearray | None:
        """The output for the input's numbers; None if the core is off, or if MXNet fails."""
        if compiled.core is None:
            return None
        output: bytearray | None = compiled.core.forward(
            *self.handles, self.values_in, self.values_out, numbers
        )
        return output


class Bound(NamedTuple):
    """A bound executor."""

    executor: Any
    size: int  # in bytes
    quick: Quick | None


class Executors:
    """The executors of a graph, each bound to shapes when these first occur.

    Attributes:
        graph: the graph that they run.
        max_rows: the limit of rows in one forward; None: all rows of a call, unless rows were seen
            to be independent and more than fit.
        fused: True: operators are fused, as MXNet does on a CPU.  False: they are not, so that
            all executors share the weights in one layout.  None: fused if memory allows.
    """

    def __init__(
        self, graph: Graph, max_rows: int | None = None, fused: bool | None = None
    ) -> None:
        self.graph, self.max_rows, self.fused = graph, max_rows, fused
        self._bound: OrderedDict[Any, Bound] = OrderedDict()  # by shapes
        self._fitting_rows: dict[Any, int] = {}  # by the shapes of samples
        self._independent: dict[Any, bool] = {}  # likewise
        self._lock = threading.Lock()  # a script may call its model from several threads

    def __call__(self, arrays: Sequence[Array]) -> list[Array]:
        """The outputs for all rows, in their order.  The caller may keep and change them.

        Raises:
            MXNetError: the graph does not take these shapes.
        """
        return in_steps(self._forward, arrays, self.max_rows or self._step(arrays))

    def _step(self, arrays: Sequence[Array]) -> int:
        """Rows of one forward: all, or as many as fit if more rows may be run in parts."""
        sample = tuple(array.shape[1:] for array in arrays)
        if sample not in self._fitting_rows and len(self._fitting_rows) < KINDS:
            self._fitting_rows[sample] = self.graph.max_rows([array.shape for array in arrays])
        rows, limit = len(arrays[0]), self._fitting_rows.get(sample, sys.maxsize)
        if rows > limit and sample not in self._independent:
            self._independent[sample] = self.independent(arrays)
        return limit if rows <= limit or self._independent[sample] else rows

    def independent(self, arrays: Sequence[Array]) -> bool:
        """Whether a row was seen to give the same alone as beside another."""
        same_rows = len({len(array) for array in arrays}) == 1
        return same_rows and Passes(self._forward, None).proven([array[:1] for array in arrays])

    def quick(self, shape: tuple[int, ...], numbers: Any) -> tuple[bytearray, Any] | None:
        """The output's numbers and shape for an array of this shape, by the compiled core alone.

        None unless such an array has been run before, all its rows in one forward.
        """
        with self._lock:
            bound = self._bound.get((shape,))
            if bound is None or bound.quick is None or shape[0] > self._most_rows(shape):
                return None
            self._bound.move_to_end((shape,))
            output = bound.quick(numbers)
            return None if output is None else (output, bound.quick.shape)

    def _most_rows(self, shape: tuple[int, ...]) -> int:
        """Rows of one forward, as far as they are known."""
        return self.max_rows or self._fitting_rows.get((shape[1:],), 0)

    def _forward(self, arrays: Sequence[Array]) -> list[Array]:
        with self._lock:
            bound = self._bound_to(tuple(array.shape for array in arrays))
            if bound.quick and _is_plain(arrays[0]):
                output = bound.quick(arrays[0])
                if output is not None:
                    return [np.frombuffer(output, np.float32).reshape(bound.quick.shape)]
            executor = bound.executor
            for name, array in zip(self.graph.names, arrays):
                # A fifth of the time of ``forward(**arrays)``, which goes through slicing.
                executor.arg_dict[name]._sync_copyfrom(array)
            # Copied, because the next call writes to the same outputs.
            return [output.asnumpy() for output in executor.forward()]

    def executor(self, shapes: tuple[tuple[int, ...], ...]) -> Any:
        """The executor for ``shapes``, bound now if it is new.

        If memory runs short, the least recently used executors are dropped.
        """
        return self._bound_to(shapes).executor

    def _bound_to(self, shapes: tuple[tuple[int, ...], ...]) -> Bound:
        if shapes in self._bound:
            self._bound.move_to_end(shapes)
            return self._bound[shapes]
        fused = may_fuse(self.graph, shapes) if self.fused is None else self.fused
        size = self.graph.activations(shapes) + (self.graph.bytes if fused else 0)
        while self._bound and size + sum(held.size for held in self._bound.values()) > KEPT_BYTES:
            self._bound.popitem(last=False)
        executor = self._bind(shapes, fused)
        bound = Bound(executor, size, self._quick(executor, shapes))
        self._bound[shapes] = bound
        return bound

    def _quick(self, executor: Any, shapes: Shapes) -> Quick | None:
        """How the compiled core runs an executor; None if it cannot."""
        outputs, names = executor.outputs, self.graph.names
        if compiled.core is None or len(outputs) != 1 or len(names) != 1:
            return None
        arrays = executor.arg_dict[names[0]], outputs[0]
        if any(array.dtype != np.float32 or array.stype != "default" for array in arrays):
            return None
        if [outputs[0].shape] != self.graph.infer(shapes)[1]:  # it depends on the values
            return None
        lend_functions(compiled.core)
        handles = tuple(each.handle.value for each in (executor, *arrays))
        return Quick(handles, arrays[0].size, arrays[1].size, outputs[0].shape, outputs[0])

    def forget(self) -> None:
        """Bind all executors again, because the parameters have new values."""
        self._bound.clear()

    def _bind(self, shapes: Shapes, fused: bool) -> Any:
        symbol, names, dtypes, _, device = self.graph
        argument_shapes, _, state_shapes = self.graph.infer(shapes)
        arguments = {
            name: self._parameter(name, shape)
            for name, shape in zip(symbol.list_arguments(), argument_shapes)
            if name not in names
        }
        for name, shape, dtype in zip(names, shapes, dtypes):
            arguments[name] = mx.nd.zeros(tuple(shape), ctx=device, dtype=dtype)
        states = {
            name: self._parameter(name, shape)
            for name, shape in zip(symbol.list_auxiliary_states(), state_shapes)
        }
        with contextlib.nullcontext() if fused else unfused():
            return symbol.bind(device, args=arguments, aux_states=states, grad_req="null")

    def _parameter(self, name: str, shape: tuple[int, ...]) -> Any:
        """A parameter; zeros for a label, and for an initial state, which has values for each row.

        Raises:
            MXNetError: the parameter has values for each row that are not zeros.
        """
        array = self.graph.parameters.get(name)
        if array is not None and array.shape == shape:
            return array
        if array is not None and not name.endswith("label") and array.asnumpy().any():
            raise mx.base.MXNetError(f"{name} has shape {array.shape}, these rows need {shape}")
        return mx.nd.zeros(shape, ctx=self.graph.device)


def _is_plain(array: Any) -> bool:
    """Whether the compiled core can read an array where it is."""
    return bool(array.dtype == np.float32 and array.flags.c_contiguous)


@contextlib.contextmanager
def unfused() -> Iterator[None]:
    """Bind without fusion in the ``with`` block, unless the environment names a fusion."""
    backend = settings.environment().get("MXNET_SUBGRAPH_BACKEND", "")
    settings.export("MXNET_SUBGRAPH_BACKEND", backend or "NONE")
    try:
        yield
    finally:
        settings.export("MXNET_SUBGRAPH_BACKEND", backend)  # "": MXNet chooses


def may_fuse(graph: Graph, shapes: Shapes) -> bool:
    """Whether memory allows the copies of the weights that fused executors make.

    There is a copy for each number of rows that a forward may have.
    """
    return graph.bytes * min(graph.max_rows(shapes), SIZES) <= COPIED_BYTES
