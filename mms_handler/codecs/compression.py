"""Content-Encoding: undo the compression of a body."""

from __future__ import annotations

import gzip
import io
import zlib

from mms_handler.errors import BadInput, TooLarge, UnsupportedType

_CHUNK_BYTES = 2**16


def decompress(body: bytes, content_encoding: str, limit_bytes: int) -> bytes:
    """Undo a Content-Encoding, in little more memory than ``limit_bytes``.

    Args:
        body: as received.
        content_encoding: the header as sent: gzip, x-gzip, identity or "".
        limit_bytes: the limit of the unpacked body.  A body that is not compressed is not checked.

    Raises:
        UnsupportedType: the encoding is another one, or there are several.
        TooLarge: the body unpacks to more than ``limit_bytes``.
        BadInput: the body is not gzip, or is cut off.
    """
    coding = content_encoding.strip().lower()
    if coding in ("", "identity"):
        return body
    if coding not in ("gzip", "x-gzip"):
        raise UnsupportedType(
            f"cannot read Content-Encoding {content_encoding[:40]!r}, only gzip, x-gzip, identity"
        )
    try:
        return _gunzip(body, limit_bytes)
    except (OSError, EOFError, zlib.error) as exc:
        raise BadInput(f"the body is not valid gzip: {exc}") from exc


def _gunzip(body: bytes, limit_bytes: int) -> bytes:
    chunks: list[bytes] = []
    size = 0
    with gzip.GzipFile(fileobj=io.BytesIO(body)) as stream:
        while True:
            chunk = stream.read(_CHUNK_BYTES)
            if not chunk:
                return b"".join(chunks)
            chunks.append(chunk)
            size += len(chunk)
            if size > limit_bytes:
                raise TooLarge(f"the body unpacks to more than the limit of {limit_bytes} bytes")
