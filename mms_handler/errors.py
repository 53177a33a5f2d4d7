"""Everything that can go wrong, and the status a client is answered with.

HandlerError            500
  BadInput              400   the body is not what its type says, or not what the model takes
  NotAcceptable         406   nothing in Accept can be written
  UnsupportedShape      412   the model has several inputs and the body is one array
  TooLarge              413   the body is larger than the server takes, once decompressed
  UnsupportedType       415   nothing reads the request's Content-Type
  TimedOut              504   the time for a request is up
  OutOfResources        507   no memory, or a reply larger than the front end takes
  ScriptError           500   the script breaks the contract; raised at load
  ModelError            500   the artifacts do not make a model; raised at load
  LoadError             500   a phase of loading failed; what MMS and its log see
  SettingsError               a setting has a value that means nothing; met by people, not clients
  ArchiveError          400   an archive cannot be made or must not be read
  ServerError           500   the front end did not do what it was asked
    NoSuchModel         404   no model has this name, or nothing is where it should come from
    NameTaken           409   a model of this name is registered
  TrainingError               a training cannot start, or did not give what it should
"""

from __future__ import annotations

import os
import re
import traceback
from typing import Any, Callable, NamedTuple


class HandlerError(Exception):
    """Base of the package's errors.

    The message is for a person and travels in the body.  ``phrase`` is the HTTP reason
    phrase: MMS writes its length in characters and its bytes in UTF-8
    (mms/protocol/otf_message_handler.py:105-106), so one letter outside ASCII would
    break the frame and kill the worker.
    """

    status = 500
    phrase = "Handler Error"


class BadInput(HandlerError):
    """The client's body is not what it claims to be, or not what the model takes."""

    status, phrase = 400, "Bad Input"


class NotAcceptable(HandlerError):
    """Nothing the client accepts can be written."""

    status, phrase = 406, "Not Acceptable"


class UnsupportedShape(HandlerError):
    """The model has several inputs and the body is one array."""

    status, phrase = 412, "Unsupported Shape"


class TooLarge(HandlerError):
    """The body is larger than the server takes, once decompressed."""

    status, phrase = 413, "Payload Too Large"


class UnsupportedType(HandlerError):
    """Nothing reads the request's Content-Type."""

    status, phrase = 415, "Unsupported Media Type"


class TimedOut(HandlerError):
    """The time for the request was up before the model had answered it."""

    status, phrase = 504, "Gateway Timeout"


class OutOfResources(HandlerError):
    """The request needs more memory, or makes a larger reply, than there is room for."""

    status, phrase = 507, "Out Of Resources"


class ScriptError(HandlerError):
    """The user's script breaks the contract."""

    phrase = "Script Error"


class ModelError(HandlerError):
    """The artifacts do not make a model."""

    phrase = "Model Error"


class LoadError(HandlerError):
    """A phase of loading failed; the cause is chained."""

    phrase = "Load Error"


class SettingsError(HandlerError):
    """A setting has a value that means nothing; the message names it."""


class ArchiveError(HandlerError):
    """An archive cannot be made, or must not be read."""

    status, phrase = 400, "Bad Archive"


class ServerError(HandlerError):
    """The front end did not do what it was asked."""


class NoSuchModel(ServerError):
    """No model has the name, or nothing is where it should come from."""

    status, phrase = 404, "Not Found"


class NameTaken(ServerError):
    """A model of the name is registered, or is being registered."""

    status, phrase = 409, "Conflict"


class TrainingError(HandlerError):
    """A training cannot start, or did not give what it should."""


class Failed:
    """Stands for the value that a step did not give; ``exc`` is what was raised instead."""

    def __init__(self, exc: BaseException) -> None:
        self.exc = exc


def attempt(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call ``function``; give Failed with what it raised, if it raised anything.

    A Failed among the arguments is handed on, and the function is not called.  SystemExit and
    KeyboardInterrupt are caught too: a request's ``sys.exit`` must not end the others of its batch.
    """
    for argument in arguments:
        if isinstance(argument, Failed):
            return argument
    try:
        return function(*arguments)
    except BaseException as exc:
        return Failed(exc)


#: Characters of an exception's own text in a line of the log: a megabyte of log holds a worker up
#: for seconds, and some texts quote the body.
MAX_TEXT = 1_000


class Fault(NamedTuple):
    """A failed request as the client sees it."""

    status: int
    phrase: str
    type: str
    message: str


def fault(exc: BaseException) -> Fault:
    """What the client sees of ``exc``.

    Our errors, and those of MMS and of AWS's toolkit that a script may raise, were
    written to be read: their text goes out.  Anything else is a bug, in the script or
    here: the client gets the type's name, the log gets the traceback.
    """
    from mms.service import PredictionException
    from sagemaker_inference.errors import BaseInferenceToolkitError, UnsupportedFormatError

    kind = type(exc).__name__
    if isinstance(exc, HandlerError):
        return Fault(exc.status, exc.phrase, kind, _text(exc))
    if isinstance(exc, UnsupportedFormatError):
        return Fault(UnsupportedType.status, UnsupportedType.phrase, kind, _text(exc))
    if isinstance(exc, BaseInferenceToolkitError):
        return Fault(_status(exc.status_code), ScriptError.phrase, kind, _text(exc.message))
    if isinstance(exc, PredictionException):
        return Fault(_status(exc.error_code), ScriptError.phrase, kind, _text(exc.message))
    if out_of_memory(exc):
        return Fault(
            OutOfResources.status, OutOfResources.phrase, kind, "not enough memory for this request"
        )
    return Fault(
        500, "Internal Server Error", kind, f"{kind} while answering; the server's log has the rest"
    )


def out_of_memory(exc: BaseException) -> bool:
    """Whether ``exc`` says there is no memory left; MXNet says it in words only."""
    words = r"out of memory|Failed to allocate|Memory allocation failed"
    return isinstance(exc, MemoryError) or (
        type(exc).__name__ == "MXNetError" and bool(re.search(words, _text(exc), re.IGNORECASE))
    )


def _text(said: object) -> str:
    """``said`` as text; a script's own class may fail to give any."""
    try:
        return str(said)
    except Exception as exc:
        return f"its text cannot be had: {type(exc).__name__}"


def _status(code: object) -> int:
    """``code`` if HTTP has it as an error, else 500: MMS never answers a client below 200."""
    try:
        number = int(str(code))
    except ValueError:
        return 500
    return number if 400 <= number <= 599 else 500


def cause(exc: BaseException, folder: str) -> str:
    """``exc`` in one line: its type, its text, and the last line of a file in ``folder``.

    Args:
        exc: what a user's script, or we on its behalf, raised.
        folder: the model_dir; places are given relative to it.
    """
    text = " ".join(_text(exc.msg if isinstance(exc, SyntaxError) else exc)[:MAX_TEXT].split())
    line = f"{type(exc).__name__}: {text}" if text else type(exc).__name__
    if isinstance(exc, SyntaxError) and exc.filename:
        return f"{line} ({_within(exc.filename, folder)}, line {exc.lineno})"
    places = [
        f"{_within(frame.filename, folder)}, line {frame.lineno}"
        for frame in traceback.extract_tb(exc.__traceback__)
        if os.path.realpath(frame.filename).startswith(os.path.realpath(folder) + os.sep)
    ]
    return f"{line} ({places[-1]})" if places else line


def _within(filename: str, folder: str) -> str:
    return os.path.relpath(os.path.realpath(filename), os.path.realpath(folder))
