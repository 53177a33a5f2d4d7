"""Convert arrays between NumPy and MXNet; stack and split structures of arrays.

In the docstrings an ndarray is NumPy's and an NDArray is MXNet's.  In the names of functions an
ndarray is MXNet's and ``plain`` means NumPy's.  A structure is an array, or lists, tuples and dicts
of arrays at any depth.  MXNet is imported by what makes an NDArray, and by nothing else.
"""

from __future__ import annotations

import math
from typing import Any, Callable, Hashable, Iterator, List, NamedTuple, Sequence

import numpy as np

from mms_handler.models.kinds import is_ndarray


class Arrays(List[Any]):
    """An array for each input of a model, in the order of the inputs."""


class Stack(NamedTuple):
    """What several requests have, stacked.

    Attributes:
        rows: the rows of all, in one structure.
        counts: how many rows each request has.
    """

    rows: Any
    counts: Sequence[int]

    def first(self) -> Any:
        """The data that come first."""
        return rows_between(self.rows, 0, self.counts[0])

    def parts(self) -> list[Any]:
        """What each request has; NDArrays are copied.

        Raises:
            ValueError: the number of rows is not the sum of ``counts``.
        """
        return split_rows(self.rows, self.counts)


def is_array(value: Any) -> bool:
    """Whether ``value`` is an array, or a dict of arrays by input name."""
    values = value.values() if isinstance(value, dict) and value else [value]
    return all(isinstance(item, np.ndarray) or is_ndarray(item) for item in values)


def is_cpu_ndarray(value: Any) -> bool:
    """Whether ``value`` is a dense NDArray in a CPU's memory that is not empty."""
    dense = is_ndarray(value) and value.stype == "default"
    return dense and value.context.device_type == "cpu" and value.size > 0


# --- between NumPy and MXNet -----------------------------------------------------------------

#: Copying an ndarray of up to this many bytes is faster than sharing its memory with MXNet.
SMALL_BYTES = 2**16


def to_ndarray(value: Any, model: Any, device: Any) -> Any:
    """An array, or a dict of arrays, as NDArrays on the device of ``model``.

    ``device`` is used if the model has no parameters.
    """
    import mxnet as mx

    from mms_handler.models.gluon_patch import device_of

    device = device_of(model, device)
    if isinstance(value, dict):
        return {name: mx.nd.array(array, ctx=device) for name, array in value.items()}
    return mx.nd.array(value, ctx=device)


def as_ndarray(array: Any, device: Any) -> Any:
    """An ndarray as a float32 NDArray; a large one on a CPU shares its memory.

    MXNet holds the ndarray until its engine is done with it.  A Block may write to its input, so
    use this only for arrays that nothing else writes to or keeps.  An NDArray is returned
    unchanged.
    """
    if is_ndarray(array):
        return array
    import mxnet as mx

    array = contiguous(array)
    if device.device_type != "cpu" or not array.size:
        return mx.nd.array(array, ctx=device)
    if array.nbytes <= SMALL_BYTES:
        copy = mx.nd.empty(array.shape, ctx=device)
        copy._sync_copyfrom(array)
        return copy
    return mx.nd.from_numpy(array)


def contiguous(array: Any) -> Any:
    """An array as float32 in row-major order; only copied if it is not so already."""
    if isinstance(array, np.ndarray) and array.dtype == np.float32 and array.flags.c_contiguous:
        return array
    return np.ascontiguousarray(array, np.float32).reshape(np.shape(array))


def copied(array: Any) -> Any:
    """A float32 copy of a script's ndarray; other values are returned unchanged."""
    return np.array(array, np.float32, order="C") if isinstance(array, np.ndarray) else array


def computed(prediction: Any) -> Any:
    """Wait until ``prediction`` is computed.  Only then does MXNet raise a computation's errors."""
    for item in prediction if isinstance(prediction, (list, tuple)) else [prediction]:
        if is_ndarray(item):
            item.wait_to_read()
    return prediction


def to_plain(value: Any) -> Any:
    """``value`` with an ndarray for every NDArray in it, at any depth; tuples become lists."""
    if is_ndarray(value):
        return value.asnumpy()
    if isinstance(value, (list, tuple)):
        return [to_plain(item) for item in value]
    if isinstance(value, dict):
        return {key: to_plain(item) for key, item in value.items()}
    return value


def to_ndarrays(value: Any) -> Any:
    """``value`` with an NDArray for every ndarray in its lists, as scripts expect."""
    if isinstance(value, list):
        return [to_ndarrays(item) for item in value]
    if not isinstance(value, np.ndarray):
        return value
    import mxnet as mx

    return mx.nd.array(value, dtype=value.dtype)


# --- structures ------------------------------------------------------------------------------


def leaves(value: Any) -> Iterator[Any]:
    """The arrays in a structure, in order."""
    if isinstance(value, dict):
        for item in value.values():
            yield from leaves(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from leaves(item)
    else:
        yield value


def plain_leaves(value: Any) -> list[np.ndarray[Any, Any]]:
    """The arrays in a structure as ndarrays, in order."""
    return [leaf.asnumpy() if is_ndarray(leaf) else np.asarray(leaf) for leaf in leaves(value)]


def filled(structure: Any, arrays: Iterator[Any]) -> Any:
    """``structure`` with its leaves replaced by ``arrays``, in order."""
    if isinstance(structure, (list, tuple)):
        return type(structure)([filled(item, arrays) for item in structure])
    return next(arrays)


def kind(datum: Any) -> Hashable:
    """The structure, row shape, type and device of ``datum``.  Data of one kind can be stacked.

    None if ``datum`` cannot be stacked: it has no rows, or contains more than dense arrays.
    """
    if isinstance(datum, np.ndarray):  # most leaves
        shape = datum.shape
        return (type(datum), shape[1:], datum.dtype) if shape and shape[0] else None
    if isinstance(datum, (list, tuple)):
        kinds = tuple(map(kind, datum))
        return kinds if kinds and None not in kinds else None
    if isinstance(datum, dict):
        values = kind(list(datum.values()))
        return values and (tuple(datum), values)
    if not (_is_dense(datum) and datum.shape and datum.shape[0]):
        return None
    return type(datum), datum.shape[1:], datum.dtype, str(datum.context)


def _is_dense(value: Any) -> bool:
    if isinstance(value, np.ndarray):
        return True
    return is_ndarray(value) and bool(value.stype == "default")


def size_bytes(value: Any) -> int:
    """What the dense arrays in a structure take as float32."""
    if isinstance(value, np.ndarray):  # most leaves
        return 4 * value.size
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, (list, tuple)):
        return sum(map(size_bytes, value))
    return 4 * math.prod(value.shape) if _is_dense(value) else 0


def row_count(value: Any) -> int:
    """The number of rows, which must be the same for all arrays in ``value``.

    Raises:
        ValueError: the numbers differ, or a leaf of ``value`` is not an array with rows.
    """
    if isinstance(value, np.ndarray) and value.ndim:  # most leaves
        return len(value)
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, (list, tuple)) and value:
        counts = set(map(row_count, value))
        if len(counts) > 1:
            raise ValueError("the arrays have different numbers of rows")
        return counts.pop()
    if not (_is_dense(value) and value.shape):
        raise ValueError("not all values are arrays with rows")
    return int(value.shape[0])


def stack(data: Sequence[Any]) -> Any:
    """Concatenate the rows of data of one kind, in one structure; they are copied."""
    first = data[0]
    if isinstance(first, dict):
        return {name: stack([datum[name] for datum in data]) for name in first}
    if isinstance(first, (list, tuple)):
        return type(first)([stack(items) for items in zip(*data)])
    if not is_ndarray(first):
        return np.concatenate(data)
    import mxnet as mx

    return mx.nd.concat(*data, dim=0)


def split_rows(prediction: Any, counts: Sequence[int]) -> list[Any]:
    """Split a prediction into parts of ``counts`` rows; NDArrays are copied.

    Raises:
        ValueError: the prediction's number of rows is not the sum of ``counts``.
    """
    rows = row_count(prediction)
    if rows != sum(counts):
        raise ValueError(f"{sum(counts)} rows in, {rows} rows out")
    ends = [int(end) for end in np.cumsum(counts)]
    return [rows_between(prediction, end - count, end) for end, count in zip(ends, counts)]


def rows_between(value: Any, start: int, end: int) -> Any:
    """Rows ``start`` to ``end`` of each array in a structure; NDArrays are copied."""
    if isinstance(value, dict):
        return {name: rows_between(item, start, end) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)([rows_between(item, start, end) for item in value])
    return value[start:end].copy() if is_ndarray(value) else value[start:end]


def in_steps(
    forward: Callable[[Sequence[Any]], List[Any]], arrays: Sequence[Any], step: int
) -> List[Any]:
    """The outputs of ``forward`` for all rows of the arrays, ``step`` rows at a time at most."""
    rows = len(arrays[0])
    if rows <= step:
        return forward(arrays)
    parts = [
        forward([array[start : start + step] for array in arrays]) for start in range(0, rows, step)
    ]
    return [np.concatenate(outputs) for outputs in zip(*parts)]
