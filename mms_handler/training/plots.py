"""Draw a job's learning curve, with matplotlib if it is installed."""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import math
import re
from pathlib import Path
from typing import Any, Sequence

from mms_handler.errors import TrainingError
from mms_handler.training.metrics import rank
from mms_handler.training.observer import Curve

log = logging.getLogger(__name__)

SUFFIXES = (".svg", ".png")

#: Inches, and dots in each.
WIDTH, PANEL_HEIGHT, DPI = 8, 3, 120

#: Curves that have a name in a panel's legend; further ones are only drawn.
MAX_NAMES = 12

#: The colours of Okabe and Ito, which people with any colour vision can tell apart.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")

#: One line style for each host.
STYLES = ("-", "--", ":", "-.")

#: Values of batches are noisy: they are drawn thin, and behind those of epochs.
_OF_BATCHES = {"linewidth": 0.8, "alpha": 0.6, "zorder": 1}
_OF_EPOCHS = {"linewidth": 1.5, "zorder": 2}

#: A curve of no more points has a mark at each.
_MARKED, _MARK_SIZE = 20, 3

_GRID = {"alpha": 0.3}


def check_can_plot(path: Path) -> None:
    """Check, before anything runs, that a picture can be drawn.

    Raises:
        TrainingError: matplotlib is not installed, or the file's suffix is not known.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise TrainingError(f"--plot draws .svg and .png, not {path.name}")
    if importlib.util.find_spec("matplotlib") is None:
        raise TrainingError(
            "--plot needs matplotlib, which is not installed: pip install 'mms_handler[plot]'"
        )


def plot(curves: Sequence[Curve], path: Path) -> None:
    """Draw the curves to a file; a job does not fail because of a picture.

    Args:
        curves: of all hosts.
        path: an SVG or PNG file.
    """
    panels = _panels([curve for curve in curves if len(curve.points) > 1])
    if not panels:
        log.warning("%s was not drawn: no metric has two values", path)
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _figure(panels).savefig(path, dpi=DPI)
        log.info("learning curve: %s", path)
    except Exception as exc:  # matplotlib's own, and a full disk
        with contextlib.suppress(OSError):
            path.unlink()
        log.warning("%s was not drawn: %s: %s", path, type(exc).__name__, exc)


def _panels(curves: Sequence[Curve]) -> list[tuple[str, list[Curve]]]:
    """The curves by what they have in common: losses together, accuracies together.

    Speeds and times are nothing that is learnt; they are drawn if there is nothing else.
    """
    panels: dict[str, list[Curve]] = {}
    for curve in [curve for curve in curves if rank(curve.name) < 3] or curves:
        panels.setdefault(_kind(curve.name), []).append(curve)
    return sorted(panels.items(), key=lambda panel: rank(panel[1][0].name))


def _kind(name: str) -> str:
    """What a metric measures: its name without the data that it is measured on."""
    data = r"(?i)^(train(?:ing)?|val(?:id(?:ation)?)?|test|eval)[ _:\-]+"
    kind = re.sub(data, "", name).lower()
    return "accuracy" if kind == "acc" else kind


def _figure(panels: Sequence[tuple[str, list[Curve]]]) -> Any:
    logging.getLogger("matplotlib").setLevel(logging.WARNING)
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(WIDTH, PANEL_HEIGHT * len(panels)), layout="constrained")
    by_epoch = all(_has_epochs(curves) for _, curves in panels)
    all_axes = figure.subplots(len(panels), 1, squeeze=False, sharex=by_epoch)[:, 0]
    hosts = sorted({curve.host for _, curves in panels for curve in curves})
    for axes, (kind, curves) in zip(all_axes, panels):
        names = sorted({curve.name for curve in curves})
        for curve in sorted(curves, key=lambda curve: (curve.name, curve.host)):
            xs, ys = _line(curve)
            label = curve.name if len(hosts) == 1 else f"{curve.name}, {curve.host}"
            by_batch = len(set(map(int, xs))) < len(xs)
            axes.plot(
                xs, ys, label=label,
                **(_OF_BATCHES if by_batch else _OF_EPOCHS),
                color=COLOURS[names.index(curve.name) % len(COLOURS)],
                linestyle=STYLES[hosts.index(curve.host) % len(STYLES)],
                marker="o" if len(xs) <= _MARKED else None, markersize=_MARK_SIZE,
            )  # fmt: skip
        _label(axes, kind, curves)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        if by_epoch:
            axes.label_outer()
    return figure


def _label(axes: Any, kind: str, curves: Sequence[Curve]) -> None:
    axes.set_xlabel("epoch" if _has_epochs(curves) else "step")
    axes.set_ylabel(kind)
    axes.grid(**_GRID)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    handles, labels = axes.get_legend_handles_labels()
    if labels != [kind]:
        axes.legend(handles[:MAX_NAMES], labels[:MAX_NAMES], frameon=False)


def _has_epochs(curves: Sequence[Curve]) -> bool:
    return all(point.epoch is not None for curve in curves for point in curve.points)


def _line(curve: Curve) -> tuple[list[float], list[float]]:
    """The points of a curve; several of one epoch are spread over it."""
    points = [point for point in curve.points if math.isfinite(point.value)]
    if not _has_epochs([curve]):
        steps = [point.step for point in points]
        xs = [float(n if step is None else step) for n, step in enumerate(steps)]
        return xs, [point.value for point in points]
    counts: dict[int | None, int] = {}
    for point in points:
        counts[point.epoch] = counts.get(point.epoch, 0) + 1
    xs, place, epoch = [], 0, None
    for point in points:
        place = place + 1 if point.epoch == epoch else 0
        epoch = point.epoch
        xs.append(float(point.epoch or 0) + place / counts[point.epoch])
    return xs, [point.value for point in points]
