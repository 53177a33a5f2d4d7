"""reply_frame: which of a script's headers are sent, in MMS's own frame."""

from __future__ import annotations

import pytest
from mms.context import Context, RequestProcessor
from mms.protocol.otf_message_handler import create_predict_response

from mms_handler.worker.mms import reply_frame


def head(headers):
    """The type and headers that MMS writes into its frame for these headers of a script."""
    context = Context("m", "/m", {}, 1, None, "1.1.11")
    context.request_ids = {0: "an id"}
    context.request_processor = [RequestProcessor({})]
    response = reply_frame.response(b"1", "text/csv", 200, "OK", headers)
    reply_frame.set_head(0, response, context)
    reply_frame.shape(context, [b"1"])
    content_type = context.get_response_content_type(0)
    frame = create_predict_response([b"1"], {0: "an id"}, "Prediction success", 200, context)
    assert content_type.encode() in bytes(frame)
    assert context.get_response_headers(0) == {}
    return content_type.strip().split("\r\n")


def test_a_scripts_headers_are_sent():
    """With the letters that the script used."""
    assert head({"X-A": "1", "Set-Cookie": "b=2"}) == ["text/csv", "X-A: 1", "Set-Cookie: b=2"]


@pytest.mark.parametrize(
    "name",
    [
        *("x-request-id", "pragma", "cache-control", "expires"),  # MMS sets these
        *("connection", "content-length", "keep-alive", "proxy-authenticate"),
        *("proxy-authorization", "te", "trailer", "transfer-encoding", "upgrade"),
    ],
)
@pytest.mark.parametrize("change", [str.lower, str.title, str.upper])
def test_headers_that_are_not_a_scripts(name, change):
    """They are the front end's, in any case; the others are sent."""
    assert head({change(name): "1", "X-A": "2"}) == ["text/csv", "X-A: 2"]


@pytest.mark.parametrize(
    ("status", "phrase", "sent"),
    [
        (200, "", (200, "OK")),
        (200, None, (200, "OK")),
        (200, "Fine", (200, "Fine")),
        (201, "", (201, "")),
        (599, "a\r\nb é", (599, "a??b ?")),
        (404, 7, (404, "7")),
        (199, "", (500, "")),
        (600, "No", (500, "No")),
        ("200", "OK", (500, "OK")),
        (None, "", (500, "")),
    ],
)
def test_status_lines(status, phrase, sent):
    """Whatever a script sets, MMS can send what comes of it."""
    assert reply_frame.status_line(status, phrase) == sent


@pytest.mark.parametrize(
    ("name", "value", "kept"),
    [
        ("X-A", "1", True),
        ("!#$%&'*+.^_`|~09AZaz-", "", True),
        ("X-A", "x" * 4_096, True),
        ("X-A", "x" * 4_097, False),
        ("X-A", "a\r\nb", False),
        ("X-A", "é", False),
        ("X-A", 7, False),
        ("X A", "1", False),
        ("X:A", "1", False),
        ("", "1", False),
        (7, "1", False),
    ],
)
def test_headers_that_cannot_be_sent(name, value, kept, caplog):
    """They are left out, and the log says so."""
    headers = {"X-B": "2", name: value}
    reply_frame.drop_unsendable(headers)
    assert headers == ({"X-B": "2", name: value} if kept else {"X-B": "2"})
    assert len(caplog.messages) == (not kept)
    assert all(len(message) < 300 for message in caplog.messages)


@pytest.mark.parametrize("position", range(40))
def test_reads_do_not_end_at_a_block(position):
    """The four bytes behind the type never end a block of 16; as few spaces as that takes."""
    for length in range(1, 20):
        padded = reply_frame._padded("x" * length, position)
        assert padded.lstrip() == "x" * length
        spaces = len(padded) - length

        def inside(count, end=position + length):
            return 0 < (end + count) % 16 <= 12

        assert inside(spaces)
        assert not any(inside(count) for count in range(spaces))


def test_the_type_alone():
    """MMS asks for it, and must find no header to write by itself."""
    alone = reply_frame.TypeAlone("text/csv")
    assert (dict(alone), alone.get("content-type"), alone.get("x", 5)) == ({}, "text/csv", 5)


def test_without_a_type(caplog):
    """The frame has one nevertheless."""
    assert reply_frame._folded({}) == "application/octet-stream"
    assert reply_frame._folded({"Content-Type": "", "A": "1"}) == "application/octet-stream\r\nA: 1"
