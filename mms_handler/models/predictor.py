"""The default predict_fn of one model: a request's arrays to its prediction, without waste.

A Module is run at the number of rows that came, where that gives what its own ``predict`` gives;
a Block is called with the arrays on their own memory.
"""

from __future__ import annotations

from typing import Any, Callable

import mxnet as mx
import numpy as np

from mms_handler.models.arrays import (
    Arrays,
    as_ndarray,
    computed,
    contiguous,
    copied,
    is_array,
    to_plain,
)
from mms_handler.models.graphs import faster, in_place, int8
from mms_handler.models.graphs.executors import Executors
from mms_handler.models.graphs.graph import of_module, of_rows
from mms_handler.models.inputs import in_order, parameters, rows_of, to_data
from mms_handler.models.mx import device_of, is_module, shapes_are_the_clients


def predict(model: Any, data: Any) -> Any:
    """The contract's default predict_fn: ``module.predict(data)`` or ``block(array)``.

    Raises:
        BadInput: MXNet finds the shape of the data inconsistent with the model's.
        UnsupportedShape: the Block takes several arrays and the body is one.
    """
    with shapes_are_the_clients():
        if is_module(model):
            return computed(model.predict(data))
        arrays = in_order(data, parameters(model)) if is_array(data) else [data]
        return computed(model(*[as_ndarray(copied(one), mx.cpu()) for one in arrays]))


def predictor(model: Any, on: Any, plain: bool) -> ModulePredictor | BlockPredictor:
    """The default predict_fn of a Module or a Block.

    Args:
        model: the Module or the Block.
        on: the device for a Block that has none of its own.
        plain: give ndarrays, for who has no use for a Block's NDArrays; a Module's always are.
    """
    if is_module(model):
        return ModulePredictor(model)
    return BlockPredictor(model, on, plain)


class ModulePredictor:
    """``module.predict``, for one array or a dict of them."""

    def __init__(self, module: Any) -> None:
        self._module = module
        self._rows: Executors | None
        self._run: Callable[[Any], Any] | None = None  # of _rows, in eight bits
        try:
            self._rows, self.shared = resizable(module)
        except mx.base.MXNetError:  # it is of as many rows as it was bound for
            self._rows, self.shared = None, False

    def take(self, value: Any) -> Any:
        """Decoded arrays, by name or one alone, as ``arrays`` wants them."""
        return value

    def arrays(self, value: Any) -> Any:
        """An ndarray for each input, (N, *sample); what is no array, a DataIter say, stays.

        Raises:
            BadInput, UnsupportedShape: the Module does not take these arrays.
        """
        if not is_array(value):
            return value
        return Arrays(map(_float32, rows_of(value, self._module).values()))

    def __call__(self, data: Any) -> Any:
        """What ``module.predict`` gives, perhaps as ndarrays; the caller's to keep."""
        if not isinstance(data, Arrays):
            return predict(self._module, data)
        if self._rows is None:
            named = dict(zip(self._module.data_names, data))
            return predict(self._module, to_data(named, self._module))
        with shapes_are_the_clients():
            outputs = (self._run or self._rows)(data)
        return outputs if len(outputs) > 1 else outputs[0]

    def try_unfused(self, data: Any) -> None:
        """Keep MXNet's fusion only if it does these arrays good."""
        if self._rows and isinstance(data, Arrays):
            self._rows = faster.fuse(self._rows, data)

    def try_int8(self, data: Any, packed: int8.PackedInt8) -> None:
        """Run as the int8 graph from now on, if that does for these arrays.

        Raises:
            ModelError: the graph is not that of this Module.
        """
        if self._rows and isinstance(data, Arrays):
            self._run = int8.replaced(self._rows, data, packed)


def _float32(value: Any) -> Any:
    """An ndarray; what a client sends becomes float32, what a script made stays."""
    if isinstance(value, mx.nd.NDArray):
        return value.asnumpy()
    return np.asarray(value, np.float32)


def resizable(module: Any) -> tuple[Executors | None, bool | None]:
    """A Module's graph at any number of rows, and whether several requests may share a pass.

    Rows of several requests, or more than the Module was bound for, are run together only where
    made-up rows give together what each gives alone.  A Module bound for one row then runs them
    one by one; one bound for more may mean its rows to meet: for it only its own ``predict`` will
    do, and there is no graph.  What was saved without shapes is bound to what comes.

    Raises:
        MXNetError: the graph cannot be bound to one row or to two.
    """
    graph = of_module(module)
    if graph is None:
        return None, False
    if not module.binded:
        return Executors(graph), None
    shapes = [desc.shape for desc in module.data_shapes]
    most, one = graph.most(shapes), of_rows(1, shapes)
    rows = Executors(graph, most)
    only = shapes[0][0] == 1
    if (most > 1 or not only) and rows.independent([np.zeros(shape) for shape in one]):
        return rows, True
    rows.most = 1
    a_row_each = {shape[:1] for shape in graph.infer(one)[1]} == {(1,)}
    return (rows, a_row_each) if only else (None, False)


class BlockPredictor:
    """``block(array)``, or an array for each parameter of its forward."""

    shared = None

    def __init__(self, block: Any, on: Any, plain: bool) -> None:
        self._block, self._on, self._plain = block, device_of(block, on), plain
        self._names = parameters(block)

    def take(self, value: Any) -> Any:
        """Decoded arrays, by name or one alone, which nothing else holds; see ``arrays``."""
        return Arrays(map(contiguous, in_order(value, self._names)))

    def arrays(self, value: Any) -> Any:
        """An array for each parameter, nobody else's if an ndarray; what is no array stays.

        Several requests' ndarrays are stacked in a tenth of the time that NDArrays take.

        Raises:
            BadInput, UnsupportedShape: the Block does not take these arrays.
        """
        if isinstance(value, Arrays) or not is_array(value):
            return value
        return Arrays(map(copied, in_order(value, self._names)))

    def is_straight(self, data: Any) -> bool:
        """Whether such data go to a graph of the Block without NDArrays in between."""
        ndarrays = isinstance(data, Arrays) and all(isinstance(one, np.ndarray) for one in data)
        return self._plain and ndarrays

    def __call__(self, data: Any) -> Any:
        """What the Block gives, when it is computed."""
        given = data if isinstance(data, Arrays) else [data]
        with shapes_are_the_clients():
            found = in_place.straight(self._block, given) if self.is_straight(data) else None
            if found is None:
                found = self._block(*[as_ndarray(one, self._on) for one in given])
            return to_plain(found) if self._plain else computed(found)
