"""Measure candidates on servers of their own, within the limits."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, Callable, NamedTuple, Sequence

from mms_handler import __version__, archive
from mms_handler.bench import target as targets
from mms_handler.bench.measuring import default_processes, measure
from mms_handler.bench.order import Load, Timing
from mms_handler.bench.result import Measured, Result
from mms_handler.bench.target import Request
from mms_handler.codecs import compiled
from mms_handler.errors import HandlerError, ServerError
from mms_handler.manifest import HANDLER, Manifest
from mms_handler.server import sizing
from mms_handler.server.machine import this_machine
from mms_handler.settings import Settings
from mms_handler.settings.defaults import DEFAULT_BATCH_SIZE
from mms_handler.tuning.candidate import Candidate, Space, space
from mms_handler.tuning.search import FINALISTS
from mms_handler.tuning.trial import State, Trial

#: Clients with which each candidate is measured.
CLIENTS = (2, 8, 32)

#: How much longer than a short trial a round that confirms is.
_LONGER = 2


class Limits(NamedTuple):
    """What a candidate may need.

    Fields:
        p99_ms: its 99th percentile at most; 0: no limit.
        memory_mb: its memory at most; 0: no limit.
    """

    p99_ms: float = 0
    memory_mb: int = 0


class Interrupted(Exception):
    """Ctrl-C ended a trial."""


class Tuner:
    """Tries candidates for one model.

    Attributes:
        space: what may be chosen.
        watch: called with a line's start and what is measured, while a trial runs.
    """

    def __init__(
        self,
        path: Path,
        request: Request,
        settings: Settings,
        limits: Limits,
        timing: Timing,
    ) -> None:
        """Tune the model at ``path``, with this request; ``settings`` has what is not tuned."""
        self._path, self._settings = path, settings
        self._limits, self._timing = limits, timing
        packed = _manifest(path)
        has_int8 = bool(packed and packed.quantized)
        # The int8 graph and the model's own have different replies.
        self._request = request._replace(reply=None) if has_int8 else request
        self.space = _space(path, settings, packed)
        self.watch: Callable[[str, Measured], None] = lambda start, measured: None
        self.note: Callable[[str], None] = lambda line: None

    def key(self) -> dict[str, Any]:
        """What is tuned, and how, for the state."""
        machine = this_machine()
        return {
            "model": _digest(self._path),
            "request": hashlib.sha256(self._request.body).hexdigest(),
            "limits": list(self._limits),
            "timing": list(self._timing),
            "cpus": machine.cpus,
            "version": __version__,
        }

    def trying(self, state: State) -> Callable[[Candidate, int], Trial]:
        """A function that measures a candidate, unless the state has the trial already."""

        def measured(candidate: Candidate, number: int) -> Trial:
            trial = state.find(candidate, number)
            if trial is None:
                clients = clients_of_rounds(state.trials) if number else CLIENTS
                trial = self._try(candidate, number, clients)
                state.add(trial)
            return trial

        return measured

    def _try(self, candidate: Candidate, number: int, clients: Sequence[int]) -> Trial:
        start = f"round {number}, {candidate}: " if number else f"{candidate}: "
        self.note(start)
        settings = candidate.settings(self._settings)
        try:
            with targets.served(self._path, settings, self._ignore, use_tuned=False) as url:
                target = targets.asked_once(url, self._request)
                results = []
                for count in clients:
                    result, whole = measure(
                        target,
                        Load(clients=count),
                        self._timing_of(number),
                        processes=default_processes(),
                        watch=lambda measured: self.watch(start, measured),
                    )
                    if not whole:
                        raise Interrupted
                    results.append(result)
        except HandlerError as exc:
            return Trial(candidate, number, reason=str(exc).splitlines()[0])
        return best_within(candidate, number, results, self._limits)

    def _timing_of(self, number: int) -> Timing:
        longer = _LONGER if number else 1
        return self._timing._replace(seconds=longer * self._timing.seconds)

    def _ignore(self, line: str) -> None:
        """A trial's log would hide the trials."""


def clients_of_rounds(trials: Sequence[Trial]) -> Sequence[int]:
    """The numbers of clients for the rounds, the same for all candidates.

    They are those with which the finalists or the defaults were best: one short trial may have
    been disturbed.
    """
    short = [trial for trial in trials if trial.rate and not trial.round]
    best = sorted(short, key=lambda trial: -trial.rate)[: FINALISTS + 1]
    defaults = [trial for trial in short if trial.candidate == Candidate()]
    return sorted({trial.clients for trial in [*best, *defaults]}) or CLIENTS


def best_within(
    candidate: Candidate, number: int, results: Sequence[Result], limits: Limits
) -> Trial:
    """The trial that is known by its best result within the limits."""
    trials = [_trial(candidate, number, result, limits) for result in results]
    return max(trials, key=lambda trial: (trial.rate, not trial.reason))


def _trial(candidate: Candidate, number: int, result: Result, limits: Limits) -> Trial:
    measured, used = result.measured, result.used
    mb = used.front_mb + used.workers_mb if used else 0.0
    p99_ms = measured.ms(99) if measured.latencies.total_count else 0.0
    reason = ""
    if not result.is_good:
        reason = f"{measured.errors} errors, {measured.wrong} wrong replies"
    elif limits.p99_ms and p99_ms > limits.p99_ms:
        reason = f"p99 {p99_ms:.1f} ms"
    elif limits.memory_mb and mb > limits.memory_mb:
        reason = f"{mb:.0f} MB"
    rate = 0.0 if reason else round(result.rate, 1)
    return Trial(candidate, number, measured.load.clients, rate, p99_ms, round(mb, 1), reason)


def _manifest(path: Path) -> Manifest | None:
    return archive.manifest_of(path) if path.suffix == ".mar" else None


def _space(path: Path, settings: Settings, packed: Manifest | None) -> Space:
    machine = this_machine()
    plan = sizing.plan(machine, settings, [archive.size(path)])
    is_own_handler = packed is None or packed.handler == HANDLER
    return space(
        max(1, int(machine.cpus)),
        (plan.workers, plan.threads),
        DEFAULT_BATCH_SIZE if is_own_handler else 1,
        has_core=compiled.core is not None,
        has_int8=bool(packed and packed.quantized),
    )


def _digest(path: Path) -> str:
    """A hash of a model's files, without the settings that tuning writes."""
    if path.is_file():
        packed = _manifest(path)
        if packed and packed.hashes:
            return hashlib.sha256(repr(sorted(packed.hashes.items())).encode()).hexdigest()
        return hashlib.sha256(path.read_bytes()).hexdigest()
    digest = hashlib.sha256()
    for name, file in archive.contents(path).items():
        digest.update(f"{name} {file.stat().st_size} {file.stat().st_mtime_ns}\n".encode())
    return digest.hexdigest()


def check_fits(trials: Sequence[Trial], limits: Limits) -> None:
    """Check that some trial is within the limits.

    Raises:
        ServerError: none is; says what the best needs.
    """
    if any(trial.rate for trial in trials):
        return
    reasons = "; ".join(f"{trial.candidate}: {trial.reason}" for trial in trials[:3])
    options = [
        *([f"--p99-ms {limits.p99_ms:g}"] if limits.p99_ms else []),
        *([f"--memory-mb {limits.memory_mb}"] if limits.memory_mb else []),
    ]
    raise ServerError(
        f"nothing keeps to {' and '.join(options) or 'right replies'} ({reasons}); allow more, or "
        "send less at a time"
    )
