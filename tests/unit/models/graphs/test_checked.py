"""checked: the quick way is used only for shapes for which it was seen to agree."""

from __future__ import annotations

import numpy as np
import pytest
from tiny_models import dense

from mms_handler.models.graphs import checked
from mms_handler.models.graphs.checked import Checked
from mms_handler.models.graphs.executors import Executors
from mms_handler.models.graphs.graph import of_module


class Runs:
    """Gives ``answer`` for any arrays, and counts its runs; raises ``answer`` if it is an error."""

    def __init__(self, answer):
        self.answer, self.count = answer, 0

    def __call__(self, arrays):
        self.count += 1
        if isinstance(self.answer, BaseException):
            raise self.answer
        return self.answer


def rows(*shape):
    return [np.zeros(shape, np.float32)]


def check(best, quick, max_rows=1):
    executors = Executors(of_module(dense()), max_rows)
    return Checked(
        "the quick way", best, quick, lambda expected, values: expected == values, executors
    )


def test_the_first_arrays_of_a_shape_are_run_both_ways():
    """Further arrays with samples of that shape are run the quick way alone."""
    best, quick = Runs("answer"), Runs("answer")
    run = check(best, quick)
    for arrays in (rows(1, 2), rows(1, 2), rows(5, 2)):
        assert run(arrays) == "answer"
    assert (best.count, quick.count) == (1, 3)
    assert run.agreed(rows(7, 2))
    assert not run.agreed(rows(7, 3))


def test_dependent_rows_are_compared_for_each_number():
    """Agreement for one row says nothing of two, if rows may depend on each other."""
    best, quick = Runs("answer"), Runs("answer")
    run = check(best, quick, max_rows=None)
    for arrays in (rows(1, 2), rows(2, 2), rows(2, 2)):
        run(arrays)
    assert (best.count, quick.count) == (2, 3)


@pytest.mark.parametrize("answer", ["another", ZeroDivisionError()], ids=["disagrees", "fails"])
def test_a_quick_way_that_does_not_agree_is_not_used(caplog, answer):
    """The best way answers from the first arrays on; the log says so once."""
    best, quick = Runs("answer"), Runs(answer)
    run = check(best, quick)
    for _ in range(3):
        assert run(rows(1, 2)) == "answer"
    assert (best.count, quick.count) == (3, 1)
    assert caplog.messages == [
        "the quick way disagrees for shapes ((2,),); it is not used for them"
    ]


def test_a_quick_way_that_fails_later_is_replaced_once():
    """The best way answers that request, and the quick way is tried again for the next."""
    best, quick = Runs("answer"), Runs("answer")
    run = check(best, quick)
    run.trust(rows(1, 2))
    quick.answer = MemoryError()
    assert run(rows(1, 2)) == "answer"
    quick.answer = "answer"
    assert run(rows(1, 2)) == "answer"
    assert (best.count, quick.count) == (1, 2)


class TimeIsUp(BaseException):
    """Like a request's deadline."""


def test_a_deadline_ends_both_ways():
    """The best way is not started, and nothing is concluded about the quick way."""
    best, quick = Runs("answer"), Runs(TimeIsUp())
    run = check(best, quick)
    with pytest.raises(TimeIsUp):
        run(rows(1, 2))
    run.trust(rows(1, 2))
    with pytest.raises(TimeIsUp):
        run(rows(1, 2))
    assert (best.count, quick.count) == (0, 2)


def test_new_values_are_compared_anew():
    """After ``forget`` the first arrays of a shape are run both ways again."""
    best, quick = Runs("answer"), Runs("answer")
    run = check(best, quick)
    run(rows(1, 2))
    run.forget()
    quick.answer = "another"
    assert run(rows(1, 2)) == "answer"
    assert not run.agreed(rows(1, 2))


def test_shapes_beyond_the_limit_are_run_the_best_way(monkeypatch):
    """Without being compared; those compared before stay quick."""
    monkeypatch.setattr(checked, "SHAPES", 2)
    best, quick = Runs("answer"), Runs("answer")
    run = check(best, quick)
    for width in (1, 2, 3, 3, 1):
        assert run(rows(1, width)) == "answer"
    assert (best.count, quick.count) == (4, 3)
