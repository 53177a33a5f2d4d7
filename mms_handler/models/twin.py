"""Answer from the ONNX twin of a Module, in ONNX Runtime, without MXNet.

    rows ──finite, of the shapes that were proved──▶ the twin
      └──others, and where the twin fails──▶ MXNet, which is imported then

So every request gets what MXNet gives, errors among it, up to the tolerance of the proof.  What is
not finite is MXNet's: its relu may make 0 of NaN, and ONNX Runtime's keeps it.
"""

from __future__ import annotations

import hashlib
import logging
from pathlib import Path
from typing import Any, Callable, List, Sequence

import numpy as np

from mms_handler.codecs.arrays import Array
from mms_handler.errors import ModelError
from mms_handler.manifest import Twin
from mms_handler.models.arrays import Arrays, in_steps, plain_leaves
from mms_handler.models.evidence import distance
from mms_handler.models.onnx_runtime import import_onnx_runtime
from mms_handler.models.rows import ModuleInputs, Shape

log = logging.getLogger(__name__)

#: How far a twin may be from the model, as a fraction of a prediction's largest value.
TOLERANCE = 1e-5

#: What installs ONNX Runtime.
EXTRA = "pip install 'mms_handler[onnx]'"


def near(expected: Any, prediction: Any, tolerance: float) -> bool:
    """Whether two predictions have the same shapes and types, and differ by rounding alone."""
    leaves, others = plain_leaves(expected), plain_leaves(prediction)
    kinds = [[(leaf.shape, leaf.dtype) for leaf in each] for each in (leaves, others)]
    if kinds[0] != kinds[1]:
        return False
    for pair in zip(leaves, others):
        first, second = (np.where(np.isfinite(leaf), 0, leaf) for leaf in pair)
        if not np.array_equal(first, second, equal_nan=True):  # NaN and infinities
            return False
    finite = [
        [np.nan_to_num(leaf, posinf=0, neginf=0) for leaf in each] for each in (leaves, others)
    ]
    return distance(*finite) <= tolerance


class Session:
    """A twin that is open in ONNX Runtime.

    Attributes:
        entry: what the manifest says of it.
    """

    def __init__(self, entry: Twin, model: bytes | str, threads: int) -> None:
        """Open a twin.

        Args:
            entry: what the manifest says of it.
            model: the file's bytes, which ONNX Runtime keeps, or its path.
            threads: with which it computes; 0: one for each core.

        Raises:
            ModelError: ONNX Runtime is not installed, or does not take the file.
        """
        try:
            onnxruntime = import_onnx_runtime()
        except ImportError as exc:
            raise ModelError(f"ONNX Runtime is not installed: {EXTRA}") from exc
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        options.log_severity_level = 4  # what fails is raised
        # A thread that waits for the next request would take a core from other workers.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            self._session = onnxruntime.InferenceSession(
                model, options, providers=["CPUExecutionProvider"]
            )
        except Exception as exc:
            raise ModelError(f"ONNX Runtime does not take the twin: {_line(exc)}") from exc
        names = [
            [each.name for each in ends()]
            for ends in (self._session.get_inputs, self._session.get_outputs)
        ]
        if names != [list(entry.inputs), list(entry.outputs)]:
            raise ModelError("the twin has other inputs or outputs than the manifest says")
        self.entry = entry
        self._run, self._samples = self._session.run, [tuple(shape) for shape in entry.shapes]

    @classmethod
    def load(cls, entry: Twin, folder: Path, threads: int) -> Session:
        """Open the twin of an unpacked archive.

        Raises:
            ModelError: also if the file is missing, or not the one that was packed.
        """
        path = folder / entry.file
        try:
            data = path.read_bytes()
        except OSError as exc:
            raise ModelError(f"{entry.file} cannot be read: {exc.strerror}") from exc
        if hashlib.sha256(data).hexdigest() != entry.sha256:
            raise ModelError(f"{entry.file} was changed after packing: its hash differs")
        return cls(entry, str(path), threads)

    def takes(self, arrays: Any) -> bool:
        """Whether rows of these shapes were proved."""
        return [array.shape[1:] for array in arrays] == self._samples

    def __call__(self, arrays: Sequence[Array]) -> List[Array]:
        """The outputs for all rows, in their order.  The caller may keep and change them.

        Raises:
            ValueError: numbers of the inputs or of the outputs are not finite.
            Exception: ONNX Runtime's own.
        """
        return in_steps(self._forward, arrays, self.entry.max_rows)

    def _forward(self, arrays: Sequence[Array]) -> List[Array]:
        _check_finite(arrays)
        outputs: List[Array] = self._run(None, dict(zip(self.entry.inputs, arrays)))
        _check_finite(outputs)
        return outputs

    def quick(self, shape: Shape, numbers: Any) -> Any:
        """The output's numbers and shape for one array; None if rows of its shape are not taken."""
        entry = self.entry
        if [shape[1:]] != self._samples or len(entry.outputs) != 1 or shape[0] > entry.max_rows:
            return None
        (output,) = self._forward([np.frombuffer(numbers, np.float32).reshape(shape)])
        return (output, output.shape) if output.dtype == np.float32 else None


def _check_finite(arrays: Sequence[Array]) -> None:
    if not all(np.isfinite(array).all() for array in arrays):
        raise ValueError("not all numbers are finite")


def _line(exc: Exception) -> str:
    return " ".join(str(exc).split())[:200]


class TwinModel:
    """Stands for a Module, where its twin answers and MXNet is not imported."""

    def __init__(self, session: Session, load: Callable[[], Any]) -> None:
        """``load`` imports MXNet and returns the default predict_fn of the Module."""
        self.session, self.load = session, load


class TwinPredictor(ModuleInputs):
    """The default predict_fn of a Module, by its twin.

    Attributes:
        output_names: of the prediction's arrays.
        shared: whether several requests may share a run; None if that must be tried.
    """

    by_twin = True

    def __init__(self, model: TwinModel) -> None:
        """``model`` stands for the Module."""
        entry = model.session.entry
        super().__init__(entry.inputs)
        self.output_names = list(entry.outputs)
        self.shared = True if entry.fixed else None
        self._session, self._load = model.session, model.load
        self._shapes = [(1, *shape) for shape in entry.shapes] if entry.fixed else None
        self._mxnet: Any = None

    def fixed_shapes(self) -> Sequence[Shape] | None:
        """The shapes for which the Module is bound, with any number of rows; None: any."""
        return self._shapes

    def quick(self, shape: Shape, numbers: Any) -> Any:
        """The prediction for one array: numbers and shape; None if the twin does not take it."""
        return self._session.quick(shape, numbers)

    def __call__(self, data: Any) -> Any:
        """The twin's prediction, or MXNet's for what was not proved.

        The caller may keep and change it.
        """
        if isinstance(data, Arrays) and self._session.takes(data):
            try:
                outputs = self._session(data)
                return outputs if len(outputs) > 1 else outputs[0]
            except Exception as exc:  # a deadline's is a BaseException, and ends the request
                log.debug("the ONNX twin fails: %s", _line(exc))
        if self._mxnet is None:
            log.info("MXNet is imported for a request that the ONNX twin does not answer")
            self._mxnet = self._load()
        return self._mxnet(data)
