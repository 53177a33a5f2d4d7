"""The default predict_fn of a model: from a request's arrays to its prediction.

A Module runs on exactly the request's rows, if that gives the same as its own ``predict``.  A Block
is called with arrays that share memory with the request's.
"""

from __future__ import annotations

from typing import Any, Callable, Sequence

import mxnet as mx
import numpy as np

from mms_handler.errors import ModelError
from mms_handler.models.arrays import (
    Arrays,
    Stack,
    as_ndarray,
    computed,
    contiguous,
    copied,
    is_array,
    to_plain,
)
from mms_handler.models.expected import Expected
from mms_handler.models.gluon_patch import device_of
from mms_handler.models.graphs import faster, in_place
from mms_handler.models.graphs.executors import Executors
from mms_handler.models.graphs.graph import of_module, with_rows
from mms_handler.models.graphs.int8 import PackedInt8, checked_int8
from mms_handler.models.graphs.onnx_twin import CheckedTwin, checked_twin
from mms_handler.models.graphs.shapes import Shape, ShapeRules
from mms_handler.models.inputs import fixed_shapes, forward_names, to_data
from mms_handler.models.kinds import is_module
from mms_handler.models.mx import shape_errors_as_bad_input
from mms_handler.models.rows import ModuleInputs, in_order
from mms_handler.models.twin import Session


def predict(model: Any, data: Any) -> Any:
    """The contract's default predict_fn: ``module.predict(data)`` or ``block(array)``.

    Raises:
        BadInput: the data do not have the shape that the model takes.
        UnsupportedShape: the Block takes several arrays and the body is one.
    """
    with shape_errors_as_bad_input():
        if is_module(model):
            return computed(model.predict(data))
        arrays = in_order(data, forward_names(model)) if is_array(data) else [data]
        return computed(model(*[as_ndarray(copied(array), mx.cpu()) for array in arrays]))


def make_predictor(
    model: Any,
    device: Any,
    plain: bool,
    saved: Sequence[Shape] = (),
    subject: str = "the body has",
) -> ModulePredictor | BlockPredictor:
    """The default predict_fn for one Module or Block.

    Args:
        model: the Module or Block.
        device: for a Block without parameters.
        plain: whether a Block's predictions become ndarrays; a Module's always do.
        saved: shapes of a Block's inputs that it may take, from the file of shapes.
        subject: what has the shapes that the model gets, for messages.
    """
    if is_module(model):
        return ModulePredictor(model, subject)
    return BlockPredictor(model, device, plain, saved, subject)


class ModulePredictor(ModuleInputs):
    """``module.predict``, for one array or a dict of arrays.

    Attributes:
        by_twin: whether the ONNX twin answers.
        input_names: of the arrays, in their order.
        output_names: of the prediction's.
        shared: whether several requests may share a forward; None if that must be tried.
    """

    by_twin = False

    def __init__(self, module: Any, subject: str = "the body has") -> None:
        self._module = module
        super().__init__(module.data_names)
        self.output_names: list[str] = list(module.output_names)
        self._executors: Executors | None
        try:
            self._executors, self.shared = executors_of(module)
        except mx.base.MXNetError:  # it takes only the number of rows for which it was bound
            self._executors, self.shared = None, False
        #: The executors, or their int8 graph; None: the Module's own predict.
        self._run: Callable[[Any], Any] | None = self._executors
        self._expected = Expected(self._rules, module.data_names, subject=subject)

    def fixed_shapes(self) -> Sequence[Shape] | None:
        """The shapes for which the Module is bound, with any number of rows; None: any."""
        return fixed_shapes(self._module)

    def _rules(self) -> ShapeRules | None:
        return ShapeRules.of_graph(self._executors.graph) if self._executors else None

    def quick(self, shape: Shape, numbers: Any) -> Any:
        """The prediction for one array, by the compiled core alone; see ``Executors.quick``."""
        run = self._run
        return run.quick(shape, numbers) if isinstance(run, (Executors, CheckedTwin)) else None

    def __call__(self, data: Any) -> Any:
        """The result of ``module.predict``, in ndarrays if ``data`` are Arrays for executors.

        The caller may keep and change it.
        """
        if not isinstance(data, Arrays):
            return predict(self._module, data)
        if self._run is None:
            arrays = dict(zip(self._module.data_names, data))
            return predict(self._module, to_data(arrays, self._module))
        try:
            outputs = self._run(data)
        except mx.base.MXNetError as exc:
            fault = self._expected.fault(data, exc, self._run)
            if fault:
                raise fault from exc
            raise
        self._expected.worked(data)
        return outputs if len(outputs) > 1 else outputs[0]

    def try_unfused(self, data: Any, patience: float = 1) -> bool:
        """From now on run without MXNet's fusion, unless fusion is faster for these arrays.

        Returns whether that was found.  ``patience``: see ``try_graph``.
        """
        if not self._executors or not isinstance(data, Arrays):
            return False
        fused = self._executors
        self._executors = self._run = faster.try_unfused(fused, data, patience)
        return self._executors is not fused

    def unfuse(self) -> None:
        """From now on run without MXNet's fusion, as another process has found to be as fast."""
        if self._executors:
            executors = self._executors
            self._executors = Executors(executors.graph, executors.max_rows, fused=False)
            self._run = self._executors

    def try_int8(self, data: Any, packed: PackedInt8) -> None:
        """From now on run as the int8 graph, if that is near and faster for these arrays.

        Raises:
            ModelError: the int8 graph belongs to another model.
        """
        if self._executors and isinstance(data, Arrays):
            self._run = checked_int8(self._executors, data, packed)

    def max_rows(self, data: Arrays) -> int:
        """The limit of rows in one forward, for arrays like these."""
        executors = self._executors
        shapes = [array.shape for array in data]
        return executors.max_rows or executors.graph.max_rows(shapes) if executors else 1

    @property
    def best(self) -> Callable[[Any], Any]:
        """What computes predictions for Arrays.

        Raises:
            ModelError: only the Module's own predict does.
        """
        if self._run is None:
            raise ModelError("the Module takes no other number of rows than it was bound for")
        return self._run

    def try_twin(self, data: Any, twin: Session) -> str:
        """From now on answer by the ONNX twin, if it agrees and is faster for these arrays.

        Returns why it is not used; "" if it is.
        """
        if not self._executors or not isinstance(data, Arrays):
            return "the model has no graph for any number of rows"
        run, reason = checked_twin(self._executors, self._run or self._executors, data, twin)
        self.by_twin = not reason
        self._run = run
        return reason


def executors_of(module: Any) -> tuple[Executors | None, bool | None]:
    """Executors for any number of rows of a Module, and whether requests may share a forward.

    Rows of several requests, or more rows than the Module was bound for, run together only if
    random rows were seen to give the same together as alone.  Otherwise:

    - A Module that was bound for one row runs rows one by one.
    - A Module that was bound for more may depend on all of its rows.  It has no executors, only
      its own ``predict``.

    A Module saved without shapes is bound to the shapes of requests.

    Raises:
        MXNetError: the graph cannot be bound to one row or to two.
    """
    graph = of_module(module)
    if graph is None:
        return None, False
    if not module.binded:
        return Executors(graph), None
    shapes = [desc.shape for desc in module.data_shapes]
    max_rows, one_row = graph.max_rows(shapes), with_rows(1, shapes)
    executors = Executors(graph, max_rows)
    bound_to_one = shapes[0][0] == 1
    if (max_rows > 1 or not bound_to_one) and executors.independent(
        [np.zeros(shape) for shape in one_row]
    ):
        return executors, True
    executors.max_rows = 1
    gives_one_row = {shape[:1] for shape in graph.infer(one_row)[1]} == {(1,)}
    return (executors, gives_one_row) if bound_to_one else (None, False)


class BlockPredictor:
    """``block(array)``, or a call with an array for each parameter of its forward.

    Attributes:
        input_names: of the arrays, in their order; [] if the forward has none.
        output_names: always []: what a forward returns has no names.
    """

    shared = None  # tried when requests of a kind first come together
    by_twin = False

    def __init__(
        self,
        block: Any,
        device: Any,
        plain: bool,
        saved: Sequence[Shape] = (),
        subject: str = "the body has",
    ) -> None:
        self._block, self._device, self._plain = block, device_of(block, device), plain
        self.input_names = forward_names(block)
        self.output_names: list[str] = []
        self._expected = Expected(self._rules, self.input_names, saved, subject=subject)

    def _rules(self) -> ShapeRules | None:
        return ShapeRules.of_block(self._block, max(1, len(self.input_names)))

    def take(self, value: Any) -> Any:
        """Take decoded arrays, which ``arrays`` gets, without a copy: nothing else has them."""
        return Arrays(map(contiguous, in_order(value, self.input_names)))

    def stack(self, rows: Any, counts: Sequence[int]) -> Stack | None:
        """Take the rows of several decoded bodies; None if the forward takes several arrays."""
        return None if len(self.input_names) > 1 else Stack(Arrays([contiguous(rows)]), counts)

    def fitted(self, shape: Shape) -> Shape | None:
        """The shape that a body's only array of ``shape`` gets: its own."""
        return None if len(self.input_names) > 1 else shape

    def quick(self, shape: Shape, numbers: Any) -> Any:
        """The prediction for one array, by the compiled core alone; see ``Executors.quick``."""
        return in_place.quick(self._block, shape, numbers) if self._plain else None

    def arrays(self, value: Any) -> Any:
        """An array for each parameter of the forward; a value without arrays is returned unchanged.

        A script's ndarrays are copied, because the script may keep them.  They stay ndarrays, which
        are stacked in a tenth of the time that NDArrays take.

        Raises:
            BadInput, UnsupportedShape: the Block does not take these arrays.
        """
        if isinstance(value, Arrays) or not is_array(value):
            return value
        return Arrays(map(copied, in_order(value, self.input_names)))

    def is_straight(self, data: Any) -> bool:
        """Whether ``data`` can go to a graph of the Block without conversion to NDArrays."""
        ndarrays = isinstance(data, Arrays) and all(isinstance(a, np.ndarray) for a in data)
        return self._plain and ndarrays

    def __call__(self, data: Any) -> Any:
        """The Block's prediction, once it is computed.

        Raises:
            BadInput: the Block does not take arrays of these shapes.
        """
        arrays = data if isinstance(data, Arrays) else [data]
        try:
            prediction = self._compute(arrays)
        except Exception as exc:
            fault = self._expected.fault(arrays, exc, lambda others: self._compute(Arrays(others)))
            if fault:
                raise fault from exc
            raise
        self._expected.worked(arrays)
        return prediction

    def _compute(self, arrays: Any) -> Any:
        straight = self.is_straight(arrays)
        prediction = in_place.straight(self._block, arrays) if straight else None
        if prediction is None:
            prediction = self._block(*[as_ndarray(array, self._device) for array in arrays])
        return to_plain(prediction) if self._plain else computed(prediction)
