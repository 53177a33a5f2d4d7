"""Leave out what MXNet's engine prints about itself on standard error, in any program.

MXNet 1.9.1 has no level for it: each process prints which engine it uses, and each old symbol that
it was upgraded.  All other lines pass, warnings of MXNet among them.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import re
import sys
import threading
from typing import IO, Iterator

_NOISE = re.compile(
    rb"\[\d\d:\d\d:\d\d\] \.\./src/\S+: (MXNet start using engine|Loading symbol saved by previous|"
    rb"Symbol successfully upgraded|MXNET_SUBGRAPH_BACKEND=NONE is detected|Subgraph backend )"
)


@contextlib.contextmanager
def quiet_stderr() -> Iterator[int]:
    """Leave the engine's lines out of standard error, for the length of a block.

    Yields:
        The descriptor of a pipe whose lines go to standard error, for a child process.
    """
    target = os.fdopen(os.dup(sys.stderr.fileno()), "wb")
    reader, writer = os.pipe()
    thread = threading.Thread(target=_copy, args=(os.fdopen(reader, "rb"), target), daemon=True)
    thread.start()
    try:
        yield writer
    finally:
        os.close(writer)
        thread.join(timeout=1)  # a process that a script left behind may hold the pipe open


def _copy(source: IO[bytes], target: IO[bytes]) -> None:
    with source, target:
        for line in source:
            if not _NOISE.match(line):
                target.write(line)
                target.flush()


def quiet_process() -> None:
    """Leave the engine's lines out of this process's own standard error, to its end.

    MXNet prints one when it is unloaded, too.
    """
    stack = contextlib.ExitStack()
    writer = stack.enter_context(quiet_stderr())
    sys.stderr.flush()
    original = os.dup(2)
    os.dup2(writer, 2)

    def restore() -> None:
        sys.stderr.flush()
        os.dup2(original, 2)
        stack.close()

    atexit.register(restore)  # runs after MXNet's, which is imported later
