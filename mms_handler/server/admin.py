"""The management API over HTTP on loopback, as MMS defines it and SageMaker calls it.

GET  /models               {"models": [{"modelName", "modelUrl"}], "nextPageToken"}
POST /models               {"model_name", "url", ...}   409 name taken, 404 no file, 507 no memory
GET, PUT, DELETE /models/NAME

MMS's own API is on a private socket, because it takes models from any address, unpacks them
unchecked, and answers before it has cleaned up.
"""

from __future__ import annotations

import contextlib
import http.server
import io
import json
import logging
import reprlib
import socket
import threading
import time
import urllib.parse
from typing import Any, Callable, Iterator, Mapping

from mms_handler.errors import (
    BadInput,
    HandlerError,
    NoSuchModel,
    OutOfResources,
    Unauthorized,
    disk_is_full,
)
from mms_handler.server import framing
from mms_handler.server.access import Access
from mms_handler.server.mms_models import Serving
from mms_handler.server.registry import Registry
from mms_handler.server.sources import Sources

log = logging.getLogger(__name__)

#: The longest body that is read, in bytes.  A registration has a few hundred.
_MAX_BODY_BYTES = 2**16

#: The largest number in a request.  MMS keeps it in an int.
_MAX_NUMBER = 2**31 - 1
_MAX_DIGITS = 10

#: Connections at a time, and seconds that one may be silent while a request is awaited.
_MAX_CONNECTIONS = 100
_IDLE_S = 10

#: How long a connection that was closed in the middle of a request can still read its answer.
_LINGER_S = 1
_CROWDED = (
    b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\n"
    b"Content-Length: 0\r\nConnection: close\r\n\r\n"
)

#: Models in one page of the list, as in MMS.
_PAGE = 100

#: Serving's fields by MMS's names.  MMS reads response_timeout in seconds from a body, but in
#: minutes from a query; here it is in seconds in both.
_SERVING_FIELDS = {
    "initial_workers": "workers",
    "batch_size": "batch_size",
    "max_batch_delay": "max_batch_delay_ms",
    "response_timeout": "timeout_s",
}

#: A request's fields, from its query and its body.
Fields = Mapping[str, Any]


class Api:
    """The routes of the management API."""

    def __init__(self, registry: Registry, sources: Sources, defaults: Serving) -> None:
        """Answer for the models of ``registry``.

        Args:
            registry: the server's models.
            sources: the places from which registrations may take models.
            defaults: how a model is served unless its registration sets other values.
        """
        self._registry, self._sources, self._defaults = registry, sources, defaults

    def answer(self, method: str, path: str, fields: Fields) -> dict[str, Any]:
        """Carry out a request; returns the reply's fields.

        Raises:
            HandlerError: the request fails; has the reply's status.
        """
        words = [urllib.parse.unquote(word) for word in path.strip("/").split("/")]
        route = (method, len(words)) if words[0] == "models" else None
        if route == ("GET", 1):
            return self._list(fields)
        if route == ("POST", 1):
            return self._register(fields)
        if route == ("GET", 2):
            return self._registry.describe(words[1])
        if route == ("PUT", 2):
            workers = _number(fields, "min_worker", 1)
            if not workers:  # MMS would end the listener, and start no other one later
                raise BadInput("min_worker is 0: ask for 1 or more, or unregister the model")
            self._registry.scale(words[1], workers)
            return {"status": f'Model "{words[1]}" has {workers} workers'}
        if route == ("DELETE", 2):
            self._registry.unregister(words[1])
            return {"status": f'Model "{words[1]}" unregistered'}
        raise NoSuchModel(f"there is no {method} {path}; use /models or /models/NAME")

    def _list(self, fields: Fields) -> dict[str, Any]:
        names = self._registry.names()
        start = _number(fields, "next_page_token", 0)
        end = start + min(_number(fields, "limit", _PAGE), _PAGE)
        page = [
            {"modelName": name, "modelUrl": self._registry.model(name).url}
            for name in names[start:end]
        ]
        return {"models": page, **({"nextPageToken": str(end)} if end < len(names) else {})}

    def _register(self, fields: Fields) -> dict[str, Any]:
        name, url = _text(fields, "model_name"), _text(fields, "url")
        numbers = {field: _number(fields, key, 0) for key, field in _SERVING_FIELDS.items()}
        serving = self._defaults._replace(**{field: n for field, n in numbers.items() if n})
        if serving.timeout_s > self._defaults.timeout_s:  # workers only know the default
            raise BadInput(
                f"response_timeout: {serving.timeout_s} s is too long; the limit is "
                f"{self._defaults.timeout_s} s, set by SAGEMAKER_MODEL_SERVER_TIMEOUT_SECONDS"
            )
        self._registry.check_free(name)  # before anything is fetched
        with self._sources.open(name, url) as source:
            self._registry.register(source, serving)
        return {"status": f'Model "{name}" registered'}


def _text(fields: Fields, key: str) -> str:
    value = fields.get(key)
    if not isinstance(value, str) or not value:
        raise BadInput(f"{key} is missing: send a JSON object with the strings model_name and url")
    return value


def _number(fields: Fields, key: str, default: int) -> int:
    value = fields.get(key, default)
    # The length is checked first: int() refuses 5,000 digits, or takes long for them.
    if isinstance(value, str) and len(value) <= _MAX_DIGITS and value.isdecimal():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= _MAX_NUMBER:
        raise BadInput(
            f"{key}: {reprlib.repr(value)} is not a whole number from 0 to {_MAX_NUMBER}"
        )
    return value


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

        def parse_request(self) -> bool:
            """Read a request's head; answer it here if it is malformed."""
            stream = self.rfile
            self.requestline, self.command, self.request_version = "", "", self.protocol_version
            try:
                head = framing.read(self.raw_requestline, stream)
            except framing.Malformed as exc:
                log.warning("management: a malformed request: %s", exc)
                self._cut = self.close_connection = True
                self._send(*_refusal(exc))
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
            self._send(*_status_and_fields(self._do))

        def _send(self, status: int, fields: Fields) -> None:
            body = json.dumps(fields).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            if status == Unauthorized.status:
                self.send_header("WWW-Authenticate", 'Bearer realm="mms_handler"')
            if self.close_connection:
                # Clients that asked for it rely on it, too.  Java's would otherwise keep the
                # connection for its next request, and lose that one if it came before our close.
                self.send_header("Connection", "close")
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = do_PUT = do_DELETE = _answer

        def _do(self) -> dict[str, Any]:
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
            return self.rfile.read(length)

        def log_message(self, format: str, *args: Any) -> None:
            """Log nothing: each action logs itself."""

        def log_error(self, format: str, *args: Any) -> None:
            """Log a request that did not come whole or was no HTTP."""
            log.warning("management: %s", format % args)

    return Handler


def _linger(connection: socket.socket) -> None:
    """Close for writing, and drop what still comes for a while."""
    deadline = time.monotonic() + _LINGER_S
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_WR)
        connection.settimeout(_LINGER_S)
        while time.monotonic() < deadline and connection.recv(2**16):
            pass


def _status_and_fields(do: Callable[[], dict[str, Any]]) -> tuple[int, Fields]:
    try:
        return 200, do()
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


def _refusal(exc: HandlerError) -> tuple[int, Fields]:
    return exc.status, {"code": exc.status, "type": type(exc).__name__, "message": str(exc)}


def _failure(exc: Exception) -> tuple[int, Fields]:
    """The answer for a bug: the client may be anyone, so only the log has the cause."""
    log.exception("a management request failed")
    message = "internal error; the server's log has the cause"
    return 500, {"code": 500, "type": type(exc).__name__, "message": message}


def _body_fields(body: bytes) -> dict[str, Any]:
    try:
        fields = json.loads(body or b"{}")
    except ValueError as exc:
        raise BadInput(f"the body is not JSON: {exc}") from exc
    if not isinstance(fields, dict):
        raise BadInput(f"the body must be a JSON object; it is a {type(fields).__name__}")
    return fields
