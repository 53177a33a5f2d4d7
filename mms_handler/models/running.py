"""Feed a Module or a Block, run it, and give back NumPy; N rows in are N rows out."""

from __future__ import annotations

import contextlib
import inspect
import io
import math
import re
import warnings
from typing import Any, Iterable, Iterator, List, Mapping

import mxnet as mx
import numpy as np
import numpy.typing as npt

from mms_handler.errors import BadInput, TooLarge, UnsupportedShape


def device(gpu_id: int | None) -> Any:
    """Where a worker computes: the GPU that MMS gave it, or the CPU."""
    return mx.cpu() if gpu_id is None else mx.gpu(int(gpu_id))


def gpu_count() -> int:
    """GPUs that this MXNet can use; none for a build without CUDA."""
    return int(mx.context.num_gpus()) if mx.runtime.Features().is_enabled("CUDA") else 0


def is_module(model: Any) -> bool:
    return isinstance(model, mx.module.BaseModule)


def is_block(model: Any) -> bool:
    return isinstance(model, mx.gluon.Block)


class Unshaped(mx.mod.Module):  # type: ignore[misc]
    """A Module saved without its input shapes: each request's own are bound."""

    @classmethod
    def of(
        cls, symbol: Any, names: list[str], arg_params: Any, aux_params: Any, on: Any
    ) -> Unshaped:
        module = cls(symbol, data_names=names, label_names=None, context=on)
        module._arg_params, module._aux_params = arg_params, aux_params  # as Module.load does
        module.params_initialized = True
        return module

    def fit(self, inputs: list[tuple[str, Any]]) -> None:
        """Bind for samples of these shapes, unless it is."""
        shapes = [(name, tuple(array.shape)) for name, array in inputs]
        bound = [described(desc) for desc in self.data_shapes] if self.binded else []
        if [shape[1:] for _, shape in shapes] != [shape[1:] for _, shape in bound]:
            self.bind(data_shapes=shapes, for_training=False, force_rebind=True)


# --- feeding ---------------------------------------------------------------------------------


def placed(model: Any, on: Any) -> Any:
    """The device of a Block's parameters; ``on`` for other models, and Blocks without any."""
    parameters = model.collect_params().values() if is_block(model) else ()
    return next((p.list_ctx()[0] for p in parameters if p._data is not None), on)


def to_ndarray(value: Any, model: Any, on: Any) -> Any:
    """An array, or a dict of them, as NDArrays where ``model`` computes."""
    on = placed(model, on)
    if isinstance(value, dict):
        return {name: mx.nd.array(one, ctx=on) for name, one in value.items()}
    return mx.nd.array(value, ctx=on)


def is_array(value: Any) -> bool:
    """Whether ``value`` is an array, or a dict of arrays by the names of inputs."""
    values = value.values() if isinstance(value, dict) and value else [value]
    return all(isinstance(one, (mx.nd.NDArray, np.ndarray)) for one in values)


#: Bytes that are copied into an NDArray in less time than it takes to make one on them.
SMALL_BYTES = 2**16


class Arrays(List[Any]):
    """An array for each input of a model, in its order."""


def lent(array: Any, on: Any) -> Any:
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


def own(array: Any) -> Any:
    """A script's ndarray as a float32 one that nobody else has; what is none stays."""
    return np.array(array, np.float32, order="C") if isinstance(array, np.ndarray) else array


def to_data(value: Any, module: Any) -> Any:
    """Rows cut into batches of a Module's bound size.

    Args:
        value: NDArray or ndarray: (N, *sample), or N rows of as many values in another shape
            (lines of a CSV body), or one sample alone.  For several inputs a dict of them.
        module: bound to (B, *sample), or saved without shapes.

    Returns:
        An ``NDArrayIter`` of ceil(N / B) batches.  It fills the last one from the first rows
        and says how many to drop again (``getpad``), which ``Module.predict`` does: N rows
        in, N rows out.

    Raises:
        BadInput: the values do not divide into samples, or the names are not the inputs'.
        UnsupportedShape: the Module has several inputs and the body is one array.

    Source: the developer guide, "Request handlers for Module models".
    """
    given = rows_of(value, module)
    if isinstance(module, Unshaped):
        _fit(module, given)
    data = mx.io.NDArrayIter(
        given, batch_size=described(module.data_shapes[0])[1][0], last_batch_handle="pad"
    )
    order = list(given)  # NDArrayIter sorts by name, Module.forward takes data in its own order
    data.data.sort(key=lambda pair: order.index(pair[0]))
    return data


def rows_of(value: Any, module: Any) -> dict[str, Any]:
    """``value`` as (N, *sample) for each of a Module's inputs, in their order.

    Raises:
        BadInput, UnsupportedShape: as ``to_data``.
    """
    given = by_name(value, list(module.data_names))
    if isinstance(module, Unshaped):
        rows = {name: given[name] for name in module.data_names}
    else:
        shapes = [described(desc) for desc in module.data_shapes]
        rows = {
            name: _rows(given[name], shape[1:], f" as {name}" if len(shapes) > 1 else "")
            for name, shape in shapes
        }
    counts = {name: array.shape[0] if array.shape else 0 for name, array in rows.items()}
    if len(set(counts.values())) > 1:
        raise BadInput(f"the inputs have different numbers of rows: {counts}")
    if 0 in counts.values():
        raise BadInput("the model takes rows, the body has none")
    return rows


def only(value: Mapping[str, Any]) -> Any:
    """The one array of a body that names its arrays, whatever it calls it.

    Raises:
        BadInput: there are several.
    """
    if len(value) != 1:
        raise BadInput(f"one array was wanted, the body names {_listed(value)}")
    return next(iter(value.values()))


def by_name(value: Any, names: list[str]) -> dict[str, Any]:
    """``value`` as a dict by input; one array is the only input's, whatever it is called.

    Raises:
        BadInput: an input is missing, or there is one the model does not have.
        UnsupportedShape: one array, several inputs.
    """
    if not isinstance(value, dict):
        if len(names) > 1:
            raise UnsupportedShape(
                f"the model has {len(names)} inputs ({', '.join(names)}), the body has one"
            )
        return {names[0]: value}
    if len(names) == 1:
        return {names[0]: only(value)}
    if set(value) != set(names):
        raise BadInput(f"the model's inputs are {', '.join(names)}, the body's {_listed(value)}")
    return value


def _listed(names: Iterable[str]) -> str:
    return ", ".join(map(repr, names))[:200]  # a client's, of any length


def _fit(module: Unshaped, given: Mapping[str, Any]) -> None:
    try:
        module.fit([(name, given[name]) for name in module.data_names])
    except (mx.base.MXNetError, RuntimeError) as exc:
        raise BadInput(f"the model does not take this body: {first_line(exc)}") from exc


def described(desc: Any) -> tuple[str, tuple[int, ...]]:
    """Name and shape of a DataDesc, or of the pair that older MXNet had in its place."""
    return desc[0], tuple(desc[1])


def _rows(value: Any, sample: tuple[int, ...], called: str) -> Any:
    """``value`` as (N, *sample), never mixing the values of two rows."""
    shape, size = tuple(value.shape), math.prod(sample)
    if shape and shape[0] and math.prod(shape[1:]) == size:
        return value.reshape((shape[0], *sample))
    whole = len(shape) == 1 or [d for d in shape if d != 1] == [d for d in sample if d != 1]
    if shape and whole and math.prod(shape) == size:
        return value.reshape((1, *sample))
    wanted = ", ".join(map(str, ("N", *sample)))
    raise BadInput(f"the model takes shape ({wanted}){called}, the body has {shape}")


# --- running ---------------------------------------------------------------------------------


def predict(model: Any, data: Any) -> Any:
    """The contract's default predict_fn: ``module.predict(data)`` or ``block(array)``.

    Raises:
        BadInput: MXNet finds the shape of the data inconsistent with the model's.
        UnsupportedShape: the Block takes several arrays and the body is one.
    """
    with shapes_are_the_clients():
        if is_module(model):
            return settled(model.predict(data))
        arrays = in_order(data, parameters(model)) if is_array(data) else [data]
        return call(model, [lent(own(one), mx.cpu()) for one in arrays])


@contextlib.contextmanager
def shapes_are_the_clients() -> Iterator[None]:
    """MXNet's errors about shapes as BadInput: a model says what it takes only by failing."""
    try:
        yield
    except mx.base.MXNetError as exc:
        reason = first_line(exc)
        if re.search(r"shape|Incompatible attr", reason, re.IGNORECASE):
            raise BadInput(f"the model does not take this body: {reason}") from exc
        raise


def call(block: Any, arrays: Iterable[Any]) -> Any:
    """``block(*arrays)``, when it is computed."""
    return settled(block(*arrays))


def in_order(value: Any, names: list[str]) -> list[Any]:
    """An array, or a dict of them, in the order of the parameters that a Block's forward has.

    Raises:
        BadInput, UnsupportedShape: the body names others, or is one where several are wanted.
    """
    if len(names) < 2:
        return [only(value) if isinstance(value, dict) else value]
    named = by_name(value, names)
    return [named[name] for name in names]


def parameters(block: Any) -> list[str]:
    """The names of the arrays that a Block's forward takes; [] where that cannot be told."""
    if isinstance(block, mx.gluon.SymbolBlock):
        return [symbol.name for symbol in block._cached_graph[0]]
    hybrid = isinstance(block, mx.gluon.HybridBlock)
    forward = block.hybrid_forward if hybrid else block.forward
    known = block._reg_params if hybrid else {}  # passed to hybrid_forward by MXNet itself
    names = [
        p.name
        for p in inspect.signature(forward).parameters.values()
        if p.kind is p.POSITIONAL_OR_KEYWORD and p.default is p.empty and p.name not in known
    ]
    return names[1:] if hybrid else names  # the first is F


def settled(prediction: Any) -> Any:
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


#: Pixels of the largest picture that is decoded; its header says how many there are.
MAX_PIXELS = 2**26


def decode_image(body: bytes) -> npt.NDArray[Any]:
    """A JPEG or PNG as (1, 3, height, width), RGB, float32 from 0 to 255.

    Raises:
        ValueError: it is neither.
        TooLarge: it has more than MAX_PIXELS.
    """
    from PIL import Image, UnidentifiedImageError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # ours comes below
            width, height = Image.open(io.BytesIO(body), formats=("JPEG", "PNG")).size
    except (UnidentifiedImageError, Image.DecompressionBombError) as exc:
        raise ValueError("it is no JPEG or PNG, or too large a one") from exc
    if width * height > MAX_PIXELS:
        raise TooLarge(f"the picture has {width} x {height} pixels, {MAX_PIXELS} is the most")
    try:
        image = mx.image.imdecode(body, to_rgb=1).asnumpy()
    except (mx.base.MXNetError, ValueError) as exc:
        raise ValueError("MXNet's OpenCV finds no image in it") from exc
    pixels: npt.NDArray[Any] = image.transpose(2, 0, 1)[np.newaxis].astype(np.float32)
    return pixels


def first_line(exc: BaseException) -> str:
    """An MXNet error's own sentence, without the C++ stack that comes before or after it."""
    lines = [line.strip() for line in str(exc).splitlines() if line.strip()]
    told = [line for line in lines if line.startswith(("MXNetError:", "Error", "Check failed"))]
    line = (told or lines or [type(exc).__name__])[0]
    return line.replace("MXNetError: ", "")[:400]
