"""An archive from an address, if that is on a list; never from anywhere else.

MMS itself fetches whatever address it is told, follows redirects and believes an ETag
(ModelArchive.java), so it is given files only.
"""

from __future__ import annotations

import http.client
import os
import re
import tempfile
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any, Iterator, NamedTuple, Sequence
from urllib.parse import unquote, urlsplit

from mms_handler.archive import converting, files, s3
from mms_handler.archive.safety import MAX_BYTES
from mms_handler.errors import ArchiveError
from mms_handler.manifest import check_name

ALLOWED = "MMS_HANDLER_ALLOWED_URLS"

_PORTS = {"http": 80, "https": 443, "s3": None}
_KINDS = re.compile(r"(.+?)(\.mar|\.tar\.gz|\.tgz)")
_SILENT_S = 60  # that a server may say nothing
_CHUNK = 2**18  # bytes


def fetch(url: str, folder: Path, allowed: Sequence[str], *, max_bytes: int = MAX_BYTES) -> Path:
    """The archive at ``url``, in ``folder``, as a ``.mar``; it is not verified yet.

    Args:
        url: http://, https:// or s3://, of a ``.mar`` or model.tar.gz.
        folder: where to put it, under the last part of its address.
        allowed: beginnings of addresses, to the end of a part: https://host/models allows
            https://host/models/a.mar and not https://host/models2/a.mar.
        max_bytes: what it may have.

    Returns:
        The file.

    Raises:
        ArchiveError: the address, or one it redirects to, is not allowed; or nothing that could
            be an archive comes.
    """
    check_url(url, allowed)
    name, suffix = _name(url)
    target = folder / f"{name}.mar"
    files.check_free(target, force=False)
    with tempfile.TemporaryDirectory(prefix=".mms-handler-", dir=folder) as scratch:
        found = Path(scratch) / f"{name}{suffix}"
        if urlsplit(url).scheme.lower() == "s3":
            s3.download(url, found, max_bytes=max_bytes)
        else:
            _download(url, found, allowed, max_bytes)
        if suffix != ".mar":
            return converting.convert(found, target)
        os.replace(found, target)
    return target


def _name(url: str) -> tuple[str, str]:
    """The name of the model at ``url``, and the suffix of its archive."""
    last = unquote(urlsplit(url).path).rpartition("/")[2]
    found = _KINDS.fullmatch(last)
    if not found:
        raise ArchiveError(f"{url} names no archive: wanted a .mar or a .tar.gz")
    return check_name(found[1]), found[2]


# --- what is allowed -------------------------------------------------------------------------


class _Place(NamedTuple):
    """Where an address leads, however it is written."""

    scheme: str
    host: str
    port: int | None
    parts: tuple[str, ...]


def check_url(url: str, allowed: Sequence[str]) -> None:
    """Do nothing if an archive may be fetched from ``url``.

    Raises:
        ArchiveError: it may not; names the variable that lists what may.
    """
    place = _place(url)
    for beginning in map(_beginning, allowed):
        length = len(beginning.parts)
        if beginning == place._replace(parts=place.parts[:length]):
            return
    raise ArchiveError(f"{url} is not among the addresses of {ALLOWED}, so it is not fetched")


def _beginning(url: str) -> _Place:
    try:
        return _place(url)
    except ArchiveError as exc:
        raise ArchiveError(f"{ALLOWED}: {exc}") from exc


def _place(url: str) -> _Place:
    """Where ``url`` leads.

    Raises:
        ArchiveError: that could be understood in two ways, or it is no address of an archive.
    """
    try:
        found = urlsplit(url)
        scheme, path = found.scheme.lower(), unquote(found.path)
        port = found.port or _PORTS[scheme]
    except (ValueError, KeyError) as exc:
        raise ArchiveError(f"{url}: wanted http://, https:// or s3://, a host and a path") from exc
    path = re.sub(r"^/|/$", "", path)
    parts = tuple(path.split("/")) if path else ()
    dots = any(part.partition(";")[0] in ("", ".", "..") for part in parts)
    odd = re.search(r"[\x00-\x20\x7f\\]", url) or "@" in found.netloc or "%" in path
    if dots or odd or not found.hostname:
        raise ArchiveError(f"{url} could be understood in two ways, so it is not fetched")
    return _Place(scheme, found.hostname.rstrip("."), port, parts)


# --- http ------------------------------------------------------------------------------------


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows a redirect to what is allowed."""

    def __init__(self, allowed: Sequence[str]) -> None:
        self._allowed = allowed

    def redirect_request(
        self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str
    ) -> Any:
        try:
            check_url(newurl, self._allowed)
        except ArchiveError:
            fp.close()
            raise
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _download(url: str, target: Path, allowed: Sequence[str], max_bytes: int) -> None:
    opener = urllib.request.build_opener(_Redirects(allowed))
    try:
        with opener.open(url, timeout=_SILENT_S) as response:
            files.save(_chunks(response), target, url, max_bytes)
    except (OSError, http.client.HTTPException, ValueError) as exc:
        if isinstance(exc, urllib.error.HTTPError):  # it is the answer, too
            exc.close()
        raise ArchiveError(f"{url} cannot be downloaded: {exc}") from exc


def _chunks(response: http.client.HTTPResponse) -> Iterator[bytes]:
    """The body, all of it: an end that comes early is an error."""
    while chunk := response.read(_CHUNK):
        yield chunk
    if response.length:
        raise http.client.IncompleteRead(b"", response.length)
