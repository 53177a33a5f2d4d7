"""Pass on what a script's process prints, as it comes.

process ──stdout, stderr──▶ thread ──▶ screen
                                   ├─▶ observer   looks for metrics, and never holds anything up
                                   └─▶ Tail       the end, for the failure file
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import selectors
import subprocess
import sys
import termios
import threading
import time
import tty
from collections import deque
from typing import IO, Any, Callable, Mapping, NamedTuple, Protocol

from mms_handler.terminal import STDERR, STDOUT, write_all

#: Bytes that are read at once.
READ_BYTES = 1 << 16

#: Bytes of a terminal's size, a struct winsize (ioctl_tty(2)).
_WINSIZE = 8

#: Seconds to wait for the rest of a line: Python's print writes the end of a line by itself.
REST_S = 0.02

#: Seconds to wait after a short read, so that a flood of lines comes in pieces of many.
PAUSE_S = 0.001

#: Bytes of the end of the output that are kept, and lines of them in a failure file.
TAIL_BYTES = 1 << 16
TAIL_LINES = 50


class Screen(Protocol):
    """What shows the output to a person."""

    def write(self, host: str, descriptor: int, data: bytes) -> None:
        """Show ``data`` of a host, which it wrote to STDOUT or STDERR."""

    def end(self, host: str) -> None:
        """Show what is left of a host's last line."""


class Plain:
    """Writes everything as it is to this process's own standard output and error."""

    def write(self, host: str, descriptor: int, data: bytes) -> None:
        write_all(descriptor, data)

    def end(self, host: str) -> None:
        pass


class Tail:
    """The last lines that a process printed to its standard error."""

    def __init__(self) -> None:
        self._chunks: deque[bytes] = deque()
        self._bytes = 0

    def add(self, data: bytes) -> None:
        self._chunks.append(data)
        self._bytes += len(data)
        while self._bytes - len(self._chunks[0]) >= TAIL_BYTES:
            self._bytes -= len(self._chunks.popleft())

    def text(self) -> str:
        """The end of the output, cut to TAIL_BYTES."""
        return b"".join(self._chunks)[-TAIL_BYTES:].decode("utf-8", "replace")


class Output:
    """Passes on the output of a job's processes on this machine.

    Args:
        screen: shows it.
        observe: is called with the host and each piece; must return at once.
        terminal: whether a process may have a terminal, if this one's output goes to one.
    """

    def __init__(
        self,
        screen: Screen | None = None,
        observe: Callable[[str, bytes], None] | None = None,
        *,
        terminal: bool = False,
    ) -> None:
        self._screen = screen or Plain()
        self._observe = observe or (lambda host, data: None)
        self._terminal = terminal

    def pipes(self) -> Pipes:
        """What a new process's output goes through.

        Where both streams of this process lead to the same place, the process has one pipe for
        both: what it prints to one and the other then stays in order.  If the place is a terminal,
        so is the pipe: the process shows its bars and colours, as it would without this one.
        """
        if _place(STDOUT) != _place(STDERR):
            return Pipes(subprocess.PIPE, subprocess.PIPE)
        if self._terminal and os.isatty(STDOUT):
            with contextlib.suppress(OSError):  # the machine has no more of them
                return _pseudo_terminal()
        return Pipes(subprocess.PIPE, subprocess.STDOUT)

    def follow(self, host: str, process: subprocess.Popen[bytes], pipes: Pipes) -> Follower:
        """Pass on what ``process``, of this host, prints from now on."""
        return Follower(host, pipes.files(process), self._screen, self._observe)


class Pipes(NamedTuple):
    """The streams of a process, as arguments for ``subprocess.Popen``."""

    stdout: int
    stderr: int
    master: int | None = None  # of a terminal

    @property
    def arguments(self) -> dict[str, Any]:
        return {"stdout": self.stdout, "stderr": self.stderr}

    def files(self, process: subprocess.Popen[bytes]) -> dict[IO[bytes], int]:
        """What to read once the process has started, and where each file leads."""
        if self.master is not None:
            os.close(self.stdout)
            return {open(self.master, "rb", buffering=0): STDOUT}
        ends = ((process.stdout, STDOUT), (process.stderr, STDERR))
        return {file: descriptor for file, descriptor in ends if file is not None}


def _pseudo_terminal() -> Pipes:
    """A terminal of the size of this process's, which passes all bytes on as they are."""
    master, slave = os.openpty()
    tty.setraw(slave)
    with contextlib.suppress(OSError):
        size = fcntl.ioctl(STDOUT, termios.TIOCGWINSZ, bytes(_WINSIZE))
        fcntl.ioctl(slave, termios.TIOCSWINSZ, size)
    return Pipes(slave, slave, master)


def _read(descriptor: int) -> bytes:
    """What a process has printed, with the rest of its last line if that comes soon; b"": the end.

    So lines stay whole also if several launchers share one log.
    """
    try:
        data = os.read(descriptor, READ_BYTES)
    except OSError:  # a terminal that no process has open any more
        return b""
    if data and not data.endswith((b"\n", b"\r")) and len(data) < READ_BYTES:
        ready, _, _ = select.select([descriptor], [], [], REST_S)
        if ready:
            with contextlib.suppress(OSError):
                data += os.read(descriptor, READ_BYTES)
    return data


def _place(descriptor: int) -> tuple[int, ...]:
    with contextlib.suppress(OSError):  # closed
        status = os.fstat(descriptor)
        return (status.st_dev, status.st_ino, status.st_rdev)
    return (descriptor,)


class Follower:
    """A thread that passes on what one process prints."""

    def __init__(
        self,
        host: str,
        files: Mapping[IO[bytes], int],
        screen: Screen,
        observe: Callable[[str, bytes], None],
    ) -> None:
        self.tail = Tail()
        self._host, self._screen, self._observe = host, screen, observe
        self._files = files
        self._idle_since = float("inf")  # while it passes something on
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError):  # closed
                stream.flush()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def join(self) -> None:
        """Wait for the end of the output; or until none came for a second.

        A grandchild may hold it open, for as long as it lives.
        """
        while self._thread.is_alive():
            self._thread.join(timeout=0.05)
            if time.monotonic() - self._idle_since > 1:
                return

    def _run(self) -> None:
        with selectors.DefaultSelector() as selector:
            for file, descriptor in self._files.items():
                selector.register(file, selectors.EVENT_READ, descriptor)
            while selector.get_map():
                self._idle_since = time.monotonic()
                ready = selector.select()
                self._idle_since = float("inf")
                for key, _ in ready:
                    data = _read(key.fd)
                    if not (data and self._pass_on(key.data, data)):
                        selector.unregister(key.fileobj)
                        key.fileobj.close()  # type: ignore[union-attr]
                    elif len(data) < READ_BYTES:
                        time.sleep(PAUSE_S)
        self._observe(self._host, b"")
        with contextlib.suppress(OSError):
            self._screen.end(self._host)

    def _pass_on(self, descriptor: int, data: bytes) -> bool:
        """Pass on ``data``.  False if nobody reads it: the process then learns that, too.

        If the disk is full, the output is lost, and the job goes on.
        """
        if len(self._files) == 1 or descriptor == STDERR:
            self.tail.add(data)
        self._observe(self._host, data)
        with contextlib.suppress(OSError):
            try:
                self._screen.write(self._host, descriptor, data)
            except BrokenPipeError:
                return False
        return True
