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
    for name, value in headers.items():
        context.set_response_header(0, name, value)
    reply_frame.set_head(0, "text/csv", 200, "OK", context)
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
