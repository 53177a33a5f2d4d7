"""codecs.text: charsets, and codecs.decompress: Content-Encoding."""

from __future__ import annotations

import gzip
import tracemalloc
import zlib

import pytest

from mms_handler import codecs
from mms_handler.errors import BadInput, TooLarge, UnsupportedType


@pytest.mark.parametrize(
    ("body", "content_type", "text"),
    [
        ("é".encode(), "", "é"),
        (b"\xef\xbb\xbf1", "text/csv", "1"),
        ("é".encode(), "text/csv; charset=UTF-8", "é"),
        (b"\xef\xbb\xbf1", 'text/csv; charset="utf8"', "1"),
        (b"\xe9", "text/csv; header=absent; Charset=ISO-8859-1", "é"),
        (b"\xe9", "text/csv;charset=latin-1", "é"),
        (b"\x80", "text/csv;charset=windows-1252", "€"),
        ("é".encode("utf-16"), "text/csv;charset=utf-16", "é"),
        ("\ufeffé".encode("utf-16-le"), "text/csv;charset=utf-16le", "é"),
        ("日".encode("shift_jis"), "text/csv;charset=Shift_JIS", "日"),
        ("é", "text/csv;charset=none", "é"),
    ],
)
def test_text_is_read_by_its_charset(body, content_type, text):
    """Without a charset it is UTF-8; a byte order mark is dropped; str stays as it is."""
    assert codecs.text(body, content_type) == text


def test_text_needs_no_content_type():
    assert codecs.text("é".encode()) == "é"


@pytest.mark.parametrize("charset", ["klingon", "zlib", "hex", "rot13", "idna", "unicode_escape"])
def test_an_unknown_charset_is_refused_with_a_list_of_the_known_ones(charset):
    """Python's codecs that unpack, are slow, or are not charsets are unknown too."""
    with pytest.raises(UnsupportedType, match=f"^cannot read charset '{charset}', only utf-8, "):
        codecs.decode(b"[1]", f"application/json; charset={charset}")


def test_text_that_is_not_of_its_charset():
    with pytest.raises(BadInput) as caught:
        codecs.text(b"1\xe9", "text/csv; charset=us-ascii")
    assert str(caught.value) == "the body is not US-ASCII: ordinal not in range(128) at byte 1"


@pytest.mark.parametrize(
    ("body", "encoding"),
    [
        pytest.param(b"abc", "", id="none"),
        pytest.param(b"abc", "identity", id="identity"),
        pytest.param(gzip.compress(b"abc"), "gzip", id="gzip"),
        pytest.param(gzip.compress(b"abc"), " X-GZip ", id="its old name, in any case"),
        pytest.param(gzip.compress(b"a") + gzip.compress(b"bc"), "gzip", id="two pieces"),
        pytest.param(gzip.compress(b"abc") + bytes(9), "gzip", id="zeros behind it"),
    ],
)
def test_decompress(body, encoding):
    """gzip is undone, also in pieces or with zeros after it; an uncompressed body is kept."""
    assert codecs.decompress(body, encoding, 3) == b"abc"


@pytest.mark.parametrize("encoding", ["br", "deflate", "gzip, gzip", "gzip;q=1"])
def test_an_unknown_encoding_is_refused_with_a_list_of_the_known_ones(encoding):
    with pytest.raises(UnsupportedType) as caught:
        codecs.decompress(b"abc", encoding, 3)
    assert str(caught.value) == (
        f"cannot read Content-Encoding {encoding!r}, only gzip, x-gzip, identity"
    )


WHOLE = gzip.compress(b"abc" * 100)


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"abc", id="no gzip"),
        pytest.param(WHOLE[:-1], id="cut in its check"),
        pytest.param(WHOLE[:15], id="cut in its data"),
        pytest.param(WHOLE[:5], id="cut in its header"),
        pytest.param(WHOLE[:-8] + b"\x00" + WHOLE[-7:], id="another checksum"),
        pytest.param(WHOLE[:10] + b"\xff" * 20, id="not deflated"),
        pytest.param(WHOLE + b"abc", id="more behind it"),
        pytest.param(zlib.compress(b"abc"), id="zlib"),
    ],
)
def test_broken_gzip(body):
    """It is the client's fault: BadInput."""
    with pytest.raises(BadInput, match="the body is not valid gzip: "):
        codecs.decompress(body, "gzip", 10_000)


def test_a_bomb_stops_at_the_limit():
    """A small body that unpacks to 256 MiB takes little more memory than the limit."""
    body = gzip.compress(bytes(2**28))
    tracemalloc.start()
    try:
        with pytest.raises(
            TooLarge, match="^the body unpacks to more than the limit of 1000000 bytes$"
        ):
            codecs.decompress(body, "gzip", 1_000_000)
        assert tracemalloc.get_traced_memory()[1] < 3_000_000
    finally:
        tracemalloc.stop()


def test_the_limit_itself_is_allowed():
    assert len(codecs.decompress(gzip.compress(bytes(1_000)), "gzip", 1_000)) == 1_000
    with pytest.raises(TooLarge, match="unpacks to more than the limit of 1000 bytes$"):
        codecs.decompress(gzip.compress(bytes(1_001)), "gzip", 1_000)


def test_members_names_and_padding():
    """Members follow each other, with names, comments and zeros, as gzip allows."""
    one = gzip.compress(b"one")
    named = one[:3] + b"\x18" + one[4:10] + b"n" * 100_000 + b"\0comment\0" + one[10:]
    body = one + bytes(100_000) + named + gzip.compress(b"two") + bytes(9)
    assert codecs.decompress(body, "gzip", 100) == b"oneonetwo"
    assert codecs.decompress(b"", "gzip", 100) == b""
    with pytest.raises(BadInput, match="^the body is not valid gzip: "):
        codecs.decompress(body + b"more", "gzip", 100)


def test_very_many_members_are_refused():
    """An empty one takes 20 bytes and ten microseconds."""
    member = gzip.compress(b"")
    assert codecs.decompress(member * 1_000, "gzip", 100) == b""
    with pytest.raises(BadInput, match="^the gzip body has more than 1000 members$"):
        codecs.decompress(member * 1_001, "gzip", 100)
