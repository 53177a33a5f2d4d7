"""Draw the results; runs in the environment that has matplotlib.

python -m benchmarks.plots RESULTS.json FOLDER
"""

from __future__ import annotations

import statistics
import sys
from pathlib import Path
from typing import Any, Mapping, Sequence

import matplotlib  # type: ignore[import-not-found]  # only in its own environment

from benchmarks.results import Results, read

OURS, VARIANT, OTHER = "#2a6f97", "#8fb8d0", "#b8b8b8"
MET, MISSED = "#2a6f97", "#d1812f"

_RATE, _P50, _P99 = (
    ("rate", "good answers per second"),
    ("p50_ms", "p50, ms"),
    ("p99_ms", "p99, ms"),
)


def closed(results: Results, titles: Mapping[str, str]) -> Any:
    """Draw a panel for each scenario: the rate of each system, or the latency of one client."""
    one = [name for name in titles if name.endswith("-1")]
    return _panels(results, titles, [(name, _P50 if name in one else _RATE) for name in titles])


def opened(results: Results, titles: Mapping[str, str]) -> Any:
    """Draw two panels for each scenario: the median and the 99th percentile of the latency."""
    return _panels(results, titles, [(name, metric) for name in titles for metric in (_P50, _P99)])


def targets(results: Results) -> Any:
    """Draw a bar for each target: what was reached, as a multiple of what was wanted."""
    from matplotlib import pyplot

    bars = list(results.reached.items())[::-1]
    figure, panel = pyplot.subplots(figsize=(11, 0.8 + 0.27 * len(bars)))
    names, values = [name for name, _ in bars], [value for _, value in bars]
    colours = [MET if value >= 1 else MISSED for value in values]
    panel.barh(names, [value - 1 for value in values], left=1, color=colours)
    for place, value in enumerate(values):
        side = "left" if value >= 1 else "right"
        gap = 1.02 if value >= 1 else 1 / 1.02
        panel.text(value * gap, place, f"{value:.2g}", ha=side, va="center", fontsize=7)
    panel.set_xscale("log")
    low, high = min([*values, 0.5]), max([*values, 2])
    panel.set_xlim(low / 1.3, high * 1.3)
    ticks = [tick for tick in (0.1, 0.2, 0.5, 1, 2, 5, 10) if low / 1.3 <= tick <= high * 1.3]
    panel.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    panel.minorticks_off()
    panel.axvline(1, color="#333333", linewidth=1)
    panel.set_ylim(-0.7, len(bars) - 0.3)
    panel.set_xlabel("times what was wanted (right of the line: met)", fontsize=8)
    panel.tick_params(labelsize=8)
    panel.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    return figure


def _panels(
    results: Results,
    titles: Mapping[str, str],
    contents: Sequence[tuple[str, tuple[str, str]]],
) -> Any:
    from matplotlib import pyplot

    contents = [(name, metric) for name, metric in contents if results.systems(name)]
    columns, heights = 2, []
    for place in range(0, len(contents), columns):
        row = contents[place : place + columns]
        heights.append(0.9 + 0.22 * max(len(results.systems(name)) for name, _ in row))
    figure, panels = pyplot.subplots(
        *(len(heights), columns),
        figsize=(11, sum(heights)),
        squeeze=False,
        gridspec_kw={"height_ratios": heights},
    )
    for panel, (name, (metric, unit)) in zip(panels.flat, contents):
        _bars(panel, results, name, metric)
        panel.set_title(titles[name], fontsize=9, loc="left")
        panel.set_xlabel(unit, fontsize=8)
    for panel in panels.flat[len(contents) :]:
        panel.axis("off")
    figure.tight_layout()
    return figure


def _bars(panel: Any, results: Results, name: str, metric: str) -> None:
    systems = results.systems(name)[::-1]
    columns = [results.column(name, system, metric) for system in systems]
    medians = [statistics.median(column) for column in columns]
    below = [median - min(column) for median, column in zip(medians, columns)]
    above = [max(column) - median for median, column in zip(medians, columns)]
    panel.barh(
        *(systems, medians),
        xerr=[below, above],
        color=[_colour(system) for system in systems],
        ecolor="#333333",
        capsize=2,
    )
    for place, (median, column) in enumerate(zip(medians, columns)):
        text = f"{median:,.0f}" if median >= 100 else f"{median:.3g}"
        panel.text(max(column), place, f"  {text}", va="center", fontsize=7)
    panel.set_xlim(0, 1.12 * max(map(max, columns)))
    panel.tick_params(labelsize=8)
    panel.spines[["top", "right"]].set_visible(False)


def _colour(system: str) -> str:
    if system == "ours":
        return OURS
    return VARIANT if system.startswith("ours") else OTHER


def _main(path: str, folder: str) -> None:
    matplotlib.use("svg")
    # The same results make the same file, and its text stays text.
    matplotlib.rcParams.update({"svg.hashsalt": "benchmarks", "svg.fonttype": "none"})
    results = read(Path(path))
    figures = {
        "closed": closed(results, results.panels["closed"]),
        "open": opened(results, results.panels["open"]),
        "targets": targets(results),
    }
    for name, figure in figures.items():
        figure.savefig(Path(folder) / f"{name}.svg", metadata={"Date": None}, bbox_inches="tight")


if __name__ == "__main__":
    _main(*sys.argv[1:])
