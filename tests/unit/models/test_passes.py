"""passes: data of one kind share a pass if that was proven right, and fail alone."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from mms_handler.errors import Failed, attempt
from mms_handler.models import passes
from mms_handler.models.passes import Passes


def two(*values):
    """Rows of two values, float32."""
    return np.array(values, np.float32).reshape(-1, 2)


class Run:
    """Doubles the data, fails if there is a 13 among them, and records the rows of each pass."""

    def __init__(self):
        self.passes = []

    def __call__(self, x):
        self.passes.append(len(x))
        if (x == 13).any():
            raise ZeroDivisionError("thirteen")
        return x * 2


def values(predictions):
    """Each predictions as a list, or the arguments of what was raised in its place."""
    return [p.exc.args if isinstance(p, Failed) else p.tolist() for p in predictions]


def test_one_pass_for_all_of_a_kind():
    """Data of two kinds take two passes; predictions are in the order of the data."""
    run = Run()
    wide = np.array([[1, 1, 1]], np.float32)
    predictions = Passes(run, True)([two(1, 2), wide, two(3, 4, 5, 6), wide * 2])
    assert values(predictions) == [
        [[2, 4]],
        [[2, 2, 2]],
        [[6, 8], [10, 12]],
        [[4, 4, 4]],
    ]
    assert sorted(run.passes) == [2, 3]


def test_a_datum_that_fails_fails_alone():
    """If a shared pass fails, each of its data is run alone."""
    run = Run()
    predictions = Passes(run, True)([two(1, 2), two(13, 0), two(3, 4)])
    assert values(predictions) == [[[2, 4]], ("thirteen",), [[6, 8]]]
    assert run.passes == [3, 1, 1, 1]


def test_sys_exit_is_one_requests_failure():
    """Whatever is raised is the failure of the request that raised it."""

    def run(x):
        if x[0, 0] == 13:
            raise SystemExit(3)
        return x

    predictions = Passes(run, True)([two(13, 0), two(1, 2)])
    assert isinstance(predictions[0].exc, SystemExit)
    assert predictions[1].tolist() == [[1, 2]]


def test_a_pass_takes_at_most_64_mb():
    """Of seventeen data of 4 MB, sixteen share the first one."""
    run = Run()
    Passes(run, True)([np.zeros((1, 2**20), np.float32)] * 17)
    assert run.passes == [16, 1]


def test_never_shared():
    """Each datum has its own pass."""
    run = Run()
    assert values(Passes(run, False)([two(1, 2), two(3, 4)])) == [[[2, 4]], [[6, 8]]]
    assert run.passes == [1, 1]


def test_a_new_kind_is_tried_once():
    """Random data of the kind are run twice alone and once together; from then on data share."""
    run = Run()
    together = Passes(run, None)
    together([two(1.5, 2)])
    assert run.passes == [1]  # nothing to share
    together([two(1.5, 2), two(3, 4)])
    assert run.passes == [1, 1, 1, 2, 2]
    together([two(1.5, 2)] * 5)
    assert run.passes == [1, 1, 1, 2, 2, 5]


def test_a_kind_that_must_not_share_is_run_alone():
    """The trial shows it, and each gets what it gets alone."""
    together = Passes(lambda x: x + x.mean(axis=0), None)
    assert values(together([two(1, 2), two(3, 4)])) == [[[2, 4]], [[6, 8]]]
    assert together.may_share(two(1, 2)) is False


def test_the_number_of_kinds_is_bounded():
    """Data of further kinds are run alone, without a trial each time."""
    together = Passes(lambda x: x * 2, None)
    for width in range(1, passes.KINDS + 1):
        assert together.may_share(np.ones((1, width)))
    assert not together.may_share(np.ones((1, passes.KINDS + 1)))


def test_a_stack_is_bounded(monkeypatch):
    """Data that do not fit one stack take another."""
    monkeypatch.setattr(passes, "STACK_BYTES", 3 * 8)
    run = Run()
    predictions = Passes(run, True)([two(i, i) for i in range(8)])
    assert values(predictions) == [[[2 * i, 2 * i]] for i in range(8)]
    assert run.passes == [3, 3, 2]


def mixed():
    """Lists of rows of a few widths; some fail."""
    row = st.integers(-20, 20)
    return st.lists(
        st.integers(1, 3).flatmap(
            lambda width: st.lists(
                st.lists(row, min_size=width, max_size=width), min_size=1, max_size=3
            )
        ),
        max_size=8,
    )


@settings(max_examples=100)
@given(mixed())
def test_each_gets_what_it_gets_alone(bodies):
    """For random data, good or failing, of several kinds: the same values or failure, in order."""
    data = [np.array(body, np.float32) for body in bodies]
    alone = [attempt(Run(), datum) for datum in data]
    for shared in (True, False, None):
        assert values(Passes(Run(), shared)(data)) == values(alone)


def test_an_inconclusive_pair_decides_nothing():
    """Whole numbers come first and agree, but may hide it; random values show that rows mix."""

    def run(x):
        return x * 2 if (x == np.round(x)).all() else x * 2 + x.mean()

    assert Passes(run, None).proven(two(1, 2)) is False
    assert Passes(lambda x: x * 2, None).proven(two(1, 2)) is True


def test_whole_numbers_alone_can_agree():
    """A model of tokens takes nothing else, so what agrees with them is enough."""

    def tokens(x):
        if not (x == np.round(x)).all():
            raise ValueError("not tokens")
        return x * 2

    assert Passes(tokens, None).proven(two(1, 2, 3, 4)) is True


def test_data_of_a_new_kind_run_alone_if_nothing_may_be_tried():
    run = Run()
    shared = Passes(run, None)
    shared.tries = False
    assert [each.tolist() for each in shared([two(1, 2), two(3, 4)])] == [[[2, 4]], [[6, 8]]]
    assert run.passes == [1, 1]
    shared.tries = True
    shared([two(1, 2), two(3, 4)])
    assert run.passes[-1] == 2


def test_what_another_process_found_is_not_tried():
    """For data of the same kind, whatever their number of rows."""
    for may_share, sizes in ((True, [3]), (False, [1, 2])):
        run = Run()
        shared = Passes(run, None)
        shared.learn(np.zeros((5, 2), np.float32), may_share)
        assert [each.tolist() for each in shared([two(1, 2), two(3, 4, 5, 6)])] == [
            [[2, 4]],
            [[6, 8], [10, 12]],
        ]
        assert run.passes == sizes
