"""Fetch a model from an address, if the address is on a list.

MMS itself would fetch any address that a request names, follow redirects, and trust an ETag
(ModelArchive.java).  So this package passes only files to MMS.
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

from mms_handler.archive import files, s3
from mms_handler.archive.safety import MAX_BYTES
from mms_handler.errors import ArchiveError
from mms_handler.names import check_name

ALLOWED = "MMS_HANDLER_ALLOWED_URLS"

_PORTS = {"http": 80, "https": 443, "s3": None}
_FILE_NAME = re.compile(r"(.+?)(\.mar|\.tar\.gz|\.tgz)")
_TIMEOUT_S = 60  # without a byte from the server
_CHUNK = 2**18  # bytes


def fetch(url: str, folder: Path, allowed: Sequence[str], *, max_bytes: int = MAX_BYTES) -> Path:
    """Download the model at ``url`` into ``folder``.  It is not verified.

    Args:
        url: http://, https:// or s3:// address of a ``.mar`` or a model.tar.gz; or of a folder in
            S3, s3://bucket/folder/.
        folder: where to write the file or folder, which is named after the last part of the
            address.
        allowed: prefixes of addresses, in whole path segments: https://host/models allows
            https://host/models/a.mar but not https://host/models2/a.mar.
        max_bytes: the largest download allowed.

    Returns:
        The path of the file or folder.

    Raises:
        ArchiveError: the address, or one that it redirects to, is not allowed; or the download
            fails or is too large.
    """
    check_url(url, allowed)
    name = _name(url)
    target = folder / name
    files.check_free(target, force=False)
    with tempfile.TemporaryDirectory(prefix=".mms-handler-", dir=folder) as scratch:
        download = Path(scratch) / name
        if _is_s3(url):
            s3.download(url, download, max_bytes=max_bytes)
        else:
            _download(url, download, allowed, max_bytes)
        os.replace(download, target)
    return target


def _is_s3(url: str) -> bool:
    return urlsplit(url).scheme.lower() == "s3"


def _name(url: str) -> str:
    """The name of the file or folder at ``url``.

    Raises:
        ArchiveError: it cannot be a model's.
    """
    path = unquote(urlsplit(url).path)
    if _is_s3(url) and path.endswith("/"):
        return check_name(path[:-1].rpartition("/")[2])
    match = _FILE_NAME.fullmatch(path.rpartition("/")[2])
    if not match:
        raise ArchiveError(
            f"{url} is not an archive's address: expected .mar, .tar.gz or .tgz, or a folder "
            "in S3, which ends with /"
        )
    check_name(match[1])
    return match[0]


# --- allowed addresses -----------------------------------------------------------------------


class _Address(NamedTuple):
    """Where a URL leads, however it is spelled."""

    scheme: str
    host: str
    port: int | None
    segments: tuple[str, ...]


def check_url(url: str, allowed: Sequence[str]) -> None:
    """Check that an archive may be fetched from ``url``.

    Raises:
        ArchiveError: ``url`` is not allowed; names the variable with the list.
    """
    address = _address(url)
    for prefix in map(_allowed_address, allowed):
        length = len(prefix.segments)
        if prefix == address._replace(segments=address.segments[:length]):
            return
    raise ArchiveError(f"{url} is not fetched: no address in {ALLOWED} allows it")


def _allowed_address(url: str) -> _Address:
    try:
        return _address(url)
    except ArchiveError as exc:
        raise ArchiveError(f"{ALLOWED}: {exc}") from exc


def _address(url: str) -> _Address:
    """Where ``url`` leads.

    Raises:
        ArchiveError: ``url`` is ambiguous, or not an address of a host and a path.
    """
    try:
        parsed = urlsplit(url)
        scheme, path = parsed.scheme.lower(), unquote(parsed.path)
        port = parsed.port or _PORTS[scheme]
    except (ValueError, KeyError) as exc:
        raise ArchiveError(
            f"{url} is not an address: expected http://, https:// or s3://, a host and a path"
        ) from exc
    path = re.sub(r"^/|/$", "", path)
    segments = tuple(path.split("/")) if path else ()
    dots = any(segment.partition(";")[0] in ("", ".", "..") for segment in segments)
    odd = re.search(r"[\x00-\x20\x7f\\]", url) or "@" in parsed.netloc or "%" in path
    if dots or odd or not parsed.hostname:
        raise ArchiveError(f"{url} is not fetched: the address is ambiguous")
    return _Address(scheme, parsed.hostname.rstrip("."), port, segments)


# --- http ------------------------------------------------------------------------------------


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects to allowed addresses only."""

    def __init__(self, allowed: Sequence[str]) -> None:
        self._allowed = allowed

    def redirect_request(
        self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str
    ) -> Any:
        check_url(newurl, self._allowed)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _download(url: str, target: Path, allowed: Sequence[str], max_bytes: int) -> None:
    opener = urllib.request.build_opener(_Redirects(allowed))
    try:
        with opener.open(url, timeout=_TIMEOUT_S) as response:
            files.save(_chunks(response), target, url, max_bytes)
    except (OSError, http.client.HTTPException, ValueError) as exc:
        if isinstance(exc, urllib.error.HTTPError):  # it holds the response
            exc.close()
        raise ArchiveError(f"{url} cannot be downloaded: {exc}") from exc


def _chunks(response: http.client.HTTPResponse) -> Iterator[bytes]:
    """The whole body in chunks; a body that ends early is an error."""
    while chunk := response.read(_CHUNK):
        yield chunk
    if response.length:
        raise http.client.IncompleteRead(b"", response.length)
