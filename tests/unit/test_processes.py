"""processes: the first process of a container reaps children and passes signals on."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

# A subreaper inherits the orphans of its descendants, as PID 1 of a container does.
INIT = """\
import ctypes, os, signal, subprocess, sys, time
from mms_handler import processes

ctypes.CDLL(None).prctl(36, 1)
processes.as_child()
orphan = "sleep 0.2; echo orphan $$ > {folder}/orphan"
subprocess.run(["/bin/sh", "-c", f"({{orphan}}) & "])
signal.signal(signal.SIGTERM, lambda *arguments: sys.exit(7))
print("ready", flush=True)
time.sleep({seconds})
sys.exit(3)
"""


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        pytest.param(None, 3, id="the child's exit code"),
        pytest.param(signal.SIGTERM, 7, id="SIGTERM reaches the child"),
        pytest.param(signal.SIGHUP, 128 + signal.SIGHUP, id="a signal that ends the child"),
    ],
)
def test_the_first_process(tmp_path: Path, sent, code):
    """It ends with its child's exit code, whatever else it has reaped before."""
    source = INIT.format(folder=tmp_path, seconds=1 if sent is None else 30)
    with subprocess.Popen([sys.executable, "-c", source], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        if sent is not None:
            process.send_signal(sent)
        assert process.wait(timeout=20) == code
    assert sent is not None or (tmp_path / "orphan").read_text().startswith("orphan ")
