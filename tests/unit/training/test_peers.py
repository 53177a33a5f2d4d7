"""training.peers: messages.  Hub and watch are tested in test_cluster."""

from __future__ import annotations

import pytest

from mms_handler.training import peers


@pytest.mark.parametrize("text", ["", "two\nlines\tof it", "é" * 2000, "\x1b[31mred\x00"])
def test_a_message_is_one_short_line(text):
    """Any text becomes one line of bounded length; what is received is printable."""
    line = peers.encode_message("failed", text)
    assert line.count(b"\n") == 1
    assert line.endswith(b"\n")
    assert len(line) <= peers.LINE_BYTES
    word, received = peers.decode_message(line[:-1])
    assert word == "failed"
    assert received.isprintable()
