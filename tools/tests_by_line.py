"""A plug-in for pytest: which tests run which lines of the package, and how long each takes.

    TESTS_BY_LINE=FOLDER pytest -p tools.tests_by_line

Each process of pytest writes one file of JSON into the folder, and each child process of a test
one of lines (traced/sitecustomize.py).  Lines that run when a module is imported are missing.
"""

from __future__ import annotations

import inspect
import json
import os
import sys
import threading
import time
from pathlib import Path
from types import FrameType
from typing import Any, Iterator

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = str(ROOT / "mms_handler") + os.sep

#: For each file and line, the numbers of the tests that run it.
lines: dict[str, dict[int, set[int]]] = {}
tests: list[str] = []
seconds: list[float] = []
passed: list[bool] = []


def trace(frame: FrameType, event: str, argument: Any) -> Any:
    """Follow the functions of the package, but not the bodies of its modules and classes."""
    name = frame.f_code.co_filename
    if not (name.startswith(PACKAGE) and frame.f_code.co_flags & inspect.CO_OPTIMIZED):
        return None
    by_line = lines.setdefault(name, {})
    number = len(tests) - 1

    def follow(frame: FrameType, event: str, argument: Any) -> Any:
        by_line.setdefault(frame.f_lineno, set()).add(number)
        return follow

    return follow(frame, event, argument)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    tests.append(item.nodeid)
    passed.append(True)
    os.environ["TESTS_BY_LINE_OF"] = item.nodeid  # for its children; see traced/sitecustomize.py
    start_s = time.monotonic()
    threading.settrace(trace)
    sys.settrace(trace)
    yield
    sys.settrace(None)
    threading.settrace(None)  # type: ignore[arg-type]
    seconds.append(time.monotonic() - start_s)


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if report.failed and tests and tests[-1] == report.nodeid:
        passed[-1] = False


def pytest_sessionfinish(session: pytest.Session) -> None:
    if not tests:
        return
    relative = {
        str(Path(name).relative_to(ROOT)): {line: sorted(by) for line, by in by_line.items()}
        for name, by_line in lines.items()
    }
    content = {"tests": tests, "seconds": seconds, "passed": passed, "lines": relative}
    path = Path(os.environ["TESTS_BY_LINE"]) / f"{os.getpid()}.json"
    path.write_text(json.dumps(content))
