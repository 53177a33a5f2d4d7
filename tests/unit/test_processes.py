"""processes: the first process of a container, and one that keeps its environment private."""

from __future__ import annotations

import os
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


PRIVATE = """\
import sys
from mms_handler import processes

if sys.argv[1] == "private":
    processes.make_private()
print("ready", flush=True)
sys.stdin.read()
"""


#: As root, the two processes give up what only root may do, as if they were another user's.
UNPRIVILEGED = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"] if os.geteuid() == 0 else []


@pytest.mark.parametrize("private", [False, True])
def test_a_private_process(private):
    """Other processes of its user cannot read its variables in /proc; by default they can."""
    words = [*UNPRIVILEGED, sys.executable, "-c", PRIVATE, "private" if private else "open"]
    with subprocess.Popen(
        words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env={**os.environ, "TOKEN": "secret"}
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        read = subprocess.run(
            [*UNPRIVILEGED, "cat", f"/proc/{process.pid}/environ"], capture_output=True
        )
        process.communicate()
    assert (b"TOKEN=secret" in read.stdout) is not private
    assert (read.returncode != 0) is private
