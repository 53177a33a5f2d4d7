"""The port of the management API: HTTP/1.1 on loopback, read by the letter and in time."""

from __future__ import annotations

import contextlib
import http.server
import io
import json
import logging
import socket
import threading
import time
import urllib.parse
from typing import Any, Callable, Iterator

from mms_handler.errors import (
    BadInput,
    HandlerError,
    MethodNotAllowed,
    OutOfResources,
    Unauthorized,
    disk_is_full,
)
from mms_handler.server import framing
from mms_handler.server.access import Access
from mms_handler.server.admin import Api, Reply

log = logging.getLogger(__name__)

#: The longest body that is read, in bytes.  A registration has a few hundred.
_MAX_BODY_BYTES = 2**16

#: Connections at a time, and seconds that one may be silent while a request is awaited.
_MAX_CONNECTIONS = 100
_IDLE_S = 10

#: Seconds that a whole request may take, from when it is awaited.
_REQUEST_S = 20

#: How long a connection that was closed in the middle of a request can still read its answer.
_LINGER_S = 1
_CROWDED = (
    b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\n"
    b"Content-Length: 0\r\nConnection: close\r\n\r\n"
)


class _Server(http.server.ThreadingHTTPServer):
    """A thread for each connection; none outlives the server."""

    daemon_threads = True
    request_queue_size = 128  # connections that wait to be accepted

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._free = threading.Semaphore(_MAX_CONNECTIONS)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Answer in a thread of its own, or refuse if there are too many.

        Without a limit they would take all descriptors of this process; accept() would then fail
        again and again.
        """
        if self._free.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            with contextlib.suppress(OSError):
                request.send(_CROWDED)
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Answer the requests of one connection."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Log why a connection ended before its answer."""
        log.warning("a management connection ended early", exc_info=True)


class _TimedReader(io.RawIOBase):
    """What a connection sends, byte by byte if it likes, but only until a deadline."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self.deadline = 0.0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        """Read what is there.  Raises socket.timeout: nothing was, or the deadline has passed."""
        left_s = self.deadline - time.monotonic()
        if left_s <= 0:
            raise socket.timeout("timed out")
        self._connection.settimeout(min(_IDLE_S, left_s))
        try:
            return self._connection.recv_into(buffer)
        finally:
            self._connection.settimeout(_IDLE_S)  # for writing, too


@contextlib.contextmanager
def listening(api: Api, access: Access, port: int) -> Iterator[int]:
    """Answer on 127.0.0.1 for the length of a ``with`` block; yields the port."""
    server = _Server(("127.0.0.1", port), _handler(api, access))
    threading.Thread(target=server.serve_forever, args=(0.1,), daemon=True).start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()


def _handler(api: Api, access: Access) -> type[http.server.BaseHTTPRequestHandler]:
    class Handler(http.server.BaseHTTPRequestHandler):
        """One connection."""

        protocol_version = "HTTP/1.1"
        timeout = _IDLE_S
        raw_requestline: bytes

        #: Whether the rest of what the client sends will not be read.
        _cut = False

        def setup(self) -> None:
            """Read through a deadline."""
            super().setup()
            self.rfile.close()
            self._reader = _TimedReader(self.connection)
            self.rfile = io.BufferedReader(self._reader)

        def handle_one_request(self) -> None:
            """Read a request before its deadline, and answer it."""
            self._reader.deadline = time.monotonic() + _REQUEST_S
            super().handle_one_request()

        def parse_request(self) -> bool:
            """Read a request's head; answer it here if it is malformed or takes too long."""
            stream = self.rfile
            self.requestline, self.command, self.request_version = "", "", self.protocol_version
            try:
                with _in_time():
                    head = framing.read(self.raw_requestline, stream)
            except framing.Malformed as exc:
                log.warning("management: a malformed request: %s", exc)
                self._cut = self.close_connection = True
                self._send(_refusal(exc))
                return False
            self.close_connection = True
            if head is None:
                return False
            self.raw_requestline, self.rfile = head.line, io.BytesIO(head.fields)
            try:
                return super().parse_request()
            finally:
                self.rfile = stream

        def finish(self) -> None:
            """End the connection; if bytes are unread, not at once: a reset destroys the answer."""
            super().finish()
            if self._cut:
                _linger(self.connection)

        def _answer(self) -> None:
            self._send(_reply(self._do))

        def _send(self, reply: Reply) -> None:
            body = json.dumps(reply.fields).encode()
            self.send_response(reply.status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            if reply.methods:
                self.send_header("Allow", ", ".join(reply.methods))
            if reply.status == Unauthorized.status:
                self.send_header("WWW-Authenticate", 'Bearer realm="mms_handler"')
            if self.close_connection:
                # Clients that asked for it rely on it, too.  Java's would otherwise keep the
                # connection for its next request, and lose that one if it came before our close.
                self.send_header("Connection", "close")
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        do_GET = do_POST = do_PUT = do_DELETE = do_OPTIONS = _answer
        do_HEAD = do_PATCH = do_TRACE = _answer  # to be refused

        def _do(self) -> Reply:
            body = self._body()  # even if the request is refused: unread bytes would reset it
            access.check(self.headers)
            try:
                url = urllib.parse.urlsplit(self.path)
            except ValueError as exc:
                raise BadInput(f"the address is invalid: {exc}") from exc
            fields = {**dict(urllib.parse.parse_qsl(url.query)), **_body_fields(body)}
            return api.answer(self.command, url.path, fields)

        def _body(self) -> bytes:
            length = int(self.headers.get("Content-Length", 0))
            if self.headers.get("Transfer-Encoding") is not None or length > _MAX_BODY_BYTES:
                self._cut = self.close_connection = True
                came = f"Content-Length is {length}" if length else "Transfer-Encoding is set"
                raise BadInput(
                    f"{came}: send a body with a Content-Length of at most {_MAX_BODY_BYTES} bytes"
                )
            try:
                with _in_time():
                    return self.rfile.read(length)
            except framing.Malformed:
                self._cut = self.close_connection = True
                raise

        def log_message(self, format: str, *args: Any) -> None:
            """Log nothing: each action logs itself."""

        def log_error(self, format: str, *args: Any) -> None:
            """Log a request that did not come whole or was no HTTP."""
            log.warning("management: %s", format % args)

    return Handler


@contextlib.contextmanager
def _in_time() -> Iterator[None]:
    """Turn a client's silence into a refusal that it can read."""
    try:
        yield
    except socket.timeout:
        raise framing.Malformed(
            f"the request did not come whole: send it within {_REQUEST_S:g} s, and without a "
            f"pause of {_IDLE_S} s",
            408,
        ) from None


def _linger(connection: socket.socket) -> None:
    """Close for writing, and drop what still comes for a while."""
    deadline = time.monotonic() + _LINGER_S
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_WR)
        connection.settimeout(_LINGER_S)
        while time.monotonic() < deadline and connection.recv(_MAX_BODY_BYTES):
            pass


def _reply(do: Callable[[], Reply]) -> Reply:
    try:
        return do()
    except RecursionError:
        return _refusal(BadInput("the body is nested too deeply"))
    except (HandlerError, OSError) as exc:
        if disk_is_full(exc):
            return _refusal(OutOfResources("the server's disk is full; unregister a model first"))
        if isinstance(exc, HandlerError):
            return _refusal(exc)
        return _failure(exc)
    except Exception as exc:
        return _failure(exc)


def _refusal(exc: HandlerError) -> Reply:
    fields = {"code": exc.status, "type": type(exc).__name__, "message": str(exc)}
    return Reply(exc.status, fields, exc.methods if isinstance(exc, MethodNotAllowed) else ())


def _failure(exc: Exception) -> Reply:
    """The answer for a bug: the client may be anyone, so only the log has the cause."""
    log.exception("a management request failed")
    message = "internal error; the server's log has the cause"
    return Reply(500, {"code": 500, "type": type(exc).__name__, "message": message})


def _body_fields(body: bytes) -> dict[str, Any]:
    try:
        fields = json.loads(body or b"{}")
    except ValueError as exc:
        raise BadInput(f"the body is not JSON: {exc}") from exc
    if not isinstance(fields, dict):
        raise BadInput(f"the body must be a JSON object; it is a {type(fields).__name__}")
    return fields
