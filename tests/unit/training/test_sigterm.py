"""training.sigterm: a process ends at SIGTERM, also where Python drops exceptions."""

from __future__ import annotations

import subprocess
import sys

import pytest

PROGRAM = """
import os, signal, sys, threading, time
from mms_handler.training.sigterm import exit_at_sigterm

exit_at_sigterm()

class InDestructor:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGTERM)
        for _ in range(1_000):
            pass

class Broken:
    def __del__(self):
        raise ValueError("mine")

try:
    {statement}
    time.sleep(60)
except BaseException as exc:
    print(type(exc).__name__, flush=True)
    raise
"""


@pytest.mark.parametrize(
    ("statement", "error"),
    [
        pytest.param("os.kill(os.getpid(), signal.SIGTERM)", "", id="anywhere"),
        pytest.param("del InDestructor().__dict__", "", id="in a destructor"),
        pytest.param(
            "Broken(); os.kill(os.getpid(), signal.SIGTERM)",
            "ValueError: mine",
            id="after another exception that is dropped",
        ),
    ],
)
def test_a_process_ends(statement, error):
    """With the exit code of the signal; other exceptions that are dropped are shown as usual."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(statement=statement)],
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert (done.returncode, done.stdout) == (143, "Terminated\n")
    assert error in done.stderr
    assert "Terminated" not in done.stderr
