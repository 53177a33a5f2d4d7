"""One process of the load.  It sends requests by non-blocking sockets, and reports replies.

python -m mms_handler.bench.generator

It reads a line with the order, writes an empty line when it is ready, and reads a line with the
time to begin, by this machine's monotonic clock.  Then it writes reports.  Each is a line of JSON,
and the latencies of the replies since the last one, as numbers of microseconds in 32 bits each.
"""

from __future__ import annotations

import collections
import errno
import json
import select
import signal
import socket
import sys
import time
from array import array
from typing import Any, Deque

from mms_handler.bench.order import Order
from mms_handler.bench.replies import Judge, Parser

#: Seconds between two reports.
REPORT_S = 0.25

#: Seconds before a client whose connection failed makes another one.
PAUSE_S = 0.05

#: Bytes of one read.
READ_BYTES = 1 << 18

_MAX_MICROSECONDS = (1 << 32) - 1
_IN, _OUT = select.EPOLLIN, select.EPOLLOUT


class Connection:
    """A connection that is being made, idle (``since`` is 0), or waiting for a reply."""

    __slots__ = ("connecting", "data", "since", "socket", "unsent")

    def __init__(self, sock: socket.socket) -> None:
        self.socket, self.connecting = sock, True
        self.since = 0.0  # when the request was sent, or was planned to be
        self.unsent: memoryview | None = None
        self.data = b""


class Generator:
    """Sends requests until the load is over, and waits for the last replies."""

    def __init__(self, order: Order, begin_s: float, output: Any) -> None:
        """Begin at ``begin_s``; ``output`` is a binary stream for the reports."""
        self._order, self._output = order, output
        self._address = (order.host, order.port)
        self._judge, self._parser = Judge(order.expected), Parser()
        timing, self._first_s = order.timing, begin_s + order.first_s
        self._begin_s, self._counts_s = begin_s, begin_s + timing.warmup_s
        self._end_s = self._counts_s + timing.seconds
        self._step_s = 1 / order.rate if order.rate else 0.0
        self._arrival, self._next_s = 0, self._first_s
        self._planned: Deque[float] = collections.deque()  # arrivals without a connection
        self._paused: Deque[float] = collections.deque()  # until when clients wait
        self._idle: list[Connection] = []
        self._connections: dict[int, Connection] = {}
        self._epoll = select.epoll()
        self._start_report()

    # --- the loop ---

    def run(self) -> None:
        """Make the load."""
        time.sleep(max(0.0, self._begin_s - time.monotonic()))
        for _ in range(self._order.clients):
            self._connect()
        report_s = time.monotonic() + REPORT_S
        while not self._is_over():
            now = time.monotonic()
            if now >= report_s:
                self._check_timeouts(now)
                self._report()
                report_s = now + REPORT_S
            self._begin(now)
            for descriptor, event in self._wait(report_s):
                self._handle(self._connections[descriptor], event)
        self._report(last=True)

    def _is_over(self) -> bool:
        now = time.monotonic()
        if now < self._end_s or (self._step_s and self._next_s < self._end_s):
            return False
        waits = self._planned or any(each.since for each in self._connections.values())
        return not waits or now > self._end_s + self._order.timing.timeout_s + REPORT_S

    def _begin(self, now: float) -> None:
        """Begin what is due: planned requests, and clients that paused."""
        while self._paused and self._paused[0] <= now:
            self._paused.popleft()
            self._connect()
        if self._step_s:
            while self._next_s <= now and self._next_s < self._end_s:
                self._late.append(min(int(1e6 * (now - self._next_s)), _MAX_MICROSECONDS))
                self._planned.append(self._next_s)
                self._arrival += 1
                self._next_s = self._first_s + self._arrival * self._step_s
            self._send_planned()

    def _send_planned(self) -> None:
        while self._planned and self._idle:
            connection = self._idle.pop()
            if connection.socket.fileno() >= 0:
                self._send(connection, self._planned.popleft())
        connecting = len(self._connections) - len(self._idle)
        if self._planned and len(self._connections) < self._order.connections:
            needed = min(len(self._planned), self._order.connections - connecting)
            making = sum(each.connecting for each in self._connections.values())
            for _ in range(needed - making):
                self._connect()

    def _wait(self, report_s: float) -> list[tuple[int, int]]:
        """Wait for the sockets, until the next thing is due.

        epoll alone counts in milliseconds, which is enough without a rate.
        """
        due_s = min([report_s, *([self._paused[0]] if self._paused else [])])
        if self._step_s and self._next_s < self._end_s:
            due_s = min(due_s, self._next_s)
        seconds = max(0.0, due_s - time.monotonic())
        if not self._step_s:
            return self._epoll.poll(seconds)
        if not select.select([self._epoll], [], [], seconds)[0]:
            return []
        return self._epoll.poll(0)

    # --- connections ---

    def _connect(self) -> None:
        if time.monotonic() >= self._end_s and not self._planned:
            return
        sock = socket.socket(_family(self._order.host), socket.SOCK_STREAM)
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        code = sock.connect_ex(self._address)
        if code not in (0, errno.EINPROGRESS):
            sock.close()
            self._fail_to_connect(_reason(code))
            return
        self._connections[sock.fileno()] = Connection(sock)
        self._epoll.register(sock.fileno(), _OUT)

    def _fail_to_connect(self, reason: str) -> None:
        if self._planned:
            self._fail(reason, self._planned.popleft())
        elif not self._step_s:
            self._fail(reason, time.monotonic())

    def _handle(self, connection: Connection, event: int) -> None:
        if connection.connecting:
            self._connected(connection)
        elif connection.unsent is not None and event & _OUT:
            self._write(connection)
        else:
            self._read(connection)

    def _connected(self, connection: Connection) -> None:
        code = connection.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        connection.connecting = False
        if code:
            self._drop(connection)
            self._fail_to_connect(_reason(code))
            return
        self._epoll.modify(connection.socket.fileno(), _IN)
        self._release(connection)

    def _release(self, connection: Connection) -> None:
        """Send the next request on a connection, or keep it."""
        now = time.monotonic()
        if self._step_s:
            if self._planned:
                self._send(connection, self._planned.popleft())
            else:
                self._idle.append(connection)
        elif now < self._end_s:
            self._send(connection, now)

    def _send(self, connection: Connection, since: float) -> None:
        connection.since, connection.data = since, b""
        request = self._order.request
        try:
            sent = connection.socket.send(request)
        except BlockingIOError:
            sent = 0
        except OSError as exc:
            self._lose(connection, _reason(exc.errno or 0))
            return
        if sent < len(request):
            connection.unsent = memoryview(request)[sent:]
            self._epoll.modify(connection.socket.fileno(), _IN | _OUT)

    def _write(self, connection: Connection) -> None:
        assert connection.unsent is not None
        try:
            connection.unsent = connection.unsent[connection.socket.send(connection.unsent) :]
        except BlockingIOError:
            return
        except OSError as exc:
            self._lose(connection, _reason(exc.errno or 0))
            return
        if not connection.unsent:
            connection.unsent = None
            self._epoll.modify(connection.socket.fileno(), _IN)

    def _read(self, connection: Connection) -> None:
        try:
            data = connection.socket.recv(READ_BYTES)
        except BlockingIOError:
            return
        except OSError as exc:
            self._lose(connection, _reason(exc.errno or 0))
            return
        connection.data = connection.data + data if connection.data else data
        reply = self._parser.parse(connection.data, closed=not data)
        if reply is None:
            if not data:
                self._lose(connection, "connection closed")
            return
        if connection.since:
            self._count(reply, connection.since)
        connection.since = 0.0
        if reply.ends or connection.unsent:
            self._drop(connection)
            self._connect()
        else:
            self._release(connection)

    def _lose(self, connection: Connection, reason: str) -> None:
        """Do without a connection; its request, if it has one, has failed."""
        since = connection.since
        self._drop(connection)
        if since:
            self._fail(reason, since)
        elif not self._step_s:
            self._connect()

    def _drop(self, connection: Connection) -> None:
        del self._connections[connection.socket.fileno()]
        if connection in self._idle:
            self._idle.remove(connection)
        connection.socket.close()

    def _check_timeouts(self, now: float) -> None:
        limit_s = self._order.timing.timeout_s
        reason = f"no reply within {limit_s:g} s"
        for connection in list(self._connections.values()):
            if connection.since and now - connection.since > limit_s:
                self._lose(connection, reason)
        while self._planned and now - self._planned[0] > limit_s:
            self._fail(reason, self._planned.popleft())

    # --- what is reported ---

    def _start_report(self) -> None:
        self._latencies, self._late = array("I"), array("I")
        self._failures: dict[str, int] = {}
        self._wrong, self._in_time, self._example = 0, 0, ""

    def _count(self, reply: Any, since: float) -> None:
        if since < self._counts_s:
            return
        now = time.monotonic()
        if not 200 <= reply.status < 300:
            self._note_failure(f"status {reply.status}")
        elif not self._judge.is_right(reply):
            self._wrong += 1
            self._example = self._example or reply.body[:200].decode("utf-8", "replace")
        else:
            self._latencies.append(min(int(1e6 * (now - since)), _MAX_MICROSECONDS))
            self._in_time += now < self._end_s

    def _fail(self, reason: str, since: float) -> None:
        """Count a request that got no reply; its client tries again after a pause."""
        if since >= self._counts_s:
            self._note_failure(reason)
        if not self._step_s:
            self._paused.append(time.monotonic() + PAUSE_S)

    def _note_failure(self, reason: str) -> None:
        self._failures[reason] = self._failures.get(reason, 0) + 1

    def _report(self, last: bool = False) -> None:
        head = {
            "latencies": len(self._latencies),
            "late": len(self._late),
            "in_time": self._in_time,
            "failures": self._failures,
            "wrong": self._wrong,
            "example": self._example,
            "cpu_s": time.process_time(),
            "last": last,
        }
        self._output.write(json.dumps(head).encode() + b"\n")
        self._output.write(self._latencies.tobytes() + self._late.tobytes())
        self._output.flush()
        self._start_report()


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def _reason(code: int) -> str:
    names = {
        errno.ECONNREFUSED: "connection refused",
        errno.ECONNRESET: "connection closed",
        errno.EPIPE: "connection closed",
    }
    return names.get(code, errno.errorcode.get(code, "connection lost"))


def main() -> None:
    """Follow one order."""
    order = Order.decode(sys.stdin.buffer.readline())
    sys.stdout.buffer.write(b"\n")
    sys.stdout.buffer.flush()
    begin_s = float(sys.stdin.buffer.readline())
    Generator(order, begin_s, sys.stdout.buffer).run()


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # whoever started this process ends it
    main()
