"""Prove an ONNX model: in ONNX Runtime it must answer as MXNet does.

It gets the sample and made-up rows: several numbers of them, of usual and of extreme size.
"""

from __future__ import annotations

import sys
from typing import Any, Iterator, NamedTuple, Sequence, Tuple

import numpy as np
import numpy.typing as npt

from mms_handler.errors import Failed, ModelError, attempt
from mms_handler.models.graphs.executors import Executors
from mms_handler.models.graphs.graph import Graph
from mms_handler.models.mx import first_line
from mms_handler.models.onnx.convert import Converted
from mms_handler.models.onnx.shapes import Length
from mms_handler.models.onnx_runtime import import_onnx_runtime

Array = npt.NDArray[Any]

#: The largest difference of a number, relative to the largest number of its output.
TOLERANCE = 1e-5

#: Numbers of rows that are tried.
ROWS = (1, 2, 5)

#: How made-up numbers compare with those of the sample, and how many times as large they are.
SCALES = {
    "like the sample's": 1.0,
    "a thousandth as large as the sample's": 1e-3,
    "a hundred times as large as the sample's": 100.0,
}

#: Where MXNet's own answer moves by more than the tolerance when each number of an input becomes
#: the next one that its type has, so many times as much may differ: no digit of it means anything.
ROUNDING = 2


class Difference(NamedTuple):
    """The largest difference of one output.

    Fields:
        output: its name.
        largest: relative to the largest number that MXNet gave for these data.
        data: the input, in words.
    """

    output: str
    largest: float
    data: str


class Proof(NamedTuple):
    """What was compared.

    Fields:
        differences: of each output, the largest.
        cases: the inputs, in words.
    """

    differences: Tuple[Difference, ...]
    cases: Tuple[str, ...]


def session(model: bytes, threads: int = 0) -> Any:
    """ONNX Runtime's session of a model, on the CPU.

    Args:
        model: the file's bytes.
        threads: that it uses; 0: one for each core.

    Raises:
        ModelError: ONNX Runtime does not load it.
    """
    onnxruntime = import_onnx_runtime()
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # what fails is raised
    options.intra_op_num_threads = threads
    try:
        return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except Exception as exc:  # its errors have no base of their own
        raise ModelError(f"ONNX Runtime does not load the model: {_line(exc)}") from exc


def prove(
    converted: Converted,
    graph: Graph,
    sample: Sequence[Array],
    expected: Sequence[Array] | None = None,
    tolerance: float = TOLERANCE,
) -> Proof:
    """Compare ONNX Runtime's answers with MXNet's.

    Args:
        converted: the model in ONNX.
        graph: the model in MXNet.
        sample: an array for each input.
        expected: what the model itself answers to the sample; None: what its graph does.
        tolerance: see TOLERANCE.

    Raises:
        ModelError: an output differs by more, or ONNX Runtime fails; names the input, the output
            and the difference.
    """
    run = session(converted.model.SerializeToString()).run
    executors = Executors(graph, sys.maxsize, fused=False)
    names = [tensor.name for tensor in converted.outputs]
    worst: dict[str, Difference] = {}
    cases = list(made_up(converted, sample))
    for place, (words, arrays) in enumerate(cases):
        outputs = _answers(executors, arrays, words)
        if place == 0 and expected is not None:
            outputs = list(expected)
        feeds = {tensor.name: array for tensor, array in zip(converted.inputs, arrays)}
        answers = attempt(run, names, feeds)
        if isinstance(answers, Failed):
            raise ModelError(f"ONNX Runtime fails for {words}: {_line(answers.exc)}")
        if len(outputs) != len(answers):
            raise ModelError(f"the model gives {len(outputs)} outputs, its graph {len(answers)}")
        for index, name in enumerate(names):
            difference = _difference(name, words, outputs[index], answers[index])
            if not difference.largest <= tolerance:  # NaN is not
                rounding = _rounding(executors, arrays, outputs, index) if place else 0
                if not difference.largest <= ROUNDING * rounding:
                    raise ModelError(_disagreement(difference, tolerance))
            elif difference.largest >= worst.get(name, difference).largest:
                worst[name] = difference
    return Proof(tuple(worst.values()), tuple(words for words, _ in cases))


def rows_are_independent(converted: Converted, graph: Graph, sample: Sequence[Array]) -> bool:
    """Whether every input and output begins with the rows, which give the same alone as together.

    Only then may a server put requests together.  It is False also where rows prove nothing.
    """
    tensors = (*converted.inputs, *converted.outputs)
    begin = all(
        tensor.shape
        and tensor.shape[0] == Length(0, 1)
        and not any(side.times for side in tensor.shape[1:])
        for tensor in tensors
    )
    return begin and Executors(graph, fused=False).independent(sample)


def _answers(executors: Executors, arrays: Sequence[Array], words: str) -> list[Array]:
    outputs = attempt(executors, arrays)
    if isinstance(outputs, Failed):
        raise ModelError(f"MXNet fails for {words}: {first_line(outputs.exc)}")
    answers: list[Array] = outputs
    return answers


# --- inputs ----------------------------------------------------------------------------------


def made_up(
    converted: Converted, sample: Sequence[Array], seed: int = 0
) -> Iterator[tuple[str, list[Array]]]:
    """The sample, and similar arrays with several numbers of rows, each with words for it.

    States of recurrent layers are never made larger.  A layer gives states from -1 to 1, or one
    more at each step, so no caller has hundreds in one, where both engines' rounding of sigmoids
    would be multiplied by it.
    """
    first = [np.asarray(a, t.dtype) for a, t in zip(sample, converted.inputs)]
    yield "the sample", first
    noise, rows = np.random.RandomState(seed), converted.rows
    states = [tensor.name in converted.states for tensor in converted.inputs]
    for count in ROWS if rows.free else ROWS[:1]:
        shapes = rows.shapes(count)
        number = f"{count} {'row' if count == 1 else 'rows'}" if rows.free else "rows"
        for words, scale in SCALES.items():
            scales = [min(scale, 1) if state else scale for state in states]
            arrays = [_random(*each, noise) for each in zip(first, shapes, scales)]
            if min(scales) < scale:
                words += " (states as large)"
            yield f"{number} of random numbers {words}", arrays
        yield f"{number} of zeros", [np.zeros(s, a.dtype) for s, a in zip(shapes, first)]


def _random(array: Array, shape: Sequence[int], scale: float, noise: Any) -> Array:
    """Numbers like those of an array: whole ones for whole ones, which may be tokens."""
    if array.size and array.any() and not (array % 1).any():
        top = int(min(np.abs(array).max() * max(scale, 1), 2**24))
        numbers = noise.randint(0, top + 1, shape)
    else:
        size = max(1.0, float(np.abs(array).max(initial=0))) * scale
        numbers = noise.normal(0, size, shape)
    return np.asarray(numbers, array.dtype)


# --- differences -----------------------------------------------------------------------------


def _difference(output: str, words: str, expected: Array, answer: Array) -> Difference:
    """How far two arrays are apart; infinite if their shapes differ or only one is finite."""
    if expected.shape != answer.shape:
        words = f"{words}, in shape {answer.shape} instead of {expected.shape},"
        return Difference(output, float("inf"), words)
    first, second = expected.astype(np.float64), answer.astype(np.float64)
    finite = np.isfinite(first)
    if (finite != np.isfinite(second)).any() or not np.array_equal(
        first[~finite], second[~finite], equal_nan=True
    ):
        return Difference(output, float("inf"), words)
    if not finite.any():
        return Difference(output, 0.0, words)
    apart = np.abs(first[finite] - second[finite]).max()
    return Difference(output, float(apart / (np.abs(first[finite]).max() or 1)), words)


def _rounding(
    executors: Executors, arrays: Sequence[Array], outputs: Sequence[Array], index: int
) -> float:
    """How far MXNet's own output moves with the last digit of its inputs."""
    moved = [
        _answers(executors, [_next(array, end) for array in arrays], "rounded numbers")[index]
        for end in (-np.inf, np.inf)
    ]
    return max(_difference("", "", outputs[index], each).largest for each in moved)


def _next(array: Array, end: float) -> Array:
    if array.dtype.kind != "f":
        return array
    return np.nextafter(array, array.dtype.type(end))


def _disagreement(difference: Difference, tolerance: float) -> str:
    return (
        f"the ONNX model does not agree with MXNet: for {difference.data} the output "
        f"{difference.output} differs by {difference.largest:.2g} of its largest value; at most "
        f"{tolerance:g} is allowed"
    )


def _line(exc: BaseException) -> str:
    return " ".join(str(exc).split())[:400]
