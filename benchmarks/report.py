"""Results to tables: medians, spreads, ratios inside one run, and whether a target is met.

It writes between two lines of a page, so that the prose around them stays.
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

#: Metrics, as the tables call them.
UNITS = {
    "rate": "a second",
    "p50_ms": "ms, p50",
    "p99_ms": "ms, p99",
    "over_us": "µs over a no-op handler",
    "load_ms": "ms",
    "peak_mb": "MB at most",
    "first_s": "s",
}

_OTHER_TITLES = {
    "python": "a worker's Python, JSON of 784 values",
    "start": "start to the first good answer, MNIST Module",
    "memory": "four workers of ResNet-50 that have answered",
    **{f"decode-{kind}": f"decoding 150,528 floats, {kind.upper()}" for kind in scenarios.DECODED},
    **{f"load-{model}": f"loading {title}" for model, title in scenarios.LOADED.items()},
}

TITLES = {
    **{scenario.name: scenario.title for scenario in CLOSED},
    **_OTHER_TITLES,
    **{f"{one.name}-open": f"{one.title.rpartition(',')[0]}" for one in CLOSED if one.name in OPEN},
}

#: The pictures, each with its panels.
PANELS = {
    "closed": {one.name: one.title for one in CLOSED},
    "open": {f"{name}-open": TITLES[f"{name}-open"] for name in OPEN},
}


# --- arithmetic ---


def number(value: float) -> str:
    """Three digits, or all before the point: 0.123, 1.23, 12.3, 123, 1,234."""
    if value == 0:
        return "0"
    places = 0
    while places < 3 and abs(value) * 10**places < 99.95:
        places += 1
    return f"{value:,.{places}f}"


def spread(values: Sequence[float]) -> str:
    """The median, and of several rounds the least and the most."""
    if len(values) == 1:
        return number(values[0])
    least, most = number(min(values)), number(max(values))
    return f"{number(statistics.median(values))} ({least} - {most})"


def best(results: Results, target: Target) -> str | None:
    """Of the systems to compare with, the one with the best median; None without any."""
    medians = {
        name: statistics.median(found)
        for name in results.systems(target.scenario)
        if name.startswith(target.beside)
        and (found := results.column(target.scenario, name, target.metric))
    }
    choose = max if target.sense == ">=" else min
    return choose(medians, key=lambda name: medians[name]) if medians else None


def reached(results: Results, target: Target) -> float | None:
    """Ours by the best of the others, both medians; ours alone where no other is named."""
    found = results.column(target.scenario, target.system, target.metric)
    if not found or not target.beside:
        return statistics.median(found) if found else None
    other = best(results, target)
    if other is None:
        return None
    beside = statistics.median(results.column(target.scenario, other, target.metric))
    return statistics.median(found) / beside if beside else None


def met(target: Target, value: float) -> bool:
    return value >= target.limit if target.sense == ">=" else value <= target.limit


# --- tables ---


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Markdown: the first column is text, the others are numbers."""
    lines = [head, [":--", *["--:"] * (len(head) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def targets(results: Results) -> str:
    head = ("scenario", "ours", "beside it", "wanted", "reached", "met")
    return table(head, [_target(results, target) for target in scenarios.TARGETS])


def _target(results: Results, target: Target) -> list[str]:
    title = f"{TITLES[target.scenario]}: {UNITS[target.metric]}"
    if target.system != scenarios.OURS:
        title += f" ({target.system})"
    times = " x" if target.beside else ""
    wanted = f"{target.sense} {target.limit:g}{times}"
    value = reached(results, target)
    if value is None:
        return [title, "not measured", "", wanted, "", ""]
    ours = spread(results.column(target.scenario, target.system, target.metric))
    verdict = "yes" if met(target, value) else "no"
    return [title, ours, _beside(results, target), wanted, number(value) + times, verdict]


def _beside(results: Results, target: Target) -> str:
    other = best(results, target) if target.beside else None
    if other is None:
        return ""
    return f"{other}: {spread(results.column(target.scenario, other, target.metric))}"


def _loads(results: Results, names: Sequence[str]) -> Iterator[str]:
    head = ("", "good answers a second", "p50 ms", "p99 ms", "errors", "bodies wrong")
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
    "python": {"us": "µs a request", "over_us": "µs over the no-op handler"},
    "load": {
        "load_ms": "load, ms",
        "answered_ms": "load and first answer, ms",
        "before_mb": "MB before",
        "peak_mb": "MB at most",
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
    """Everything, as Markdown."""
    opened = [f"{name}-open" for name in OPEN]
    parts = [
        "\n".join(f"* {key}: {value}" for key, value in results.about.items()),
        "## Targets",
        targets(results),
        "## Closed loop",
        "![good answers a second](performance/closed.svg)",
        *_loads(results, [scenario.name for scenario in CLOSED]),
        "## Open loop",
        "![latency](performance/open.svg)",
        *_loads(results, opened),
        "## Without load",
        *_others(results),
        *(f"{name}:\n\n{made}" for name, made in results.tables.items()),
        *_absent(results),
    ]
    return "\n\n".join(parts)


def _absent(results: Results) -> Iterator[str]:
    if results.absent:
        lines = [f"* {what}: `{reason}`" for what, reason in results.absent.items()]
        yield "\n".join(["## Not measured", "", *lines])


# --- the page ---


def between(page: str, new: str) -> str:
    """``page`` with ``new`` between its two lines.

    Raises:
        ValueError: it does not have both, once, in their order.
    """
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end or BEGIN in rest or END in after:
        raise ValueError(f"a page with the lines {BEGIN!r} and {END!r} once each was wanted")
    return f"{before}{begin}\n\n{new}\n\n{end}{after}"


def write(results: Results, path: Path) -> None:
    path.write_text(between(path.read_text(), text(results)))
