"""Bodies of text: bytes to str, by the charset in Content-Type."""

from __future__ import annotations

import codecs

from mms_handler.errors import BadInput, UnsupportedType
from mms_handler.media import charset

#: Charsets that both IANA and Python know.  Python's other codecs are not allowed: some decompress,
#: some take quadratic time, and some are not text.
CHARSETS = (
    *("utf-8", "utf8", "utf-16", "utf-16le", "utf-16be", "utf-32", "us-ascii", "ascii"),
    *("iso-8859-1", "latin-1", "latin1", "iso-8859-15", "windows-1252", "cp1252"),
    *("shift_jis", "euc-jp", "gb2312", "gbk", "gb18030", "big5", "euc-kr"),
)


def text(body: bytes | str, content_type: str = "") -> str:
    """Decode a body to str, without a byte order mark; UTF-8 unless a charset is named.

    Raises:
        BadInput: the body is not text in its charset.
        UnsupportedType: the charset is not one of CHARSETS.
    """
    if isinstance(body, str):
        return body
    name = charset(content_type) or "utf-8"
    if name not in CHARSETS:
        raise UnsupportedType(f"cannot read charset {name[:40]!r}, only {', '.join(CHARSETS)}")
    try:
        decoded = body.decode(name)
    except UnicodeDecodeError as exc:
        reason = f"{exc.reason} at byte {exc.start}"
        raise BadInput(f"the body is not {name.upper()}: {reason}") from None
    return decoded[1:] if decoded.startswith("\ufeff") else decoded


def utf8(body: bytes | str, content_type: str = "") -> bytes | None:
    """A text body as UTF-8; None if it has another charset or a byte order mark.

    The bytes are not checked; they may not be valid UTF-8.
    """
    if isinstance(body, str):
        body = body.encode("utf-8", "surrogatepass")
    elif charset(content_type) not in ("", "utf-8", "utf8"):
        return None
    return None if body.startswith(codecs.BOM_UTF8) else body
