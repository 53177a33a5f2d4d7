"""What a person sees of several hosts: each line has its host's name, and none has two."""

from __future__ import annotations

import threading
from typing import Callable, Sequence

from mms_handler.terminal import HELD_BYTES
from mms_handler.training.output import Screen

#: Bytes of a line of one of several hosts; a longer one is cut into several.
LINE_BYTES = 1 << 20

#: Colours of the hosts' names, as SGR codes: cyan, yellow, green, magenta, blue.
COLOURS = (36, 33, 32, 35, 34)


class Hosts:
    """Puts ``[HOST] `` before each line of a host, also before what a carriage return overwrites.

    Args:
        hosts: the names.
        screen: gets whole lines.
        colour: whether the names have colours.
        hold: gets a host and its line that has not ended, to draw it; b"" once it has.
    """

    def __init__(
        self,
        hosts: Sequence[str],
        screen: Screen,
        *,
        colour: bool = False,
        hold: Callable[[str, bytes], None] = lambda host, line: None,
    ) -> None:
        self._screen, self._hold = screen, hold
        self._lock = threading.Lock()
        self._incomplete: dict[tuple[str, int], bytes] = {}
        self._names = {}
        for index, host in enumerate(hosts):
            name = f"[{host}] ".encode()
            code = COLOURS[index % len(COLOURS)]
            self._names[host] = b"\x1b[%dm%s\x1b[0m" % (code, name) if colour else name

    def write(self, host: str, descriptor: int, data: bytes) -> None:
        """Write the lines that ``data`` completes."""
        with self._lock:
            start = self._incomplete.pop((host, descriptor), b"")
            *lines, rest = data.split(b"\n")
            if lines:
                lines[0] = start + lines[0]
            else:
                rest = start + rest
            while len(rest) >= LINE_BYTES:
                lines.append(rest[:LINE_BYTES])
                rest = rest[LINE_BYTES:]
            if rest:
                self._incomplete[host, descriptor] = rest
            self._hold(host, rest[-HELD_BYTES:])
            if lines:
                text = b"".join(self._named(host, line) for line in lines)
                self._screen.write(host, descriptor, text)

    def end(self, host: str) -> None:
        """Write a host's last line, if it has no end."""
        with self._lock:
            self._hold(host, b"")
            for key in [key for key in self._incomplete if key[0] == host]:
                line = self._named(host, self._incomplete.pop(key))
                self._screen.write(host, key[1], line)

    def _named(self, host: str, line: bytes) -> bytes:
        name, end = self._names[host], b"\r" if line.endswith(b"\r") else b""
        body = line[: len(line) - len(end)].replace(b"\r", b"\r" + name)
        return name + body + end + b"\n"
