"""Targets: the management API, called as its server calls it, and over a socket."""

from __future__ import annotations

import contextlib
import functools
import json
import logging
import os
import socket
import tempfile
import urllib.parse
from email.message import Message
from pathlib import Path
from typing import Any, Iterator

from fuzz_checks import bounded, no_leak, outcome
from fuzz_input import Choices

from mms_handler import names
from mms_handler.errors import BadInput, NameTaken, NoSuchModel
from mms_handler.server import admin, admin_http
from mms_handler.server.access import Access
from mms_handler.server.later import LaterChanges
from mms_handler.server.mms_models import Serving
from mms_handler.server.sources import Sources

TOKEN = "abcdefghijklmnop"

DEFAULTS = Serving(workers=1, batch_size=1, timeout_s=60)

_PATHS = [
    "/models",
    "/models/m",
    "/models/",
    "/",
    "/models/m/x",
    "*",
    "//",
    "/models/%2e%2e",
    "/models/m/1",
    "/models/m/2",
    "/models/m/1/set-default",
    "/models/m/rollback",
    "/ping",
]
_METHODS = ["GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "HEAD", "get"]
_KEYS = [
    "model_name",
    "url",
    "initial_workers",
    "batch_size",
    "response_timeout",
    "min_worker",
    "max_worker",
]
_KEYS += [
    "limit",
    "next_page_token",
    "max_batch_delay",
    "synchronous",
    "replace",
    "share",
    "version",
]
_TEXTS = [
    "",
    "m",
    "new",
    "a.mar",
    "../a",
    "/etc/passwd",
    "0",
    "-1",
    "1e3",
    "9" * 30,
    "\u0663",
    "x" * 300,
]


class Later(LaterChanges):
    """Carries changes out at once."""

    def start(self, subject: str, change: Any, held: Any = None) -> None:
        change()


class Versions:
    """The names of the real one's models, and its checks of names; nothing is started."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def list(self) -> list[dict[str, str]]:
        return [{"modelName": "m", "modelUrl": "a.mar", "modelVersion": "1"}]

    def find(self, name: str, version: str = "") -> str:
        if name != "m" or version not in ("", "1"):
            raise NoSuchModel(f"Model not found: {name}")
        return name

    def serving(self, name: str) -> Serving | None:
        return DEFAULTS if name == "m" else None

    @contextlib.contextmanager
    def reserved(self, name: str, url: str, replace: bool) -> Iterator[None]:
        if names.check_name(name) == "m" and not replace:
            raise NameTaken("Model m is already registered.")
        yield

    def describe(self, name: str, version: str) -> dict[str, Any]:
        return {"modelName": self.find(name, version)}

    def load(self, source: Any, serving: Serving, version: str, share: int | None) -> str:
        """Check that the files are inside the store, and that the numbers are numbers."""
        assert not version or names.is_version(version)
        assert share is None or 0 <= share <= 100
        assert self._folder in source.path.resolve().parents, source
        workers, *others = serving
        assert isinstance(workers, int)
        assert workers >= 0  # with 0 it has its name alone
        assert all(isinstance(number, int) and number > 0 for number in others)
        return version or "2"

    def scale(self, name: str, min_workers: int, max_workers: int, version: str) -> None:
        self.find(name, version)
        assert all(isinstance(number, int) for number in (min_workers, max_workers))
        assert 0 <= min_workers <= max_workers > 0

    def unregister(self, name: str) -> None:
        self.find(name)

    unload = serve = find

    def share(self, name: str, version: str, percent: int) -> None:
        self.find(name, version)
        assert 0 <= percent <= 100

    def roll_back(self, name: str) -> str:
        return self.find(name)


@functools.lru_cache(maxsize=None)
def _api() -> admin.Api:
    folder = Path(tempfile.mkdtemp(prefix="fuzz-")).resolve()
    (folder / "a").mkdir()
    (folder / "a" / "net.params").write_bytes(b"four")
    (folder / "a.mar").write_bytes(b"no zip")
    os.chmod(folder, 0o700)
    import atexit
    import shutil

    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    logging.disable(logging.CRITICAL)
    versions: Any = Versions(folder)
    return admin.Api(
        versions, Sources([folder], ("https://host/models",), folder), DEFAULTS, Later()
    )


def requests(data: bytes) -> None:
    """Any method, path, query and body: a status of the client's fault, or a reply in JSON."""
    choices = Choices(data)
    method = choices.pick([*_METHODS, choices.text(8)])
    target = choices.pick([*_PATHS, "/models/" + choices.text(), choices.text(60)])
    if choices.number(2):
        target += f"?{choices.pick(_KEYS)}={choices.pick([*_TEXTS, choices.text(20)])}"
    fields = {choices.pick(_KEYS): choices.pick(_VALUES) for _ in range(choices.number(5))}
    body = json.dumps(fields).encode() if choices.number(2) else choices.repeated()

    def do() -> Any:  # as the handler of a connection does
        try:
            url = urllib.parse.urlsplit(target)
        except ValueError as exc:
            raise BadInput("the address is invalid") from exc
        fields = {**dict(urllib.parse.parse_qsl(url.query)), **admin_http._body_fields(body)}
        return _api().answer(method, url.path, fields)

    with bounded():
        status, reply, _ = admin_http._reply(do)
    text = json.dumps(reply)
    assert status in (200, 202) or 400 <= status <= 409, (
        f"{method} {target!r} {body[:99]!r}: {text}"
    )
    no_leak(text)


_VALUES: list[Any] = [*_TEXTS, 0, 1, 7, -1, 10**20, 1.5, True, None, [], {}, "a", "https://host/x"]


_open = contextlib.ExitStack()


@functools.lru_cache(maxsize=None)
def _port() -> int:
    return _open.enter_context(
        admin_http.listening(_api(), Access("", (), any_public_host=False), 0)
    )


def connection(data: bytes) -> None:
    """Any bytes on a connection: whole replies in JSON, then an end; no traceback in them."""
    choices = Choices(data)
    if choices.number(2):
        sent = choices.rest()
    else:
        body = choices.take()
        head = choices.pick([b"Content-Length: %d", b"Content-Length: +%d", b"Content-Length : 1"])
        head = head % len(body) if b"%" in head else head
        lines = [
            choices.pick([b"POST /models HTTP/1.1", b"GET /models HTTP/1.1", choices.take(60)]),
            b"Host: 127.0.0.1",
            choices.pick([head, b"Transfer-Encoding: chunked", choices.take(60)]),
        ]
        sent = b"\r\n".join(lines) + b"\r\n\r\n" + body
    received = b""
    address = ("127.0.0.1", _port())
    with contextlib.suppress(ConnectionError), socket.create_connection(address, 20) as peer:
        peer.sendall(sent)
        peer.shutdown(socket.SHUT_WR)
        while piece := peer.recv(2**16):
            received += piece
    no_leak(received.decode("latin-1"))
    assert b" 500 " not in received[:20], f"{sent[:200]!r}: {received[:300]!r}"


def access(data: bytes) -> None:
    """Whatever the headers are, only this machine's names and the right token are let in."""
    choices = Choices(data)
    hosts = ["localhost", "127.0.0.1:8081", "[::1]", "evil.com", "localhost.evil.com", "::1"]
    names = ["Host", "Origin", "X-Forwarded-Host", "X-Forwarded-Origin", "Authorization"]
    headers, values = Message(), {}
    for _ in range(choices.number(5)):
        name = choices.pick(names)
        value = choices.pick([*hosts, f"Bearer {TOKEN}", choices.text(30)])
        value = "".join(value.splitlines())  # a header is one line
        headers[name] = value
        values[name] = value
    needs_token = choices.number(2) == 1
    door = Access(TOKEN if needs_token else "", ("a.b",), any_public_host=choices.number(2) == 1)
    if isinstance(outcome(door.check, headers), Exception):
        return
    assert "Origin" not in headers
    assert "X-Forwarded-Origin" not in headers
    assert values["Host"].strip().lower().startswith(("localhost", "127.", "[", "a.b")), values
    assert "evil" not in values["Host"]
    assert not needs_token or values["Authorization"].strip().endswith(TOKEN)


TARGETS = {
    "access": (
        access,
        lambda: [
            bytes([count, name, host, 0, 6, 4, 6]) + bytes(6)
            for count in (1, 2, 3)
            for name in range(5)
            for host in range(7)
        ],
    ),
    "management": (
        requests,
        lambda: (
            [
                bytes([method, path, 0, body, 0, 1, 2, 3])
                for method in range(4)
                for path in range(9)
                for body in range(4)
            ]
            + [b"\1\0\0\0\0" + bytes([200, 0]) + b"[", b"\1\0\0\0\0\0\0" + b'{"batch_size": 1}']
        ),
    ),
    "management_socket": (
        connection,
        lambda: [
            b"\1GET /models HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
            b"\1POST /models HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}GET / HTTP/1.0\r\n\r\n",
            b"\1PUT /models/m?min_worker=2 HTTP/1.1\r\nConnection: close\r\n\r\n",
        ],
    ),
}
