"""Make the ONNX twin of a Module: convert it, prove it, time it."""

from __future__ import annotations

import functools
from typing import Any

from mms_handler import manifest
from mms_handler.errors import ModelError
from mms_handler.models import onnx
from mms_handler.models.arrays import Arrays, to_plain
from mms_handler.models.graphs import faster
from mms_handler.models.graphs.graph import graph_of
from mms_handler.models.inputs import fixed_shapes
from mms_handler.models.twin import TOLERANCE, Session, near

#: Of runs that take less, in seconds, the speed does not matter: a request takes far longer.
QUICK_S = 1e-4


def make_twin(module: Any, predictor: Any, data: Arrays) -> tuple[manifest.Twin, bytes]:
    """The twin of a Module, and its entry in a manifest, without its hash.

    Args:
        module: its rows are independent.
        predictor: its default predict_fn, the fastest that MXNet has.
        data: a sample.

    Raises:
        ModelError: it has no graph, cannot be converted, or ONNX Runtime answers otherwise.
    """
    graph, shapes = graph_of(module, data), [array.shape for array in data]
    converted = onnx.convert(graph, shapes)
    if set(converted.rows.axes) != {0}:
        raise ModelError("its rows are not the first dimension of its inputs")
    prediction = to_plain(predictor(data))
    expected = prediction if isinstance(prediction, list) else [prediction]
    proof = onnx.prove(converted, graph, data, expected, TOLERANCE)
    content: bytes = converted.model.SerializeToString()
    entry = manifest.Twin(
        file=manifest.TWIN,
        sha256="",
        inputs=[tensor.name for tensor in converted.inputs],
        shapes=[list(shape[1:]) for shape in shapes],
        fixed=fixed_shapes(module) is not None,
        outputs=[tensor.name for tensor in converted.outputs],
        max_rows=predictor.max_rows(data),
        cases=len(proof.cases),
        difference=max(difference.largest for difference in proof.differences),
        tolerance=TOLERANCE,
        gain=0,
    )
    run = predictor.best
    session = Session(entry, content, 1)
    same = functools.partial(near, tolerance=TOLERANCE)
    trial = faster.compare(faster.baseline(run, data), run, session, same)
    if trial.gain == 0:
        raise ModelError(f"the ONNX model {trial.summary}")
    gain = 1.0
    if trial.gain:  # the model is not too slow to be timed
        slow_s, fast_s = faster.fastest(run, session, data, faster.TIMING_S)
        gain = max(slow_s, QUICK_S) / max(fast_s, QUICK_S)
    return entry._replace(gain=round(gain, 3)), content
