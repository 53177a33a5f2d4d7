"""errors: the status, phrase and message of each exception."""

from __future__ import annotations

import errno
import sys

import pytest
from mms.service import PredictionException
from sagemaker_inference.errors import (
    BaseInferenceToolkitError,
    GenericInferenceToolkitError,
    UnsupportedFormatError,
)

from mms_handler import errors
from mms_handler.errors import ArchiveError, Failed, ScriptError, attempt


def family(cls):
    return [cls] + [member for child in cls.__subclasses__() for member in family(child)]


@pytest.mark.parametrize("cls", family(errors.HandlerError), ids=lambda cls: cls.__name__)
def test_phrase_fits_the_wire(cls):
    """MMS's frame counts characters and writes bytes: the two must be equal."""
    assert cls.phrase.isascii()
    assert cls.phrase.isprintable()
    assert 400 <= cls.status <= 599


def test_each_error_has_its_status():
    """Each class has the status that its name stands for in HTTP."""
    classes = [cls for cls in family(errors.HandlerError) if cls.__module__ == errors.__name__]
    assert {cls.__name__: cls.status for cls in classes} == {
        "HandlerError": 500,
        "BadInput": 400,
        "Unauthorized": 401,
        "Forbidden": 403,
        "MethodNotAllowed": 405,
        "NotAcceptable": 406,
        "UnsupportedShape": 412,
        "TooLarge": 413,
        "UnsupportedType": 415,
        "TimedOut": 504,
        "OutOfResources": 507,
        "ScriptError": 500,
        "ModelError": 500,
        "LoadError": 500,
        "SettingsError": 500,
        "ArchiveError": 400,
        "UntrustedArchive": 403,
        "ServerError": 500,
        "NoSuchModel": 404,
        "Conflict": 409,
        "NameTaken": 409,
        "Unavailable": 503,
        "TrainingError": 500,
        "TransformError": 500,
        "ProjectError": 500,
    }


@pytest.mark.parametrize(
    ("exc", "fault"),
    [
        pytest.param(
            errors.BadInput("three values wanted"),
            (400, "Bad Input", "BadInput", "three values wanted"),
            id="our error is sent with its text",
        ),
        pytest.param(
            errors.UnsupportedType("no"),
            (415, "Unsupported Media Type", "UnsupportedType", "no"),
            id="an unreadable content type is 415",
        ),
        pytest.param(
            errors.NotAcceptable("no"),
            (406, "Not Acceptable", "NotAcceptable", "no"),
            id="an unwritable Accept is 406",
        ),
        pytest.param(
            BaseInferenceToolkitError(422, "age is negative", "ignored\r\nphrase"),
            (422, "Script Error", "BaseInferenceToolkitError", "age is negative"),
            id="the toolkit's error keeps status and message but not its phrase",
        ),
        pytest.param(
            GenericInferenceToolkitError(403),
            (403, "Script Error", "GenericInferenceToolkitError", "Invalid Request"),
            id="the toolkit's generic error has its own default message",
        ),
        pytest.param(
            BaseInferenceToolkitError(200, "odd", "odd"),
            (500, "Script Error", "BaseInferenceToolkitError", "odd"),
            id="an error with a success status is 500",
        ),
        pytest.param(
            PredictionException("no such user", 404),
            (404, "Script Error", "PredictionException", "no such user"),
            id="MMS's error keeps status and message",
        ),
        pytest.param(
            PredictionException("odd", -1),
            (500, "Script Error", "PredictionException", "odd"),
            id="a negative status, which MMS never answers, is 500",
        ),
        pytest.param(
            PredictionException("odd", "many"),
            (500, "Script Error", "PredictionException", "odd"),
            id="a status that is not a number is 500",
        ),
        pytest.param(
            PredictionException("odd", 600),
            (500, "Script Error", "PredictionException", "odd"),
            id="a status beyond HTTP is 500",
        ),
        pytest.param(
            MemoryError("secret"),
            (
                507,
                "Out Of Resources",
                "MemoryError",
                "not enough memory for this request; send less data at once",
            ),
            id="no memory is 507",
        ),
        pytest.param(
            KeyError("secret"),
            (
                500,
                "Internal Server Error",
                "KeyError",
                "the model failed with KeyError; see the server's log",
            ),
            id="a bug's text stays in the log",
        ),
        pytest.param(
            SystemExit(3),
            (
                500,
                "Internal Server Error",
                "SystemExit",
                "the model failed with SystemExit; see the server's log",
            ),
            id="a script that exits is a bug",
        ),
    ],
)
def test_what_a_client_sees(exc, fault):
    """A fault has the status, phrase, type and message written here."""
    assert errors.fault(exc) == fault


def test_the_toolkits_format_error_is_415():
    """AWS's toolkit answers 500 for a format it cannot read; here it is 415, with its text."""
    status, phrase, kind, message = errors.fault(UnsupportedFormatError("image/png"))
    assert (status, phrase, kind) == (415, "Unsupported Media Type", "UnsupportedFormatError")
    assert message.startswith("Content type image/png is not supported by this framework.")


def test_an_attempt_returns_the_value_or_failed():
    """SystemExit is caught like any exception."""
    assert attempt(divmod, 7, 2) == (3, 1)
    failure = attempt(divmod, 7, 0)
    assert isinstance(failure, Failed)
    assert isinstance(failure.exc, ZeroDivisionError)
    assert isinstance(attempt(sys.exit, 3).exc, SystemExit)


def test_an_attempt_hands_a_failure_on():
    """The function is not called, and the first failure is returned."""
    calls = []
    first, second = Failed(ValueError("first")), Failed(ValueError("second"))
    assert attempt(lambda *values: calls.append(values), 1, first, second) is first
    assert calls == []


# --- memory and disks ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("exc", "full"),
    [
        (OSError(errno.ENOSPC, "no space"), True),
        (OSError(errno.EDQUOT, "quota"), True),
        (OSError(errno.EFBIG, "too large"), True),
        (OSError(errno.EACCES, "denied"), False),
        (ValueError(errno.ENOSPC), False),
        (None, False),
    ],
)
def test_a_full_disk(exc, full):
    """Also as the cause of another error."""
    assert errors.disk_is_full(exc) is full
    outer, middle = ArchiveError("a"), ScriptError("b")
    outer.__cause__, middle.__cause__ = middle, exc
    assert errors.disk_is_full(outer) is full


class MXNetError(Exception):
    """Called as MXNet's."""


@pytest.mark.parametrize(
    ("exc", "out"),
    [
        (MemoryError(), True),
        (MXNetError("cudaMalloc failed: out of memory"), True),
        (MXNetError("Failed to allocate CPU Memory"), True),
        (MXNetError("Memory allocation failed"), True),
        (MXNetError("OUT OF MEMORY"), True),
        (MXNetError("shapes differ"), False),
        (ValueError("out of memory"), False),
    ],
)
def test_no_memory(exc, out):
    """MXNet says so only in its text."""
    assert errors.out_of_memory(exc) is out


@pytest.mark.parametrize(
    ("code", "status"),
    [
        (400, 400),
        ("422", 422),
        (599, 599),
        (600, 500),
        (399, 500),
        (200, 500),
        ("x", 500),
        (None, 500),
    ],
)
def test_statuses_of_other_peoples_errors(code, status):
    """Only an HTTP error is one."""
    assert errors._status(code) == status
