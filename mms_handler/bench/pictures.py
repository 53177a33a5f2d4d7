"""Draw what was measured: latency against throughput, and the latencies of each load."""

from __future__ import annotations

import importlib.util
import io
import logging
from pathlib import Path
from typing import Any, Sequence

from mms_handler.bench.result import PERCENTILES, Result
from mms_handler.errors import ServerError

SUFFIXES = (".svg", ".png")

#: Inches, and dots in each.
_SIZE, _DPI = (8, 7), 120

#: The colours of Okabe and Ito, which people with any colour vision can tell apart.
_COLOURS = ("#0072B2", "#009E73", "#E69F00", "#D55E00", "#CC79A7", "#56B4E9", "#000000")

_GRID = {"alpha": 0.3}

#: The percentiles at which the second panel has a mark, and the steps between the marks.
_TICKS = (0, 50, 90, 99, 99.9, 99.99)


def check_can_draw(path: Path) -> None:
    """Check, before anything is measured, that a picture can be drawn.

    Raises:
        ServerError: matplotlib is not installed, or the file's suffix is not known.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise ServerError(f"--plot draws .svg and .png, not {path.name}")
    check_has_matplotlib("--plot")


def check_has_matplotlib(option: str) -> None:
    """Check that matplotlib is installed.

    Raises:
        ServerError: it is not.
    """
    if importlib.util.find_spec("matplotlib") is None:
        raise ServerError(
            f"{option} needs matplotlib, which is not installed: pip install 'mms_handler[plot]'"
        )


def draw(results: Sequence[Result], title: str, path: Path) -> None:
    """Draw the results to an SVG or PNG file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    _figure(results, title).savefig(path, dpi=_DPI)


def svg(results: Sequence[Result], title: str) -> str:
    """The picture as an SVG element for a page."""
    text = io.StringIO()
    _figure(results, title).savefig(text, format="svg")
    picture = text.getvalue()
    return picture[picture.index("<svg") :]


def _figure(results: Sequence[Result], title: str) -> Any:
    logging.getLogger("matplotlib").setLevel(logging.WARNING)
    from matplotlib.figure import Figure

    figure = Figure(figsize=_SIZE, layout="constrained")
    if title:
        figure.suptitle(title, fontsize=11)
    above, below = figure.subplots(2, 1)
    drawn = [result for result in results if result.measured.latencies.total_count]
    _draw_throughput(above, drawn)
    _draw_distribution(below, drawn)
    for axes in (above, below):
        axes.set_ylabel("latency, ms")
        axes.grid(**_GRID, which="major")
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
        format_milliseconds(axes.yaxis)
    return figure


def _draw_throughput(axes: Any, results: Sequence[Result]) -> None:
    """Latency against throughput: a line for each percentile, a mark for each load."""
    closed = [result for result in results if result.measured.load.clients]
    opened = [result for result in results if result.measured.load.rate]
    for (name, percentile), colour in zip(PERCENTILES.items(), _COLOURS):
        label: str | None = name
        for loop, marker, line in ((closed, "o", "-"), (opened, "s", "--")):
            if loop:
                axes.plot(
                    [result.rate for result in loop],
                    [result.measured.ms(percentile) for result in loop],
                    linestyle=":" if name == "max" else line,
                    marker=marker, markersize=4, color=colour, label=label,
                )  # fmt: skip
                label = None
    for result in results:
        axes.annotate(
            str(result.measured.load),
            (result.rate, result.measured.ms(100)),
            textcoords="offset points",
            xytext=(0, 7),
            ha="center",
            fontsize=8,
        )
    loops = " and ".join(
        [*(["clients: ●"] if closed else []), *(["constant rate: ■"] if opened else [])]
    )
    axes.set_yscale("log")
    limit = 1.1 * max((result.rate for result in results), default=1) or 1
    axes.set_xlim(left=-0.04 * limit, right=limit)
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.margins(y=0.15)
    axes.set_xlabel(f"right replies a second ({loops})")
    if results:
        axes.legend(
            frameon=False, ncol=5, loc="upper center", bbox_to_anchor=(0.5, 1.14), fontsize=8
        )


def _draw_distribution(axes: Any, results: Sequence[Result]) -> None:
    """How many percent of the replies took how long: each further nine has as much room."""
    import math

    def place(percentile: float) -> float:
        return -math.log10(1 - percentile / 100)

    last = 1.0
    for number, result in enumerate(results):
        latencies = result.measured.latencies
        last = max(last, min(5.0, math.log10(max(10, latencies.total_count))))
        steps = [step / 20 for step in range(int(20 * last) + 1)]
        values = [latencies.get_value_at_percentile(100 * (1 - 10**-step)) / 1e3 for step in steps]
        axes.plot(
            steps,
            [max(value, 1e-3) for value in values],
            color=_COLOURS[number % len(_COLOURS)],
            linestyle=("-", "--", ":")[number // len(_COLOURS) % 3],
            label=str(result.measured.load),
        )
    axes.set_yscale("log")
    ticks = [tick for tick in _TICKS if place(tick) <= last]
    axes.set_xticks([place(tick) for tick in ticks], [f"{tick:g} %" for tick in ticks])
    axes.set_xlabel("of the replies took no longer")
    if results:
        axes.legend(frameon=False, fontsize=8, loc="upper left")


def format_milliseconds(axis: Any, longest: float = 1e5) -> None:
    """Write plain numbers on a logarithmic axis: 0.5, 1, 2; powers of ten alone on a long one.

    Args:
        axis: Matplotlib's.
        longest: how many times its beginning the end of an axis may be that is not long.
    """
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    low, high = axis.get_view_interval()
    axis.set_major_locator(LogLocator(10, subs=(1, 2, 5) if high < longest * low else (1,)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())
