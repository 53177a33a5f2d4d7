"""What a script's functions return, where it cannot be used: the sentence, and who is at fault.

A function may return None to another one of the script, which may know why.  Only if that one
stumbles over the None is the first one at fault: a return is missing.
"""

from __future__ import annotations

from typing import Any, Callable, Mapping, NamedTuple

from mms_handler.errors import ScriptError

_ARRAYS = "an NDArray or a list of them"
_BODY = (
    "bytes, text, arrays, or numbers, lists or dicts of them, or one of these and a content type"
)

#: What each function must return.
_WANTED = {
    "model_fn": "a model",
    "input_fn": "data for predict_fn",
    "predict_fn": _ARRAYS,
    "process_request_fn": _ARRAYS,
    "output_fn": _BODY,
    "transform_fn": _BODY,
}


class Source(NamedTuple):
    """A function of the script, by its name in the contract; the default one is None."""

    name: str
    function: Callable[..., Any] | None


def unusable(source: Source, value: Any, reason: str = "") -> ScriptError:
    """The error for a function's result.

    Args:
        source: the function.
        value: its result.
        reason: why the value cannot be used, if it has a usable type.
    """
    name = source.name if source.function else f"the default {source.name}"
    text = f"{name} returned {described(value)}, wanted {_WANTED[source.name]}"
    return ScriptError(f"{text}: {reason}" if reason else text, source.function)


def described(value: Any) -> str:
    """The value's type with its article; None is itself."""
    if value is None:
        return "None"
    name = type(value).__name__
    return f"{'an' if name[0] in 'aeiouAEIOU' else 'a'} {name}"


def stumbled(
    exc: Exception, arguments: Mapping[str, Any], sources: Mapping[str, Source]
) -> ScriptError | None:
    """The error for a None that made another function fail with ``exc``; None if nothing shows it.

    Args:
        exc: what the other function raised.
        arguments: the other function's, by the contract's names.
        sources: the script's functions by the names of the arguments that they return.
    """
    if not (isinstance(exc, (AttributeError, TypeError)) and "NoneType" in str(exc)):
        return None
    for name, source in sources.items():
        if source.function and name in arguments and arguments[name] is None:
            return unusable(source, None)
    return None
