"""What a hub and its watches say to each other: lines of text over TCP, WORD TEXT.

hello HOST TOKEN, beat, note TEXT, finished, failed WHY, lost SENTENCE, ended  ──▶ hub
                    beat, note HOST TEXT, lost SENTENCE, done                  ◀──
"""

from __future__ import annotations

import contextlib
import socket
import time

#: The longest message in bytes: a line of a word, a space and a text.
LINE_BYTES = 1024

#: Seconds between two looks at connections and processes.
TICK_S = 0.05

#: What part of the time in which a silent host is lost passes between two beats, and until a host
#: whose connection has closed is lost: 3 of 30 seconds.
BEAT = 0.1


class Connection:
    """A socket that carries messages, and the times when each side last sent one."""

    def __init__(self, connection: socket.socket) -> None:
        connection.setblocking(False)
        self.socket = connection
        self.host = ""  # until its "hello"
        self._received_at = self._sent_at = time.monotonic()
        self._incomplete = b""

    @property
    def silent_s(self) -> float:
        """Seconds since the peer last sent something, or since the connection was made."""
        return time.monotonic() - self._received_at

    def send(self, word: str, text: str = "") -> None:
        """Send a message.  A peer that does not read it will be seen as silent or closed."""
        self._sent_at = time.monotonic()
        with contextlib.suppress(OSError):
            self.socket.sendall(encode_message(word, text))

    def receive(self) -> list[tuple[str, str]]:
        """The messages that have arrived, each a word and a text.

        Raises:
            ConnectionError: the peer has closed the connection, or sent a line that is too long.
            OSError: the connection is broken, for instance because the network is.
        """
        try:
            data = self.socket.recv(4 * LINE_BYTES)
        except BlockingIOError:
            return []
        if not data:
            raise ConnectionError("closed")
        self._received_at = time.monotonic()
        *lines, self._incomplete = (self._incomplete + data).split(b"\n")
        if any(len(line) >= LINE_BYTES for line in (*lines, self._incomplete)):
            raise ConnectionError("a line is too long")
        return [decode_message(line) for line in lines]

    def beat(self, lost_s: float) -> None:
        """Send a beat if one is due, to a peer for which this side is lost after ``lost_s``."""
        if time.monotonic() - self._sent_at > BEAT * lost_s:
            self.send("beat")


def encode_message(word: str, text: str) -> bytes:
    """A message as a line of at most LINE_BYTES bytes; longer texts are cut."""
    return f"{word} {' '.join(text.split())}".encode()[: LINE_BYTES - 1] + b"\n"


def decode_message(line: bytes) -> tuple[str, str]:
    """A line's word and text, without control characters."""
    word, _, text = line.decode("utf-8", "replace").partition(" ")
    return word, "".join(letter for letter in text if letter.isprintable())


def as_received(text: str) -> str:
    """A text as a peer gets it: without line ends and control characters, and cut."""
    return decode_message(encode_message("lost", text)[:-1])[1]


# --- who is lost -----------------------------------------------------------------------------
# Hosts that cannot reach each other must give the same reason, so both sides decide by these.


def lost(host: str, reason: str = "") -> str:
    """The sentence that all hosts give when one is lost."""
    return f"host {host} was lost: {reason}"


def silent(host: str, lost_s: float) -> str:
    """The sentence for a host from which nothing came for ``lost_s`` seconds."""
    return lost(host, f"it was silent for {lost_s:g} s")


def apart(first_host: str, host: str, lost_s: float) -> str:
    """The sentence for the only two hosts of a job: neither can tell which of them is cut off."""
    return f"hosts {first_host} and {host} could not reach each other for {lost_s:g} s"


def reachable(address: str, port: int) -> bool:
    """Whether a machine answers, if only that nothing listens there; takes 1 s at most."""
    try:
        socket.create_connection((address, port), timeout=1).close()
    except ConnectionRefusedError:
        return True
    except OSError:
        return False
    return True
