"""The watch, on every host of a job: reports the host's state to the hub, and learns the job's.

A connection that is silent or breaks is made again, until the hub has not been heard for too long.
"""

from __future__ import annotations

import contextlib
import logging
import secrets
import select
import socket
import threading
import time
from typing import Mapping

from mms_handler.training.messages import (
    BEAT,
    LINE_BYTES,
    TICK_S,
    Connection,
    apart,
    lost,
    reachable,
    silent,
)

log = logging.getLogger(__name__)

#: What part of the time in which a silent hub is lost passes until another connection is tried.
RETRY = 0.3

#: How many of the other hosts are tried when the hub is silent.
OTHERS = 5


class Watch:
    """A thread that talks with the hub.

    Args:
        host: this host.
        addresses: all hosts' addresses; the hub runs on the first host by name.
        port: the hub's.
        join_s: seconds in which the hub must be reached.
        lost_s: seconds after which a silent hub is lost.
    """

    def __init__(
        self, host: str, addresses: Mapping[str, str], port: int, join_s: float, lost_s: float
    ) -> None:
        self._host = host
        self._addresses = addresses
        self._first_host = min(addresses)
        self._hub = (addresses[self._first_host], port)
        self._join_s = join_s
        self._lost_s = lost_s
        self._messages = [("hello", f"{host} {secrets.token_hex(8)}")]  # for each new connection
        self._leave_by: float | None = None
        self._started_at = time.monotonic()
        self._heard_at: float | None = None
        self._closed_at: float | None = None  # since when the hub has closed the connection
        self._away = False  # whether it is known that there is no connection
        self.notes: dict[str, str] = {}  # the last note of each host
        self.lost: str | None = None  # a sentence, once a host is lost
        self.done = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def send(self, word: str, text: str = "") -> None:
        """Send a message as soon as there is a connection."""
        self._messages.append((word, text))

    def leave(self, reason: str | None = None) -> None:
        """Disconnect.  First report the ``reason`` for a failure, unless a host is lost already.

        Returns when the hub has told how the job ended, or cannot be reached.
        """
        if reason and not self.lost:
            self.send("failed", reason)
            self._leave_by = time.monotonic() + self._lost_s
        else:
            self._leave_by = time.monotonic()
        self._thread.join(self._lost_s + 10)

    def _run(self) -> None:
        while not self._is_over():
            connection = self._connect()
            if connection:
                with connection:
                    self._talk(Connection(connection))
            else:
                time.sleep(4 * TICK_S)

    def _is_over(self) -> bool:
        """Whether the job has ended, this host leaves, or the hub is lost."""
        now = time.monotonic()
        if self.lost or self.done.is_set() or now > (self._leave_by or now):
            return True
        if self._heard_at is None:
            if now - self._started_at > self._join_s:
                reason = f"it could not be reached within {self._join_s:g} s"
                self.lost = lost(self._first_host, reason)
        elif self._closed_at is not None and now - self._closed_at > BEAT * self._lost_s:
            self.lost = lost(self._first_host, "its connection closed")
        elif now - self._heard_at > self._lost_s:
            self.lost = self._sentence()
        return self.lost is not None

    def _connect(self) -> socket.socket | None:
        """A connection to the hub, which need not answer yet; None if there is none within 1 s."""
        with contextlib.suppress(OSError):
            connection = socket.create_connection(self._hub, timeout=1)
            if connection.getsockname() != self._hub:  # Linux may connect a port to itself
                return connection
            connection.close()
        return None

    def _talk(self, hub: Connection) -> None:
        """Exchange messages until the end, or until the connection is broken or silent."""
        sent = 0
        try:
            while not self._is_over() and hub.silent_s < RETRY * self._lost_s:
                for word, text in self._messages[sent:]:
                    hub.send(word, text)
                    sent += 1
                select.select([hub.socket], [], [], TICK_S)
                self._receive(hub)
        except ConnectionError:  # by the hub; it is lost if it does not answer again at once
            if self._heard_at is not None:
                self._closed_at = self._closed_at or time.monotonic()
        except OSError:  # by the network; the hub is lost if it stays silent
            pass
        if self._is_over():
            _disconnect(hub)
        elif self._heard_at is not None and not self._away:
            self._away = True
            log.warning(
                "%s: no connection to host %s; trying again for %g s",
                self._host, self._first_host, self._lost_s,
            )  # fmt: skip

    def _receive(self, hub: Connection) -> None:
        for word, text in hub.receive():
            now = time.monotonic()
            if self._away:
                self._away = False
                away_s = now - (self._heard_at or now)
                log.warning(
                    "%s: host %s is back after %.0f s", self._host, self._first_host, away_s
                )
            self._heard_at, self._closed_at = now, None
            if word == "note":
                host, _, note = text.partition(" ")
                self.notes[host] = note
            elif word == "lost":
                self.lost = text
            elif word == "done":
                self.done.set()
            if word in ("lost", "done"):
                hub.send("ended")
        hub.beat(self._lost_s)

    def _sentence(self) -> str:
        """Who is lost when the hub is silent: its host, or this one, which then reaches nobody."""
        hub_lost = silent(self._first_host, self._lost_s)
        this_lost = silent(self._host, self._lost_s)
        others = sorted(self._addresses.keys() - {self._first_host, self._host})[:OTHERS]
        connection = self._connect()
        if connection:
            with connection:  # the hub stands still; should it go on, it must know
                for word, text in (self._messages[0], ("lost", hub_lost)):
                    Connection(connection).send(word, text)
            return hub_lost
        address, port = self._hub
        if reachable(address, port):  # it has ended without this host
            return this_lost
        if any(reachable(self._addresses[other], port) for other in others):
            return hub_lost
        return this_lost if others else apart(self._first_host, self._host, self._lost_s)


def _disconnect(hub: Connection) -> None:
    """Close after the hub, which closes when it has read everything."""
    with contextlib.suppress(OSError):
        hub.socket.shutdown(socket.SHUT_WR)
        hub.socket.settimeout(2)
        while hub.socket.recv(LINE_BYTES):
            pass
