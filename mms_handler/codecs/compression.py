"""Content-Encoding: undo the compression of a body."""

from __future__ import annotations

import re
import zlib

from mms_handler.errors import BadInput, TooLarge, UnsupportedType

_CHUNK_BYTES = 2**16

#: The limit of members, each of which is a gzip file.  An empty one takes 20 bytes.
MAX_MEMBERS = 1_000

#: zlib's number for a header and a checksum of gzip.
_GZIP = 16 + zlib.MAX_WBITS

_ZEROS = re.compile(rb"\0*")


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
    """Decompress the members of a gzip file, one after the other.

    Not by Python's gzip, which takes a call for each byte of padding or of a member's name.
    """
    chunks: list[bytes] = []
    size = at = members = 0
    while at < len(body):
        members += 1
        if members > MAX_MEMBERS:
            raise BadInput(f"the gzip body has more than {MAX_MEMBERS} members")
        member = zlib.decompressobj(wbits=_GZIP)
        while not member.eof:
            window = member.unconsumed_tail
            if not window:
                window = body[at : at + _CHUNK_BYTES]
                at += len(window)
            chunk = member.decompress(window, _CHUNK_BYTES)
            if not chunk and not window and not member.eof:
                raise EOFError("it is cut off")
            chunks.append(chunk)
            size += len(chunk)
            if size > limit_bytes:
                raise TooLarge(f"the body unpacks to more than the limit of {limit_bytes} bytes")
        at -= len(member.unused_data)
        zeros = _ZEROS.match(body, at)  # padding, which may follow a member
        at = zeros.end() if zeros else at
    return b"".join(chunks)
