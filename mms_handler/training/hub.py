"""The hub, on the first host of a job: knows which hosts are alive, and tells them how it ends.

A host that fails reports why.  A host that disconnects and does not come back, or is silent for too
long, before all have finished is lost, and the hub tells the others.
"""

from __future__ import annotations

import contextlib
import logging
import select
import socket
import threading
import time
from typing import Iterator, Mapping

from mms_handler.errors import TrainingError
from mms_handler.training.messages import (
    BEAT,
    TICK_S,
    Connection,
    apart,
    lost,
    reachable,
    silent,
)

log = logging.getLogger(__name__)

#: How many connections, beyond one for each host, may be open without a "hello".  If there are
#: more, the oldest one is closed.
MAX_STRANGERS = 16

#: Seconds for which the hub stays after the end of the job for hosts that have not joined yet.
LATE_S = 10


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
            "hyperparameter _ps_port to another one on all hosts (the next two are used too)"
        ) from exc


def _listen(address: str, port: int) -> socket.socket:
    # create_server sets SO_REUSEADDR, so that a job can follow another at once.
    return socket.create_server((address, port))


class _Member:
    """A host that has joined."""

    def __init__(self, connection: Connection, token: str) -> None:
        self.connection = connection  # the last one
        self.token = token  # known to this host alone: who has it may connect again
        self.closed_at: float | None = None
        self.finished = False
        self.knows_end = False


class Hub:
    """Receives messages from every host, and tells all hosts how the job ends.

    Args:
        addresses: all hosts' addresses; the hub runs on the first host by name.
        listener: where the hosts connect.
        join_s: seconds in which all hosts must join.
        lost_s: seconds after which a silent host is lost.
    """

    def __init__(
        self, addresses: Mapping[str, str], listener: socket.socket, join_s: float, lost_s: float
    ) -> None:
        self._addresses = addresses
        self._listener = listener
        self._join_s = join_s
        self._lost_s = lost_s
        self._started_at = time.monotonic()
        self._connections: list[Connection] = []
        self._members: dict[str, _Member] = {}
        self._notes: dict[str, str] = {}
        self._end: tuple[str, str] | None = None  # the message that all hosts get
        self.closing_at: float | None = None

    def run(self) -> None:
        """Serve until ``closing_at`` is set, and then until all hosts know how the job ended."""
        while not self._is_over():
            sockets = [self._listener, *(connection.socket for connection in self._connections)]
            ready, _, _ = select.select(sockets, [], [], TICK_S)
            if self._listener in ready:
                self._accept()
            for connection in list(self._connections):
                self._serve(connection)
            self._check_end()
        for connection in self._connections:
            connection.socket.close()

    def _is_over(self) -> bool:
        """Whether nobody is left to whom the end could be told."""
        if self.closing_at is None:
            return False
        self._announce("lost", lost(min(self._addresses), "it ended"))  # unless there was an end
        is_late = time.monotonic() - self.closing_at > LATE_S or self._is_too_late()
        missing = self._missing() and not is_late
        return not missing and all(
            member.knows_end or self._is_gone(member) for member in self._members.values()
        )

    def _missing(self) -> list[str]:
        return sorted(self._addresses.keys() - self._members.keys())

    def _is_too_late(self) -> bool:
        return time.monotonic() - self._started_at > self._join_s

    def _is_gone(self, member: _Member) -> bool:
        """Whether a host has been silent, or its connection closed, for too long."""
        if member.closed_at is not None:
            return time.monotonic() - member.closed_at > BEAT * self._lost_s
        return member.connection.silent_s > self._lost_s

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            accepted, _ = self._listener.accept()
            self._connections.append(Connection(accepted))
        strangers = [connection for connection in self._connections if not connection.host]
        if len(strangers) > MAX_STRANGERS + len(self._addresses):
            self._close(strangers[0])

    def _serve(self, connection: Connection) -> None:
        try:
            for word, text in connection.receive():
                self._handle(connection, word, text)
        except ConnectionError:  # by the peer; it is lost if it does not connect again at once
            self._close(connection)
            member = self._members.get(connection.host)
            if member and member.connection is connection:
                member.closed_at = time.monotonic()
        except OSError:  # by the network; the host is lost if it stays silent
            self._close(connection)
        if connection.host:
            connection.beat(self._lost_s)
        elif connection.silent_s > self._lost_s:
            self._close(connection)

    def _close(self, connection: Connection) -> None:
        connection.socket.close()
        if connection in self._connections:
            self._connections.remove(connection)

    def _handle(self, connection: Connection, word: str, text: str) -> None:
        host = connection.host
        if word == "hello" and not host:
            self._join(connection, *text.partition(" ")[::2])
        elif not host:
            raise ConnectionError("not a host of this job")
        elif word == "finished":
            self._members[host].finished = True
        elif word == "note":
            self._notes[host] = text
            for member in self._members.values():
                member.connection.send("note", f"{host} {text}")
        elif word == "failed":
            self._announce("lost", lost(host, text))
        elif word == "lost":
            self._announce("lost", text)
        elif word == "ended":
            self._members[host].knows_end = True

    def _join(self, connection: Connection, host: str, token: str) -> None:
        """Let a host join, or come back: on a new connection, with the token of the old one."""
        known = self._members.get(host)
        if host not in self._addresses or (known and (not token or token != known.token)):
            reason = "the job has no such host, or it has joined already"
            connection.send("lost", lost(host, reason))
            raise ConnectionError(reason)
        connection.host = host
        if known is None:
            self._members[host] = _Member(connection, token)
        else:
            log.warning("host %s is back after %.0f s", host, known.connection.silent_s)
            self._close(known.connection)
            known.connection, known.closed_at = connection, None
        for other, note in self._notes.items():
            connection.send("note", f"{other} {note}")
        connection.send(*(self._end or ("beat", "")))

    def _check_end(self) -> None:
        """Announce the end when all have finished, or when a host is lost."""
        missing = self._missing()
        if not missing and all(member.finished for member in self._members.values()):
            self._announce("done", "")
        elif missing and self._is_too_late():
            subject = (
                f"host {missing[0]} was lost: it"
                if len(missing) == 1
                else f"hosts {', '.join(missing)} were lost: they"
            )
            self._announce("lost", f"{subject} did not join within {self._join_s:g} s")
        for host, member in self._members.items():
            if self._end is None and self._is_gone(member):
                self._announce("lost", self._sentence(host, member))

    def _sentence(self, host: str, member: _Member) -> str:
        """Why a host is lost; it may be this host that is cut off from all others."""
        first_host = min(self._addresses)
        others = self._addresses.keys() - {first_host, host}
        if member.closed_at is not None:
            return lost(host, "its connection closed")
        if any(self._is_heard(other) for other in others) or reachable(
            self._addresses[host], self._listener.getsockname()[1]
        ):
            return silent(host, self._lost_s)
        return silent(first_host, self._lost_s) if others else apart(first_host, host, self._lost_s)

    def _is_heard(self, host: str) -> bool:
        """Whether something came from a host lately."""
        member = self._members.get(host)
        return member is not None and member.connection.silent_s < self._lost_s / 2

    def _announce(self, word: str, text: str) -> None:
        """Tell all hosts how the job ends.  Only the first end counts."""
        if self._end is None:
            self._end = (word, text)
            for connection in self._connections:
                connection.send(word, text)


@contextlib.contextmanager
def hub(addresses: Mapping[str, str], port: int, join_s: float, lost_s: float) -> Iterator[None]:
    """Run a hub in a thread.  At the end it waits until all hosts know how the job ended.

    It waits ``lost_s`` at most for a host that is silent, and LATE_S for one that has not joined.
    """
    address = addresses[min(addresses)]
    check_can_listen(address, port)
    with _listen(address, port) as listener:
        running = Hub(addresses, listener, join_s, lost_s)
        thread = threading.Thread(target=running.run, daemon=True)
        thread.start()
        try:
            yield
        finally:
            running.closing_at = time.monotonic()
            thread.join(1)
            if thread.is_alive():
                log.info("waiting until all hosts know how the job ended, some seconds at most")
            thread.join()
