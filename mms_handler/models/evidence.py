"""Run a model to find out whether two graphs agree, or whether the rows of a batch are independent.

Rows are independent if the prediction for each is the same alone as beside other rows.
"""

from __future__ import annotations

import functools
from itertools import repeat
from typing import Any, Callable, Iterator, Sequence

import numpy as np

from mms_handler.codecs.arrays import Array
from mms_handler.models.arrays import plain_leaves, rows_between
from mms_handler.models.kinds import is_ndarray

#: Random inputs tried per kind of data.
TRIES = 3

#: Allowed difference of two values, relative to the value.
RTOL = 1e-3

#: Allowed difference of values near zero: ATOL, or RTOL of the largest value if that is less.
#: Kernels for other sizes round differently, and so do fused ones.
ATOL = 1e-5

#: Rounding differences of float32, relative to the largest value: between numbers of rows in one
#: graph, and between two graphs of one model.  The model zoo's networks reach 1.1e-6 and 2e-6.
ROWS_ROUND, GRAPHS_ROUND = 2e-6, 1e-5

#: Predictions that differ by less prove nothing about rows, and an error may be as large a part of
#: their difference.
PROOF = 1e-3


# --- comparing predictions -------------------------------------------------------------------


def close(expected: Any, prediction: Any, rounding: float = ROWS_ROUND) -> bool:
    """Whether two predictions differ only by rounding.

    Args:
        expected: an array or a structure of arrays.
        prediction: likewise.
        rounding: allowed difference near zero, relative to the largest value.
    """
    leaves, others = plain_leaves(expected), plain_leaves(prediction)
    return len(leaves) == len(others) and all(map(_close, leaves, others, repeat(rounding)))


def _close(expected: Array, values: Array, rounding: float) -> bool:
    if expected.shape != values.shape:
        return False
    largest = float(np.abs(expected[np.isfinite(expected)]).max(initial=0))
    near_zero = max(rounding * largest, min(ATOL, RTOL * largest))
    return np.allclose(expected, values, RTOL, near_zero, equal_nan=True)


def graphs_agree(expected: Any, prediction: Any) -> bool:
    """Whether a graph's prediction differs from the model's only by another graph's rounding."""
    return close(expected, prediction, GRAPHS_ROUND)


def distance(first: Any, second: Any) -> float:
    """The largest difference between two predictions, relative to their largest value."""
    return max(
        float(np.abs(a - b).max() / (np.abs([a, b]).max() or 1))
        for a, b in zip(_doubles(first), _doubles(second))
    )


def _doubles(value: Any) -> list[Array]:
    return [leaf.astype(np.float64) for leaf in plain_leaves(value)]


# --- independent rows ------------------------------------------------------------------------


def pairs(datum: Any) -> Iterator[tuple[list[Any], bool]]:
    """Pairs of data of the kind of ``datum``, and whether each pair can prove rows independent.

    Data with whole numbers, which may be tokens, come first, paired with the same numbers drawn
    at random.  A sum over them may not change, so such a pair can only prove that rows are
    dependent.  The other pairs are random.  Data of zeros only are replaced, because a row of
    zeros may hide the effect of rows on each other.
    """
    if any(_is_whole(values) for values in plain_leaves(datum)):
        yield [datum, _mapped(datum, _resampled)], False
    for seed in range(TRIES):
        noise = np.random.RandomState(seed)
        nonzero = _mapped(datum, functools.partial(_nonzero, noise))
        yield [nonzero, _mapped(datum, functools.partial(_noisy, noise))], True


def _mapped(datum: Any, change: Callable[[Array], Array]) -> Any:
    """``datum`` with ``change`` applied to the values of each array."""
    if isinstance(datum, dict):
        return {name: _mapped(item, change) for name, item in datum.items()}
    if isinstance(datum, (list, tuple)):
        return type(datum)([_mapped(item, change) for item in datum])
    (values,) = plain_leaves(datum)
    values = change(values).astype(values.dtype)
    if not is_ndarray(datum):
        return values
    import mxnet as mx

    return mx.nd.array(values, ctx=datum.context, dtype=datum.dtype)


def _is_whole(values: Array) -> bool:
    return bool(values.any()) and not (values % 1).any()


def _resampled(values: Array) -> Array:
    """For whole numbers, a random choice of them; other values as they are."""
    noise = np.random.RandomState(0)
    return noise.choice(values.ravel(), values.shape) if _is_whole(values) else values


def _nonzero(noise: Any, values: Array) -> Array:
    return values if values.any() else _noisy(noise, values)


def _noisy(noise: Any, values: Array) -> Array:
    spread = max(1.0, float(np.abs(values).max())) / 2
    return np.add(values, noise.uniform(0, spread, values.shape))


def agree(alone: Sequence[Any], together: Sequence[Any]) -> bool | None:
    """Whether predictions made together equal those made alone; None if the data prove nothing.

    A graph that mixes rows moves part of the difference between two rows from one to the other.
    So predictions that differ little prove nothing.  An error that is a small part of their
    difference may be float32's rounding.  See PROOF.
    """
    if not all(map(close, alone, together)):
        return False
    error = max(map(distance, alone, together))
    first = rows_between(alone[0], 0, 1)
    gap = max(distance(first, rows_between(prediction, 0, 1)) for prediction in alone[1:])
    return None if gap < PROOF else error <= max(gap * PROOF, ROWS_ROUND)
