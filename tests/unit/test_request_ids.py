"""request_ids: which ids of clients are kept."""

from __future__ import annotations

import uuid

import pytest

from mms_handler.request_ids import request_id


@pytest.mark.parametrize("sent", ["a", "9f-A_b:c/d, e", "x" * 128, "~ !"])
def test_an_id_of_a_client(sent):
    assert request_id(sent) == sent


@pytest.mark.parametrize("sent", [None, "", "x" * 129, "é", "a\tb", "a\nb", "\x7f", "\x1b[2J"])
def test_a_new_id(sent):
    """Where the client's is no printable ASCII of 1 to 128 characters."""
    first, second = request_id(sent), request_id(sent)
    assert str(uuid.UUID(first)) == first
    assert first != second
