"""reply: what a script's function returned becomes a body, a content type and a status."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from mms_handler.worker.reply import Reply, make_reply


def response(mimetype, status=201):
    """What a web framework's response looks like."""
    return SimpleNamespace(get_data=lambda: b"1,2", mimetype=mimetype, status_code=status)


@pytest.mark.parametrize(
    ("mimetype", "content_type"),
    [
        pytest.param("text/html", "text/html", id="the response's type"),
        pytest.param("", "text/csv", id="an empty type"),
        pytest.param(None, "text/csv", id="no type"),
    ],
)
def test_the_response_of_a_web_framework(mimetype, content_type):
    """Its status is kept; without a type the reply has the one that the client prefers."""
    reply = make_reply(response(mimetype), "text/csv, */*;q=0.1", "application/json")
    assert reply == Reply(b"1,2", content_type, 201)


@pytest.mark.parametrize("result", [None, b"", "", bytearray()])
def test_an_empty_body(result):
    """It has the client's type; for any type, the default."""
    assert make_reply(result, "text/csv", "application/json") == Reply(b"", "text/csv")
    assert make_reply(result, "*/*", "application/json") == Reply(b"", "application/json")
