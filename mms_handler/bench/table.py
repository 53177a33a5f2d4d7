"""The results as rows of a table, and as sentences about what is wrong with them."""

from __future__ import annotations

from typing import Sequence

from mms_handler.bench.result import PERCENTILES, Result

COLUMNS = ("LOAD", "REPLIES/S", *map(str.upper, PERCENTILES), "ERRORS", "WRONG")
USED_COLUMNS = ("CPU-FRONT", "CPU-WORKERS", "MB-FRONT", "MB-WORKERS")

CAPTION = "Latencies are in ms."
USED_CAPTION = (
    "CPU is in ms for each reply; MB is the memory after the load, shared pages divided among "
    "the processes."
)


def columns(results: Sequence[Result]) -> tuple[str, ...]:
    """The names of the columns; those of the server's use only if it is on this machine."""
    return (*COLUMNS, *USED_COLUMNS) if _have_used(results) else COLUMNS


def caption(results: Sequence[Result]) -> str:
    """What the numbers are."""
    return f"{CAPTION}  {USED_CAPTION}" if _have_used(results) else CAPTION


def rows(results: Sequence[Result]) -> list[list[str]]:
    """A row for each result."""
    return [_row(result, _have_used(results)) for result in results]


def _have_used(results: Sequence[Result]) -> bool:
    return any(result.used for result in results)


def _row(result: Result, with_used: bool) -> list[str]:
    measured, used = result.measured, result.used
    has_replies = bool(measured.latencies.total_count)
    row = [
        str(measured.load),
        f"{result.rate:,.0f}",
        *(_ms(measured.ms(value)) if has_replies else "-" for value in PERCENTILES.values()),
        f"{measured.errors:,}",
        f"{measured.wrong:,}",
    ]
    if with_used and used and measured.in_time:
        row += [
            f"{1e3 * used.front_cpu_s / measured.in_time:.3f}",
            f"{1e3 * used.workers_cpu_s / measured.in_time:.3f}",
            f"{used.front_mb:,.0f}",
            f"{used.workers_mb:,.0f}",
        ]
    elif with_used:
        row += ["-"] * len(USED_COLUMNS)
    return row


def _ms(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def notes(results: Sequence[Result]) -> list[str]:
    """What was wrong, a sentence for each load and kind."""
    lines = []
    for result in results:
        measured = result.measured
        failures = [f"{count:,} x {reason}" for reason, count in measured.failures.most_common(5)]
        if failures:
            lines.append(f"{measured.load}: {', '.join(failures)}")
        if measured.wrong:
            lines.append(
                f"{measured.load}: {measured.wrong:,} wrong replies, the first is "
                f"{measured.example!r}"
            )
        if not (failures or measured.wrong or measured.latencies.total_count):
            lines.append(f"{measured.load}: there was no reply that counts; measure longer")
        if result.limited:
            lines.append(f"{measured.load}: {result.limited}")
    return lines
