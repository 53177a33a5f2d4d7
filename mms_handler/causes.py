"""The cause of a failure in one line: the exception's type, its text, its place in the script."""

from __future__ import annotations

import inspect
import os
import re
import traceback
from typing import Iterable

from mms_handler.errors import ScriptError, text_of

#: Characters of an exception's text in a log line.  Some texts quote the body, and a megabyte of
#: log delays a worker for seconds.
MAX_TEXT = 1_000

#: What Python 3 says to statements of Python 2.
_PYTHON_2 = re.compile("Missing parentheses in call to|multiple exception types must be")

#: How MXNet begins its texts: with a line of its own source.
_MXNET_PLACE = re.compile(r"\ATraceback \(most recent call last\):\n  File \"\.\..*\", line \d+\n")


def cause(exc: BaseException, *folders: str) -> str:
    """Describe ``exc`` in one line: its type, its text, and where in the script it came from.

    Args:
        exc: raised by a user's script, or by us on its behalf.
        folders: the model_dir, and the script's own folder if that is elsewhere.  The place is the
            innermost line of a file in one of them, relative to it; or the first line of the
            function whose result cannot be used.
    """
    message = syntax_message(exc) if isinstance(exc, SyntaxError) else text_of(exc)
    text = " ".join(_MXNET_PLACE.sub("", message, 1)[:MAX_TEXT].split())
    line = f"{type(exc).__name__}: {text}" if text else type(exc).__name__
    if isinstance(exc, SyntaxError) and exc.filename:
        name = name_in_folders(exc.filename, folders) or exc.filename
        return f"{line} ({name}, line {exc.lineno})"
    lines = [(frame.filename, frame.lineno) for frame in traceback.extract_tb(exc.__traceback__)]
    if isinstance(exc, ScriptError) and exc.function:
        code = getattr(inspect.unwrap(exc.function), "__code__", None)
        lines = [(code.co_filename, code.co_firstlineno)] if code else []
    places = [
        f"{name}, line {number}"
        for filename, number in lines
        for name in [name_in_folders(filename, folders)]
        if name
    ]
    return f"{line} ({places[-1]})" if places else line


def syntax_message(exc: SyntaxError) -> str:
    """What is wrong with a file of Python, in one line.

    Most scripts for MXNet 1.2 and older were written for Python 2, which is what their containers
    ran unless they were asked for another.
    """
    if not _PYTHON_2.match(exc.msg or ""):
        return text_of(exc.msg)
    return f"{exc.msg}; if this is Python 2, convert it: python -m lib2to3 -w -n FILE"


def name_in_folders(filename: str, folders: Iterable[str]) -> str | None:
    """A file's name relative to the first of ``folders`` that it is in; None if it is in none.

    Packages that are installed in such a folder, as in a project's environment, are not its files.
    """
    path = os.path.realpath(filename)
    for folder in folders:
        name = os.path.relpath(path, os.path.realpath(folder))
        parts = name.split(os.sep)
        if parts[0] != ".." and "site-packages" not in parts:
            return name
    return None
