"""Everything that touches gluon's private parts, of mxnet 1.9.1, the only version supported.

Replaced:
    ``Block.__call__``: to record input shapes during a training.
    ``Block.load_parameters``, ``ParameterDict.load``, ``Parameter._init_impl``: to keep the arrays
    read from a file instead of copying them.
    ``Parameter._init_grad``, ``.grad``, ``.list_grad``, ``autograd.set_recording``,
    ``contrib.autograd.set_is_training``: to allocate gradients only when they are needed.
    ``set_data`` of single parameters: to learn that their values change.

Read:
    ``Block._children``, ``_forward_hooks``, ``_forward_pre_hooks``, ``_reg_params``,
    ``_cached_graph``; ``Parameter._data``, ``_grad``.

gluon makes two more arrays of each parameter's size when a Block is loaded: a copy of the array
read from the file, and a gradient, which only training uses.
"""

from __future__ import annotations

import contextlib
import functools
import threading
import weakref
from typing import Any, Callable, Iterator, Sequence

import mxnet as mx
from mxnet.gluon.parameter import Parameter, ParameterDict

from mms_handler.models.kinds import is_block

# --- recording shapes ------------------------------------------------------------------------


class RecordedShapes:
    """For each Block, the shapes of the arrays in its last call."""

    def __init__(self) -> None:
        self._shapes: dict[int, tuple[tuple[int, ...], ...]] = {}

    def record(self, block: Any, arguments: Sequence[Any]) -> None:
        if all(isinstance(argument, mx.nd.NDArray) for argument in arguments):
            self._shapes[id(block)] = tuple(tuple(array.shape) for array in arguments)

    def shapes(self, block: Any) -> tuple[tuple[int, ...], ...]:
        """The shapes in the last call of ``block``; () if it was not called with NDArrays."""
        return self._shapes.get(id(block), ())


@contextlib.contextmanager
def recorded_shapes() -> Iterator[RecordedShapes]:
    """Record the input shapes of all Blocks called in the ``with`` block.

    MXNet does not keep them.
    """
    recorded = RecordedShapes()
    call = mx.gluon.Block.__call__

    def recording(self: Any, *arguments: Any) -> Any:
        recorded.record(self, arguments)
        return call(self, *arguments)

    mx.gluon.Block.__call__ = recording
    try:
        yield recorded
    finally:
        mx.gluon.Block.__call__ = call


# --- new values of a parameter ---------------------------------------------------------------


def before_new_values(block: Any, notify: Callable[[], None]) -> None:
    """Call ``notify`` whenever a script is about to set a parameter of ``block``."""
    for parameter in block.collect_params().values():
        _notify_before_set_data(parameter, notify)


def _notify_before_set_data(parameter: Any, notify: Callable[[], None]) -> None:
    set_data = parameter.set_data

    def notifying(data: Any) -> None:
        notify()
        set_data(data)

    parameter.set_data = notifying


# --- loading without copies and gradients ----------------------------------------------------

#: ``busy`` while a file is loaded into parameters.
_reading = threading.local()

#: Parameters whose gradient has not been allocated yet.
_deferred: weakref.WeakSet[Any] = weakref.WeakSet()

#: Set once anything records gradients; gluon's own behaviour applies from then on.
_training = threading.Event()

_allocating = threading.RLock()


def defer_gradients() -> None:
    """Make gluon allocate gradients on demand, and not copy the arrays that it reads from files."""
    if hasattr(Parameter._init_impl, "__wrapped__"):  # already done
        return
    _wrap(ParameterDict, "load", _read)
    _wrap(mx.gluon.Block, "load_parameters", _read)
    _wrap(Parameter, "_init_impl", _init_impl)
    _wrap(Parameter, "_init_grad", _init_grad)
    _wrap(Parameter, "grad", _after_allocating)
    _wrap(Parameter, "list_grad", _after_allocating)
    _wrap(mx.autograd, "set_recording", _set_recording)
    _wrap(mx.contrib.autograd, "set_is_training", _set_recording)


def _wrap(owner: Any, name: str, function: Callable[..., Any]) -> None:
    """Make ``owner.name`` call ``function``, with the original as its first argument."""
    original = getattr(owner, name)

    @functools.wraps(original)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return function(original, *args, **kwargs)

    setattr(owner, name, wrapper)


def _read(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Load a file.  Only the parameters hold the arrays that are read from it."""
    was_busy = getattr(_reading, "busy", False)
    _reading.busy = True
    try:
        return original(*args, **kwargs)
    finally:
        _reading.busy = was_busy


def _init_impl(original: Callable[..., Any], parameter: Any, data: Any, contexts: Any) -> Any:
    if getattr(_reading, "busy", False) and list(contexts) == [data.context]:
        data = _NotCopied(data)
    return original(parameter, data, contexts)


class _NotCopied:
    """Wraps an array so that ``copyto`` returns the array itself."""

    def __init__(self, array: Any) -> None:
        self._array = array

    def copyto(self, _: Any) -> Any:
        return self._array


def _init_grad(original: Callable[..., Any], parameter: Any) -> None:
    with _allocating:
        if _training.is_set() or parameter.grad_req == "null":
            original(parameter)
            return
        parameter._grad = None
        _deferred.add(parameter)


def _after_allocating(
    original: Callable[..., Any], parameter: Any, *args: Any, **kwargs: Any
) -> Any:
    _allocate_gradients()
    return original(parameter, *args, **kwargs)


def _set_recording(original: Callable[..., Any], is_recording: Any) -> Any:
    if is_recording:
        _allocate_gradients()
    return original(is_recording)


def _allocate_gradients() -> None:
    """Allocate all deferred gradients."""
    with _allocating:
        _training.set()
        for parameter in list(_deferred):
            if parameter._grad is None and parameter._data is not None:
                parameter._init_grad()
        _deferred.clear()


# --- reading ---------------------------------------------------------------------------------


def device_of(model: Any, default: Any) -> Any:
    """The device of a Block's parameters; ``default`` for other models and empty Blocks."""
    parameters = model.collect_params().values() if is_block(model) else ()
    return next((p.list_ctx()[0] for p in parameters if p._data is not None), default)


def children(block: Any) -> list[Any]:
    """The Blocks that a Block holds directly."""
    return list(block._children.values())


def has_hooks(block: Any) -> bool:
    """Whether a Block itself has forward hooks."""
    return bool(block._forward_hooks or block._forward_pre_hooks)


def own_parameters(block: Any) -> Any:
    """The parameters of a Block itself, without its children's, by the name of the attribute."""
    return block._reg_params


def cached_input_names(block: Any) -> list[str]:
    """The input names of a SymbolBlock, or of a HybridBlock called after ``hybridize``."""
    return [symbol.name for symbol in block._cached_graph[0]]
