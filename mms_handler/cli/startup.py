"""What a person sees of a server that starts: its log, and on a terminal a live line below it."""

from __future__ import annotations

import contextlib
import sys
import time
from typing import Callable, Iterator

from mms_handler import terminal


class Startup:
    """Made by ``shown``."""

    def __init__(self, stack: contextlib.ExitStack, print_line: Callable[[str], None]) -> None:
        self._stack, self._print_line, self._start_s = stack, print_line, time.monotonic()
        self._loading: Callable[[], str] = lambda: ""
        self._live: terminal.Live | None = None
        if sys.stderr.isatty():
            self._live = terminal.Live(self._text)
            stack.enter_context(self._live.shown())

    def follow(self, loading: Callable[[], str]) -> None:
        """Show what ``loading`` returns, whenever it is not ""."""
        self._loading = loading

    def print_line(self, line: str) -> None:
        """Print a line of the log, above the live line if there is one."""
        if not self._live:
            self._print_line(line)
            return
        with contextlib.suppress(OSError):  # the terminal is gone
            self._live.log(f"{line}\n")

    def end(self) -> None:
        """Let the live line go away; the log goes on."""
        self._stack.close()

    def _text(self) -> str:
        return self._loading() or f"starting, {time.monotonic() - self._start_s:.0f} s"


@contextlib.contextmanager
def shown(print_line: Callable[[str], None]) -> Iterator[Startup]:
    """Show how a server starts until ``end`` is called, or the ``with`` block ends.

    Args:
        print_line: prints a line of the log where there is no terminal.
    """
    with contextlib.ExitStack() as stack:
        yield Startup(stack, print_line)
