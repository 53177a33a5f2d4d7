"""One choice of settings, and the choices that are tried."""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple, Sequence

from mms_handler.manifest import Tuned
from mms_handler.settings import Settings

#: Batch sizes that are tried.
_BATCHES = (1, 8, 32, 64)


class Candidate(NamedTuple):
    """Settings to try; None is the default."""

    workers: int | None = None
    threads: int | None = None
    batch_size: int | None = None
    core: str | None = None
    optimize: str | None = None

    def settings(self, others: Settings) -> Settings:
        """``others`` with these."""
        fields = {name: value for name, value in self._asdict().items() if value is not None}
        return dataclasses.replace(others, **fields)

    def tuned(self, cpus: float) -> Tuned:
        return Tuned(cpus, *self)

    def __str__(self) -> str:
        words = [f"{name} {value}" for name, value in self._asdict().items() if value is not None]
        return ", ".join(words).replace("_", " ") or "the defaults"

    def options(self) -> str:
        """The same for a command line of ``serve``."""
        names = {"core": "MMS_HANDLER_CORE", "optimize": "MMS_HANDLER_OPTIMIZE"}
        fields = [(name, value) for name, value in self._asdict().items() if value is not None]
        variables = [f"{names[name]}={value} " for name, value in fields if name in names]
        options = [
            f" --{name.replace('_', '-')} {value}" for name, value in fields if name not in names
        ]
        return f"{''.join(variables)}mms-handler serve{''.join(options)}"


class Space(NamedTuple):
    """What may be chosen.

    Fields:
        pairs: of workers and threads; (None, None) is what serve plans.
        batches: batch sizes.
        cores: whether the compiled core is used.
        graphs: values of the setting optimize.
    """

    pairs: Sequence[tuple[int | None, int | None]]
    batches: Sequence[int | None]
    cores: Sequence[str | None] = (None,)
    graphs: Sequence[str | None] = (None,)

    def beside(self, candidate: Candidate) -> list[list[Candidate]]:
        """The candidates that differ from this one in one choice, a list for each choice."""
        replace: Any = candidate._replace
        lists = [
            [replace(workers=workers, threads=threads) for workers, threads in self.pairs],
            [replace(batch_size=size) for size in self.batches],
            [replace(core=core) for core in self.cores],
            [replace(optimize=graph) for graph in self.graphs],
        ]
        return [[each for each in choices if each != candidate] for choices in lists]


def space(
    cores: int, planned: tuple[int, int], batch_size: int, *, has_core: bool, has_int8: bool
) -> Space:
    """What is tried on a machine.

    Args:
        cores: whole cores of the machine.
        planned: the workers and threads that serve would plan by itself.
        batch_size: the default for this model.
        has_core: whether the compiled core is installed.
        has_int8: whether the archive has an int8 graph.
    """
    pairs: list[tuple[int | None, int | None]] = [(None, None)]
    for pair in _pairs(cores):
        if pair not in (planned, *pairs):
            pairs.append(pair)
    batches = [None, *(size for size in _BATCHES if size != batch_size)]
    return Space(
        pairs,
        batches if batch_size > 1 else [None],
        (None, "off") if has_core else (None,),
        (None, "float") if has_int8 else (None,),
    )


def _pairs(cores: int) -> list[tuple[int, int]]:
    """Workers and threads that use all cores, half of them or one; and twice as many workers."""
    threads = [1 << power for power in range(cores.bit_length())]
    pairs = [(max(1, cores // count), count) for count in threads]
    return [*pairs, (1, cores), (max(1, cores // 2), 1), (2 * cores, 1), (1, 1)]
