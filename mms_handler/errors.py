"""The package's errors, and the HTTP status of each.

HandlerError            500
  BadInput              400   the body does not match its Content-Type or the model's inputs
  Unauthorized          401   a token is missing or wrong
  Forbidden             403   the request comes from another site's page
  MethodNotAllowed      405   the path has other methods
  NotAcceptable         406   nothing in Accept can be written
  UnsupportedShape      412   the model has several inputs and the body is one array
  TooLarge              413   the decompressed body is larger than the server accepts
  UnsupportedType       415   nothing reads the request's Content-Type
  TimedOut              504   the model did not answer in time
  OutOfResources        507   no memory, or a reply larger than the front end accepts
  ScriptError           500   the script breaks the contract; raised at load
  ModelError            500   the artifacts do not make a model; raised at load
  LoadError             500   a phase of loading failed; seen by MMS and in its log
  SettingsError               a setting is invalid; shown on the command line, never to a client
  ArchiveError          400   an archive cannot be made, or is refused
    UntrustedArchive    403   it has no signature of a key that is trusted
  ServerError           500   the front end failed to do what it was asked
    NoSuchModel         404   no model has this name, or there is none at this address
    Conflict            409   what is asked for is at odds with the versions that a model has
      NameTaken         409   a model of this name is registered
    Unavailable         503   the model cannot be used or changed now; try again later
  TrainingError               a training cannot start, or its result is not as required
  TransformError              a transform job cannot start, or cannot go on
  ProjectError                the files of a new project cannot be written
"""

from __future__ import annotations

import errno
import re
from typing import Any, Callable, NamedTuple, Sequence


class HandlerError(Exception):
    """Base of the package's errors.

    The message is written for people and is sent in the body.  ``phrase`` is the HTTP reason
    phrase.  It must be ASCII: MMS writes its length in characters but its bytes in UTF-8
    (mms/protocol/otf_message_handler.py:105-106), so any other letter would break the frame and
    kill the worker.
    """

    status = 500
    phrase = "Handler Error"


class BadInput(HandlerError):
    """The body does not match its Content-Type or the model's inputs."""

    status, phrase = 400, "Bad Input"


class Unauthorized(HandlerError):
    """A token is missing or wrong."""

    status, phrase = 401, "Unauthorized"


class Forbidden(HandlerError):
    """The request comes from another site's page, or from a name that is not this server's."""

    status, phrase = 403, "Forbidden"


class MethodNotAllowed(HandlerError):
    """The path has other methods.

    Attributes:
        methods: of the path.
    """

    status, phrase = 405, "Method Not Allowed"

    def __init__(self, message: str, methods: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.methods = methods


class NotAcceptable(HandlerError):
    """Nothing that the client accepts can be written."""

    status, phrase = 406, "Not Acceptable"


class UnsupportedShape(HandlerError):
    """The model has several inputs and the body is one array."""

    status, phrase = 412, "Unsupported Shape"


class TooLarge(HandlerError):
    """The decompressed body is larger than the server accepts."""

    status, phrase = 413, "Payload Too Large"


class UnsupportedType(HandlerError):
    """Nothing reads the request's Content-Type."""

    status, phrase = 415, "Unsupported Media Type"


class TimedOut(HandlerError):
    """The model did not answer the request in time."""

    status, phrase = 504, "Gateway Timeout"


class OutOfResources(HandlerError):
    """The request needs more memory, or a larger reply, than the server has room for."""

    status, phrase = 507, "Out Of Resources"


class ScriptError(HandlerError):
    """The user's script breaks the contract.

    Attributes:
        function: the script's function whose result cannot be used; None for another fault.
    """

    phrase = "Script Error"

    def __init__(self, message: str, function: Callable[..., Any] | None = None) -> None:
        super().__init__(message)
        self.function = function


class ModelError(HandlerError):
    """The artifacts do not make a model."""

    phrase = "Model Error"


class LoadError(HandlerError):
    """A phase of loading failed; the cause is chained.

    Attributes:
        traceback: of the script's exception; "" if the message says it all.
    """

    phrase = "Load Error"

    def __init__(self, message: str, traceback: str = "") -> None:
        super().__init__(message)
        self.traceback = traceback


class SettingsError(HandlerError):
    """A setting is invalid; the message names it."""


class ArchiveError(HandlerError):
    """An archive cannot be made, or is refused.

    Attributes:
        traceback: of the script's exception, if one is the reason.
    """

    status, phrase = 400, "Bad Archive"

    def __init__(self, message: str, traceback: str = "") -> None:
        super().__init__(message)
        self.traceback = traceback


class UntrustedArchive(ArchiveError):
    """An archive is not as a trusted key signed it; the message says which keys are trusted."""

    status, phrase = 403, "Untrusted Archive"


class ServerError(HandlerError):
    """The front end failed to do what it was asked."""


class NoSuchModel(ServerError):
    """No model has the name, or there is none at the address."""

    status, phrase = 404, "Not Found"


class Conflict(ServerError):
    """What is asked for is at odds with the versions that a model has."""

    status, phrase = 409, "Conflict"


class NameTaken(Conflict):
    """A model of this name is registered, or is being registered."""


class Unavailable(ServerError):
    """The model cannot be used or changed now; another try may succeed."""

    status, phrase = 503, "Service Unavailable"


class TrainingError(HandlerError):
    """A training cannot start, or its result is not as required."""


class TransformError(HandlerError):
    """A transform job cannot start, or cannot go on."""


class ProjectError(HandlerError):
    """The files of a new project cannot be written."""


class Failed:
    """Stands for a step's result; ``exc`` is the exception that the step raised."""

    def __init__(self, exc: BaseException) -> None:
        self.exc = exc


def attempt(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call ``function``, and return a Failed if it raises.

    If an argument is a Failed, return that and do not call the function.  SystemExit and
    KeyboardInterrupt are caught too: a ``sys.exit`` in one request must not end the others of its
    batch.
    """
    for argument in arguments:
        if isinstance(argument, Failed):
            return argument
    try:
        return function(*arguments)
    except BaseException as exc:
        return Failed(exc)


class Fault(NamedTuple):
    """A failed request as the client sees it."""

    status: int
    phrase: str
    type: str
    message: str


def disk_is_full(exc: BaseException | None) -> bool:
    """Whether ``exc``, or what caused it, means that a file could not be written for lack of space.

    Of the disk, of a quota, or of the size that this process's files may have.
    """
    full = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    while exc is not None:
        if isinstance(exc, OSError) and exc.errno in full:
            return True
        exc = exc.__cause__
    return False


def fault(exc: BaseException) -> Fault:
    """The status, phrase and message that a client gets for ``exc``.

    The texts of our errors are written for clients and are sent.  So are those of MMS's errors and
    of AWS's toolkit's, which a script may raise.  Any other exception is a bug, in the script or
    here: the client gets the type's name, and the log gets the traceback.
    """
    from mms.service import PredictionException
    from sagemaker_inference.errors import BaseInferenceToolkitError, UnsupportedFormatError

    name = type(exc).__name__
    if isinstance(exc, HandlerError):
        return Fault(exc.status, exc.phrase, name, text_of(exc))
    if isinstance(exc, UnsupportedFormatError):
        return Fault(UnsupportedType.status, UnsupportedType.phrase, name, text_of(exc))
    if isinstance(exc, BaseInferenceToolkitError):
        return Fault(_status(exc.status_code), ScriptError.phrase, name, text_of(exc.message))
    if isinstance(exc, PredictionException):
        return Fault(_status(exc.error_code), ScriptError.phrase, name, text_of(exc.message))
    if out_of_memory(exc):
        message = "not enough memory for this request; send less data at once"
        return Fault(OutOfResources.status, OutOfResources.phrase, name, message)
    message = f"the model failed with {name}; see the server's log"
    return Fault(500, "Internal Server Error", name, message)


def out_of_memory(exc: BaseException) -> bool:
    """Whether ``exc`` means that memory ran out; MXNet says so only in its text."""
    words = r"out of memory|Failed to allocate|Memory allocation failed"
    return isinstance(exc, MemoryError) or (
        type(exc).__name__ == "MXNetError" and bool(re.search(words, text_of(exc), re.IGNORECASE))
    )


def text_of(message: object) -> str:
    """``message`` as text; the str() of a script's own class may raise."""
    try:
        return str(message)
    except Exception as exc:
        return f"its text cannot be read: {type(exc).__name__}"


def _status(code: object) -> int:
    """``code`` if it is an HTTP error, else 500: MMS sends no status below 200."""
    try:
        number = int(str(code))
    except ValueError:
        return 500
    return number if 400 <= number <= 599 else 500
