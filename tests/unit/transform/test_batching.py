"""transform.batching: how many bodies are answered at a time."""

from __future__ import annotations

import pytest

from mms_handler.transform.batching import Ways


def batches(bodies, together_s, alone_s, chooses=True):
    """The sizes of the batches, if a body takes so long in a batch, and alone."""
    ways, start, sizes = Ways(chooses), 0, []
    while start < len(bodies):
        end = ways.end(bodies, start)
        count = end - start
        ways.took(count, alone_s if count == 1 else together_s * count)
        sizes.append(count)
        start = end
    return sizes


@pytest.mark.parametrize(
    ("body_bytes", "together_s", "alone_s", "expected"),
    [
        pytest.param(10, 1, 5, [256, 256, 1, 1, 256, 230], id="a small model"),
        pytest.param(10, 2, 1, [256, 256, *[1] * 488], id="a large model"),
        pytest.param(3 << 20, 1, 5, [2, 2, 1, 1, *[2] * 497], id="large bodies of a small model"),
        pytest.param(9 << 20, 1, 5, [1] * 1000, id="bodies larger than a batch"),
    ],
)
def test_both_ways_are_tried_twice_and_then_the_faster_one_is_taken(
    body_bytes, together_s, alone_s, expected
):
    body = bytes(body_bytes)
    assert batches([body] * 1000, together_s, alone_s) == expected


def test_times_do_not_always_decide():
    """Predictions together and alone may differ in their last digits."""
    assert batches([b"1"] * 1000, 2, 1, chooses=False) == [256, 256, 256, 232]


def test_a_first_time_does_not_decide():
    """It includes what is done once, such as binding the graph for so many rows."""
    ways, bodies = Ways(), [b"1"] * 1000
    ways.took(256, 256 * 9)
    ways.took(256, 256 * 1)
    ways.took(1, 2)
    ways.took(1, 3)
    assert ways.end(bodies, 0) == 256
