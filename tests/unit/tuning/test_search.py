"""tuning.search: which candidates are tried, which is preferred, and when it is really better."""

from __future__ import annotations

import dataclasses

import pytest

from mms_handler.manifest import Tuned
from mms_handler.settings import Settings
from mms_handler.tuning.candidate import Candidate, space
from mms_handler.tuning.search import confirm, judge, search, unconfirmed
from mms_handler.tuning.trial import Trial

DEFAULTS = Candidate()


def measuring(rates, tried=None):
    """A measurement by a function from candidate and round to replies a second."""

    def measure(candidate, number):
        if tried is not None:
            tried.append((candidate, number))
        return Trial(candidate, number, clients=8, rate=rates(candidate, number), p99_ms=3)

    return measure


TWO_CORES = space(2, (2, 1), 32, has_core=True, has_int8=False)


def test_what_is_tried_on_two_cores():
    """Beside what serve plans by itself; no choice without what it needs."""
    assert TWO_CORES.pairs == [(None, None), (1, 2), (1, 1), (4, 1)]
    assert TWO_CORES.batches == [None, 1, 8, 64]
    assert TWO_CORES.cores == (None, "off")
    assert TWO_CORES.graphs == (None,)
    other = space(2, (1, 2), 1, has_core=False, has_int8=True)
    assert other.pairs == [(None, None), (2, 1), (1, 1), (4, 1)]
    assert other.batches == [None]  # a handler that is not ours may know no batches
    assert other.cores == (None,)
    assert other.graphs == (None, "float")


def test_what_is_tried_on_sixteen_cores():
    pairs = space(16, (16, 1), 32, has_core=True, has_int8=False).pairs
    assert pairs[1:] == [(8, 2), (4, 4), (2, 8), (1, 16), (8, 1), (32, 1), (1, 1)]


def test_what_gains_in_one_choice_is_kept_for_the_next():
    """Batches of 64 are best, but only of one worker with two threads."""

    def rate(candidate, number):
        gain = 1.5 if candidate.threads == 2 else 1
        return 1000 * gain * (1.2 if candidate.batch_size == 64 and gain > 1 else 1)

    tried = []
    best, *others = search(TWO_CORES, measuring(rate, tried))
    assert best.candidate == Candidate(workers=1, threads=2, batch_size=64)
    assert best.rate == 1800
    assert tried[0] == (DEFAULTS, 0)
    assert len(tried) == len(set(tried)) == 1 + len(others)
    assert {number for _, number in tried} == {0}


def test_a_gain_within_two_percent_changes_nothing():
    def rate(candidate, number):
        return 1020 if candidate.batch_size == 8 else 1000

    tried = []
    search(TWO_CORES, measuring(rate, tried))
    assert len(tried) == 1 + 3 + 3 + 1  # one pass, each choice alone


@pytest.mark.parametrize(("rate", "is_better"), [(1030, False), (1031, True)])
def test_a_gain_counts_from_three_percent_on(rate, is_better):
    """In a search, and in the rounds that confirm."""
    eight = Candidate(batch_size=8)

    def rate_of(candidate, number):
        return rate if candidate.batch_size == 8 else 1000

    tried = []
    search(TWO_CORES, measuring(rate_of, tried))
    assert (Candidate(batch_size=8, core="off") in dict(tried)) is is_better
    rounds = {each: [Trial(each, 1, rate=rate_of(each, 1))] for each in (DEFAULTS, eight)}
    assert (judge(rounds).candidate == eight) is is_better


def test_what_is_best_together_may_take_a_second_pass():
    """One thread is better only without the core, which is tried after the threads."""

    def rate(candidate, number):
        if candidate.core != "off":
            return 1000
        return 1500 if candidate.workers == 4 else 1200

    best, *_ = search(TWO_CORES, measuring(rate))
    assert best.candidate == Candidate(workers=4, threads=1, core="off")


def test_a_search_sorts_what_it_measured():
    trials = search(TWO_CORES, measuring(lambda candidate, _: candidate.batch_size or 1))
    rates = [trial.rate for trial in trials]
    assert rates == sorted(rates, reverse=True)
    assert rates[0] == 64


def test_a_search_may_be_limited():
    tried = []
    assert len(search(TWO_CORES, measuring(lambda *_: 1000, tried), limit=2)) == 2
    tried.clear()
    default = measuring(lambda *_: 1000)(DEFAULTS, 0)
    verdict = confirm([default], measuring(lambda *_: 1000, tried))
    assert (verdict.candidate, verdict.rate, verdict.reason) == (
        DEFAULTS,
        1000,
        "the defaults are best",
    )
    assert tried == []  # there is nothing to confirm


def test_the_best_two_are_confirmed_beside_the_defaults_in_turn():
    first, second, third = (Candidate(batch_size=size) for size in (8, 1, 64))
    rates = {DEFAULTS: 1000, first: 1300, second: 1200, third: 1100}
    tried = []
    measure = measuring(lambda candidate, number: rates[candidate] + number, tried)
    short = [Trial(candidate, 0, rate=rate) for candidate, rate in rates.items()]
    verdict = confirm(sorted(short, key=lambda trial: -trial.rate), measure)
    assert [number for _, number in tried] == [1, 1, 1, 2, 2, 2, 3, 3, 3]
    assert [candidate for candidate, _ in tried] == [
        *(DEFAULTS, first, second),
        *(second, first, DEFAULTS),
        *(DEFAULTS, first, second),
    ]
    assert (verdict.candidate, verdict.rate, verdict.default_rate) == (first, 1302, 1002)
    assert (verdict.is_sure, verdict.reason) == (True, "")
    assert verdict.gain == pytest.approx(0.2994, abs=1e-4)


OTHER = Candidate(workers=1)


@pytest.mark.parametrize(
    ("default_rates", "rates", "reason"),
    [
        ((1000, 1010, 990), (900, 950, 940), "the defaults are best"),
        (
            (1000, 1010, 1200),
            (1100, 1300, 1250),
            "the defaults are best: the difference is within noise",
        ),
        (
            (1000, 1001, 1002),
            (1003, 1004, 1005),
            "the defaults are best: the difference is within noise",
        ),
        (
            (1000, 1010, 1200),
            (1200, 1300, 1250),
            "the defaults are best: the difference is within noise",
        ),
        ((1000, 1010, 1200), (1210, 1300, 1250), ""),
        ((0, 0, 0), (10, 11, 12), ""),
        ((0, 0, 0), (0, 0, 12), "the defaults are best"),
    ],
    ids=[
        "slower",
        "rounds that overlap",
        "too little",
        "rounds that touch",
        "faster",
        "defaults beyond the limits",
        "mostly beyond the limits",
    ],
)
def test_when_something_is_really_better(default_rates, rates, reason):
    """Each of its rounds is faster than each of the defaults', and it gains more than 3 %."""
    verdict = judge(
        {
            candidate: [
                Trial(candidate, number, rate=rate) for number, rate in enumerate(all_rates)
            ]
            for candidate, all_rates in ((DEFAULTS, default_rates), (OTHER, rates))
        }
    )
    assert verdict.reason == reason
    assert verdict.candidate == (DEFAULTS if reason else OTHER)
    assert verdict.is_sure is not reason.endswith("noise")


@pytest.mark.parametrize(
    ("rate", "best"), [(1090, DEFAULTS), (1110, OTHER)], ids=["a little", "much"]
)
def test_the_best_of_a_search_that_was_ended(rate, best):
    """It was not confirmed, so it must gain more than a tenth."""
    verdict = unconfirmed([Trial(DEFAULTS, 0, rate=1000), Trial(OTHER, 0, rate=rate)])
    assert (verdict.candidate, verdict.is_sure) == (best, False)
    assert unconfirmed([]).candidate == DEFAULTS


@pytest.mark.parametrize(("rate", "is_better"), [(1100, False), (1101, True)])
def test_an_unconfirmed_gain_counts_from_a_tenth_on(rate, is_better):
    """Rounds do not count: not all candidates may have one."""
    trials = [
        Trial(DEFAULTS, 1, rate=5000, p99_ms=9),
        Trial(DEFAULTS, 0, rate=1000, p99_ms=3),
        Trial(OTHER, 0, rate=rate, p99_ms=4),
        Trial(OTHER, 1, rate=9000, p99_ms=9),
    ]
    verdict = unconfirmed(trials)
    assert verdict == (
        (OTHER, 1101, 1000, 4, False, "")
        if is_better
        else (DEFAULTS, 1000, 1000, 3, False, "the defaults are the best so far")
    )
    assert unconfirmed(trials[2:]).candidate == DEFAULTS  # they were not measured


@pytest.mark.parametrize(
    ("rate", "default_rate", "gain"), [(1500, 1000, 0.5), (1000, 0, float("inf"))]
)
def test_the_gain(rate, default_rate, gain):
    verdict = unconfirmed([])._replace(rate=rate, default_rate=default_rate)
    assert verdict.gain == pytest.approx(gain)


def test_what_has_no_reply_is_not_confirmed():
    """The rounds of the others have the median of their latencies."""
    bad = Candidate(batch_size=1)

    def measure(candidate, number):
        return Trial(candidate, number, rate=100 * number, p99_ms=10.0 * number)

    tried = []
    short = [Trial(OTHER, 0, rate=9), Trial(DEFAULTS, 0, rate=8), Trial(bad, 0, reason="slow")]
    verdict = confirm(short, lambda *call: tried.append(call) or measure(*call))
    assert {candidate for candidate, _ in tried} == {DEFAULTS, OTHER}
    assert (verdict.candidate, verdict.p99_ms) == (DEFAULTS, 20)


def test_the_settings_of_a_candidate():
    """What it does not choose stays as it is."""
    others = Settings(workers=7, threads=3, port=81)
    settings = Candidate(threads=1, core="off").settings(others)
    assert settings == dataclasses.replace(others, threads=1, core="off")
    assert Candidate(threads=1).tuned(2.5) == Tuned(2.5, None, 1, None, None, None)


def test_a_candidate_differs_in_one_choice_at_a_time():
    here = Candidate(workers=1, threads=2, core="off")
    pairs, batches, cores, graphs = TWO_CORES.beside(here)
    others = [(None, None), (1, 1), (4, 1)]
    assert pairs == [here._replace(workers=count, threads=each) for count, each in others]
    assert batches == [here._replace(batch_size=size) for size in (1, 8, 64)]
    assert cores == [here._replace(core=None)]
    assert graphs == []


@pytest.mark.parametrize(
    ("cores", "planned", "pairs"),
    [
        (1, (1, 1), [(2, 1)]),
        (2, (2, 1), [(1, 2), (1, 1), (4, 1)]),
        (3, (3, 1), [(1, 2), (1, 3), (1, 1), (6, 1)]),
        (4, (4, 1), [(2, 2), (1, 4), (2, 1), (8, 1), (1, 1)]),
        (4, (1, 1), [(4, 1), (2, 2), (1, 4), (2, 1), (8, 1)]),
    ],
)
def test_workers_and_threads(cores, planned, pairs):
    """All cores in each way, half of them, twice as many workers, and one; each pair once."""
    made = space(cores, planned, 32, has_core=False, has_int8=False)
    assert made.pairs == [(None, None), *pairs]


@pytest.mark.parametrize(
    ("size", "batches"),
    [(1, [None]), (2, [None, 1, 8, 32, 64]), (8, [None, 1, 32, 64])],
)
def test_batch_sizes(size, batches):
    """That of the model is the default."""
    assert space(2, (2, 1), size, has_core=False, has_int8=False).batches == batches


def test_how_a_candidate_is_served():
    candidate = Candidate(workers=2, threads=1, batch_size=8, core="off", optimize="float")
    assert candidate.options() == (
        "MMS_HANDLER_CORE=off MMS_HANDLER_OPTIMIZE=float mms-handler serve --workers 2 --threads 1 "
        "--batch-size 8"
    )
    assert str(candidate) == "workers 2, threads 1, batch size 8, core off, optimize float"
    assert str(DEFAULTS) == "the defaults"
