"""evidence: whether rows are independent is proven by running them together and alone."""

from __future__ import annotations

import numpy as np
import pytest

from mms_handler.models import evidence
from mms_handler.models.passes import Passes

A, B = np.array([[1.5, 2.5]], np.float32), np.array([3.5], np.float32)


def two(*values):
    """Rows of two values, float32."""
    return np.array(values, np.float32).reshape(-1, 2)


@pytest.mark.parametrize(
    ("run", "proven"),
    [
        pytest.param(lambda x: x * 2, True, id="each row its own"),
        pytest.param(lambda x: [x, x.sum(axis=1)], True, id="several outputs"),
        pytest.param(lambda x: {"a": x, "one": np.ones(len(x))}, True, id="one that is constant"),
        pytest.param(lambda x: x - x.mean(axis=0), False, id="less the mean of all rows"),
        pytest.param(lambda x: x + x.mean(axis=0), False, id="more the mean of all rows"),
        pytest.param(lambda x: x + 0.01 * x[:1], False, id="a little of another row"),
        pytest.param(lambda x: np.cumsum(x, axis=0), False, id="what came before, as time steps"),
        pytest.param(lambda x: x[::-1], False, id="another order"),
        pytest.param(lambda x: x.sum(axis=0), False, id="no rows any more"),
        pytest.param(lambda x: np.ones(len(x)), False, id="a constant, which proves nothing"),
        pytest.param(lambda x: x[:1], False, id="one row for all"),
        pytest.param(lambda x: 1 / len(x), False, id="a number"),
    ],
)
@pytest.mark.parametrize(
    "datum",
    [
        pytest.param(two(0, 0), id="zeros"),
        pytest.param(two(3, 5), id="whole numbers"),
        pytest.param(two(0.5, -2.25, 1, 7), id="two rows"),
        pytest.param(two(1, 3, 3, 1), id="two rows of whole numbers"),
        pytest.param(np.array([[1], [3]], np.float32), id="two values"),
    ],
)
def test_whether_rows_may_be_run_together(run, proven, datum):
    """Data like these are run stacked and alone; what proves nothing is a no."""
    assert Passes(run, None).proven(datum) is proven


def test_a_small_scale_proves_as_well():
    """Probabilities of a thousand classes differ little; mixing them is detected all the same."""
    assert Passes(lambda x: 1e-3 + 1e-5 * x, None).proven(two(1, 2))
    assert not Passes(lambda x: 1e-3 + 1e-5 * (x - x.mean(axis=0)), None).proven(two(1, 2))


def test_large_values_prove_as_well():
    """Rounding by kernels for other sizes is in proportion to them; mixing rows is more."""
    large = np.array([[1.0, 0.5, 0.0]], np.float32)

    def off_by(part):
        return lambda x: 1000 * x + (1000 * part if len(x) > 1 else 0)

    assert Passes(off_by(1e-6), None).proven(large)
    assert not Passes(off_by(1e-5), None).proven(large)


def test_a_small_value_beside_large_ones_proves_as_well():
    """A mean of all rows is detected, though it is a ten-thousandth of the value beside it."""

    def mixing(x):
        return np.concatenate(
            [1000 * x[:, :1], 0.1 * x.mean(axis=0, keepdims=True).repeat(len(x), 0)], 1
        )

    assert not Passes(mixing, None).proven(two(1, 2))


@pytest.mark.parametrize("mixes", [False, True])
def test_data_of_several_arrays(mixes):
    """By name, and in lists; random values are made for each."""

    def run(data):
        (b,) = data["b"]
        return data["a"] * (b.mean(axis=0) if mixes else b)

    assert Passes(run, None).proven({"a": two(1, 2), "b": [two(3, 4)]}) is not mixes


def tokens(x):
    """The embeddings of the tokens 0 to 9; any other is an error."""
    assert ((x % 1 == 0) & (x < 10)).all()
    return np.stack([x, x**2], axis=-1)


def test_tokens_are_paired_with_the_same_tokens():
    """If random numbers are no tokens, those of the data prove what can be proven."""
    assert Passes(tokens, None).proven(two(1, 2, 7, 9))
    assert not Passes(lambda x: tokens(x) - tokens(x).mean(axis=0), None).proven(two(1, 7))


def test_a_run_that_fails_with_two_is_not_proven():
    """A model that takes a single row is run with single rows."""

    def run(x):
        (row,) = x
        return [row]

    assert Passes(run, None).proven(two(1, 2)) is False


@pytest.mark.parametrize(
    ("expected", "prediction", "same"),
    [
        ([A, B], [A, B], True),
        ([A, B], [A], False),
        ([A], [A, B], False),
        ([A, B], [B, A], False),
        ([A, [B, A]], [A, B, A], True),
        (A, [A], True),
        (A, A.reshape(-1), False),
        ([A, B], [], False),
    ],
)
def test_as_many_outputs_as_the_model(expected, prediction, same):
    """A graph that lacks an output, or has one more, does not agree, whatever the others are."""
    assert evidence.graphs_agree(expected, prediction) is same
