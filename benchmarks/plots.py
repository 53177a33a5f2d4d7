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

OURS, OTHER = "#2a6f97", "#b8b8b8"


def closed(results: Results, titles: Mapping[str, str]) -> Any:
    """Draw a panel for each scenario and a bar for each system, with its minimum and maximum."""
    return _panels(results, titles, (("rate", "good answers per second"),))


def opened(results: Results, titles: Mapping[str, str]) -> Any:
    """Draw two panels for each scenario: the median and the 99th percentile of the latency."""
    return _panels(results, titles, (("p50_ms", "p50, ms"), ("p99_ms", "p99, ms")))


def _panels(results: Results, titles: Mapping[str, str], metrics: Sequence[tuple[str, str]]) -> Any:
    from matplotlib import pyplot

    names = [name for name in titles if results.systems(name)]
    columns = 2
    rows = -(-len(names) * len(metrics) // columns)
    figure, panels = pyplot.subplots(rows, columns, figsize=(11, 2.4 * rows), squeeze=False)
    contents = [(name, metric) for name in names for metric in metrics]
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
    colours = [OURS if system.startswith("ours") else OTHER for system in systems]
    panel.barh(systems, medians, xerr=[below, above], color=colours, ecolor="#333333", capsize=2)
    panel.tick_params(labelsize=8)
    panel.spines[["top", "right"]].set_visible(False)


def _main(path: str, folder: str) -> None:
    matplotlib.use("svg")
    # The same results make the same file, and its text stays text.
    matplotlib.rcParams.update({"svg.hashsalt": "benchmarks", "svg.fonttype": "none"})
    results = read(Path(path))
    for name, draw in {"closed": closed, "open": opened}.items():
        figure = draw(results, results.panels[name])
        figure.savefig(Path(folder) / f"{name}.svg", metadata={"Date": None})


if __name__ == "__main__":
    _main(*sys.argv[1:])
