"""inference: tensors for the default functions and for a script's, and what becomes of replies."""

from __future__ import annotations

import json

import mxnet as mx
import numpy as np
import pytest

from mms_handler import media
from mms_handler.errors import BadInput, Failed, ScriptError, TooLarge
from mms_handler.script.load import Script
from mms_handler.worker.functions import Options, run_step
from mms_handler.worker.inference import Inference
from mms_handler.worker.pipeline import build
from mms_handler.worker.request import Request

JSON = "application/json"


def request(*inputs, **more):
    body = json.dumps({"inputs": list(inputs), **more}).encode()
    return Request(body, media.INFER, "", {})


def tensor(data, shape=None, datatype="FP32", name="data", **more):
    shape = np.shape(data) if shape is None else shape
    return {"name": name, "shape": list(shape), "datatype": datatype, "data": data, **more}


def replies(model, hooks, *requests, limit=2**20):
    pipeline = build(Script(None, hooks), model, Options(mx.cpu()))
    inference = Inference(pipeline, "m", limit)
    return inference.answer(pipeline, list(requests), run_step)


def outputs(model, hooks, *inputs, **more):
    """The outputs of the reply to one request."""
    (reply,) = replies(model, hooks, request(*inputs, **more))
    if isinstance(reply, Failed):
        raise reply.exc
    answer = json.loads(reply.body)
    assert answer["model_name"] == "m"
    assert reply.content_type == JSON
    return answer["outputs"]


# --- the default functions -------------------------------------------------------------------


def test_a_module(sums):
    """Its inputs and outputs have the names of its symbol."""
    (output,) = outputs(sums(bound=4), {}, tensor([[1, 1], [2, 3]]))
    assert output == {
        "name": sums(bound=4).output_names[0],
        "datatype": "FP32",
        "shape": [2, 1],
        "data": [13.0, 18.0],
    }


def test_a_block(sum_block):
    (output,) = outputs(sum_block, {}, tensor([[1, 1], [2, 3]], name="x"))
    assert output == {"name": "output", "datatype": "FP32", "shape": [2, 1], "data": [13.0, 18.0]}


def test_several_outputs(sums):
    """Each by its name, and those alone that a client wants."""
    module = sums(outputs=2)
    both = outputs(module, {}, tensor([[1, 1]]))
    assert [each["data"] for each in both] == [[13.0], [26.0]]
    names = [each["name"] for each in both]
    assert names == module.output_names
    (second,) = outputs(module, {}, tensor([[1, 1]]), outputs=[{"name": names[1]}])
    assert second == both[1]


def test_numbers_of_other_types_become_float32(sums):
    """As those of any other body."""
    (output,) = outputs(sums(), {}, tensor([[1, 1]], datatype="INT64"))
    assert output["data"] == [13.0]


@pytest.mark.parametrize(
    ("entry", "error", "message"),
    [
        pytest.param(
            tensor([[1, 1]], name="x"),
            BadInput,
            "the model's input is data, the request's 'x'",
            id="name",
        ),
        pytest.param(
            tensor(["a"], datatype="BYTES"), BadInput, "the model takes numbers", id="texts"
        ),
        pytest.param(
            tensor([[1, 1, 1]]),
            BadInput,
            r"the model takes \(N, 2\), the body has \(1, 3\)",
            id="shape",
        ),
        pytest.param(
            tensor([1.0], (2**20,)), TooLarge, "the arrays take 4194304 bytes", id="too large"
        ),
    ],
)
def test_requests_that_are_refused(sums, entry, error, message):
    with pytest.raises(error, match=message):
        outputs(sums(), {}, entry)


def test_requests_of_all_kinds_in_one_batch(sums):
    """Each gets its own answer, and a bad one harms no other."""
    plain = Request(b"[[1, 1]]", JSON, JSON, {})
    good, bad = request(tensor([[2, 3]]), id="g"), request(tensor([[2, 3]], name="x"))
    first, second, third, fourth = replies(sums(), {}, plain, good, bad, good)
    assert first.body == b"[[13.0]]"
    assert json.loads(second.body)["outputs"][0]["data"] == [18.0]
    assert isinstance(third.exc, BadInput)
    assert fourth == second


# --- a script's functions --------------------------------------------------------------------


def echo(model, data, content_type, accept):
    """A transform_fn whose reply shows what it got."""
    body = data if isinstance(data, str) else data.hex()
    return json.dumps({"got": [f"{content_type} {accept} {body}"]}), JSON


@pytest.mark.parametrize(
    ("inputs", "got"),
    [
        pytest.param(
            [tensor([[1.5, 2]])], "application/json application/json [[1.5, 2.0]]", id="one"
        ),
        pytest.param(
            [tensor([1], datatype="INT8")], "application/json application/json [1]", id="integers"
        ),
        pytest.param(
            [tensor([1.0], name="a"), tensor([True], name="b", datatype="BOOL")],
            'application/json application/json {"a": [1.0], "b": [true]}',
            id="several",
        ),
        pytest.param(
            [tensor(["é"], datatype="BYTES")], 'application/json application/json ["é"]', id="texts"
        ),
        pytest.param(
            [tensor(["1,2"], datatype="BYTES", parameters={"content_type": "text/csv"})],
            "text/csv application/json 1,2",
            id="a text with a type",
        ),
    ],
)
def test_what_a_transform_fn_gets(inputs, got):
    (output,) = outputs(object(), {"transform_fn": echo}, *inputs)
    assert output == {"name": "got", "datatype": "BYTES", "shape": [1], "data": [got]}


@pytest.mark.parametrize(
    "inputs",
    [
        pytest.param(
            [tensor(["a", "b"], datatype="BYTES", parameters={"content_type": "a/b"})], id="2"
        ),
        pytest.param(
            [
                tensor(["a"], datatype="BYTES", parameters={"content_type": "a/b"}),
                tensor([1], name="x"),
            ],
            id="beside another input",
        ),
    ],
)
def test_bodies_that_are_not_the_only_one(inputs):
    with pytest.raises(BadInput, match="takes one body, so an input of a/b must be the only one"):
        outputs(object(), {"transform_fn": echo}, *inputs)


@pytest.mark.parametrize(
    ("body", "content_type", "expected"),
    [
        pytest.param("[[1.5, 2]]", JSON, ("FP64", [1, 2], [1.5, 2.0]), id="floats"),
        pytest.param("[[1, 2]]", JSON, ("INT64", [1, 2], [1, 2]), id="integers"),
        pytest.param("[true]", JSON, ("BOOL", [1], [True]), id="bools"),
        pytest.param("[null, 1]", JSON, ("FP64", [2], [None, 1.0]), id="null"),
        pytest.param('["a", "b"]', JSON, ("BYTES", [2], ["a", "b"]), id="texts"),
        pytest.param("7", JSON, ("INT64", [1], [7]), id="a number alone"),
        pytest.param('{"a": {"b": 1}}', JSON, ("BYTES", [1], ['{"a": {"b": 1}}']), id="an object"),
        pytest.param("[[1], [2, 3]]", JSON, ("BYTES", [1], ["[[1], [2, 3]]"]), id="ragged"),
        pytest.param("[]", JSON, ("BYTES", [1], ["[]"]), id="nothing"),
        pytest.param("[1, 'a']", JSON, ("BYTES", [1], ["[1, 'a']"]), id="no JSON"),
        pytest.param('[1, "a"]', JSON, ("BYTES", [1], ['[1, "a"]']), id="mixed"),
        pytest.param(f"[{2**70}]", JSON, ("BYTES", [1], [f"[{2**70}]"]), id="too large"),
        pytest.param("1,2", "text/csv", ("BYTES", [1], ["1,2"]), id="CSV"),
    ],
)
def test_what_becomes_of_a_body(body, content_type, expected):
    """Lists of numbers or texts in JSON are tensors; anything else is one text of its type."""
    transform = {"transform_fn": lambda model, data, content, accept: (body, content_type)}
    (output,) = outputs(object(), transform, tensor([1]))
    assert (output["datatype"], output["shape"], output["data"]) == expected
    parameters = {"content_type": content_type} if output["data"] == [body] else None
    assert output.get("parameters") == parameters


def test_outputs_that_a_script_names():
    transform = {"transform_fn": lambda model, data, content, accept: {"a": [1.5], "b": ["x"]}}
    first, second = outputs(object(), transform, tensor([1]))
    assert (first["name"], first["data"]) == ("a", [1.5])
    assert (second["name"], second["data"]) == ("b", ["x"])


def test_a_script_with_an_input_fn_alone(sum_block):
    """It gets JSON; the prediction is written as the default functions' is."""
    hooks = {"input_fn": lambda data, content_type: mx.nd.array(json.loads(data)) + 1}
    (output,) = outputs(sum_block, hooks, tensor([[0, 0]], name="anything"))
    assert output == {"name": "output", "datatype": "FP32", "shape": [1, 1], "data": [13.0]}


def test_a_script_with_an_output_fn_alone(sum_block):
    """The default input_fn reads the tensors; what it writes is a body."""
    hooks = {"output_fn": lambda prediction, accept: ["good"] * len(prediction)}
    (output,) = outputs(sum_block, hooks, tensor([[1, 1], [2, 3]], name="x"))
    assert (output["datatype"], output["data"]) == ("BYTES", ["good", "good"])


def test_a_prediction_that_is_no_tensor(sum_block):
    """A Block may return anything."""

    class Texts(mx.gluon.Block):
        def forward(self, x):
            return [x, "a"]

    with pytest.raises(ScriptError, match="the prediction's output_1 is no array"):
        outputs(Texts(), {}, tensor([[1, 1]], name="x"))
