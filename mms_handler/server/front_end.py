"""MMS's Java process: started in a folder of its own, listened to, drained, ended.

serve ──▶ java ──▶ listener ──▶ worker                    one process group
  └── pipe ──▶ guard: when the pipe closes, the group is ended
"""

from __future__ import annotations

import contextlib
import subprocess
import threading
import time
from collections import deque
from pathlib import Path
from typing import IO, Callable, Iterator, Mapping, Sequence

from mms_handler import processes
from mms_handler.errors import ServerError
from mms_handler.server import java

#: Seconds that Java may take to end when nothing is left to do.
_END_S = 3


class Output:
    """What the front end and its workers print: each line passed on, the last ones kept."""

    def __init__(self, *listeners: Callable[[str], None]) -> None:
        self.listeners = list(listeners)
        self._last: deque[str] = deque(maxlen=500)

    def follow(self, stream: IO[bytes]) -> None:
        """Read ``stream`` to its end, in a thread that ends with it.

        No listener may raise: Java would wait for somebody to read on.
        """

        def copy() -> None:
            for line in stream:
                self._take(line.decode("utf-8", "replace").rstrip())

        threading.Thread(target=copy, daemon=True).start()

    def _take(self, line: str) -> None:
        self._last.append(line)
        for listener in self.listeners:
            listener(line)

    def find(self, words: str, within_s: float = 2) -> str | None:
        """What stands behind ``words`` in the latest line that has them."""
        deadline = time.monotonic() + within_s
        while True:
            for line in reversed(list(self._last)):
                if words in line:
                    return line.partition(words)[2]
            if time.monotonic() > deadline:
                return None
            time.sleep(0.05)


@contextlib.contextmanager
def started(
    folder: Path,
    properties: str,
    options: Sequence[str],
    env: Mapping[str, str],
    output: Output,
    drain_s: float,
) -> Iterator[subprocess.Popen[bytes]]:
    """Java and all that it starts, in ``folder``; gone, all of it, at the end of the block.

    At the end requests in flight are let finish, for ``drain_s`` seconds; a second Ctrl-C or
    SIGTERM does not wait.  Two servers that share a folder for temporary files steal each
    other's sockets, hence a folder for each.
    """
    temp = folder / "tmp"
    temp.mkdir()
    (folder / "config.properties").write_text(properties)
    with processes.group(
        java.command(env, folder, options),
        env={**env, "TEMP": str(temp), "TMPDIR": str(temp), "PYTHONUNBUFFERED": "1"},
        cwd=folder,
        folder=folder,
        limit_s=1,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    ) as process:
        assert process.stdout is not None
        output.follow(process.stdout)
        try:
            yield process
        finally:
            _drain(process, drain_s)


def _drain(process: subprocess.Popen[bytes], limit_s: float) -> None:
    """Ask Java alone to end: our gate refuses new requests, and waits for those in flight."""
    process.terminate()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(limit_s + _END_S)


def wait_until(
    ready: Callable[[], bool], process: subprocess.Popen[bytes], output: Output, limit_s: float
) -> None:
    """Wait for the front end to listen.

    Raises:
        ServerError: it ended before, with the reason it printed, or takes too long.
    """
    deadline = time.monotonic() + limit_s
    while not ready():
        if process.poll() is not None:
            raise ServerError(f"MMS ended before it listened: {_reason(output)}")
        if time.monotonic() > deadline:
            raise ServerError(f"MMS did not listen within {limit_s:g} s")
        time.sleep(0.05)


def _reason(output: Output) -> str:
    for words in ("Caused by: ", "ERROR", "cannot be used: ", "Error: "):
        found = output.find(words, within_s=0.5)
        if found:
            return found.strip()
    return "its output says why"
