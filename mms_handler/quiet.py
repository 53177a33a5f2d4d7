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
from typing import IO, Callable, Iterator

#: Lines of the engine.
NOISE = re.compile(
    rb"\[\d\d:\d\d:\d\d\] \.\./src/\S+: (MXNet start using engine|Loading symbol saved by previous|"
    rb"Symbol successfully upgraded|MXNET_SUBGRAPH_BACKEND=NONE is detected|Subgraph backend )"
)


#: A line that is not copied: it says that all lines before it have been.
_MARK = b"\0copied\n"

#: Seconds to wait for the last lines: a process that a script left behind may hold the pipe open.
_WAIT_S = 1


@contextlib.contextmanager
def quiet_stderr() -> Iterator[int]:
    """Leave the engine's lines out of standard error, for the length of a block.

    Yields:
        The descriptor of a pipe whose lines go to standard error, for a child process.
    """
    with _piped(threading.Event()) as writer:
        yield writer


@contextlib.contextmanager
def _piped(copied: threading.Event) -> Iterator[int]:
    target = os.fdopen(os.dup(sys.stderr.fileno()), "wb")
    reader, writer = os.pipe()
    arguments = (os.fdopen(reader, "rb"), target, copied)
    thread = threading.Thread(target=_copy, args=arguments, daemon=True)
    thread.start()
    try:
        yield writer
    finally:
        os.close(writer)
        thread.join(_WAIT_S)


def _copy(source: IO[bytes], target: IO[bytes], copied: threading.Event) -> None:
    with source, target:
        for line in source:
            is_mark = line.endswith(_MARK)
            if not NOISE.match(line):
                target.write(line[: -len(_MARK)] if is_mark else line)
                target.flush()
            if is_mark:
                copied.set()


def quiet_process() -> Callable[[], None]:
    """Leave the engine's lines out of this process's own standard error, to its end.

    MXNet prints one when it is unloaded, too.

    Returns:
        A function that waits until all that was printed before is on the real standard error.
    """
    copied, stack = threading.Event(), contextlib.ExitStack()
    writer = stack.enter_context(_piped(copied))
    original = os.dup(2)
    os.dup2(writer, 2)

    def flush() -> None:
        sys.stderr.flush()
        copied.clear()
        os.write(writer, _MARK)
        copied.wait(_WAIT_S)

    def restore() -> None:
        os.dup2(original, 2)
        stack.close()

    atexit.register(restore)  # runs after MXNet's, which is imported later
    return flush
