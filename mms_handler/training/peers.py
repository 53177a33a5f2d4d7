"""Find out which hosts of a job are alive: a hub on the first host, a watch on each.

watch ──hello, beat, finished, failed──▶ hub ──beat, lost, done──▶ every watch

A host that fails reports why.  A host that disconnects or falls silent before all have finished
is lost, and the hub tells the others.
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

#: The longest message in bytes: a line of a word, a space and a text.
LINE_BYTES = 1024

#: How many connections, beyond one for each host, may be open without a "hello".  If there are
#: more, the oldest one is closed.
MAX_STRANGERS = 16

#: Seconds between two looks at connections and processes.
TICK_S = 0.05


def check_can_listen(address: str, port: int) -> None:
    """Check that a server can listen on this port.

    Raises:
        TrainingError: it cannot, for instance because the port is in use.
    """
    try:
        _listen(address, port).close()
    except (OSError, OverflowError) as exc:
        raise TrainingError(
            f"port {port} of {address} cannot be used: {exc}; if another job has it, set the "
            "hyperparameter _ps_port to another one on all hosts (the next port is used too)"
        ) from exc


def _listen(address: str, port: int) -> socket.socket:
    # create_server sets SO_REUSEADDR, so that a job can follow another at once.
    return socket.create_server((address, port))


# --- messages --------------------------------------------------------------------------------


class Connection:
    """A socket that carries messages, and the times when each side last sent one."""

    def __init__(self, connection: socket.socket) -> None:
        connection.setblocking(False)
        self.socket = connection
        self.host = ""  # until its "hello"
        self._received_at = self._sent_at = time.monotonic()
        self._incomplete = b""

    def send(self, word: str, text: str = "") -> None:
        """Send a message.  A peer that does not read it will be seen as silent or closed."""
        self._sent_at = time.monotonic()
        with contextlib.suppress(OSError):
            self.socket.sendall(encode_message(word, text))

    def receive(self) -> list[tuple[str, str]]:
        """The messages that have arrived, each a word and a text.

        Raises:
            OSError: the connection is closed, or a line is too long.
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

    def check_alive(self, lost_s: float) -> None:
        """Send a beat if one is due, and check that the peer has not fallen silent.

        Raises:
            TimeoutError: nothing came for ``lost_s`` seconds.
        """
        now = time.monotonic()
        if now - self._received_at > lost_s:
            raise TimeoutError(f"silent for {lost_s:g} s")
        if now - self._sent_at > lost_s / 6:
            self.send("beat")


def encode_message(word: str, text: str) -> bytes:
    """A message as a line of at most LINE_BYTES bytes; longer texts are cut."""
    return f"{word} {' '.join(text.split())}".encode()[: LINE_BYTES - 1] + b"\n"


def decode_message(line: bytes) -> tuple[str, str]:
    """A line's word and text, without control characters."""
    word, _, text = line.decode("utf-8", "replace").partition(" ")
    return word, "".join(letter for letter in text if letter.isprintable())


# --- the hub, on the scheduler's host --------------------------------------------------------


class Hub:
    """Receives messages from every host, and tells all hosts how the job ends."""

    def __init__(
        self, hosts: Sequence[str], listener: socket.socket, join_s: float, lost_s: float
    ) -> None:
        self._hosts = set(hosts)
        self._listener = listener
        self._join_s = join_s
        self._lost_s = lost_s
        self._started_at = time.monotonic()
        self._connections: list[Connection] = []
        self._joined: set[str] = set()
        self._finished: set[str] = set()
        self._end: tuple[str, str] | None = None  # the message that all hosts get
        self.closing_at: float | None = None

    def run(self) -> None:
        """Serve until ``closing_at`` is set, and then until all hosts have left or it is past."""
        while self.closing_at is None or (self._connections and time.monotonic() < self.closing_at):
            sockets = [self._listener, *(connection.socket for connection in self._connections)]
            ready, _, _ = select.select(sockets, [], [], TICK_S)
            if self._listener in ready:
                self._accept()
            for connection in list(self._connections):
                self._serve(connection)
            self._check_end()
        for connection in self._connections:
            connection.socket.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            accepted, _ = self._listener.accept()
            self._connections.append(Connection(accepted))
        strangers = [connection for connection in self._connections if not connection.host]
        if len(strangers) > MAX_STRANGERS + len(self._hosts):
            self._drop(strangers[0], "")

    def _serve(self, connection: Connection) -> None:
        try:
            for word, text in connection.receive():
                self._handle(connection, word, text)
            connection.check_alive(self._lost_s)
        except TimeoutError as exc:
            self._drop(connection, f"it was {exc}")
        except OSError:
            self._drop(connection, "its connection closed")

    def _handle(self, connection: Connection, word: str, text: str) -> None:
        if word == "hello" and not connection.host:
            self._join(connection, text)
        elif not connection.host:
            raise ConnectionError("not a host of this job")
        elif word == "finished":
            self._finished.add(connection.host)
        elif word == "failed":
            self._announce("lost", f"host {connection.host} was lost: {text}")

    def _join(self, connection: Connection, host: str) -> None:
        if host not in self._hosts or host in self._joined:
            reason = "the job has no such host, or it has joined already"
            connection.send("lost", f"host {host} was lost: {reason}")
            raise ConnectionError(reason)
        connection.host = host
        self._joined.add(host)
        if self._end:
            connection.send(*self._end)

    def _drop(self, connection: Connection, reason: str) -> None:
        self._connections.remove(connection)
        connection.socket.close()
        if connection.host:
            self._announce("lost", f"host {connection.host} was lost: {reason}")

    def _check_end(self) -> None:
        """Announce the end when all have finished, or when a host has not joined in time."""
        missing = sorted(self._hosts - self._joined)
        if self._finished == self._hosts:
            self._announce("done", "")
        elif missing and time.monotonic() - self._started_at > self._join_s:
            subject = (
                f"host {missing[0]} was lost: it"
                if len(missing) == 1
                else f"hosts {', '.join(missing)} were lost: they"
            )
            self._announce("lost", f"{subject} did not join within {self._join_s:g} s")

    def _announce(self, word: str, text: str) -> None:
        """Tell all hosts how the job ends.  Only the first end counts."""
        if self._end is None:
            self._end = (word, text)
            for connection in self._connections:
                connection.send(word, text)


@contextlib.contextmanager
def hub(
    hosts: Sequence[str], address: str, port: int, join_s: float, lost_s: float
) -> Iterator[None]:
    """Run a hub in a thread.  At the end it waits, 2 s at most, until all hosts have left."""
    check_can_listen(address, port)
    with _listen(address, port) as listener:
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
    """A thread that reports this host's state to the hub, and learns the job's state from it."""

    def __init__(
        self, host: str, first_host: str, hub: tuple[str, int], join_s: float, lost_s: float
    ) -> None:
        self._first_host = first_host
        self._hub = hub
        self._join_s = join_s
        self._lost_s = lost_s
        self._outbox: deque[tuple[str, str]] = deque([("hello", host)])
        self._leave_by: float | None = None
        self.lost: str | None = None  # a sentence, once a host is lost
        self.done = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def send(self, word: str, text: str = "") -> None:
        """Send a message as soon as there is a connection."""
        self._outbox.append((word, text))

    def leave(self, reason: str | None = None) -> None:
        """Disconnect.  First report the ``reason`` for a failure, unless a host is lost already.

        Returns when the hub has read everything, or can read no more.
        """
        if reason and not self.lost:
            self.send("failed", reason)
            self._leave_by = time.monotonic() + self._lost_s
        else:
            self._leave_by = time.monotonic()
        self._thread.join(self._lost_s + 5)

    def _run(self) -> None:
        try:
            with self._connect() as connection:
                self._talk(Connection(connection))
        except OSError as exc:
            self.lost = self.lost or f"host {self._first_host} was lost: {exc}"

    def _connect(self) -> socket.socket:
        """Connect to the hub as soon as it listens."""
        deadline = time.monotonic() + self._join_s
        while time.monotonic() <= min(deadline, self._leave_by or deadline):
            with contextlib.suppress(OSError):
                connection = socket.create_connection(self._hub, timeout=1)
                if connection.getsockname() != self._hub:  # Linux may connect a port to itself
                    return connection
                connection.close()
            time.sleep(4 * TICK_S)
        raise TimeoutError(f"it could not be reached within {self._join_s:g} s")

    def _talk(self, hub: Connection) -> None:
        """Exchange messages until all have finished, or this host leaves.

        Raises:
            OSError: the hub disconnected or fell silent before it announced the end.
        """
        while not self.done.is_set():
            leaving = self._leave_by is not None  # read before the outbox, which is then complete
            while self._outbox:
                hub.send(*self._outbox.popleft())
            if leaving:
                self._disconnect(hub)
                return
            if self.lost:
                time.sleep(TICK_S)
            else:
                select.select([hub.socket], [], [], TICK_S)
                self._receive(hub)

    def _receive(self, hub: Connection) -> None:
        try:
            for word, text in hub.receive():
                if word == "lost":
                    self.lost = text
                elif word == "done":
                    self.done.set()
        except OSError:
            raise ConnectionError("its connection closed") from None
        try:
            hub.check_alive(self._lost_s)
        except OSError as exc:
            raise ConnectionError(f"it was {exc}") from None

    def _disconnect(self, hub: Connection) -> None:
        """Close after the hub, which closes when it has read everything."""
        with contextlib.suppress(OSError):
            hub.socket.shutdown(socket.SHUT_WR)
            hub.socket.settimeout(2)
            while hub.socket.recv(LINE_BYTES):
                pass
