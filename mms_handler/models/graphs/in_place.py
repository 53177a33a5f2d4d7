"""Replace a Block's forward with its graph, for input shapes where both were seen to agree.

The Block's own forward answers all other inputs.
"""

from __future__ import annotations

import logging
from typing import Any, Callable, Sequence

import mxnet as mx
import numpy as np

from mms_handler.models import gluon_patch
from mms_handler.models.arrays import as_ndarray, filled, is_cpu_ndarray
from mms_handler.models.evidence import graphs_agree
from mms_handler.models.graphs.checked import Checked, Same
from mms_handler.models.graphs.executors import Executors

log = logging.getLogger(__name__)


class GraphForward:
    """A Block's forward that runs its graph for shapes where that was seen to agree.

    Attributes:
        block_forward: the forward that it replaces.
        executors: run the graph.
        checked: chooses between the graph and the forward, by the shapes of the arguments.
    """

    def __init__(
        self,
        name: str,
        block_forward: Callable[..., Any],
        executors: Executors,
        prediction: Any,
        same: Same = graphs_agree,
        recheck: bool = False,
    ) -> None:
        """Make the forward; nothing is replaced yet.

        Args:
            name: of the graph, for the log.
            block_forward: the forward that the graph may replace.
            executors: run the graph.
            prediction: a prediction of the Block, for its structure.
            same: whether the Block's prediction and the graph's agree.
            recheck: whether new values of the parameters may change whether they agree.
        """
        self.block_forward, self.executors, self._structure = block_forward, executors, prediction
        self._recheck = recheck
        self._is_float32 = all(dtype == np.float32 for dtype in executors.graph.dtypes)
        self.checked = Checked(
            name, lambda arguments: block_forward(*arguments), self.compute, same, executors
        )

    def __call__(self, *arguments: Any, **keywords: Any) -> Any:
        """The result of the Block's forward."""
        if keywords or not self._takes(arguments):
            return self.block_forward(*arguments, **keywords)
        return self.checked(arguments)

    def _takes(self, arguments: Sequence[Any]) -> bool:
        graph = self.executors.graph
        if _is_training():
            self.forget()  # training changes the parameters
            return False
        fits = len(arguments) == len(graph.names) and all(map(is_cpu_ndarray, arguments))
        return fits and tuple(argument.dtype for argument in arguments) == graph.dtypes

    def compute(self, arguments: Sequence[Any]) -> Any:
        """The graph's prediction for NDArrays, in NDArrays, in the Block's structure."""
        outputs = self.executors([argument.asnumpy() for argument in arguments])
        return filled(self._structure, map(_shared, outputs))

    def compute_plain(self, arrays: Sequence[Any]) -> Any:
        """The graph's prediction for ndarrays, in ndarrays, in the Block's structure."""
        return filled(self._structure, iter(self.executors(arrays)))

    def straight(self, arrays: Sequence[Any]) -> Any:
        """The Block's prediction for ndarrays, in ndarrays; None if the Block must be called."""
        trusted = self._is_float32 and self.checked.agreed(arrays)
        if not trusted or not all(array.size for array in arrays) or _is_training():
            return None
        try:
            return self.compute_plain(arrays)
        except Exception as exc:  # a deadline's is a BaseException, and ends the request
            log.debug("a graph failed: %s", exc)
        return self.block_forward(*[as_ndarray(array, mx.cpu()) for array in arrays])

    def quick(self, shape: Sequence[int], numbers: Any) -> Any:
        """As ``Executors.quick``, where ``straight`` would run the graph."""
        is_one = isinstance(self._structure, (mx.nd.NDArray, np.ndarray))
        if not (is_one and self._is_float32 and self.checked.agreed_for(shape)) or _is_training():
            return None
        return self.executors.quick(tuple(shape), numbers)

    def forget(self) -> None:
        """Bind again, and compare again if needed, because the parameters have new values."""
        self.executors.forget()
        if self._recheck:
            self.checked.forget()


def _is_training() -> bool:
    return bool(mx.autograd.is_recording() or mx.autograd.is_training())


def _shared(array: Any) -> Any:
    """An NDArray in the memory of an ndarray, which nothing else uses."""
    return mx.nd.from_numpy(np.ascontiguousarray(array))


def straight(block: Any, arrays: Sequence[Any]) -> Any:
    """The prediction of ``block(*arrays)`` without NDArrays; None if the Block must be called.

    Args:
        block: a Block.
        arrays: float32 ndarrays in row-major order.
    """
    forward = _graph_forward(block)
    return forward and forward.straight(arrays)


def quick(block: Any, shape: Sequence[int], numbers: Any) -> Any:
    """The prediction of a Block for one array, by the compiled core; see ``Executors.quick``."""
    forward = _graph_forward(block)
    return forward and forward.quick(shape, numbers)


def _graph_forward(block: Any) -> GraphForward | None:
    """The graph in a Block's place; None if calling the Block may do more."""
    forward = vars(block).get("forward")
    usual_call = type(block).__call__ is mx.gluon.Block.__call__
    if not usual_call or not isinstance(forward, GraphForward) or gluon_patch.has_hooks(block):
        return None
    return forward


def install(block: Any, forward: GraphForward) -> None:
    """Let a Block run as ``forward`` from now on.

    Fused operators copy their weights, so the executors are bound again when a script sets a
    parameter.
    """
    gluon_patch.before_new_values(block, forward.forget)
    block.forward = forward
