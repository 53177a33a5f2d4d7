"""schema: what a manifest keeps of a model's inputs and outputs, and what people read of it."""

from __future__ import annotations

import pytest

from mms_handler import schema
from mms_handler.schema import Schema, Tensor

DATA = Tensor("data", (None, 3, None), "FP32")
ENCODED = {
    "inputs": [{"name": "data", "shape": ["N", 3, "any"], "type": "FP32"}],
    "outputs": [{"name": "body", "shape": [1], "type": "BYTES", "content_type": "text/csv"}],
}


def test_a_schema_is_read_as_it_was_written():
    """None becomes a word, and is None again."""
    written = Schema((DATA,), (Tensor("body", (1,), "BYTES", "text/csv"),))
    assert schema.encode(written) == ENCODED
    assert schema.read(ENCODED) == written


@pytest.mark.parametrize(
    ("tensor", "text"),
    [
        pytest.param(DATA, "data (N, 3, any) FP32", id="any lengths"),
        pytest.param(Tensor("x", (None,), "INT8"), "x (N,) INT8", id="one dimension"),
        pytest.param(
            Tensor("b", (1,), "BYTES", "image/png"), "b (1,) BYTES as image/png", id="a body"
        ),
    ],
)
def test_what_people_read(tensor, text):
    assert str(tensor) == text


@pytest.mark.parametrize(
    ("value", "error"),
    [
        pytest.param({"inputs": []}, KeyError, id="no outputs"),
        pytest.param({"inputs": {}, "outputs": []}, TypeError, id="no list"),
        pytest.param({"inputs": [3], "outputs": []}, TypeError, id="no object"),
        pytest.param({"inputs": [{"name": "a"}], "outputs": []}, TypeError, id="no shape"),
        pytest.param({"inputs": [{}] * 257, "outputs": []}, TypeError, id="too many"),
    ],
)
def test_what_is_no_schema(value, error):
    with pytest.raises(error):
        schema.read(value)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        pytest.param({"name": 3}, "the name, the type or the content type of 3", id="name"),
        pytest.param(
            {"type": "FP8"}, "'data' has the type 'FP8'; expected one of BOOL,", id="type"
        ),
        pytest.param({"shape": 3}, "the shape of 'data' is not a list of up to 32", id="shape"),
        pytest.param({"shape": [1] * 33}, "the shape of 'data' is not a list of up to 32", id="33"),
        pytest.param({"shape": [-1]}, "-1 is not a length", id="a negative length"),
        pytest.param({"shape": [True]}, "True is not a length", id="a length that is no number"),
    ],
)
def test_what_is_no_tensor(changed, message):
    tensor = {**ENCODED["inputs"][0], **changed}
    with pytest.raises((ValueError, TypeError), match=message):
        schema.read({"inputs": [tensor], "outputs": []})
