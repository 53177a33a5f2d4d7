"""Make tables of results: medians, spreads, ratios within one run, and whether targets are met.

Only the part of the page between two marker lines is written; the prose around them stays.
"""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Iterable, Iterator, Sequence

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
    "us": "µs a request",
    "workers_mb": "MB of workers",
    "all_mb": "MB",
    "s": "s",
    "load_ms": "ms",
    "peak_mb": "peak MB",
    "first_s": "s",
}

_MODELS = {"mnist": "MNIST Module", "mlp": "Gluon MLP 784"}

_OTHER_TITLES = {
    **{
        f"python-{model}-{count}": f"a worker's processor time, {_MODELS[model]}, batch of {count}"
        for model, count in scenarios.BATCHES
    },
    "start": "start to first right answer, MNIST Module",
    "restart": "a worker killed until its replacement answers, MNIST Module",
    f"memory-{scenarios.MEASURED}": "the whole server, Gluon MLP 784, after its load",
    "memory": "four workers of ResNet-50, after each has answered",
    **{f"load-{model}": f"loading {title}" for model, title in scenarios.LOADED.items()},
}

TITLES = {
    **{scenario.name: scenario.title for scenario in CLOSED},
    **_OTHER_TITLES,
    **{
        f"{scenario.name}-open": f"{scenario.title.rpartition(',')[0]}, at 70 % of the peer's rate"
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


def counted(results: Results, scenario: str, system: str, metric: str) -> list[float]:
    """Return the rounds of a system that count: those without an error or a wrong body.

    All rounds count if there is no other: then the system fails all the time.
    """
    every = results.column(scenario, system, metric)
    failed = results.failures(scenario, system)
    right = [value for value, count in zip(every, failed) if not count]
    return right or every


def best(results: Results, target: Target) -> str | None:
    """Return which of the systems to compare with has the best median; None without any."""
    names = [name for name in results.systems(target.scenario) if name != target.system]
    if target.peer in names:
        names = [target.peer]
    medians = {
        name: statistics.median(values)
        for name in names
        if name.startswith(target.peer)
        and (values := counted(results, target.scenario, name, target.metric))
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
    peer_median = statistics.median(counted(results, target.scenario, peer, target.metric))
    return statistics.median(values) / peer_median if peer_median else None


def met(target: Target, value: float) -> bool:
    """Return whether a value of ``achieved`` meets the target."""
    return value >= target.limit if target.sense == ">=" else value <= target.limit


def verdict(target: Target, value: float, failures: float) -> str:
    """Say whether a value meets the target, or by how much not; with errors, none counts."""
    if failures:
        return f"void: {failures:,.0f} errors or wrong bodies"
    if met(target, value):
        return "yes"
    share = 1 - value / target.limit if target.sense == ">=" else value / target.limit - 1
    return f"no: {100 * share:.0f} % {'short' if target.sense == '>=' else 'over'}"


# --- tables ---


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Format a Markdown table; the first column is text, the others are numbers."""
    lines = [head, [":--", *["--:"] * (len(head) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def targets(results: Results) -> str:
    """Format the table of targets."""
    head = ("scenario", "ours", "compared with", "wanted", "reached", "met")
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
    failures = sum(results.failures(target.scenario, target.system))
    words = verdict(target, value, failures)
    return [title, measured, _best_peer(results, target), limit, number(value) + unit, words]


def reached(results: Results) -> Iterator[tuple[str, float]]:
    """Return each target that is a ratio, with what was reached as a multiple; none with errors."""
    for target in scenarios.TARGETS:
        value = achieved(results, target)
        failures = sum(results.failures(target.scenario, target.system))
        if value and target.peer and not failures:
            share = value / target.limit if target.sense == ">=" else target.limit / value
            system = target.system.replace(scenarios.OURS, "").strip(", ")
            whose = f" ({system})" if system else ""
            title = TITLES[target.scenario].replace(", JSON", "")
            yield f"{title}{whose}, against {target.peer}", share


def _best_peer(results: Results, target: Target) -> str:
    peer = best(results, target) if target.peer else None
    if peer is None:
        return ""
    return f"{peer}: {spread(counted(results, target.scenario, peer, target.metric))}"


def _loads(results: Results, names: Sequence[str]) -> Iterator[str]:
    for name in names:
        systems, metrics = results.systems(name), dict(_LOADS)
        if name.endswith("-open"):
            metrics = {"arrivals": "requests per second", **metrics}
        if systems:
            head = ("", *metrics.values(), "errors", "bodies wrong")
            rows = [[system, *_load(results, name, system, metrics)] for system in systems]
            yield f"{TITLES[name]}:\n\n{table(head, rows)}"


_LOADS = {
    "rate": "good answers per second",
    "p50_ms": "p50 ms",
    "p99_ms": "p99 ms",
    "cpu_us": "processor µs a request",
}


def _load(results: Results, name: str, system: str, metrics: Iterable[str]) -> list[str]:
    columns = [results.column(name, system, metric) for metric in metrics]
    spreads = [spread(column) if any(column) else "-" for column in columns]
    checked = sum(results.column(name, system, "checked"))
    wrong = (
        f"{sum(results.column(name, system, 'wrong')):.0f} of {checked:,.0f}" if checked else "-"
    )
    return [*spreads, f"{sum(results.column(name, system, 'errors')):,.0f}", wrong]


_OTHERS = {
    "python": {"us": "µs a request"},
    "load": {
        "load_ms": "load, ms",
        "answered_ms": "load and first answer, ms",
        "before_mb": "MB before",
        "peak_mb": "peak MB",
    },
    f"memory-{scenarios.MEASURED}": {"all_mb": "everything, MB"},
    "memory": {"workers_mb": "workers, MB", "java_mb": "Java, MB", "all_mb": "everything, MB"},
    "start": {"first_s": "s"},
    "restart": {"s": "s"},
}


def _others(results: Results) -> Iterator[str]:
    for name in _OTHER_TITLES:
        systems = results.systems(name)
        metrics = _OTHERS.get(name) or _OTHERS[name.partition("-")[0]]
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
        "![reached, as a share of what was wanted](performance/targets.svg)",
        "## Closed loop",
        "![good answers per second, and the latency of one client](performance/closed.svg)",
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
