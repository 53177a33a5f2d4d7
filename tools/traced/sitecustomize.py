"""Record which lines of the package a child process of a test runs, for tests_by_line.

Python imports this when it starts with this folder in PYTHONPATH.  A line is written when it first
runs, because a child may be killed.  Children of children, and forks, do the same.
"""

from __future__ import annotations

import fcntl
import os
import sys
import threading
from pathlib import Path

CO_OPTIMIZED = 1  # inspect's

PACKAGE = str(Path(__file__).parents[2] / "mms_handler") + os.sep


def record(test: str, path: str) -> None:
    """Write ``test``, and the lines that run from now on, to a file."""
    with open(path, "ab") as opened:  # a high number: a test may close low ones and use them again
        file = fcntl.fcntl(opened, fcntl.F_DUPFD_CLOEXEC, 500)
    os.write(file, f"{test}\n".encode())
    seen: set[tuple[str, int]] = set()

    def trace(frame, event, argument):
        name = frame.f_code.co_filename
        # What an import runs is not the test's: bodies of modules and classes are not optimized.
        if not (name.startswith(PACKAGE) and frame.f_code.co_flags & CO_OPTIMIZED):
            return None

        def follow(frame, event, argument):
            place = name, frame.f_lineno
            if place not in seen:
                seen.add(place)
                try:
                    os.write(file, f"{place[1]} {name}\n".encode())
                except OSError:  # a test of closed descriptors
                    return None
            return follow

        return follow(frame, event, argument)

    threading.settrace(trace)
    sys.settrace(trace)


test = os.environ.get("TESTS_BY_LINE_OF")
if test and os.environ.get("TESTS_BY_LINE"):
    record(test, os.path.join(os.environ["TESTS_BY_LINE"], f"{os.getpid()}.lines"))
