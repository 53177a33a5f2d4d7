"""Show a training's metrics at its end: as a table, and as a learning curve."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mms_handler.training import Curve, Job, Watching

#: The value of --plot without a file.
DEFAULT_PLOT = "learning-curve.svg in BASE/output/data"


def watching(
    job: Job, metrics: Path | None, definitions: Path | None, plot: str | None
) -> Watching:
    """How ``train`` watches ``job``.

    Args:
        job: the job.
        metrics: gets each value as a JSON line.
        definitions: a JSON file of SageMaker's metric definitions.
        plot: where the learning curve goes, if anywhere.

    Raises:
        TrainingError: a file cannot be read or written, or there is no matplotlib.
    """
    from mms_handler import training

    picture = Path(plot) if plot else None
    if plot == DEFAULT_PLOT:
        picture = job.output_data_dir / "learning-curve.svg"
    return training.watching(
        file=metrics, definitions=definitions, picture=picture, report=_print_table, live=True
    )


def _print_table(curves: list[Curve]) -> None:
    """Print the last and the best value of each metric to standard error."""
    if not curves:
        return
    from rich.console import Console
    from rich.table import Table

    from mms_handler import training

    several = len({curve.host for curve in curves}) > 1
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in (["host"] if several else []) + ["metric", "last", "best", "at epoch"]:
        table.add_column(title, justify="left" if title in ("host", "metric") else "right")
    host = ""
    for curve in sorted(curves, key=lambda curve: (curve.host, training.rank(curve.name))):
        name = [curve.host if curve.host != host else ""] if several else []
        best = "" if math.isnan(curve.best.value) else _number(curve.best.value)
        epoch = str(curve.best.epoch) if best and curve.best.epoch is not None else ""
        table.add_row(*name, curve.name, _number(curve.last.value), best, epoch)
        host = curve.host
    Console(stderr=True, highlight=False, markup=False).print("", table, sep="\n")


def _number(value: float) -> str:
    return f"{value:.4g}" if abs(value) < 1e4 else f"{value:,.0f}"
