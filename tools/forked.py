"""Run tests in forks of a process that has imported what they need.

The imports of pytest, numpy and mxnet take longer than most tests.  The package is not among them:
each fork imports it anew.
"""

from __future__ import annotations

import contextlib
import gc
import multiprocessing
import os
import signal
import sys
from pathlib import Path

import _hypothesis_pytestplugin  # noqa: F401
import hypothesis  # noqa: F401
import mxnet  # noqa: F401
import numpy  # noqa: F401
import pytest
import xdist.plugin  # noqa: F401

_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload([__name__])

gc.freeze()  # pytest collects garbage at its end


def fail(folder: Path, names: list[str], limit_s: float) -> bool:
    """Whether one of these tests of a folder fails, or they do not end in time."""
    process = _FORKS.Process(target=_run, args=(folder, names))
    process.start()
    try:
        process.join(limit_s)
        return process.exitcode != 0
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid or 0, signal.SIGKILL)
        process.join()


def _run(folder: Path, names: list[str]) -> None:
    """Run tests up to the first that fails, and exit with pytest's code."""
    os.setsid()
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in range(3):
        os.dup2(null, descriptor)
    os.chdir(folder)
    sys.path.insert(0, str(folder))
    sys.dont_write_bytecode = True
    os.environ.update(PYTHONPATH=str(folder), PYTHONDONTWRITEBYTECODE="1")
    early = ["-W", "ignore::pytest.PytestAssertRewriteWarning"]  # hypothesis is imported already
    sys.exit(pytest.main(["-q", "-x", "-p", "no:cacheprovider", *early, *names]))
