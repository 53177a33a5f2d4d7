"""A graph bound to the rows that come: an executor for each shape, all on the same parameters.

An executor is forty times as fast as ``Module.predict`` over an iterator, for a small model: its
input is one array that each request is copied into, and nothing else is made for a request.
"""

from __future__ import annotations

import contextlib
import sys
import threading
from collections import OrderedDict
from typing import Any, Iterator, Sequence

import mxnet as mx
import numpy as np
import numpy.typing as npt

from mms_handler import settings
from mms_handler.models.graphs.graph import Graph, Shapes
from mms_handler.models.passes import KINDS, Passes

Array = npt.NDArray[Any]

#: Bytes that executors may hold together, beyond the one in use.
KEPT_BYTES = 2**26

#: Fused operators copy their weights into each executor; models with more than this, copied as
#: often as there may be sizes, are bound unfused.
COPIED_BYTES, SIZES = 2**26, 32


class Executors:
    """Runs a graph on as many rows as come."""

    def __init__(self, graph: Graph, most: int | None = None, fused: bool | None = None) -> None:
        """Bind nothing yet.

        Args:
            graph: what to run.
            most: rows of one forward; None: all that come, fewer only where that was seen to
                give the same.
            fused: as MXNet binds on a CPU by itself; or not, so that operators stay as they are
                and executors share what they make of the weights; None: as memory allows.
        """
        self.graph, self.most, self.fused = graph, most, fused
        self._executors: OrderedDict[Any, tuple[Any, int]] = OrderedDict()
        self._fit: dict[Any, int] = {}
        self._cut: dict[Any, bool] = {}
        self._alone = threading.Lock()

    def __call__(self, arrays: Sequence[Array]) -> list[Array]:
        """Each output, with all rows in their order; the arrays are the caller's to keep.

        Raises:
            MXNetError: the graph does not take these shapes.
        """
        rows = len(arrays[0])
        step = self.most or self._step(arrays)
        if rows <= step:
            return self._forward(arrays)
        cuts = range(0, rows, step)
        parts = [self._forward([array[at : at + step] for array in arrays]) for at in cuts]
        return [np.concatenate(same) for same in zip(*parts)]

    def _step(self, arrays: Sequence[Array]) -> int:
        """As many rows as fit one forward, if there are no more or they may be cut; else all."""
        sample = tuple(array.shape[1:] for array in arrays)
        if sample not in self._fit and len(self._fit) < KINDS:
            self._fit[sample] = self.graph.most([array.shape for array in arrays])
        rows, fit = len(arrays[0]), self._fit.get(sample, sys.maxsize)
        if rows > fit and sample not in self._cut:
            self._cut[sample] = self.independent(arrays)
        return fit if rows <= fit or self._cut[sample] else rows

    def independent(self, arrays: Sequence[Array]) -> bool:
        """Whether a row gives the same alone and beside another, as far as can be seen."""
        even = len({len(array) for array in arrays}) == 1
        return even and Passes(self._forward, None).proven([array[:1] for array in arrays])

    def _forward(self, arrays: Sequence[Array]) -> list[Array]:
        with self._alone:  # a script may call its model from threads
            executor = self.executor(tuple(array.shape for array in arrays))
            for name, array in zip(self.graph.names, arrays):
                # A fifth of the time of ``forward(**arrays)``, which goes through slicing.
                executor.arg_dict[name]._sync_copyfrom(array)
            return [output.asnumpy() for output in executor.forward()]  # the next call reuses them

    def executor(self, shapes: tuple[tuple[int, ...], ...]) -> Any:
        """The executor for ``shapes``: kept from before, or bound now in place of the oldest."""
        if shapes in self._executors:
            self._executors.move_to_end(shapes)
            return self._executors[shapes][0]
        fused = affordable(self.graph, shapes) if self.fused is None else self.fused
        needed = self.graph.activations(shapes) + (self.graph.bytes if fused else 0)
        while self._executors and needed + self._held() > KEPT_BYTES:
            self._executors.popitem(last=False)
        executor = self._bind(shapes, fused)
        self._executors[shapes] = executor, needed
        return executor

    def forget(self) -> None:
        """Bind anew from here on: the parameters have other values."""
        self._executors.clear()

    def _held(self) -> int:
        return sum(size for _, size in self._executors.values())

    def _bind(self, shapes: Shapes, fused: bool) -> Any:
        symbol, names, dtypes, _, device = self.graph
        wanted, _, states = self.graph.infer(shapes)
        arguments = {
            name: self._parameter(name, shape)
            for name, shape in zip(symbol.list_arguments(), wanted)
            if name not in names
        }
        for name, shape, dtype in zip(names, shapes, dtypes):
            arguments[name] = mx.nd.zeros(tuple(shape), ctx=device, dtype=dtype)
        held = zip(symbol.list_auxiliary_states(), states)
        with contextlib.nullcontext() if fused else unfused():
            return symbol.bind(
                device,
                args=arguments,
                aux_states={name: self._parameter(name, shape) for name, shape in held},
                grad_req="null",
            )

    def _parameter(self, name: str, shape: tuple[int, ...]) -> Any:
        """A parameter; zeros for a label, and for first states that have a row for each row.

        Raises:
            MXNetError: it has a value for each row, and they are not zeros.
        """
        one = self.graph.parameters.get(name)
        if one is not None and one.shape == shape:
            return one
        if one is not None and not name.endswith("label") and one.asnumpy().any():
            raise mx.base.MXNetError(f"{name} has shape {one.shape}, these rows need {shape}")
        return mx.nd.zeros(shape, ctx=self.graph.device)


@contextlib.contextmanager
def unfused() -> Iterator[None]:
    """What is bound within keeps its operators, unless the environment says what to fuse."""
    chosen = settings.environment().get("MXNET_SUBGRAPH_BACKEND", "")
    settings.export("MXNET_SUBGRAPH_BACKEND", chosen or "NONE")
    try:
        yield
    finally:
        settings.export("MXNET_SUBGRAPH_BACKEND", chosen)  # "" is MXNet's own choice


def affordable(graph: Graph, shapes: Shapes) -> bool:
    """Whether the copies of the weights that fused executors make may be held.

    There are as many as numbers of rows that one forward takes.
    """
    return graph.bytes * min(graph.most(shapes), SIZES) <= COPIED_BYTES
