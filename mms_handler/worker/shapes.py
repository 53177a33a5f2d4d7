"""Find what a loaded model takes and gives: the names, shapes and types of its arrays.

They come from the model itself, and from its sample: a Block's graph names no shapes, and what a
script's function reads and writes shows in a request and its reply alone.
"""

from __future__ import annotations

import logging
from typing import Any, Mapping, Sequence, cast

from mms_handler import codecs, media, models
from mms_handler.codecs.tensor_values import datatype_of
from mms_handler.errors import Failed, attempt
from mms_handler.schema import Schema, Tensor
from mms_handler.worker import inference
from mms_handler.worker.pipeline import Steps
from mms_handler.worker.reply import Reply
from mms_handler.worker.request import Request
from mms_handler.worker.whole import Whole

log = logging.getLogger(__name__)


def schema_of(
    pipeline: Whole | Steps,
    sample: Request | None,
    reply: Reply | None,
    saved: Sequence[tuple[int, ...]] = (),
    *,
    searches: bool = False,
) -> Schema:
    """What a model takes and gives, as far as it can be known.

    Args:
        pipeline: answers the requests.
        sample: a request that it answers; None: there is none.
        reply: to the sample.
        saved: shapes of the inputs, from the file of the default save.
        searches: also try shapes that a Block's graph may take.  This runs the Block's code, so
            no worker does it.
    """
    schema = attempt(_schema_of, pipeline, sample if reply else None, reply, saved, searches)
    if isinstance(schema, Failed):  # the model answers, so it is served without one
        log.warning(
            "the inputs and outputs are unknown: %s: %s", type(schema.exc).__name__, schema.exc
        )
        return Schema()
    return cast(Schema, schema)


def _schema_of(pipeline: Any, sample: Any, reply: Any, saved: Any, searches: bool) -> Schema:
    data = pipeline.read(sample) if sample and pipeline.writes_arrays else None
    if pipeline.reads_bodies:
        inputs = _default_inputs(pipeline, sample, data, saved, searches)
    else:
        inputs = [_body("body", sample.body, sample.content_type)] if sample else []
    return Schema(tuple(inputs), tuple(_outputs(pipeline, reply, data, inputs)))


# --- inputs ----------------------------------------------------------------------------------


def _default_inputs(
    pipeline: Steps, sample: Any, data: Any, saved: Any, searches: bool
) -> list[Tensor]:
    """The arrays that the default input_fn reads."""
    names = inference.input_names(pipeline)
    model = pipeline.model
    if models.is_module(model) and model.binded:
        shapes = [tuple(desc[1]) for desc in model.data_shapes]
    elif isinstance(data, models.Arrays):
        shapes = [tuple(array.shape) for array in data]
    elif sample:
        arrays = codecs.decode(sample.body, sample.content_type)
        shapes = [
            array.shape for array in (arrays.values() if isinstance(arrays, dict) else [arrays])
        ]
    else:
        shapes = list(saved) or (_searched(model, len(names)) if searches else [])
    if len(shapes) != len(names):
        shapes = [(0,)] * len(names)
    return [Tensor(name, _rows(shape), "FP32") for name, shape in zip(names, shapes)]


def _searched(block: Any, inputs: int) -> list[Any]:
    """The shape that the graph of a Block takes, None for any length; [] if none can be found."""
    rules = models.ShapeRules.of_block(block, inputs) if models.is_block(block) else None
    pattern = rules.search() if rules else None
    return [pattern[1]] if pattern else []


def _rows(shape: Sequence[int | None]) -> tuple[int | None, ...]:
    """A shape with any number of rows."""
    return (None, *shape[1:]) if shape else ()


# --- outputs ---------------------------------------------------------------------------------


def _outputs(pipeline: Any, reply: Any, data: Any, inputs: Sequence[Tensor]) -> list[Tensor]:
    if data is not None:
        prediction = models.to_plain(pipeline.predictor(data))
        return _tensors(inference.named(prediction, inference.output_names(pipeline)))
    if reply:
        arrays, text_type = inference.from_body(reply.body, reply.content_type)
        if text_type:
            return [Tensor(inference.OUTPUT, (1,), "BYTES", media.main_type(text_type))]
        return _tensors(arrays, media.main_type(reply.content_type))
    model = pipeline.model
    if pipeline.writes_arrays and models.is_module(model) and model.binded:
        return [Tensor(name, _rows(shape), "FP32") for name, shape in model.output_shapes]
    return []


def _tensors(arrays: Mapping[str, Any], content_type: str = "") -> list[Tensor]:
    """The schema of arrays; of a script's body if it has a content type."""
    return [
        Tensor(name, _rows(array.shape), str(datatype_of(array)), content_type)
        for name, array in arrays.items()
    ]


def _body(name: str, body: bytes, content_type: str) -> Tensor:
    """A body as a script's function gets it."""
    content_type = media.main_type(content_type)
    if content_type == media.JSON:
        arrays, unread = inference.from_body(body, content_type)
        if not unread and list(arrays) == [inference.OUTPUT]:
            (array,) = arrays.values()
            return Tensor("input", _rows(array.shape), str(datatype_of(array)), content_type)
    return Tensor(name, (1,), "BYTES", content_type)
