"""proof: which inputs are made up from a sample, to be answered by both engines."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from mms_handler.models.onnx.convert import Tensor
from mms_handler.models.onnx.proof import made_up
from mms_handler.models.onnx.shapes import Rows


def cases(*arrays, axes=None, states=()):
    """What is made up for a graph that takes these arrays, by its words.

    The inputs are x0, x1 and so on; ``states`` names those that are states.
    """
    shapes = tuple(array.shape for array in arrays)
    converted = SimpleNamespace(
        inputs=[Tensor(f"x{place}", (), array.dtype) for place, array in enumerate(arrays)],
        rows=Rows(axes or (0,) * len(arrays), shapes),
        states=states,
    )
    return dict(made_up(converted, arrays))


LIKE, SMALL, LARGE = (
    "random numbers like the sample's",
    "random numbers a thousandth as large as the sample's",
    "random numbers a hundred times as large as the sample's",
)


def test_several_numbers_of_rows_and_of_sizes():
    sample = np.full((4, 3), 0.5, np.float32)
    made = cases(sample)
    assert list(made) == [
        "the sample",
        *(
            f"{rows} of {numbers}"
            for rows in ("1 row", "2 rows", "5 rows")
            for numbers in (LIKE, SMALL, LARGE, "zeros")
        ),
    ]
    assert made["the sample"][0] is sample
    assert [arrays[0].shape for arrays in made.values()] == [
        *([(4, 3)] + [(1, 3)] * 4 + [(2, 3)] * 4 + [(5, 3)] * 4)
    ]


def test_states_are_as_large_as_the_samples_or_smaller():
    numbers = np.full((1, 1000), 0.5, np.float32)
    made = cases(numbers, numbers, states=["x1"])
    large = f"1 row of {LARGE} (states as large)"
    assert list(made)[1:4] == [f"1 row of {LIKE}", f"1 row of {SMALL}", large]
    assert [float(np.abs(array).max().round(-2)) for array in made[large]] == [300.0, 0.0]
    assert [float(np.abs(array).max()) < 0.01 for array in made[f"1 row of {SMALL}"]] == [True] * 2


def test_a_fixed_number_of_rows():
    made = cases(np.ones((4, 3), np.float32), axes=(None,))
    assert list(made) == [
        "the sample", *(f"rows of {each}" for each in (LIKE, SMALL, LARGE, "zeros")),
    ]  # fmt: skip
    assert {arrays[0].shape for arrays in made.values()} == {(4, 3)}


@pytest.mark.parametrize(
    ("sample", "size"),
    [([0.5, -0.25], 1), ([3.5, -20], 20), ([0, 0], 1)],
    ids=["small", "large", "zeros"],
)
@pytest.mark.parametrize("words", [LIKE, SMALL, LARGE])
def test_numbers_as_large_as_the_samples_largest(sample, size, words):
    """Or as one, if those are smaller; on both sides of zero."""
    scale = {LIKE: 1, SMALL: 1e-3, LARGE: 100}[words]
    array = np.tile(np.array(sample, np.float32), (2, 2000))
    (made,) = cases(array)[f"5 rows of {words}"]
    assert made.dtype == np.float32
    assert made.std() == pytest.approx(size * scale, rel=0.05)
    assert abs(made.mean()) < 0.05 * size * scale


@pytest.mark.parametrize("sample", [[1, 3, 7], [0, 0, -7], [2, 4, 7]])
@pytest.mark.parametrize(
    ("words", "top"), [(LIKE, 7), (SMALL, 7), (LARGE, 700)], ids=["like", "small", "large"]
)
def test_whole_numbers_stay_whole(sample, words, top):
    """They may be tokens; all of the sample's size come, and none beyond it."""
    array = np.tile(np.array(sample, np.float32), (2, 4000))
    (made,) = cases(array)[f"2 rows of {words}"]
    assert set(np.unique(made)) == set(range(top + 1))


def test_whole_numbers_that_a_float_does_not_hold_are_not_made():
    (made,) = cases(np.full((1, 4000), 2.0**24, np.float32))[f"1 row of {LARGE}"]
    assert 2**23 < made.max() <= 2**24


@pytest.mark.parametrize("dtype", [np.int32, np.int64, np.float16])
def test_types_are_kept(dtype):
    for arrays in cases(np.array([[1, 2], [3, 0]], dtype)).values():
        assert arrays[0].dtype == dtype


def test_each_input_is_made_up_by_itself():
    """Rows may be elsewhere in one; the same numbers come each time."""
    first, second = np.full((2, 3), 0.5, np.float32), np.full((4, 2), 9, np.int32)
    made = cases(first, second, axes=(0, 1))
    assert [[a.shape for a in each] for each in made.values()][1] == [(1, 3), (4, 1)]
    again = cases(first, second, axes=(0, 1))
    for one, other in zip(made.values(), again.values()):
        assert all(np.array_equal(a, b) for a, b in zip(one, other))


def test_no_numbers():
    (made,) = cases(np.zeros((2, 0), np.float32))[f"1 row of {LIKE}"]
    assert made.shape == (1, 0)
