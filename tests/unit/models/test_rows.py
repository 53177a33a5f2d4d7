"""rows: which arrays a model's inputs get from a body, and what of them is remembered."""

from __future__ import annotations

import numpy as np
import pytest

from mms_handler.errors import BadInput, UnsupportedShape
from mms_handler.models import rows
from mms_handler.models.arrays import Arrays
from mms_handler.models.rows import ModuleInputs, by_name, rows_by_input


class Inputs(ModuleInputs):
    """Of a Module with these inputs."""

    def __init__(self, **shapes):
        super().__init__(list(shapes))
        self._shapes = None if None in shapes.values() else list(shapes.values())
        self.asked = 0

    def fixed_shapes(self):
        self.asked += 1
        return self._shapes


def numbered(*shape):
    return np.arange(np.prod(shape, dtype=int), dtype=np.float32).reshape(shape)


# --- one input -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sample", "shape", "expected"),
    [
        ((3,), (2, 3), (2, 3)),
        ((3,), (3,), (1, 3)),
        ((3,), (1, 3), (1, 3)),
        ((3,), (2, 3, 1), (2, 3)),
        ((3,), (3, 1), (1, 3)),
        ((3,), (1, 1, 3), (1, 3)),
        ((1,), (6,), (6, 1)),
        ((1,), (1,), (1, 1)),
        ((), (6,), (6,)),
        ((2, 3), (6,), (1, 2, 3)),
        ((2, 3), (2, 3), (1, 2, 3)),
        ((2, 3), (2, 1, 3), (1, 2, 3)),
        ((2, 3), (5, 6), (5, 2, 3)),
        ((2, 3), (5, 3, 2), (5, 2, 3)),
        ((1, 2, 2), (2, 2), (1, 1, 2, 2)),
        ((2, 2), (2, 4), (2, 2, 2)),
        ((2, 2), (4, 1), None),
        ((3,), (2, 2), None),
        ((3,), (6,), None),
        ((3,), (), None),
        ((), (), None),
        ((3,), (0, 3), None),
        ((3,), (2, 0), None),
        ((2, 3), (3, 2), None),
        ((2, 3), (1, 3, 2), (1, 2, 3)),
        ((2, 3), (3, 2, 1), None),
    ],
)
def test_rows_and_samples(sample, shape, expected):
    """Rows come first; values of two rows are never mixed, and none is moved."""
    array = numbered(*shape)
    if expected is None:
        with pytest.raises(BadInput):
            rows_by_input(array, ["x"], [(8, *sample)])
    else:
        taken = rows_by_input(array, ["x"], [(8, *sample)])["x"]
        assert taken.shape == expected
        assert taken.ravel().tolist() == array.ravel().tolist()


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((2, 2), "the model takes (N, 3), the body has (2, 2)"),
        ((), "the model takes (N, 3), the body has ()"),
    ],
)
def test_a_body_that_does_not_fit(shape, message):
    with pytest.raises(BadInput) as caught:
        rows_by_input(numbered(*shape), ["x"], [(1, 3)])
    assert str(caught.value) == message


# --- several inputs --------------------------------------------------------------------------


def test_several_inputs_are_named_where_they_do_not_fit():
    body = {"y": numbered(2, 4), "x": numbered(2, 3)}
    assert list(rows_by_input(body, ["x", "y"], [(1, 3), (1, 4)])) == ["x", "y"]
    with pytest.raises(BadInput, match=r"^the model takes \(N, 5\) as y, the body has \(2, 4\)$"):
        rows_by_input(body, ["x", "y"], [(1, 3), (1, 5)])


@pytest.mark.parametrize("shapes", [[(1, 3), (1, 4)], None])
def test_several_inputs_have_as_many_rows_each(shapes):
    body = {"x": numbered(2, 3), "y": numbered(1, 4)}
    message = "^the inputs have different numbers of rows: {'x': 2, 'y': 1}$"
    with pytest.raises(BadInput, match=message):
        rows_by_input(body, ["x", "y"], shapes)


@pytest.mark.parametrize("shape", [(), (0, 3)])
def test_inputs_of_any_shape_need_rows(shape):
    with pytest.raises(BadInput, match="^the body has no rows; the model takes one or more$"):
        rows_by_input(numbered(*shape), ["x"], None)


@pytest.mark.parametrize(
    ("value", "names", "error", "message"),
    [
        (
            numbered(2), ["x", "y"], UnsupportedShape,
            "the model has 2 inputs (x, y), the body has one",
        ),
        ({"a": 1, "b": 2}, ["x"], BadInput, "the model takes one array, the body has 'a', 'b'"),
        ({}, ["x"], BadInput, "the model takes one array, the body has "),
        ({"x": 1}, ["x", "y"], BadInput, "the model's inputs are x, y, the body's 'x'"),
        (
            {"x": 1, "z": 2}, ["x", "y"], BadInput,
            "the model's inputs are x, y, the body's 'x', 'z'",
        ),
    ],
)  # fmt: skip
def test_other_inputs(value, names, error, message):
    with pytest.raises(error) as caught:
        by_name(value, names)
    assert type(caught.value) is error
    assert str(caught.value) == message


def test_the_names_of_a_client_are_cut():
    with pytest.raises(BadInput) as caught:
        by_name({"a" * 500: 1, "b": 2}, ["x"])
    assert len(str(caught.value)) == len("the model takes one array, the body has ") + 200


# --- what is remembered ----------------------------------------------------------------------


def test_a_shape_is_remembered_once_it_was_taken():
    inputs = Inputs(x=(1, 3))
    assert inputs.fitted((2, 3)) is None
    body = numbered(2, 3, 1)
    for count in (1, 1):  # the second time without a look at the model
        (array,) = inputs.take(body)
        assert (array.shape, inputs.asked) == ((2, 3), count)
        assert np.shares_memory(array, body)
    assert inputs.fitted((2, 3, 1)) == (2, 3)
    assert inputs.fitted((2, 3)) is None


def test_what_does_not_fit_is_not_remembered():
    inputs = Inputs(x=(1, 3))
    for _ in range(2):
        with pytest.raises(BadInput):
            inputs.take(numbered(2, 2))
    assert inputs.fitted((2, 2)) is None
    inputs.take({"x": numbered(2, 3)})
    assert inputs.fitted((2, 3)) is None  # of a body with names


def test_not_all_shapes_are_remembered(monkeypatch):
    monkeypatch.setattr(rows, "_SHAPES", 2)
    inputs = Inputs(x=(1, 3))
    for count in (1, 2, 3):
        assert inputs.take(numbered(count, 3))[0].shape == (count, 3)
    assert [inputs.fitted((count, 3)) for count in (1, 2, 3)] == [(1, 3), (2, 3), None]


@pytest.mark.parametrize(
    ("shape", "counts", "expected"),
    [
        ((3, 3), [1, 2], (3, 3)),
        ((3, 3, 1), [2, 1], (3, 3)),
        ((3, 1, 3), [3], (3, 3)),
        ((4, 3), [2, 2], (4, 3)),
    ],
)
@pytest.mark.parametrize("known", [True, False])
def test_rows_of_several_bodies(shape, counts, expected, known):
    """They are what each of them is alone, whether or not such a body has come before."""
    inputs = Inputs(x=(1, 3))
    body = numbered(*shape)
    if known:
        for count in counts:
            inputs.take(body[:count])
    stack = inputs.stack(body, counts)
    assert stack.rows[0].shape == expected
    assert stack.rows[0].ravel().tolist() == body.ravel().tolist()
    assert stack.counts == counts


@pytest.mark.parametrize("known", [True, False])
def test_bodies_that_are_one_sample_alone_are_not_put_together(known):
    """Three numbers in three rows are one sample of three; six rows are none."""
    inputs = Inputs(x=(1, 3))
    body = numbered(6, 1)
    if known:
        inputs.take(body[:3])
    assert inputs.stack(body, [3, 3]) is None


def test_bodies_that_do_not_fit_alone():
    with pytest.raises(BadInput):
        Inputs(x=(1, 3)).stack(numbered(4, 2), [2, 2])


# --- arrays ----------------------------------------------------------------------------------


def test_values_without_arrays_are_left_as_they_are():
    inputs = Inputs(x=(1, 3))
    for value in ("text", None, Arrays([numbered(1)])):
        assert inputs.arrays(value) is value
    assert inputs.asked == 0


@pytest.mark.parametrize("dtype", [np.float64, np.int32, np.float32, ">f4", bool])
def test_values_become_float32(dtype):
    (array,) = Inputs(x=(1, 3)).arrays(np.array([[0, 1, 1]], dtype))
    assert (array.dtype, array.tolist()) == (np.float32, [[0, 1, 1]])
