"""Arrays, and structures of them: NumPy's to MXNet's and back, stacked and split."""

from __future__ import annotations

from typing import Any, Hashable, Iterable, Iterator, List, Sequence

import mxnet as mx
import numpy as np

from mms_handler.models.mx import device_of


class Arrays(List[Any]):
    """An array for each input of a model, in its order."""


def is_array(value: Any) -> bool:
    """Whether ``value`` is an array, or a dict of arrays by the names of inputs."""
    values = value.values() if isinstance(value, dict) and value else [value]
    return all(isinstance(one, (mx.nd.NDArray, np.ndarray)) for one in values)


def is_plain(one: Any) -> bool:
    """An NDArray that is dense and on a CPU."""
    array = isinstance(one, mx.nd.NDArray)
    return array and one.stype == "default" and one.context.device_type == "cpu" and one.size > 0


# --- NumPy's to MXNet's and back -------------------------------------------------------------


def to_ndarray(value: Any, model: Any, on: Any) -> Any:
    """An array, or a dict of them, as NDArrays where ``model`` computes."""
    on = device_of(model, on)
    if isinstance(value, dict):
        return {name: mx.nd.array(one, ctx=on) for name, one in value.items()}
    return mx.nd.array(value, ctx=on)


#: Bytes that are copied into an NDArray in less time than it takes to make one on them.
SMALL_BYTES = 2**16


def as_ndarray(array: Any, on: Any) -> Any:
    """An ndarray as a float32 NDArray, on a CPU on its own memory if it is large.

    MXNet holds the ndarray until its engine is done with it.  Only for what nothing else writes
    to, nor keeps: a Block may write to its input.  An NDArray stays as it is.
    """
    if isinstance(array, mx.nd.NDArray):
        return array
    array = contiguous(array)
    if on.device_type != "cpu" or not array.size:
        return mx.nd.array(array, ctx=on)
    if array.nbytes <= SMALL_BYTES:
        copy = mx.nd.empty(array.shape, ctx=on)
        copy._sync_copyfrom(array)
        return copy
    return mx.nd.from_numpy(array, zero_copy=True)


def contiguous(array: Any) -> Any:
    """An array as float32, row by row; itself where it is."""
    return np.ascontiguousarray(array, np.float32).reshape(np.shape(array))


def copied(array: Any) -> Any:
    """A script's ndarray as a float32 one that nobody else has; what is none stays."""
    return np.array(array, np.float32, order="C") if isinstance(array, np.ndarray) else array


def computed(prediction: Any) -> Any:
    """``prediction`` when it is computed: MXNet raises what went wrong only then."""
    for one in prediction if isinstance(prediction, (list, tuple)) else [prediction]:
        if isinstance(one, mx.nd.NDArray):
            one.wait_to_read()
    return prediction


def to_plain(value: Any) -> Any:
    """``value`` with every NDArray in it, however deep in lists, as an ndarray."""
    if isinstance(value, mx.nd.NDArray):
        return value.asnumpy()
    if isinstance(value, (list, tuple)):
        return [to_plain(one) for one in value]
    if isinstance(value, dict):
        return {key: to_plain(one) for key, one in value.items()}
    return value


def to_ndarrays(value: Any) -> Any:
    """``value`` with every ndarray in a list as an NDArray, which a script's functions expect."""
    if isinstance(value, list):
        return [to_ndarrays(one) for one in value]
    return mx.nd.array(value, dtype=value.dtype) if isinstance(value, np.ndarray) else value


# --- structures ------------------------------------------------------------------------------


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


def plain(value: Any) -> list[np.ndarray[Any, Any]]:
    """The arrays in ``value`` as ndarrays."""
    return [one.asnumpy() if _is_nd(one) else np.asarray(one) for one in leaves(value)]


def _is_nd(value: Any) -> bool:
    return isinstance(value, mx.nd.NDArray)


def _is_dense(value: Any) -> bool:
    ndarray = isinstance(value, mx.nd.NDArray) and value.stype == "default"
    return ndarray or isinstance(value, np.ndarray)


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


def split_rows(prediction: Any, counts: Sequence[int]) -> list[Any]:
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
