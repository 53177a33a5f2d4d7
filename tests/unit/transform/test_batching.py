"""transform.batching: how many bodies are answered at a time."""

from __future__ import annotations

import pytest

from mms_handler.transform.batching import Ways


def batches(body_bytes, together_s, alone_s, chooses=True):
    """The sizes of the batches of 1,000 bodies, if each takes so long in a batch, and alone."""
    ways, start, counts = Ways(chooses), 0, []
    while start < 1_000:
        end = ways.end([body_bytes] * 1_000, start)
        count = end - start
        ways.took(count, alone_s if count == 1 else together_s * count)
        counts.append(count)
        start = end
    return counts


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
    assert batches(body_bytes, together_s, alone_s) == expected


def test_all_bodies_are_answered_in_their_order():
    answered = []

    def answer(start, end):
        answered.append(end - start)
        return range(start, end)

    assert Ways(chooses=False).run([4 << 20] * 5, answer) == [0, 1, 2, 3, 4]
    assert answered == [2, 2, 1]


def test_times_do_not_always_decide():
    """Predictions together and alone may differ in their last digits."""
    assert batches(1, 2, 1, chooses=False) == [256, 256, 256, 232]


def test_a_first_time_does_not_decide():
    """It includes what is done once, such as binding the graph for so many rows."""
    ways = Ways()
    ways.took(256, 256 * 9)
    ways.took(256, 256 * 1)
    ways.took(1, 2)
    ways.took(1, 3)
    assert ways.end([1] * 1000, 0) == 256
