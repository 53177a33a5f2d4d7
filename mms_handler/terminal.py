"""What a person sees on a terminal while something lasts: lines, and below them its progress."""

from __future__ import annotations

import contextlib
import os
import re
import select
import sys
import threading
import time
from typing import Callable, Iterator, Sequence

from mms_handler.periodic import repeated

STDOUT, STDERR = 1, 2

#: Bytes of a line that is held back on a terminal until it ends.
HELD_BYTES = 1 << 12

#: Seconds between two looks at the progress, and between two pictures while lines come.
REFRESH_S = 0.5
DRAW_S = 0.05

#: Seconds between two lines about the progress where there is no terminal.
REPORT_S = 10


def write_all(descriptor: int, data: bytes) -> None:
    """Write all of ``data``.

    Raises:
        OSError: nobody reads any more, or the disk is full.
    """
    view = memoryview(data)
    while view:
        try:
            view = view[os.write(descriptor, view) :]
        except BlockingIOError:  # whoever gave us the descriptor made it so
            select.select([], [descriptor], [])


@contextlib.contextmanager
def progress(text: Callable[[], str]) -> Iterator[None]:
    """Show on standard error, for the length of a ``with`` block, how something goes.

    On a terminal this is a live line, elsewhere a line every ten seconds.

    Args:
        text: the line; called often, by a thread.
    """
    if sys.stderr.isatty():
        with Live(text).shown():
            yield
        return

    def report() -> None:
        with contextlib.suppress(OSError):  # nobody reads it
            write_all(STDERR, f"{text()}\n".encode())

    with repeated(report, REPORT_S):
        yield


#: Escape sequences that colour, erase a line or hide the cursor; others may leave the line.
_HARMLESS = re.compile(rb"\x1b\[(?:[\d;]*[mK]|\?25[hl])")
_ESCAPE = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~])?|[\x00-\x1f\x7f]")


class Live:
    """A terminal with the job's progress in its last line.

    A script that moves the cursor itself, as nested progress bars do, gets the terminal to itself.

    Args:
        progress: the text of the last line; called often.
        terminals: which of STDOUT and STDERR are this terminal.
    """

    def __init__(self, progress: Callable[[], str], terminals: Sequence[int] = (STDERR,)) -> None:
        self._progress, self._terminals = progress, terminals
        self._lock = threading.Lock()
        self._rows = 0  # that are drawn below the lines
        self._held: dict[str, bytes] = {}  # the lines of hosts that have not ended
        self._pictures: dict[str, str] = {}  # what is drawn of those that another one holds back
        self._midline = False
        self._off = False
        self._drawn_at = 0.0

    @contextlib.contextmanager
    def shown(self) -> Iterator[None]:
        """Show the progress for the length of a ``with`` block."""
        try:
            with repeated(self._refresh, REFRESH_S):
                yield
        finally:
            with self._lock, contextlib.suppress(OSError):  # the terminal is gone
                self._put(self._erased() + b"".join(self._held.values()))
            self._held.clear()
            self._off = True

    def write(self, host: str, descriptor: int, data: bytes) -> None:
        """Write what a host prints; hold back a line that has not ended, to draw it below."""
        if descriptor not in self._terminals:
            write_all(descriptor, data)
            return
        with self._lock:
            data = self._held.pop(host, b"") + data
            if not self._off and b"\x1b" in data and b"\x1b" in _HARMLESS.sub(b"", data):
                self._off = True
                data = b"".join([*self._held.values(), data])
                self._held.clear()
            end = max(data.rfind(b"\n"), data.rfind(b"\r")) + 1
            if not (self._off or self._midline or len(data) - end > HELD_BYTES):
                data, self._held[host] = data[:end], data[end:]
            text = self._erased() + data
            if data:
                self._midline = not data.endswith((b"\n", b"\r"))
            if time.monotonic() - self._drawn_at > DRAW_S:
                text += self._drawn()
            self._put(text)

    def hold(self, host: str, line: bytes) -> None:
        """Draw a line of a host that is held back by ``Hosts``, until it is b""."""
        with self._lock:
            self._pictures[host] = f"[{host}] {_visible(line)}" if line else ""

    def end(self, host: str) -> None:
        """Write a host's last line, if it has no end."""
        with self._lock:
            line = self._held.pop(host, b"")
            if line:
                self._put(self._erased() + line)
                self._midline = True

    def log(self, text: str) -> None:
        """Write a line of this process."""
        with self._lock:
            start = b"\n" if self._midline and not self._off else b""
            self._midline = False
            self._put(self._erased() + start + text.encode("utf-8", "replace") + self._drawn())

    def _refresh(self) -> None:
        with self._lock, contextlib.suppress(OSError):  # the terminal is gone
            self._put(self._erased() + self._drawn())

    def _erased(self) -> bytes:
        """What erases the rows below the lines."""
        rows, self._rows = self._rows, 0
        if not rows:
            return b""
        return b"\r" + (b"\x1b[%dA" % (rows - 1) if rows > 1 else b"") + b"\x1b[J"

    def _drawn(self) -> bytes:
        """What draws them."""
        if self._off or self._midline:
            return b""
        width, height = self._size()
        rows = [_visible(line) for line in self._held.values() if line]
        rows += [picture for picture in self._pictures.values() if picture]
        rows = [*rows[: height - 2], self._progress()]
        self._rows, self._drawn_at = len(rows), time.monotonic()
        *others, last = (_cropped(row, width - 1) for row in rows)
        # What a carriage return has left on this line is erased first.
        return ("\x1b[J\x1b[0m" + "\n".join([*others, f"\x1b[1m{last}\x1b[0m"])).encode()

    def _size(self) -> tuple[int, int]:
        with contextlib.suppress(OSError):
            size = os.get_terminal_size(self._terminals[0])
            if size.columns > 1 and size.lines > 2:
                return size.columns, size.lines
        return 80, 24

    def _put(self, text: bytes) -> None:
        if text:
            write_all(self._terminals[0], text)


def _visible(line: bytes) -> str:
    """What a terminal shows of a line: what follows its last carriage return."""
    parts = [part for part in line.split(b"\r") if part]
    return _ESCAPE.sub("", parts[-1].decode("utf-8", "replace")) if parts else ""


def _cropped(text: str, width: int) -> str:
    from rich.cells import set_cell_size  # only where there is a terminal

    fits = set_cell_size(text, width).rstrip()
    return fits if fits == text.rstrip() else set_cell_size(text, width - 1) + "…"


class LogStream:
    """A text stream for ``logging``, whose lines go above the live line."""

    def __init__(self, live: Live) -> None:
        self._live = live

    def write(self, text: str) -> int:
        self._live.log(text)
        return len(text)

    def flush(self) -> None:
        pass
