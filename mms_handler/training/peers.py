"""Which hosts of a job are alive: a hub on the first, a watch on each, a line of text a beat.

Who cannot go on says why; whose connection closes, or who is silent, before all have finished
is lost, and the hub tells everyone.
"""

from __future__ import annotations

import contextlib
import logging
import select
import socket
import threading
import time
from collections import deque
from typing import Iterator, Sequence

from mms_handler.errors import TrainingError

log = logging.getLogger(__name__)

#: A message is a line of at most so many bytes: a word and, behind a space, its text.
LINE_BYTES = 1024

#: Connections of nobody we know that are held at a time.
MAX_STRANGERS = 16

#: Seconds between two looks at connections and processes.
TICK_S = 0.05


def check_free(address: str, port: int) -> None:
    try:
        listening(address, port).close()
    except (OSError, OverflowError) as exc:
        raise TrainingError(f"port {port} of {address} cannot be used: {exc}") from exc


# --- messages --------------------------------------------------------------------------------


class Line:
    """A connection that carries lines, and when each side last had one."""

    def __init__(self, connection: socket.socket) -> None:
        connection.setblocking(False)
        self.connection = connection
        self.host = ""  # until it has said who it is
        self.heard = self.said = time.monotonic()
        self._rest = b""

    def say(self, word: str, text: str = "") -> None:
        """Send a line.  Who does not read is found silent, and who is gone is found closed."""
        self.said = time.monotonic()
        with contextlib.suppress(OSError):
            self.connection.sendall(line(word, text))

    def hear(self) -> list[tuple[str, str]]:
        """The lines that have come.

        Raises:
            OSError: it is closed, or says what cannot be a line.
        """
        try:
            came = self.connection.recv(4 * LINE_BYTES)
        except BlockingIOError:
            return []
        if not came:
            raise ConnectionError("closed")
        self.heard = time.monotonic()
        *lines, self._rest = (self._rest + came).split(b"\n")
        if any(len(one) >= LINE_BYTES for one in (*lines, self._rest)):
            raise ConnectionError("too long a line")
        return [message(one) for one in lines]

    def keep(self, lost_s: float) -> None:
        """Say something now and then, and expect it.

        Raises:
            OSError: it was silent for too long.
        """
        now = time.monotonic()
        if now - self.heard > lost_s:
            raise TimeoutError(f"silent for {lost_s:g} s")
        if now - self.said > lost_s / 6:
            self.say("beat")


def line(word: str, text: str) -> bytes:
    """A message as bytes, cut to what a line may have."""
    return f"{word} {' '.join(text.split())}".encode()[: LINE_BYTES - 1] + b"\n"


def message(one: bytes) -> tuple[str, str]:
    """A line's word and text, without anything that a terminal would obey."""
    word, _, text = one.decode("utf-8", "replace").partition(" ")
    return word, "".join(letter for letter in text if letter.isprintable())


def listening(address: str, port: int) -> socket.socket:
    # create_server sets SO_REUSEADDR: a job may follow another at once.
    return socket.create_server((address, port))


# --- the hub, on the scheduler's host --------------------------------------------------------


class Hub:
    """Hears every host, and tells all of them what becomes of the job."""

    def __init__(
        self, hosts: Sequence[str], listener: socket.socket, join_s: float, lost_s: float
    ) -> None:
        self._hosts = set(hosts)
        self._listener = listener
        self._limits_s = (join_s, lost_s)
        self._began = time.monotonic()
        self._lines: list[Line] = []
        self._came: set[str] = set()
        self._finished: set[str] = set()
        self._end: tuple[str, str] | None = None  # what all are told
        self.closing_at: float | None = None

    def run(self) -> None:
        """Serve until closed, and then until everyone has gone, or ``closing_at``."""
        while self.closing_at is None or (self._lines and time.monotonic() < self.closing_at):
            open_ = [self._listener, *(one.connection for one in self._lines)]
            ready, _, _ = select.select(open_, [], [], TICK_S)
            if self._listener in ready:
                self._accept()
            for one in list(self._lines):
                self._hear(one)
            self._look()
        for one in self._lines:
            one.connection.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            connection, _ = self._listener.accept()
            self._lines.append(Line(connection))
        strangers = [one for one in self._lines if not one.host]
        if len(strangers) > MAX_STRANGERS + len(self._hosts):
            self._drop(strangers[0], "")

    def _hear(self, one: Line) -> None:
        try:
            for word, text in one.hear():
                self._obey(one, word, text)
            one.keep(self._limits_s[1])
        except TimeoutError as exc:
            self._drop(one, f"it was {exc}")
        except OSError:
            self._drop(one, "its connection closed")

    def _obey(self, one: Line, word: str, text: str) -> None:
        if word == "hello" and not one.host:
            self._greet(one, text)
        elif not one.host:
            raise ConnectionError("no host of this job")
        elif word == "finished":
            self._finished.add(one.host)
        elif word == "failed":
            self._tell("lost", f"host {one.host} was lost: {text}")

    def _greet(self, one: Line, host: str) -> None:
        if host not in self._hosts or host in self._came:
            one.say("lost", f"host {host} was lost: the job has no place for it")
            raise ConnectionError("no place")
        one.host = host
        self._came.add(host)
        if self._end:
            one.say(*self._end)

    def _drop(self, one: Line, why: str) -> None:
        self._lines.remove(one)
        one.connection.close()
        if one.host:
            self._tell("lost", f"host {one.host} was lost: {why}")

    def _look(self) -> None:
        """Whether all have finished, or some will not come any more."""
        join_s, _ = self._limits_s
        missing = sorted(self._hosts - self._came)
        if self._finished == self._hosts:
            self._tell("done", "")
        elif missing and time.monotonic() - self._began > join_s:
            which = (
                f"host {missing[0]} was"
                if len(missing) == 1
                else f"hosts {', '.join(missing)} were"
            )
            self._tell("lost", f"{which} lost: not here within {join_s:g} s")

    def _tell(self, word: str, text: str) -> None:
        """Tell all how the job ends; the first reason is the one."""
        if self._end is None:
            self._end = (word, text)
            for one in self._lines:
                one.say(word, text)


@contextlib.contextmanager
def hub(
    hosts: Sequence[str], address: str, port: int, join_s: float, lost_s: float
) -> Iterator[None]:
    """A hub in a thread of its own; at the end everyone who listened has been told."""
    check_free(address, port)
    with listening(address, port) as listener:
        running = Hub(hosts, listener, join_s, lost_s)
        thread = threading.Thread(target=running.run, daemon=True)
        thread.start()
        try:
            yield
        finally:
            running.closing_at = time.monotonic() + 2
            thread.join()


# --- the watch, on every host ----------------------------------------------------------------


class Watch:
    """Tells the hub how this host is, and hears from it how the job is; in a thread of its own."""

    def __init__(
        self, host: str, first: str, hub: tuple[str, int], join_s: float, lost_s: float
    ) -> None:
        self._host = host
        self._first = first
        self._hub = hub
        self._join_s = join_s
        self._lost_s = lost_s
        self._to_say: deque[tuple[str, str]] = deque([("hello", host)])
        self._leave_by: float | None = None
        self.lost: str | None = None
        self.done = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def say(self, word: str, text: str = "") -> None:
        self._to_say.append((word, text))

    def leave(self, why: str | None = None) -> None:
        """Say why, unless all know already, and return when it was heard or cannot be."""
        if why and not self.lost:
            self.say("failed", why)
            self._leave_by = time.monotonic() + self._lost_s
        else:
            self._leave_by = time.monotonic()
        self._thread.join(self._lost_s + 5)

    def _run(self) -> None:
        try:
            with self._connected() as connection:
                self._talk(Line(connection))
        except OSError as exc:
            self.lost = self.lost or f"host {self._first} was lost: {exc}"

    def _connected(self) -> socket.socket:
        """The hub's connection, as soon as the hub is there."""
        deadline = time.monotonic() + self._join_s
        while not self._late(deadline):
            with contextlib.suppress(OSError):
                connection = socket.create_connection(self._hub, timeout=1)
                if connection.getsockname() != self._hub:  # the system may connect it to itself
                    return connection
                connection.close()
            time.sleep(4 * TICK_S)
        raise TimeoutError(f"not here within {self._join_s:g} s")

    def _late(self, deadline: float) -> bool:
        return time.monotonic() > min(deadline, self._leave_by or deadline)

    def _talk(self, hub: Line) -> None:
        """Until all have finished, or this host leaves.

        Raises:
            OSError: the hub is gone, or silent, before it said how the job ends.
        """
        while not self.done.is_set():
            leaving = self._leave_by is not None  # looked at first: then all is in _to_say
            while self._to_say:
                hub.say(*self._to_say.popleft())
            if leaving:
                self._part(hub)
                return
            if self.lost:
                time.sleep(TICK_S)
            else:
                select.select([hub.connection], [], [], TICK_S)
                self._listen(hub)

    def _listen(self, hub: Line) -> None:
        try:
            for word, text in hub.hear():
                if word == "lost":
                    self.lost = text
                elif word == "done":
                    self.done.set()
        except OSError:
            raise ConnectionError("its connection closed") from None
        try:
            hub.keep(self._lost_s)
        except OSError as exc:
            raise ConnectionError(f"it was {exc}") from None

    def _part(self, hub: Line) -> None:
        """Close when the hub has: it has then heard all that was said."""
        with contextlib.suppress(OSError):
            hub.connection.shutdown(socket.SHUT_WR)
            hub.connection.settimeout(2)
            while hub.connection.recv(LINE_BYTES):
                pass
