"""Make tables of results: medians, spreads, ratios within one run, and whether targets are met.

Only the part of the page between two marker lines is written; the prose around them stays.
"""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Iterator, Sequence

from benchmarks import scenarios
from benchmarks.results import Results
from benchmarks.scenarios import CLOSED, OPEN, Target

BEGIN = "<!-- written by `make bench` from here -->"
END = "<!-- to here -->"

#: What the table of targets calls each metric.
UNITS = {
    "rate": "per second",
    "p50_ms": "ms, p50",
    "p99_ms": "ms, p99",
    "over_us": "µs more than a no-op handler",
    "load_ms": "ms",
    "peak_mb": "peak MB",
    "first_s": "s",
}

_OTHER_TITLES = {
    "python": "a worker's Python, JSON of 784 values",
    "start": "start to first right answer, MNIST Module",
    "memory": "four workers with ResNet-50, after each has answered",
    **{f"decode-{kind}": f"decoding 150,528 floats, {kind.upper()}" for kind in scenarios.DECODED},
    **{f"load-{model}": f"loading {title}" for model, title in scenarios.LOADED.items()},
}

TITLES = {
    **{scenario.name: scenario.title for scenario in CLOSED},
    **_OTHER_TITLES,
    **{
        f"{scenario.name}-open": scenario.title.rpartition(",")[0]
        for scenario in CLOSED
        if scenario.name in OPEN
    },
}

#: The pictures, each with the titles of its panels by scenario.
PANELS = {
    "closed": {scenario.name: scenario.title for scenario in CLOSED},
    "open": {f"{name}-open": TITLES[f"{name}-open"] for name in OPEN},
}


# --- arithmetic ---


def number(value: float) -> str:
    """Format with three significant digits, but all before the point: 0.123, 12.3, 1,234."""
    if value == 0:
        return "0"
    places = 0
    while places < 3 and abs(value) * 10**places < 99.95:
        places += 1
    return f"{value:,.{places}f}"


def spread(values: Sequence[float]) -> str:
    """Format the median, and the minimum and maximum if there are several values."""
    if len(values) == 1:
        return number(values[0])
    minimum, maximum = number(min(values)), number(max(values))
    return f"{number(statistics.median(values))} ({minimum} - {maximum})"


def best(results: Results, target: Target) -> str | None:
    """Return which of the systems to compare with has the best median; None without any."""
    medians = {
        name: statistics.median(values)
        for name in results.systems(target.scenario)
        if name.startswith(target.peer)
        and (values := results.column(target.scenario, name, target.metric))
    }
    choose = max if target.sense == ">=" else min
    return choose(medians, key=lambda name: medians[name]) if medians else None


def achieved(results: Results, target: Target) -> float | None:
    """Return our median divided by the best peer's, or our median if no peer is named."""
    values = results.column(target.scenario, target.system, target.metric)
    if not values or not target.peer:
        return statistics.median(values) if values else None
    peer = best(results, target)
    if peer is None:
        return None
    peer_median = statistics.median(results.column(target.scenario, peer, target.metric))
    return statistics.median(values) / peer_median if peer_median else None


def met(target: Target, value: float) -> bool:
    """Return whether a value of ``achieved`` meets the target."""
    return value >= target.limit if target.sense == ">=" else value <= target.limit


# --- tables ---


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Format a Markdown table; the first column is text, the others are numbers."""
    lines = [head, [":--", *["--:"] * (len(head) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def targets(results: Results) -> str:
    """Format the table of targets."""
    head = ("scenario", "ours", "compared with", "target", "result", "met")
    return table(head, [_target(results, target) for target in scenarios.TARGETS])


def _target(results: Results, target: Target) -> list[str]:
    title = f"{TITLES[target.scenario]}: {UNITS[target.metric]}"
    if target.system != scenarios.OURS:
        title += f" ({target.system})"
    unit = " x" if target.peer else ""
    limit = f"{target.sense} {target.limit:g}{unit}"
    value = achieved(results, target)
    if value is None:
        return [title, "not measured", "", limit, "", ""]
    measured = spread(results.column(target.scenario, target.system, target.metric))
    verdict = "yes" if met(target, value) else "no"
    return [title, measured, _best_peer(results, target), limit, number(value) + unit, verdict]


def _best_peer(results: Results, target: Target) -> str:
    peer = best(results, target) if target.peer else None
    if peer is None:
        return ""
    return f"{peer}: {spread(results.column(target.scenario, peer, target.metric))}"


def _loads(results: Results, names: Sequence[str]) -> Iterator[str]:
    head = ("", "good answers per second", "p50 ms", "p99 ms", "errors", "bodies wrong")
    for name in names:
        systems = results.systems(name)
        if systems:
            rows = [[system, *_load(results, name, system)] for system in systems]
            yield f"{TITLES[name]}:\n\n{table(head, rows)}"


def _load(results: Results, name: str, system: str) -> list[str]:
    def column(metric: str) -> list[float]:
        return results.column(name, system, metric)

    spreads = [spread(column(metric)) for metric in ("rate", "p50_ms", "p99_ms")]
    checked = sum(column("checked"))
    wrong = f"{sum(column('wrong')):.0f} of {checked:,.0f}" if checked else "-"
    return [*spreads, f"{sum(column('errors')):,.0f}", wrong]


_OTHERS = {
    "decode": {"ms": "ms"},
    "python": {"us": "µs per request", "over_us": "µs more than the no-op handler"},
    "load": {
        "load_ms": "load, ms",
        "answered_ms": "load and first answer, ms",
        "before_mb": "MB before",
        "peak_mb": "peak MB",
    },
    "memory": {"workers_mb": "workers, MB", "java_mb": "Java, MB", "all_mb": "everything, MB"},
    "start": {"first_s": "s"},
}


def _others(results: Results) -> Iterator[str]:
    for name in _OTHER_TITLES:
        systems, metrics = results.systems(name), _OTHERS[name.partition("-")[0]]
        if systems:
            rows = [
                [system, *(spread(results.column(name, system, metric)) for metric in metrics)]
                for system in systems
            ]
            yield f"{TITLES[name]}:\n\n{table(('', *metrics.values()), rows)}"


def text(results: Results) -> str:
    """Format everything as Markdown."""
    open_scenarios = [f"{name}-open" for name in OPEN]
    parts = [
        "\n".join(f"* {key}: {value}" for key, value in results.about.items()),
        "## Targets",
        targets(results),
        "## Closed loop",
        "![good answers per second](performance/closed.svg)",
        *_loads(results, [scenario.name for scenario in CLOSED]),
        "## Open loop",
        "![latency](performance/open.svg)",
        *_loads(results, open_scenarios),
        "## Without load",
        *_others(results),
        *(f"{name}:\n\n{markdown}" for name, markdown in results.tables.items()),
        *_absent(results),
    ]
    return "\n\n".join(parts)


def _absent(results: Results) -> Iterator[str]:
    if results.absent:
        lines = [f"* {what}: `{reason}`" for what, reason in results.absent.items()]
        yield "\n".join(["## Not measured", "", *lines])


# --- the page ---


def between(page: str, new: str) -> str:
    """Return ``page`` with ``new`` between its two marker lines.

    Raises:
        ValueError: the page does not have each line exactly once, in this order.
    """
    head, begin, rest = page.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not begin or not end or BEGIN in rest or END in tail:
        raise ValueError(f"the page must have the lines {BEGIN!r} and {END!r}, each exactly once")
    return f"{head}{begin}\n\n{new}\n\n{end}{tail}"


def write(results: Results, path: Path) -> None:
    """Replace the page's tables."""
    path.write_text(between(path.read_text(), text(results)))
