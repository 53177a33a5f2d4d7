"""Engines: one mutates inputs without looking, the other, atheris, is guided by coverage.

Both run in this process; ``__main__`` starts a process for each target.
"""

from __future__ import annotations

import faulthandler
import random
import signal
import sys
import time
from pathlib import Path
from typing import Any, Iterator, NamedTuple, Sequence

import fuzz_targets
from fuzz_targets import Target

#: Bytes of an input.  Targets lengthen inputs themselves.
MAX_BYTES = 4_096

#: Seconds after which an input counts as endless.
ENDLESS_S = 60

#: Megabytes that a target's process may take.
MAX_MB = 3_000


class Failure(NamedTuple):
    """An input that broke a property, and how."""

    data: bytes
    exc: BaseException


class Result(NamedTuple):
    """A blind run: how many inputs ran, and the one that failed."""

    inputs: int
    seconds: float
    failure: Failure | None


def mutated(seeds: Sequence[bytes], seed: int) -> Iterator[bytes]:
    """The seeds, then endless changes of them.  The same ``seed`` gives the same inputs."""
    yield from seeds
    chance = random.Random(seed)
    while True:
        data = bytearray(chance.choice(seeds))
        for _ in range(chance.choice((1, 1, 2, 4, 8))):
            _change(data, chance, seeds)
        yield bytes(data[:MAX_BYTES])


def _change(data: bytearray, chance: random.Random, seeds: Sequence[bytes]) -> None:
    place = chance.randrange(len(data) + 1)
    kind = chance.randrange(6)
    if kind == 0:
        data[place:place] = chance.randbytes(chance.randrange(1, 9)) if _NEW else b"\xff"
    elif kind == 1:
        del data[place : place + chance.randrange(1, 9)]
    elif kind == 2:
        other = chance.choice(seeds)
        start = chance.randrange(len(other) + 1)
        data[place:place] = other[start : start + chance.randrange(1, 65)]
    elif kind == 3:
        data[place:place] = data[place : place + chance.randrange(1, 65)]
    elif place < len(data):
        data[place] = chance.choice((0, 1, 255, data[place] ^ 1 << chance.randrange(8), 34, 44, 91))


_NEW = sys.version_info >= (3, 9)  # random.randbytes


def run(target: Target, limit: int, seconds: float, seed: int = 0) -> Result:
    """Run seeds, kept inputs and mutations of both; end at the first failure or limit."""
    seeds = [*target.seeds(), *fuzz_targets.kept(target.name)]
    start, count = time.monotonic(), 0
    for data in mutated(seeds, seed):
        if count >= limit or time.monotonic() - start > seconds:
            break
        count += 1
        failure = attempt(target, data)
        if failure:
            return Result(count, time.monotonic() - start, failure)
    return Result(count, time.monotonic() - start, None)


def attempt(target: Target, data: bytes) -> Failure | None:
    """Run one input; its failure, if it breaks a property or does not end."""
    previous = signal.signal(signal.SIGALRM, _endless)
    signal.alarm(ENDLESS_S)
    try:
        target.run(data)
    except Exception as exc:
        return Failure(data, exc)
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, previous)
    return None


def _endless(signum: int, frame: Any) -> None:
    raise AssertionError(f"no end within {ENDLESS_S} s")


def run_guided(name: str, work: Path, limit: int, seconds: int, seed: int) -> None:
    """Run a target under atheris; it writes its statistics to stderr and never returns.

    Args:
        name: the target's.
        work: a folder for inputs that reach new code, and for one that fails.
        limit: inputs.
        seconds: after which the run ends, if it has not reached the limit.
        seed: of the mutations.
    """
    import atheris

    # MXNet and its like are imported before, so that only this package is instrumented.
    with atheris.instrument_imports(include=["mms_handler"]):
        target = fuzz_targets.load(name)
        target.run(target.seeds()[0])  # some modules are imported by the first input
    corpus = work / "corpus"
    corpus.mkdir(parents=True, exist_ok=True)
    for index, data in enumerate([*target.seeds(), *fuzz_targets.kept(name)]):
        (corpus / f"seed{index:04}").write_bytes(data)
    flags = [f"-runs={limit}", f"-max_total_time={seconds}", f"-max_len={MAX_BYTES}"]
    flags += [f"-seed={seed + 1}", f"-artifact_prefix={work}/", f"-timeout={ENDLESS_S}"]
    flags += [f"-rss_limit_mb={MAX_MB}", "-print_final_stats=1", str(corpus)]

    def run(data: bytes) -> None:
        # Not before the first input: libFuzzer's handlers, which keep the input, must be there.
        if not faulthandler.is_enabled():
            faulthandler.enable()
        target.run(data)

    atheris.Setup([name, *flags], run, enable_python_coverage=True)
    atheris.Fuzz()
