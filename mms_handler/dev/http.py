"""HTTP for a server of one worker: requests for predictions, /ping, and what is asked by GET."""

from __future__ import annotations

import http.server
from typing import Any, Callable, Mapping, Optional

from mms_handler import media
from mms_handler.dev import open_inference
from mms_handler.dev.worker import Reply, failure
from mms_handler.errors import BadInput, Forbidden, HandlerError, NoSuchModel, TooLarge, Unavailable
from mms_handler.request_ids import HEADER, request_id
from mms_handler.server.access import Access

#: Takes a body and the headers by lower-case name.
Answer = Callable[[bytes, Mapping[str, str]], Reply]

#: Takes a path, Accept and If-None-Match; None if there is nothing.
Page = Callable[[str, str, Optional[str]], Optional[Reply]]


class Handler(http.server.BaseHTTPRequestHandler):
    """One connection.  ``serving`` makes the class for a server."""

    protocol_version = "HTTP/1.1"
    access: Access
    answer: Answer
    page: Page
    ready: Callable[[], bool]
    name: str
    max_body_bytes: int

    def do_POST(self) -> None:
        """Answer a request for a prediction."""
        identity = request_id(self.headers.get(HEADER))
        path = self.path.partition("?")[0]
        tensors = open_inference.infers(path, self.name)
        try:
            self._check_site()
            paths = ("/invocations", f"/predictions/{self.name}", f"/models/{self.name}/invoke")
            if path not in paths and not tensors:
                raise NoSuchModel(f"there is only {', '.join(paths)}, /v2/models/{self.name}/infer")
            body = self.rfile.read(self._length())
            headers = {name.lower(): value for name, value in self.headers.items()}
            headers[HEADER] = identity
            if tensors:
                lengths = self.headers.get_all(open_inference.HEADER_LENGTH, [])
                headers["content-type"] = open_inference.content_type(lengths)
            reply = self.answer(body, headers)
        except HandlerError as exc:
            self.close_connection = True  # the body may not have been read
            reply = refusal(exc, request_id=identity)
        if open_inference.is_open_inference(path):
            reply = open_inference.in_form(reply)
        self._send(reply, **{HEADER: identity})

    def do_GET(self) -> None:
        """Answer /ping, describe the model, or send a file of the page."""
        try:
            self._send(self._resource(self.path.partition("?")[0]))
        except HandlerError as exc:
            self._send(refusal(exc))

    do_HEAD = do_GET

    def _resource(self, path: str) -> Reply:
        if path == "/ping":
            if not self.ready():
                raise Unavailable("the model is not loaded")
            return Reply(200, {"content-type": media.JSON}, b'{"status": "Healthy"}')
        self._check_site()
        accept = ",".join(self.headers.get_all("Accept", []))
        reply = self.page(path, accept, self.headers.get("If-None-Match"))
        if reply is None:
            raise NoSuchModel("there is only /, /ping, /ui/, /openapi.json and /v2; serve has more")
        return reply

    def _check_site(self) -> None:
        """Refuse pages of other sites, and names that lead here (DNS rebinding)."""
        hosts = self.headers.get_all("Host", [])
        self.access.check_host(hosts)
        origin = self.headers.get("Origin")
        if origin is not None and origin.lower() != f"http://{hosts[0].strip().lower()}":
            raise Forbidden(f"the request comes from a page of {origin[:200]}, not of this server")

    def _length(self) -> int:
        text = self.headers.get("Content-Length", "")
        if not text.isdecimal():
            raise BadInput("the request needs a Content-Length")
        if int(text) > self.max_body_bytes:
            raise TooLarge(f"the body has {text} bytes, at most {self.max_body_bytes} are read")
        return int(text)

    def _send(self, reply: Reply, **more: str) -> None:
        self.send_response(reply.status)
        for name, value in {**reply.headers, **more}.items():
            self.send_header(name, value)
        if reply.status != 304:
            self.send_header("Content-Length", str(len(reply.body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(reply.body)

    def log_message(self, format: str, *args: Any) -> None:
        """Print nothing: the terminal is the script's."""


def refusal(exc: HandlerError, **more: str) -> Reply:
    """The reply for an error, with more fields."""
    return failure(exc.status, type(exc).__name__, str(exc), **more)


def serving(
    address: tuple[str, int],
    name: str,
    access: Access,
    answer: Answer,
    page: Page,
    ready: Callable[[], bool],
    max_body_bytes: int,
) -> http.server.HTTPServer:
    """A server that answers one request after another, as one worker does."""
    members = {
        "access": access,
        "answer": staticmethod(answer),
        "page": staticmethod(page),
        "ready": staticmethod(ready),
        "name": name,
        "max_body_bytes": max_body_bytes,
    }
    return http.server.ThreadingHTTPServer(address, type("Bound", (Handler,), members))
