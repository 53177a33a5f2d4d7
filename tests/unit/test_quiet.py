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

#: Takes longer to copy than to write, and does not fill a pipe.
MANY = "\n" * 3_000

#: Prints this process's own lines, and ends without a flush.
PROGRAM = """
import atexit, os, sys
from mms_handler.quiet import quiet_process

@atexit.register
def is_real():
    os.write(1, str(os.path.sameopenfile(1, 2)).encode())

flush = quiet_process()
for _ in range(2):
    for line in sys.argv[1:]:
        os.write(2, line.encode() + b"\\n")
    os.write(2, b"\\n" * 3_000)
    sys.stderr.write("unfinished")
    flush()
    os.write(1, b" and then the reply\\n")
os.write(2, b"\\n" * 3_000)
sys.stderr.write("the last line")
sys.stderr.flush()
"""


def test_a_childs_lines(capfd):
    """The block ends when all of them have been written."""
    with quiet_stderr() as writer:
        subprocess.run(["printf", "%s\\n", *NOISE, *LINES], stdout=writer, check=True)
        os.write(writer, f"{MANY}unfinished".encode())
    one, two = LINES
    assert capfd.readouterr().err == f"{one}\n{two}\n{MANY}unfinished"


def test_the_lines_of_this_process():
    """Also those that native code writes; a flush keeps the order with standard output.

    At its end, standard error is what it was.
    """
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *NOISE, *LINES],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=True,
        text=True,
    )
    one, two = LINES
    part = f"{one}\n{two}\n{MANY}unfinished and then the reply\n"
    assert done.stdout == f"{part}{part}{MANY}the last lineTrue"
