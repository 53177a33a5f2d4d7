"""Several requests' data in one pass: stacked, run once, and each given its own rows back.

    data ─kind─▶ those alike ─stack─▶ one ─run─▶ prediction ─apart─▶ a prediction for each

A pass is shared only where it was seen that each gets what it gets alone.
"""

from __future__ import annotations

import functools
import math
from collections import Counter
from itertools import repeat
from typing import Any, Callable, Hashable, Iterable, Iterator, Sequence

import mxnet as mx
import numpy as np

from mms_handler.errors import Failed, attempt

#: Bytes of one stack; what is more goes into another.
STACK_BYTES = 2**26

#: How often values are made up that may tell whether data of one kind can share a pass, and of
#: how many kinds the answer is remembered; data of any other are run alone.
TRIES, KINDS = 3, 64

#: How far apart two values may be, absolutely or in parts of the largest, the smaller counts, and
#: relatively: kernels for other sizes, and fused ones, round otherwise.
ATOL, RTOL = 1e-5, 1e-3

#: What float32 rounds, in parts of the largest value: one graph at another number of rows, and
#: another graph for the same.  The zoo's networks come to 1.1e-6 and 2e-6.
ROWS_ROUND, GRAPHS_ROUND = 2e-6, 1e-5


def _call(func: Callable[..., Any], *args: Any) -> Any:
    return func(*args)


# --- stacks ----------------------------------------------------------------------------------


def leaves(value: Any) -> Iterator[Any]:
    """The arrays in ``value``, however deep in lists, tuples and dicts."""
    if isinstance(value, dict):
        for one in value.values():
            yield from leaves(one)
    elif isinstance(value, (list, tuple)):
        for one in value:
            yield from leaves(one)
    else:
        yield value


def kind(datum: Any) -> Hashable:
    """What data that stack have in common: structure, row shapes, types; None if it cannot."""
    if isinstance(datum, dict):
        return _if_all((name, kind(one)) for name, one in datum.items())
    if isinstance(datum, (list, tuple)):
        return _if_all((place, kind(one)) for place, one in enumerate(datum))
    rows = _is_dense(datum) and len(datum.shape) and datum.shape[0]
    if not rows:
        return None
    device = str(datum.context) if isinstance(datum, mx.nd.NDArray) else ""
    return type(datum).__name__, tuple(datum.shape[1:]), np.dtype(datum.dtype).str, device


def _if_all(kinds: Iterable[tuple[Any, Hashable]]) -> Hashable:
    """These as one key, unless there are none, or one has no kind."""
    found = tuple(kinds)
    return found if found and all(one is not None for _, one in found) else None


def _is_dense(value: Any) -> bool:
    ndarray = isinstance(value, mx.nd.NDArray) and value.stype == "default"
    return ndarray or isinstance(value, np.ndarray)


def rows(value: Any) -> int:
    """Rows of every array in ``value``.

    Raises:
        ValueError: they have different numbers of rows, or something is no array.
    """
    found = [one.shape[0] if _is_dense(one) and one.shape else -1 for one in leaves(value)]
    if len(set(found)) != 1 or -1 in found:
        raise ValueError("no arrays of as many rows each")
    return int(found[0])


def stack(data: Sequence[Any]) -> Any:
    """Data of one kind as one, row after row; a copy."""
    first = data[0]
    if isinstance(first, dict):
        return {name: stack([one[name] for one in data]) for name in first}
    if isinstance(first, (list, tuple)):
        return type(first)([stack(same) for same in zip(*data)])
    return mx.nd.concat(*data, dim=0) if _is_nd(first) else np.concatenate(data)


def _is_nd(value: Any) -> bool:
    return isinstance(value, mx.nd.NDArray)


def apart(prediction: Any, counts: Sequence[int]) -> list[Any]:
    """A prediction's rows, for each count its own; NDArrays are copied.

    Raises:
        ValueError: the prediction has not one row for each.
    """
    if rows(prediction) != sum(counts):
        raise ValueError(f"{sum(counts)} rows in, {rows(prediction)} rows out")
    ends = [int(end) for end in np.cumsum(counts)]
    return [_cut(prediction, end - count, end) for end, count in zip(ends, counts)]


def _cut(value: Any, start: int, end: int) -> Any:
    if isinstance(value, dict):
        return {name: _cut(one, start, end) for name, one in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)([_cut(one, start, end) for one in value])
    return value[start:end].copy() if _is_nd(value) else value[start:end]


# --- proofs ----------------------------------------------------------------------------------


def plain(value: Any) -> list[np.ndarray[Any, Any]]:
    """The arrays in ``value`` as ndarrays."""
    return [one.asnumpy() if _is_nd(one) else np.asarray(one) for one in leaves(value)]


def close(one: Any, other: Any, rounding: float = ROWS_ROUND) -> bool:
    """Whether two predictions are the same but for rounding, in parts of the largest value."""
    ours, others = plain(one), plain(other)
    return len(ours) == len(others) and all(map(_close, ours, others, repeat(rounding)))


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


# --- running ---------------------------------------------------------------------------------


class Together:
    """Runs data in as few passes as give each what it gets alone."""

    def __init__(self, run: Callable[[Any], Any], shared: bool | None) -> None:
        """Share a pass always, never, or (None) where data of a kind are seen to allow it.

        Args:
            run: data to prediction.
            shared: None: it is tried when data of a new kind meet, with values like theirs.
        """
        self._run, self.shared = run, shared
        self._seen: dict[Hashable, bool] = {}

    def __call__(self, data: Sequence[Any], guard: Callable[..., Any] = _call) -> list[Any]:
        """For each its prediction, or Failed; in their order.

        Args:
            data: of the requests.
            guard: calls what runs the model.
        """
        found: dict[int, Any] = {}
        for places in self._stacks(data):
            found.update(zip(places, self._outcomes([data[place] for place in places], guard)))
        return [found[place] for place in range(len(data))]

    def _stacks(self, data: Sequence[Any]) -> Iterator[list[int]]:
        """Places of data that may share a pass, no stack larger than STACK_BYTES."""
        alike: dict[Hashable, list[int]] = {}
        held: Counter[Hashable] = Counter()
        for place, datum in enumerate(data):
            key = None if self.shared is False else kind(datum)
            if key is None:
                yield [place]
                continue
            held[key] += _bytes(datum)
            if key in alike and held[key] > STACK_BYTES:
                yield alike.pop(key)
                held[key] = _bytes(datum)
            alike.setdefault(key, []).append(place)
        yield from alike.values()

    def _outcomes(self, data: Sequence[Any], guard: Callable[..., Any]) -> list[Any]:
        if len(data) > 1 and self.may_share(data[0]):
            together = attempt(guard, self._together, data)
            if not isinstance(together, Failed):
                return list(together)
        return [attempt(guard, self._run, one) for one in data]

    def _together(self, data: Sequence[Any]) -> list[Any]:
        return apart(self._run(stack(data)), [rows(one) for one in data])

    def may_share(self, datum: Any) -> bool:
        """Whether data like this one are run in one pass."""
        if self.shared is not None:
            return self.shared
        key = kind(datum)
        if key not in self._seen and len(self._seen) < KINDS:
            self._seen[key] = attempt(self.proven, datum) is True
        return self._seen.get(key, False)

    def proven(self, datum: Any) -> bool:
        """Whether data like this one are seen to get together what they get alone."""
        shown = False
        for data, conclusive in pairs(datum):
            same = self._agree(data)
            if same is False or (same and conclusive):
                return same
            shown = shown or same is True
        return shown

    def _agree(self, data: Sequence[Any]) -> bool | None:
        """As ``agree``; None where made-up values are not to be run at all."""
        alone = [attempt(self._run, one) for one in data]
        if any(isinstance(one, Failed) for one in alone):
            return None
        same = attempt(lambda: agree(alone, self._together(data)))
        return False if isinstance(same, Failed) else same


def _bytes(datum: Any) -> int:
    return sum(4 * math.prod(one.shape) for one in leaves(datum))
