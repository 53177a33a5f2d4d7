"""Run a Block as a graph in the place of its own forward, for what that was seen to do.

What the graph does not take, or gives otherwise, the Block answers as before.
"""

from __future__ import annotations

import logging
from typing import Any, Callable, Iterator, Sequence

import mxnet as mx
import numpy as np

from mms_handler.errors import Failed, attempt
from mms_handler.models.arrays import as_ndarray, is_plain
from mms_handler.models.evidence import graphs_agree
from mms_handler.models.graphs.executors import Executors
from mms_handler.models.graphs.graph import is_listened

log = logging.getLogger(__name__)

#: Shapes that a Block's graph was compared for; any other the Block answers itself.
SHAPES = 1_000


class Swapped:
    """A Block's forward on a bound graph, for shapes that were seen to give the same."""

    def __init__(self, plain: Callable[..., Any], bound: Executors, like: Any) -> None:
        """Take the place of ``plain``.

        Args:
            plain: the Block's own forward.
            bound: its graph.
            like: a prediction, for its structure.
        """
        self.plain, self.bound, self._like = plain, bound, like
        self._right: dict[Any, bool] = {}
        self._float32 = all(dtype == np.float32 for dtype in bound.graph.dtypes)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """What the Block's forward gives."""
        if kwargs or not self._takes(args):
            return self.plain(*args, **kwargs)
        shapes = self._shapes(args)
        if shapes not in self._right and len(self._right) < SHAPES:
            return self._compared(shapes, args)
        found = _attempted(self.compute, args) if self._right.get(shapes) else None
        return self.plain(*args) if found is None or isinstance(found, Failed) else found

    def same(self, wanted: Any, found: Any) -> bool:
        """Whether the graph may give ``found`` where the Block gives ``wanted``."""
        return graphs_agree(wanted, found)

    def forget(self) -> None:
        """The parameters have other values from here on."""
        self.bound.forget()

    def trust(self, args: Sequence[Any]) -> None:
        """For arguments of such shapes, the graph was seen to do."""
        self._right[self._shapes(args)] = True

    def _shapes(self, args: Sequence[Any]) -> tuple[tuple[int, ...], ...]:
        """Of samples, where rows do not meet; else of all."""
        return tuple(one.shape[1 if self.bound.most else 0 :] for one in args)

    def _takes(self, args: Sequence[Any]) -> bool:
        graph = self.bound.graph
        if _learning():
            self.forget()  # what is learnt is for the next prediction
            return False
        fits = len(args) == len(graph.names) and all(map(is_plain, args))
        return fits and tuple(one.dtype for one in args) == graph.dtypes

    def _compared(self, shapes: Any, args: Sequence[Any]) -> Any:
        """What the Block gives; from now on the graph does for these shapes if it gave the same."""
        found, wanted = _attempted(self.compute, args), self.plain(*args)
        self._right[shapes] = not isinstance(found, Failed) and self.same(wanted, found)
        if not self._right[shapes]:
            log.warning("the graph of the Block does not do for shapes %s", shapes)
        return wanted

    def compute(self, args: Sequence[Any]) -> Any:
        """The graph's prediction, in the structure of the Block's own."""
        outputs = self.bound([one.asnumpy() for one in args])
        return filled(self._like, map(_lent, outputs))

    def straight(self, arrays: Sequence[Any]) -> Any:
        """What the Block gives for ndarrays, as ndarrays where it is the graph's; None: call it."""
        trusted = self._float32 and self._right.get(self._shapes(arrays))
        if not trusted or not all(one.size for one in arrays) or _learning():
            return None
        found = _attempted(self.run, arrays)
        if isinstance(found, Failed):
            return self.plain(*[as_ndarray(one, mx.cpu()) for one in arrays])
        return found

    def run(self, arrays: Sequence[Any]) -> Any:
        """The graph's prediction for ndarrays, as ndarrays."""
        return filled(self._like, iter(self.bound(arrays)))


def _attempted(run: Callable[..., Any], args: Sequence[Any]) -> Any:
    """What a graph gives, or Failed.

    Raises:
        BaseException: what is no error of the graph's: the time of the request is up, say.
    """
    found = attempt(run, args)
    if isinstance(found, Failed) and not isinstance(found.exc, Exception):
        raise found.exc
    return found


def _learning() -> bool:
    return bool(mx.autograd.is_recording() or mx.autograd.is_training())


def straight(block: Any, arrays: Sequence[Any]) -> Any:
    """What ``block(*arrays)`` gives, if without NDArrays in between; None: call it.

    Args:
        block: a Block.
        arrays: float32 ndarrays, row by row.
    """
    forward = vars(block).get("forward")
    usual = type(block).__call__ is mx.gluon.Block.__call__
    if not usual or not isinstance(forward, Swapped) or is_listened(block):
        return None
    return forward.straight(arrays)


def filled(like: Any, outputs: Iterator[Any]) -> Any:
    """``like`` with these arrays in place of its own, in order."""
    if isinstance(like, (list, tuple)):
        return type(like)([filled(one, outputs) for one in like])
    return next(outputs)


def _lent(array: Any) -> Any:
    """An ndarray that was made for this call as an NDArray."""
    return mx.nd.from_numpy(np.ascontiguousarray(array), zero_copy=True)


def install(block: Any, swapped: Swapped) -> None:
    """Let a Block run as ``swapped`` from now on."""
    for parameter in block.collect_params().values():
        _watch(parameter, swapped)
    block.forward = swapped


def _watch(parameter: Any, swapped: Swapped) -> None:
    """Have ``swapped`` forget what it made of a parameter when a script sets another value.

    Fused operators do not see that their weights have changed.
    """
    set_data = parameter.set_data

    def changed(data: Any) -> None:
        swapped.forget()
        set_data(data)

    parameter.set_data = changed
