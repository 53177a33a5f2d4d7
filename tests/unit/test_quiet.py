"""quiet: MXNet's lines about its engine are left out, and nothing else is."""

from __future__ import annotations

import os
import subprocess
import sys

from mms_handler.quiet import quiet_stderr

NOISE = (
    "[19:39:55] ../src/engine/engine.cc:54: MXNet start using engine: NaiveEngine",
    "[19:39:55] ../src/nnvm/legacy_json_util.cc:216: Symbol successfully upgraded!",
)
LINES = (
    "[19:39:55] ../src/operator/x.cc:5: Warning: this is slow",
    "MXNet start using engine: as a script prints it",
)

PROGRAM = """
import os, sys
from mms_handler.quiet import quiet_process
flush = quiet_process()
for line in sys.argv[1:]:
    os.write(2, line.encode() + b"\\n")
sys.stderr.write("unfinished")
flush()
os.write(1, b" and then the reply")
"""


def test_a_childs_lines(capfd):
    """The block ends when all of them have been written."""
    with quiet_stderr() as writer:
        subprocess.run(["printf", "%s\\n", *NOISE, *LINES], stdout=writer, check=True)
        os.write(writer, b"unfinished")
    assert capfd.readouterr().err.splitlines() == [*LINES, "unfinished"]


def test_the_lines_of_this_process():
    """Also those that native code writes; a flush keeps the order with standard output."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *NOISE, *LINES],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=True,
        text=True,
    )
    assert done.stdout.splitlines() == [*LINES, "unfinished and then the reply"]
