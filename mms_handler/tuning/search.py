"""Search for the best candidate, and see whether it is really better than the defaults."""

from __future__ import annotations

import statistics
from typing import Callable, NamedTuple, Sequence

from mms_handler.tuning.candidate import Candidate, Space
from mms_handler.tuning.trial import Trial

#: What a candidate must gain to be preferred.
MIN_GAIN = 0.03

#: What the best must gain over the defaults to count where nothing confirmed it.
UNCONFIRMED_GAIN = 0.1

#: How many candidates are confirmed, and in how many rounds.
FINALISTS, ROUNDS = 2, 3

#: How often all choices are gone through.
_PASSES = 2

#: Measures a candidate in a round; 0 is a short trial.
Try = Callable[[Candidate, int], Trial]


def search(space: Space, measure: Try, limit: int | None = None) -> list[Trial]:
    """Change one choice after the other, and keep what gains.

    Args:
        space: what may be chosen.
        measure: measures a candidate.
        limit: how many candidates may be measured; None: as many as there are.

    Returns:
        A trial for each candidate that was measured, the best first.
    """
    trials = {Candidate(): measure(Candidate(), 0)}
    best = trials[Candidate()]
    for _ in range(_PASSES):
        for choice in range(len(space.beside(best.candidate))):
            candidates = space.beside(best.candidate)[choice]
            for candidate in candidates:
                if candidate not in trials and (limit is None or len(trials) < limit):
                    trials[candidate] = measure(candidate, 0)
            best = _best([best, *(trials[each] for each in candidates if each in trials)])
    return sorted(trials.values(), key=lambda trial: -trial.rate)


def _best(trials: Sequence[Trial]) -> Trial:
    """The best trial; the first one unless another gains enough."""
    best = max(trials, key=lambda trial: trial.rate)
    return best if best.rate > trials[0].rate * (1 + MIN_GAIN) else trials[0]


class Verdict(NamedTuple):
    """The best candidate.

    Fields:
        candidate: the settings; the defaults if nothing is better.
        rate: its replies a second.
        default_rate: those of the defaults.
        p99_ms: its 99th percentile.
        is_sure: whether each of its rounds was better than each of the defaults'.
        reason: why it is the best, for a person.
    """

    candidate: Candidate
    rate: float
    default_rate: float
    p99_ms: float
    is_sure: bool
    reason: str

    @property
    def gain(self) -> float:
        return self.rate / self.default_rate - 1 if self.default_rate else float("inf")


def confirm(trials: Sequence[Trial], measure: Try) -> Verdict:
    """Measure the best candidates and the defaults in turn, and compare them.

    Args:
        trials: the short trials, the best first.
        measure: measures a candidate.
    """
    good = [trial.candidate for trial in trials if trial.rate]
    finalists = [candidate for candidate in good if candidate != Candidate()][:FINALISTS]
    if not finalists:
        default = next(trial for trial in trials if trial.candidate == Candidate())
        return judge({Candidate(): [default]})
    entries = [Candidate(), *finalists]
    rounds: dict[Candidate, list[Trial]] = {candidate: [] for candidate in entries}
    for number in range(1, ROUNDS + 1):
        for candidate in entries if number % 2 else entries[::-1]:
            rounds[candidate].append(measure(candidate, number))
    return judge(rounds)


def judge(rounds: dict[Candidate, list[Trial]]) -> Verdict:
    """Compare the rounds of candidates with those of the defaults."""
    defaults = rounds[Candidate()]
    rates = {candidate: _median_rate(trials) for candidate, trials in rounds.items()}
    best = max(rates, key=lambda candidate: rates[candidate])
    default_rate = rates[Candidate()]
    if best == Candidate() or not rates[best]:
        return _verdict(Candidate(), rounds, rates, True, "the defaults are best")
    slowest = min(trial.rate for trial in rounds[best])
    is_sure = slowest > max(trial.rate for trial in defaults)
    if is_sure and rates[best] > default_rate * (1 + MIN_GAIN):
        return _verdict(best, rounds, rates, True, "")
    reason = "the defaults are best: the difference is within noise"
    return _verdict(Candidate(), rounds, rates, False, reason)


def _median_rate(trials: Sequence[Trial]) -> float:
    """The median; 0 if most rounds were not within the limits."""
    return statistics.median(trial.rate for trial in trials)


def _verdict(
    candidate: Candidate,
    rounds: dict[Candidate, list[Trial]],
    rates: dict[Candidate, float],
    is_sure: bool,
    reason: str,
) -> Verdict:
    p99_ms = statistics.median(trial.p99_ms for trial in rounds[candidate])
    return Verdict(candidate, rates[candidate], rates[Candidate()], p99_ms, is_sure, reason)


def unconfirmed(trials: Sequence[Trial]) -> Verdict:
    """The best of the short trials that there are, if the search was ended."""
    defaults = [trial for trial in trials if trial.candidate == Candidate() and not trial.round]
    default = defaults[0] if defaults else Trial(Candidate(), 0)
    best = max([default, *(trial for trial in trials if not trial.round)], key=lambda t: t.rate)
    if not defaults or best.rate <= default.rate * (1 + UNCONFIRMED_GAIN):
        best = default
    reason = "the defaults are the best so far" if best is default else ""
    return Verdict(best.candidate, best.rate, default.rate, best.p99_ms, False, reason)
