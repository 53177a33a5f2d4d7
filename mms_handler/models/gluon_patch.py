"""A Block's parameters as a worker needs them: as they were read, and without gradients.

gluon makes two more arrays of each parameter's size when a Block is loaded: a copy of what was
read from the file, and a gradient, which only who learns has a use for.
"""

from __future__ import annotations

import functools
import threading
import weakref
from typing import Any, Callable

import mxnet as mx
from mxnet.gluon.parameter import Parameter, ParameterDict

#: ``busy`` while what a file holds is put into parameters.
_reading = threading.local()

#: Parameters whose gradients nobody has asked for.
_without: weakref.WeakSet[Any] = weakref.WeakSet()

#: Whether somebody has begun to learn: from then on all is as gluon has it.
_learnt = threading.Event()

_making = threading.RLock()


def defer_gradients() -> None:
    """From here on gluon makes a gradient when it is asked for, and copies nothing that it read."""
    if hasattr(Parameter._init_impl, "__wrapped__"):  # it does so already
        return
    _around(ParameterDict, "load", _read)
    _around(mx.gluon.Block, "load_parameters", _read)
    _around(Parameter, "_init_impl", _init_impl)
    _around(Parameter, "_init_grad", _init_grad)
    _around(Parameter, "grad", _after_making)
    _around(Parameter, "list_grad", _after_making)
    _around(mx.autograd, "set_recording", _set_recording)
    _around(mx.contrib.autograd, "set_is_training", _set_recording)


def _around(owner: Any, name: str, function: Callable[..., Any]) -> None:
    """``owner.name`` calls ``function``, with itself as the first argument."""
    original = getattr(owner, name)

    @functools.wraps(original)
    def around(*args: Any, **kwargs: Any) -> Any:
        return function(original, *args, **kwargs)

    setattr(owner, name, around)


# --- what was read ---------------------------------------------------------------------------


def _read(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Load a file: nobody else has the arrays that come of it."""
    before = getattr(_reading, "busy", False)
    _reading.busy = True
    try:
        return original(*args, **kwargs)
    finally:
        _reading.busy = before


def _init_impl(original: Callable[..., Any], one: Any, data: Any, contexts: Any) -> Any:
    if getattr(_reading, "busy", False) and list(contexts) == [data.context]:
        data = _Itself(data)
    return original(one, data, contexts)


class _Itself:
    """An array that is its own copy."""

    def __init__(self, array: Any) -> None:
        self._array = array

    def copyto(self, _: Any) -> Any:
        return self._array


# --- gradients -------------------------------------------------------------------------------


def _init_grad(original: Callable[..., Any], one: Any) -> None:
    with _making:
        if _learnt.is_set() or one.grad_req == "null":
            original(one)
            return
        one._grad = None
        _without.add(one)


def _after_making(original: Callable[..., Any], one: Any, *args: Any, **kwargs: Any) -> Any:
    _make()
    return original(one, *args, **kwargs)


def _set_recording(original: Callable[..., Any], is_recording: Any) -> Any:
    if is_recording:
        _make()
    return original(is_recording)


def _make() -> None:
    """All gradients that there are not yet."""
    with _making:
        _learnt.set()
        for one in list(_without):
            if one._grad is None and one._data is not None:
                one._init_grad()
        _without.clear()
