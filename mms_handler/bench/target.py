"""The server that is measured, started for that if need be, and the request that it gets."""

from __future__ import annotations

import contextlib
import dataclasses
import random
import socket
import tempfile
import urllib.parse
from pathlib import Path
from typing import Any, Callable, Iterator, Mapping, NamedTuple

from mms_handler import client, media, server
from mms_handler.archive import packed_reply, samples, unpack_any
from mms_handler.bench.measuring import Target
from mms_handler.errors import ServerError
from mms_handler.settings import Settings

#: Ports that the system gives to no client, and that MMS takes.
_PORTS = range(20_000, 32_767)


class Request(NamedTuple):
    """A request to measure with.

    Fields:
        body: of the request.
        content_type: its Content-Type.
        accept: its Accept.
        reply: the right reply, as archive.packed_reply writes it; None: the server's first.
        description: what it is, for a person.
    """

    body: bytes
    content_type: str
    accept: str
    reply: Mapping[str, Any] | None
    description: str


def from_file(path: Path, content_type: str | None, accept: str | None) -> Request:
    """A file as the body of the request."""
    kind = content_type or media.type_of_file(path)
    return Request(path.read_bytes(), kind, accept or "*/*", None, str(path))


def from_model(path: Path, content_type: str | None, accept: str | None) -> Request | None:
    """The sample of a model, or zeros in the shapes that the default save wrote; None without both.

    Raises:
        ArchiveError: the archive is not safe, or its manifest is not valid.
    """
    with tempfile.TemporaryDirectory(prefix="mms-handler-") as scratch:
        folder = unpack_any(path, Path(scratch))[0] if path.is_file() else path
        files = {file.name: file for file in folder.iterdir() if file.is_file()}
        packed = samples.packed(folder) or samples.zeros(files)
    if packed is None:
        return None
    entry = packed.entry
    same = (content_type or entry.content_type, accept or entry.accept) == entry[1:3]
    name = "zeros in the model's shapes" if packed.generated else "the packed sample"
    return Request(
        packed.body,
        content_type or entry.content_type,
        accept or entry.accept,
        entry.reply if same else None,
        name,
    )


@contextlib.contextmanager
def served(
    path: str | Path,
    server_settings: Settings,
    log: Callable[[str], None],
    *,
    use_tuned: bool,
) -> Iterator[str]:
    """Serve a model for the length of a ``with`` block; yields its URL.

    Args:
        path: an archive or a folder, or its address.
        server_settings: for the server, but for addresses, tokens, captures, limits of clients.
        log: called with each line of the server's log.
        use_tuned: whether the settings count to which an archive was tuned.

    Raises:
        HandlerError: the model cannot be served.
    """
    port, management_port = free_ports()
    private = dataclasses.replace(
        server_settings,
        host="127.0.0.1",
        port=port,
        management_port=management_port,
        multi_model=False,
        token_file=None,
        client_rate=None,
        client_concurrency=None,
        capture=None,
    )
    with server.serve([path], private, log=log, use_tuned=use_tuned) as running:
        (name,) = running.versions.names()
        yield running.predictions_url(name)


def free_ports() -> tuple[int, int]:
    """Two ports of this machine that nothing uses.

    Raises:
        ServerError: there are none.
    """
    with contextlib.ExitStack() as sockets:
        ports = []
        for port in random.sample(_PORTS, 200):
            with contextlib.suppress(OSError):
                sockets.enter_context(socket.create_server(("127.0.0.1", port)))
                ports.append(port)
            if len(ports) == 2:
                return ports[0], ports[1]
    raise ServerError("no two of 200 ports are free; end some servers")


def asked_once(url: str, request: Request, token: str = "", timeout_s: float = 60) -> Target:
    """Send the request once, to see that it is answered, and make it a target.

    Raises:
        ServerError: the URL is none of http, no answer came, or it is an error.
    """
    address = urllib.parse.urlsplit(url)
    if address.scheme != "http" or not address.hostname:
        raise ServerError(
            f"{url} is not an http:// address; bench sends plain HTTP to a server that you can "
            "reach, not to AWS's API"
        )
    answer = client.invoke(
        url, request.body, request.content_type, request.accept, timeout_s, token
    )
    if not 200 <= answer.status < 300:
        raise ServerError(
            f"the request ({request.description}) gets {answer.status} {answer.message()}; it must "
            "be answered before it can be measured"
        )
    first = packed_reply.encode(answer.status, answer.content_type, answer.body)
    port = address.port or 80
    host = _resolved(address.hostname, port)
    return Target(host, port, _encode(url, request, token), request.reply or first)


def _resolved(host: str, port: int) -> str:
    """The address of a server that answers, so that no connection has to look for it."""
    try:
        with socket.create_connection((host, port), timeout=10) as connection:
            return str(connection.getpeername()[0])
    except OSError as exc:
        raise ServerError(f"no answer from {host}:{port}: {exc.strerror or exc}") from exc


def _encode(url: str, request: Request, token: str) -> bytes:
    """The bytes of a request."""
    address = urllib.parse.urlsplit(url)
    path = urllib.parse.urlunsplit(("", "", address.path or "/", address.query, ""))
    lines = [
        f"POST {path} HTTP/1.1",
        f"Host: {address.netloc}",
        f"Content-Type: {request.content_type}",
        f"Accept: {request.accept}",
        f"Content-Length: {len(request.body)}",
        *([f"Authorization: Bearer {token}"] if token else []),
    ]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + request.body
