"""The management API over HTTP, as MMS has it and SageMaker calls it, on loopback.

GET  /models               {"models": [{"modelName", "modelUrl"}], "nextPageToken"}
POST /models               {"model_name", "url", ...}   409 taken, 404 nothing there, 507 no memory
GET, PUT, DELETE /models/NAME

MMS's own is on a socket that only we can reach: it takes any address, unpacks anything, and
answers before it has cleaned up.
"""

from __future__ import annotations

import contextlib
import http.server
import json
import logging
import threading
import urllib.parse
from typing import Any, Callable, Iterator, Mapping

from mms_handler.errors import BadInput, HandlerError, NoSuchModel
from mms_handler.server.registry import Registry, Wanted
from mms_handler.server.sources import Sources

log = logging.getLogger(__name__)

#: Bytes of the longest body that is read; a registration has a few hundred.
_MOST = 2**16

#: Models in one page of the list; MMS's own number.
_PAGE = 100

#: MMS's names for how a model is served, and ours.  Its seconds are seconds only in a body.
_NUMBERS = {
    "initial_workers": "workers",
    "batch_size": "batch_size",
    "max_batch_delay": "max_batch_delay_ms",
    "response_timeout": "timeout_s",
}


class Api:
    """What the routes do."""

    def __init__(self, models: Registry, sources: Sources, usual: Wanted) -> None:
        """Answer for ``models``.

        Args:
            models: those of the server.
            sources: where others may come from.
            usual: how a model is served where a registration does not say.
        """
        self._models, self._sources, self._usual = models, sources, usual

    def answer(self, method: str, path: str, given: Mapping[str, Any]) -> dict[str, Any]:
        """Do what was asked; ``given`` are the fields of the body and the query.

        Raises:
            HandlerError: with the status for it.
        """
        words = [urllib.parse.unquote(word) for word in path.strip("/").split("/")]
        route = (method, len(words)) if words[0] == "models" else None
        if route == ("GET", 1):
            return self._list(given)
        if route == ("POST", 1):
            return self._register(given)
        if route == ("GET", 2):
            return self._models.describe(words[1])
        if route == ("PUT", 2):
            return self._scale(words[1], given)
        if route == ("DELETE", 2):
            self._models.unregister(words[1])
            return {"status": f'Model "{words[1]}" unregistered'}
        raise NoSuchModel(f"there is no {method} {path}")

    def _list(self, given: Mapping[str, Any]) -> dict[str, Any]:
        names = self._models.names()
        first = _number(given, "next_page_token", 0)
        last = first + min(_number(given, "limit", _PAGE), _PAGE)
        page = [
            {"modelName": name, "modelUrl": self._models.model(name).url}
            for name in names[first:last]
        ]
        return {"models": page, **({"nextPageToken": str(last)} if last < len(names) else {})}

    def _register(self, given: Mapping[str, Any]) -> dict[str, Any]:
        name, url = _text(given, "model_name"), _text(given, "url")
        changed = {ours: _number(given, theirs, 0) for theirs, ours in _NUMBERS.items()}
        wanted = self._usual._replace(**{field: n for field, n in changed.items() if n})
        if wanted.timeout_s > self._usual.timeout_s:  # the workers know of that one alone
            raise BadInput(
                f"response_timeout: at most {self._usual.timeout_s} s, which is "
                "SAGEMAKER_MODEL_SERVER_TIMEOUT_SECONDS"
            )
        self._models.check_free(name)  # before anything is fetched
        with self._sources.found(url) as path:
            self._models.register(name, url, path, wanted)
        return {"status": f'Model "{name}" registered'}

    def _scale(self, name: str, given: Mapping[str, Any]) -> dict[str, Any]:
        workers = _number(given, "min_worker", 1)
        self._models.scale(name, workers)
        return {"status": f'Model "{name}" has {workers} workers'}


def _text(given: Mapping[str, Any], field: str) -> str:
    value = given.get(field)
    if not isinstance(value, str) or not value:
        raise BadInput(f"{field} is missing; a JSON object with model_name and url was wanted")
    return value


def _number(given: Mapping[str, Any], field: str, default: int) -> int:
    value = given.get(field, default)
    if isinstance(value, bool) or not str(value).isdecimal():
        raise BadInput(f"{field}: {value!r} is not a whole number, 0 or more")
    return int(value)


@contextlib.contextmanager
def serving(api: Api, port: int) -> Iterator[int]:
    """Answer on 127.0.0.1 for the length of a ``with`` block; gives the port."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", port), _handler(api.answer))
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(0.1,), daemon=True).start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()


Answer = Callable[[str, str, Mapping[str, Any]], Mapping[str, Any]]


def _handler(answer: Answer) -> type[http.server.BaseHTTPRequestHandler]:
    class Handler(http.server.BaseHTTPRequestHandler):
        """One connection."""

        protocol_version = "HTTP/1.1"
        timeout = 60  # seconds without a byte

        def _do(self) -> None:
            status, found = _outcome(answer, self.command, self.path, self._body)
            body = json.dumps(found).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = do_PUT = do_DELETE = _do

        def _body(self) -> bytes:
            length = self.headers.get("Content-Length") or "0"
            if not length.isdecimal() or int(length) > _MOST:
                self.close_connection = True
                raise BadInput(f"a body of up to {_MOST} bytes was wanted, with its Content-Length")
            return self.rfile.read(int(length))

        def log_message(self, format: str, *args: Any) -> None:
            """Say nothing: what is done is said by who does it."""

    return Handler


def _outcome(
    answer: Answer, method: str, target: str, body: Callable[[], bytes]
) -> tuple[int, Mapping[str, Any]]:
    try:
        url = urllib.parse.urlsplit(target)
        given = {**dict(urllib.parse.parse_qsl(url.query)), **_fields(body())}
        return 200, answer(method, url.path, given)
    except HandlerError as exc:
        return exc.status, {"code": exc.status, "type": type(exc).__name__, "message": str(exc)}
    except Exception as exc:  # the cause is for the log; whoever asked may be anyone
        log.exception("%s %s", method, target)
        return 500, {
            "code": 500,
            "type": type(exc).__name__,
            "message": "the server's log says why",
        }


def _fields(body: bytes) -> dict[str, Any]:
    try:
        found = json.loads(body or b"{}")
    except ValueError as exc:
        raise BadInput(f"the body is not JSON: {exc}") from exc
    if not isinstance(found, dict):
        raise BadInput(f"a JSON object was wanted, a {type(found).__name__} came")
    return found
