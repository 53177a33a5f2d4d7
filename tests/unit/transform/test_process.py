"""transform.process: how parts reach the process that has the model."""

from __future__ import annotations

import multiprocessing
import threading

import pytest

from mms_handler.transform.part import Part
from mms_handler.transform.process import receive, send


@pytest.mark.parametrize("size", [0, 1, 5_000_000])
def test_a_part_reaches_the_process_whole(size):
    """Also one that is larger than what a socket holds at once."""
    there, here = multiprocessing.get_context("spawn").Pipe()
    part = Part("in", 3, 7, 40, bytes(range(256)) * (size // 256) + b"x" * (size % 256), "a/b",
                "", 50, 9)  # fmt: skip
    sender = threading.Thread(target=send, args=(there, part))
    sender.start()
    assert receive(here) == part
    sender.join()
    there.close()
    with pytest.raises(EOFError):
        receive(here)


def test_a_part_that_is_cut_off():
    """The sender has died."""
    there, here = multiprocessing.get_context("spawn").Pipe()
    there.send((Part("in", 0, 1, 0, b"", "a/b", "", 5, 2), 5))
    there.close()
    with pytest.raises(EOFError):
        receive(here)
