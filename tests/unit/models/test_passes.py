"""stacking: data of one kind in one pass, cut apart again, and only where that was seen to do."""

from __future__ import annotations

import mxnet as mx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mms_handler.errors import Failed, attempt
from mms_handler.models import arrays, passes
from mms_handler.models.passes import Passes


def two(*values):
    """Rows of two values, float32."""
    return np.array(values, np.float32).reshape(-1, 2)


# --- kinds and stacks ---


@pytest.mark.parametrize(
    ("one", "other"),
    [
        pytest.param(two(1, 2), two(1, 2, 3, 4), id="rows"),
        pytest.param([two(1, 2), two(3, 4)], [two(1, 2), two(3, 4)], id="lists"),
        pytest.param({"a": two(1, 2)}, {"a": two(3, 4)}, id="dicts"),
        pytest.param(mx.nd.ones((1, 2)), mx.nd.ones((5, 2)), id="NDArrays"),
    ],
)
def test_data_of_one_kind(one, other):
    """Data that differ in values and rows alone may be stacked."""
    assert arrays.kind(one) == arrays.kind(other) is not None


@pytest.mark.parametrize(
    ("one", "other"),
    [
        pytest.param(two(1, 2), np.ones((1, 3), np.float32), id="another width"),
        pytest.param(two(1, 2), two(1, 2).astype(np.int32), id="another type"),
        pytest.param(two(1, 2), np.ones((1, 1, 2), np.float32), id="another dimension"),
        pytest.param(two(1, 2), mx.nd.ones((1, 2)), id="an NDArray"),
        pytest.param({"a": two(1, 2)}, {"b": two(1, 2)}, id="another name"),
        pytest.param([two(1, 2)], [two(1, 2)] * 2, id="more inputs"),
    ],
)
def test_data_of_two_kinds(one, other):
    """What has another shape, type, structure or name is of another kind."""
    assert arrays.kind(one) != arrays.kind(other)


@pytest.mark.parametrize(
    "datum",
    [
        pytest.param(np.float32(3), id="a number"),
        pytest.param(np.zeros((0, 2)), id="no rows"),
        pytest.param([], id="no arrays"),
        pytest.param("text", id="text"),
        pytest.param({"a": two(1, 2), "b": 3}, id="something beside an array"),
        pytest.param(mx.nd.ones((1, 2)).tostype("csr"), id="a sparse array"),
    ],
)
def test_data_without_a_kind(datum):
    """What has no rows is never stacked."""
    assert arrays.kind(datum) is None


@settings(max_examples=50, deadline=None)
@given(counts=st.lists(st.integers(1, 5), min_size=1, max_size=6), nd=st.booleans())
def test_apart_undoes_stack(counts, nd):
    """Each gets its own rows back, in order, in the structure they had."""
    ends = np.cumsum(counts)
    made = mx.nd.array if nd else np.array
    data = [
        {"x": [made(np.arange(end - count, end, dtype=np.float32).reshape(-1, 1))]}
        for end, count in zip(ends, counts)
    ]
    back = arrays.split_rows(arrays.stack(data), counts)
    assert [list(one) for one in back] == [["x"]] * len(counts)
    found = [arrays.plain_leaves(one)[0].ravel().tolist() for one in back]
    assert found == [arrays.plain_leaves(one)[0].ravel().tolist() for one in data]
    assert [type(one["x"][0]) for one in back] == [type(one["x"][0]) for one in data]


def test_apart_of_a_prediction_that_has_not_its_rows():
    """A prediction of another number of rows, or of something else, is nobody's."""
    with pytest.raises(ValueError, match="3 rows in, 1 rows out"):
        arrays.split_rows(two(1, 2), [1, 2])
    with pytest.raises(ValueError, match="expected arrays with rows"):
        arrays.split_rows([two(1, 2), "label"], [1])


def test_cut_ndarrays_are_copies():
    """What one request's output_fn writes to its rows, no other sees."""
    whole = mx.nd.array([[1], [2]])
    one, other = arrays.split_rows(whole, [1, 1])
    one[:] = 9
    assert (whole.asnumpy().tolist(), other.asnumpy().tolist()) == ([[1], [2]], [[2]])


# --- proofs ---


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
        pytest.param(lambda x: np.ones(len(x)), False, id="a constant, which tells nothing"),
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
    """It is seen by data like these, stacked and alone; what tells nothing is a no."""
    assert Passes(run, None).proven(datum) is proven


def test_a_small_scale_proves_as_well():
    """Probabilities of a thousand classes differ little; what mixes them is found all the same."""
    assert Passes(lambda x: 1e-3 + 1e-5 * x, None).proven(two(1, 2))
    assert not Passes(lambda x: 1e-3 + 1e-5 * (x - x.mean(axis=0)), None).proven(two(1, 2))


def test_large_values_prove_as_well():
    """What kernels for other sizes round is in proportion to them; what mixes rows is more."""
    large = np.array([[1.0, 0.5, 0.0]], np.float32)

    def off_by(part):
        return lambda x: 1000 * x + (1000 * part if len(x) > 1 else 0)

    assert Passes(off_by(1e-6), None).proven(large)
    assert not Passes(off_by(1e-5), None).proven(large)


def test_a_small_value_beside_large_ones_proves_as_well():
    """A mean of all rows is found though it is a ten-thousandth of what stands beside it."""

    def mixing(x):
        return np.concatenate(
            [1000 * x[:, :1], 0.1 * x.mean(axis=0, keepdims=True).repeat(len(x), 0)], 1
        )

    assert not Passes(mixing, None).proven(two(1, 2))


def tokens(x):
    """The embeddings of the tokens 0 to 9; any other is an error."""
    assert ((x % 1 == 0) & (x < 10)).all()
    return np.stack([x, x**2], axis=-1)


def test_tokens_are_replaced_by_others_of_theirs():
    """Where made-up numbers are no tokens, those of the data show what can be shown."""
    assert Passes(tokens, None).proven(two(1, 2, 7, 9))
    assert not Passes(lambda x: tokens(x) - tokens(x).mean(axis=0), None).proven(two(1, 7))


def test_a_run_that_fails_with_two_is_not_proven():
    """What takes one row only is run with one row."""

    def run(x):
        (row,) = x
        return [row]

    assert Passes(run, None).proven(two(1, 2)) is False


# --- running ---


class Run:
    """Twice the data; notes how many rows each pass had, and fails where it meets a 13."""

    def __init__(self):
        self.passes = []

    def __call__(self, x):
        self.passes.append(len(x))
        if (x == 13).any():
            raise ZeroDivisionError("thirteen")
        return x * 2


def values(outcomes):
    return [one.exc.args if isinstance(one, Failed) else one.tolist() for one in outcomes]


def test_one_pass_for_all_of_a_kind():
    """Data of two kinds take two passes, whatever their order, and keep their places."""
    run = Run()
    wide = np.array([[1, 1, 1]], np.float32)
    found = Passes(run, True)([two(1, 2), wide, two(3, 4, 5, 6), wide * 2])
    assert values(found) == [
        [[2, 4]],
        [[2, 2, 2]],
        [[6, 8], [10, 12]],
        [[4, 4, 4]],
    ]
    assert sorted(run.passes) == [2, 3]


def test_one_that_fails_fails_alone():
    """The pass that failed is given up, and each of it is run alone."""
    run = Run()
    found = Passes(run, True)([two(1, 2), two(13, 0), two(3, 4)])
    assert values(found) == [[[2, 4]], ("thirteen",), [[6, 8]]]
    assert run.passes == [3, 1, 1, 1]


def test_sys_exit_is_one_requests_too():
    """Whatever is raised stays with the one that raises it."""

    def run(x):
        if x[0, 0] == 13:
            raise SystemExit(3)
        return x

    found = Passes(run, True)([two(13, 0), two(1, 2)])
    assert isinstance(found[0].exc, SystemExit)
    assert found[1].tolist() == [[1, 2]]


def test_never_shared():
    """Each has a pass of its own."""
    run = Run()
    assert values(Passes(run, False)([two(1, 2), two(3, 4)])) == [[[2, 4]], [[6, 8]]]
    assert run.passes == [1, 1]


def test_a_new_kind_is_tried_once():
    """Two alone and one together, of values like theirs; from then on they share."""
    run = Run()
    together = Passes(run, None)
    together([two(1.5, 2)])
    assert run.passes == [1]  # nothing to share
    together([two(1.5, 2), two(3, 4)])
    assert run.passes == [1, 1, 1, 2, 2]
    together([two(1.5, 2)] * 5)
    assert run.passes == [1, 1, 1, 2, 2, 5]


def test_a_kind_that_must_not_share_is_run_alone():
    """The trial says no, and each gets what it gets alone."""
    together = Passes(lambda x: x + x.mean(axis=0), None)
    assert values(together([two(1, 2), two(3, 4)])) == [[[2, 4]], [[6, 8]]]
    assert together.may_share(two(1, 2)) is False


def test_kinds_without_number_are_not_remembered():
    """Of so many kinds the answer is kept; any other is run alone, and not tried over and over."""
    together = Passes(lambda x: x * 2, None)
    for width in range(1, passes.KINDS + 1):
        assert together.may_share(np.ones((1, width)))
    assert not together.may_share(np.ones((1, passes.KINDS + 1)))


def test_a_stack_is_bounded(monkeypatch):
    """More than fits one stack takes another."""
    monkeypatch.setattr(passes, "STACK_BYTES", 3 * 8)
    run = Run()
    found = Passes(run, True)([two(i, i) for i in range(8)])
    assert values(found) == [[[2 * i, 2 * i]] for i in range(8)]
    assert run.passes == [3, 3, 2]


def mixed():
    """Data of a few kinds, of which some fail."""
    row = st.integers(-20, 20)
    return st.lists(
        st.integers(1, 3).flatmap(
            lambda width: st.lists(
                st.lists(row, min_size=width, max_size=width), min_size=1, max_size=3
            )
        ),
        max_size=8,
    )


@settings(max_examples=100, deadline=None)
@given(mixed())
def test_each_gets_what_it_gets_alone(bodies):
    """Of random data, good, failing and of several kinds: the same values or failure, in order."""
    data = [np.array(body, np.float32) for body in bodies]
    alone = [attempt(Run(), one) for one in data]
    for shared in (True, False, None):
        assert values(Passes(Run(), shared)(data)) == values(alone)
