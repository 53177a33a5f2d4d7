"""What is true for every input: which errors may come out, what their texts may contain, the time.

Targets raise AssertionError, or let another exception through, where something is not true.
"""

from __future__ import annotations

import os
import re
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Callable, Iterator

import numpy as np

from mms_handler.errors import HandlerError

#: Seconds of CPU that one input may take.  Inputs have at most 64 kB, and a coverage-guided
#: fuzzer's instrumentation makes Python about five times as slow.
CPU_S = 3.0

#: What no client may see: a traceback, or where this package and its Python are.
_LEAK = re.compile(
    r"Traceback \(most recent|File \"/|\.py\", line |site-packages|"
    + re.escape(str(Path(__file__).parents[2]))
    + "|"
    + re.escape(sys.prefix)
)


def no_leak(text: str) -> None:
    """Check that a reply tells a client nothing about the machine."""
    match = _LEAK.search(text)
    assert not match, f"a reply has {match.group()!r}: {text[:300]!r}"


@contextmanager
def bounded() -> Iterator[None]:
    """Check that the block takes at most CPU_S seconds of this thread's CPU time."""
    start = time.thread_time()
    yield
    seconds = time.thread_time() - start
    assert seconds < CPU_S, f"the input took {seconds:.1f} s of CPU time"


def outcome(function: Callable[..., Any], *arguments: Any) -> Any:
    """The result of a call, or the HandlerError that it raised; any other exception goes on."""
    with bounded():
        try:
            return function(*arguments)
        except HandlerError as exc:
            error = exc
    assert 400 <= error.status <= 599, error
    no_leak(str(error))
    return error


def check_client_fault(value: Any) -> bool:
    """Whether ``value`` is an error; it must be the client's fault, and short."""
    if not isinstance(value, HandlerError):
        return False
    assert value.status in (400, 406, 413, 415), f"{value.status} {value!r}"
    return True


def same(first: Any, second: Any) -> bool:
    """Whether arrays, or dicts of them, are equal to the last bit; any NaN equals any other."""
    if isinstance(first, dict) or isinstance(second, dict):
        return (
            isinstance(first, dict)
            and isinstance(second, dict)
            and list(first) == list(second)
            and all(same(first[name], second[name]) for name in first)
        )
    if (first.dtype, first.shape) != (second.dtype, second.shape):
        return False
    nan = np.isnan(first)
    return bool(
        np.array_equal(nan, np.isnan(second))
        and np.array_equal(first[~nan], second[~nan])
        and np.array_equal(np.signbit(first[~nan]), np.signbit(second[~nan]))
    )


# --- writes ----------------------------------------------------------------------------------

_allowed: list[str] = []
_outside: list[str] = []
_watching = False

#: Audit events whose first argument is a path that is written or removed.
_WRITES = {"os.mkdir", "os.remove", "os.rmdir", "os.chmod", "os.symlink", "os.truncate"}
_WRITE_FLAGS = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


def _audit(event: str, arguments: tuple[Any, ...]) -> None:
    if not _allowed:
        return
    path: Any = None
    if event == "open" and isinstance(arguments[2], int) and arguments[2] & _WRITE_FLAGS:
        path = arguments[0]
    elif event in _WRITES:
        path = arguments[0] if event != "os.symlink" else arguments[1]
    elif event in ("os.rename", "os.link"):
        path = arguments[1]
    if isinstance(path, (str, bytes)):
        real = os.path.realpath(os.fsdecode(path))
        if not real.startswith(_allowed[-1] + os.sep) and real != _allowed[-1]:
            _outside.append(f"{event} of {real}")


@contextmanager
def writes_only_in(folder: Path) -> Iterator[None]:
    """Check that the block writes, makes and removes nothing outside ``folder``."""
    global _watching
    if not _watching:
        sys.addaudithook(_audit)
        _watching = True
    _allowed.append(os.path.realpath(folder))
    try:
        yield
    finally:
        _allowed.pop()
    written, _outside[:] = list(_outside), []
    assert not written, f"outside the folder: {written}"
