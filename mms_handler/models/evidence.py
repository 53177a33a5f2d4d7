"""What shows that two graphs, or two numbers of rows, give the same."""

from __future__ import annotations

import functools
from itertools import repeat
from typing import Any, Callable, Iterator, Sequence

import mxnet as mx
import numpy as np

from mms_handler.models.arrays import _cut, _is_nd, plain

#: How often values are made up that may tell whether data of one kind can share a pass, and of
#: how many kinds the answer is remembered; data of any other are run alone.
TRIES, KINDS = 3, 64

#: How far apart two values may be, absolutely or in parts of the largest, the smaller counts, and
#: relatively: kernels for other sizes, and fused ones, round otherwise.
ATOL, RTOL = 1e-5, 1e-3

#: What float32 rounds, in parts of the largest value: one graph at another number of rows, and
#: another graph for the same.  The zoo's networks come to 1.1e-6 and 2e-6.
ROWS_ROUND, GRAPHS_ROUND = 2e-6, 1e-5


def close(one: Any, other: Any, rounding: float = ROWS_ROUND) -> bool:
    """Whether two predictions are the same but for rounding, in parts of the largest value."""
    ours, others = plain(one), plain(other)
    return len(ours) == len(others) and all(map(_close, ours, others, repeat(rounding)))


def graphs_agree(wanted: Any, found: Any) -> bool:
    """Whether a graph gives what the model gives, but for what another graph rounds."""
    return close(wanted, found, GRAPHS_ROUND)


def _close(one: np.ndarray[Any, Any], other: np.ndarray[Any, Any], rounding: float) -> bool:
    if one.shape != other.shape:
        return False
    largest = float(np.abs(one[np.isfinite(one)]).max(initial=0))
    near_zero = max(rounding * largest, min(ATOL, RTOL * largest))
    return np.allclose(one, other, RTOL, near_zero, equal_nan=True)


def pairs(datum: Any) -> Iterator[tuple[list[Any], bool]]:
    """Twos of data of the same kind, and whether they can show that rows do not meet.

    Whole numbers, which may be those of tokens, come first: with others of the same.  A sum over
    them may stay as it is, so they show nothing but that rows do meet.  Zeros are replaced: beside
    others they hide what rows do to each other.
    """
    if any(_is_whole(values) for values in plain(datum)):
        yield [datum, _mapped(datum, _resampled)], False
    for seed in range(TRIES):
        noise = np.random.RandomState(seed)
        nonzero = _mapped(datum, functools.partial(_nonzero, noise))
        yield [nonzero, _mapped(datum, functools.partial(_noisy, noise))], True


def _mapped(datum: Any, change: Callable[[Any], Any]) -> Any:
    """``datum`` with ``change`` made to the values of each array."""
    if isinstance(datum, dict):
        return {name: _mapped(one, change) for name, one in datum.items()}
    if isinstance(datum, (list, tuple)):
        return type(datum)([_mapped(one, change) for one in datum])
    (values,) = plain(datum)
    other = change(values).astype(values.dtype)
    return mx.nd.array(other, ctx=datum.context, dtype=datum.dtype) if _is_nd(datum) else other


def _is_whole(values: np.ndarray[Any, Any]) -> bool:
    return bool(values.any()) and not (values % 1).any()


def _resampled(values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Some of the values for each, where they are whole."""
    noise = np.random.RandomState(0)
    return noise.choice(values.ravel(), values.shape) if _is_whole(values) else values


def _nonzero(noise: Any, values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return values if values.any() else _noisy(noise, values)


def _noisy(noise: Any, values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    spread = max(1.0, float(np.abs(values).max())) / 2
    return np.asarray(values + noise.uniform(0, spread, values.shape))


def agree(alone: Sequence[Any], together: Sequence[Any]) -> bool | None:
    """Whether data gave together what they gave alone; None if that tells nothing.

    It does where what they gave differs: a graph that mixes rows gives a part of that difference
    away, where a thousandth, and what float32 rounds, is not told from nothing.
    """
    if not all(map(close, alone, together)):
        return False
    off = max(map(distance, alone, together))
    gap = max(distance(_first(alone[0]), _first(one)) for one in alone[1:])
    return None if gap < 1e-3 else off <= max(gap / 1000, ROWS_ROUND)


def distance(one: Any, other: Any) -> float:
    """The largest difference of two predictions, in parts of their largest value."""
    pairs = zip(_floats(one), _floats(other))
    return max(float(np.abs(a - b).max() / (np.abs([a, b]).max() or 1)) for a, b in pairs)


def _floats(value: Any) -> list[np.ndarray[Any, Any]]:
    return [one.astype(np.float64) for one in plain(value)]


def _first(prediction: Any) -> Any:
    return _cut(prediction, 0, 1)
