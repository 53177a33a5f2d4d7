"""Answer requests of the Open Inference Protocol by the functions that answer all others.

    request ──open──▶ arrays for the default input_fn, or a body for the script's own
    reply   ◀─close── arrays of the default output_fn, or a body of the script's own

A script's function gets the tensors as a body that it can expect: a list in JSON; an object of
lists for several inputs; the text itself for a single one whose content type the client names.  Its
JSON becomes arrays where it is lists of numbers or of texts; anything else becomes one text.
"""

from __future__ import annotations

import json
from typing import Any, Callable, Mapping, NamedTuple, Sequence

import numpy as np

from mms_handler import codecs, media, models
from mms_handler.codecs import tensors
from mms_handler.codecs.tensor_values import datatype_of
from mms_handler.codecs.tensors import TensorRequest
from mms_handler.errors import BadInput, Failed, ScriptError
from mms_handler.worker.functions import Run
from mms_handler.worker.pipeline import Steps
from mms_handler.worker.reply import HeadedReply, Outputs, Reply
from mms_handler.worker.request import Request
from mms_handler.worker.whole import Whole

#: The name of a model's only output, where the model has no names; more of them are numbered.
OUTPUT = "output"


class _Opened(NamedTuple):
    """A request as a client asked it, and as the functions get it."""

    tensors: TensorRequest
    request: Request


class Inference:
    """The requests of one model."""

    def __init__(self, pipeline: Whole | Steps, model: str, limit_bytes: int) -> None:
        """Answer for a model.

        Args:
            pipeline: whose functions answer.
            model: its name.
            limit_bytes: what a request's arrays may take.
        """
        self._pipeline, self._model, self._limit_bytes = pipeline, model, limit_bytes

    def answer(self, answering: Any, requests: Sequence[Any], run: Run) -> list[Any]:
        """Answer requests that came together, of this protocol or any other.

        Args:
            answering: the pipeline, or what stands in front of it.
            requests: as for ``Steps.answer``.
            run: calls each step.

        Returns:
            A Reply, a HeadedReply or a Failed for each request, in their order.
        """
        opened = {
            place: run(request, self._open, request)
            for place, request in enumerate(requests)
            if isinstance(request, Request) and _is_inference(request.content_type)
        }
        if not opened:
            replies: list[Any] = answering.answer(requests, run)
            return replies
        plain = list(requests)
        for place, each in opened.items():
            plain[place] = each if isinstance(each, Failed) else each.request
        replies = answering.answer(plain, run)
        for place, each in opened.items():
            replies[place] = run(requests[place], self._close, each, replies[place])
        return replies

    # --- requests ---

    def _open(self, request: Request) -> _Opened:
        sent = tensors.read(request.body, request.content_type, self._limit_bytes)
        pipeline = self._pipeline
        if pipeline.reads_bodies:
            self._check_names(sent.inputs)
            arrays = {name: _numbers(name, array) for name, array in sent.inputs.items()}
            return _Opened(sent, request._replace(body=b"", tensors=arrays))
        body, content_type = script_body(sent)
        plain = request._replace(body=body, content_type=content_type, accept=media.JSON)
        return _Opened(sent, plain._replace(tensors={}) if pipeline.writes_arrays else plain)

    def _check_names(self, inputs: Mapping[str, Any]) -> None:
        """Check the name of the only input; the model itself checks those of several."""
        names = input_names(self._pipeline)
        if len(names) == 1 and list(inputs) != names:
            others = ", ".join(map(repr, inputs))[:200]
            raise BadInput(f"the model's input is {names[0]}, the request's {others}")

    # --- replies ---

    def _close(self, opened: _Opened, reply: Reply | Outputs) -> Reply | HeadedReply:
        content_type = ""
        if isinstance(reply, Outputs):
            outputs = named(models.to_plain(reply.prediction), output_names(self._pipeline))
        elif reply.status >= 400:
            return reply
        else:
            outputs, content_type = from_body(reply.body, reply.content_type)
        written = tensors.write(opened.tensors, self._model, outputs, content_type)
        return HeadedReply(written.body, written.content_type, 200, written.headers)


def _is_inference(content_type: str) -> bool:
    return content_type.startswith("app") and media.main_type(content_type) == media.INFER


def _numbers(name: str, array: Any) -> Any:
    """An array as the default functions take it."""
    if array.dtype.kind == "O":
        raise BadInput(f"the model takes numbers, {name[:60]!r} has BYTES")
    return np.asarray(array, np.float32)


# --- names -----------------------------------------------------------------------------------


def input_names(pipeline: Whole | Steps) -> list[str]:
    """The names of the arrays that the default input_fn reads; ["input"] where there are none."""
    names = pipeline.predictor.input_names if pipeline.predictor else []
    return names or ["input"]


def output_names(pipeline: Whole | Steps) -> list[str]:
    """The names of the arrays that the default predict_fn returns; [] where there are none."""
    names: list[str] = pipeline.predictor.output_names if pipeline.predictor else []
    return names


def named(prediction: Any, names: Sequence[str]) -> dict[str, Any]:
    """The arrays of a prediction by name.

    Raises:
        ScriptError: the prediction has something else than arrays of numbers.
    """
    if isinstance(prediction, dict):
        arrays = {str(name): np.asarray(value) for name, value in prediction.items()}
    else:
        several = isinstance(prediction, (list, tuple))
        values = list(prediction) if several else [prediction]
        if len(names) != len(values):
            names = [f"{OUTPUT}_{place}" for place in range(len(values))] if several else [OUTPUT]
        arrays = {name: np.asarray(value) for name, value in zip(names, values)}
    for name, array in arrays.items():
        if datatype_of(array) is None or array.dtype.kind == "O":
            raise ScriptError(f"the prediction's {name} is no array that can be sent as a tensor")
    return arrays


# --- the bodies of a script's own functions --------------------------------------------------


def script_body(request: TensorRequest) -> tuple[bytes, str]:
    """The tensors of a request as a body, and its content type.

    Raises:
        BadInput: they cannot be one.
    """
    types = [content_type for content_type in request.content_types.values() if content_type]
    if not types:
        lists = {name: _lists(name, array) for name, array in request.inputs.items()}
        value = lists if len(lists) > 1 else next(iter(lists.values()))
        return json.dumps(value, ensure_ascii=False).encode(), media.JSON
    (array,) = request.inputs.values() if len(request.inputs) == 1 else (None,)
    if array is None or array.size != 1:
        raise BadInput(
            f"the model's script takes one body, so an input of {types[0][:60]} must be the only "
            "one, and have one value"
        )
    return array.item(), types[0]


def _lists(name: str, array: Any) -> Any:
    if array.dtype.kind != "O":
        return json.loads(codecs.encode(array, media.JSON, media.JSON)[0])
    try:
        return np.vectorize(bytes.decode, otypes=[object])(array).tolist()
    except UnicodeDecodeError:
        raise BadInput(
            f"{name[:60]!r} has bytes that are not UTF-8; name their type in the input's "
            "parameters, such as content_type: image/jpeg"
        ) from None


def from_body(body: bytes, content_type: str) -> tuple[dict[str, Any], str]:
    """A script's body as arrays by name, and the type of the texts in them; "" for plain texts."""
    if media.main_type(content_type) == media.JSON:
        try:
            value = json.loads(body)
        except ValueError:
            value = None
        members = value if isinstance(value, dict) and value else {OUTPUT: value}
        arrays = {name: _array(member) for name, member in members.items()}
        if all(array is not None for array in arrays.values()):
            return arrays, ""
    return {OUTPUT: _one_text(body)}, content_type


def _one_text(body: bytes) -> Any:
    array = np.empty(1, object)
    array[0] = body
    return array


def _array(value: Any) -> Any:
    """An array of numbers or of texts, with one dimension at least; None if it is none."""
    value = value if isinstance(value, list) else [value]
    array = _attempted(lambda: np.asarray(value, object))
    flat = [] if array is None else array.ravel().tolist()
    kinds = set(map(type, flat))
    if kinds == {str}:
        return np.vectorize(str.encode, otypes=[object])(array)
    if kinds <= {int, float, bool, type(None)} and kinds & {int, float, bool}:
        dtype: Any = np.float64 if kinds & {float, type(None)} else None
        typed = _attempted(lambda: np.asarray(value, dtype))
        return typed if typed is not None and datatype_of(typed) else None
    return None


def _attempted(make: Callable[[], Any]) -> Any:
    try:
        return make()
    except (ValueError, TypeError, OverflowError):
        return None
