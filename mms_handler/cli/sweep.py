"""The option --sweep of the command train: a line as each run ends, and a table of all of them."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Mapping, Sequence

import click

from mms_handler.cli.command import existing, group

if TYPE_CHECKING:
    from mms_handler.training import Job
    from mms_handler.training.sweep import Run

#: The longest text of a hyperparameter in the table.
VALUE_CHARS = 24

#: The most metrics in the table.
METRICS = 4


def sweep(
    job: Job,
    points: Sequence[Mapping[str, str]],
    *,
    raw: bool,
    mode: str | None,
    local_hosts: int,
    definitions: Path | None,
) -> None:
    """Run the job with the hyperparameters of each point, and print a table at the end.

    Raises:
        TrainingError: a run failed.
        Stopped: this process got SIGTERM or SIGINT; the table has what had ended.
    """
    from mms_handler.errors import TrainingError
    from mms_handler.server import machine
    from mms_handler.training import Stopped
    from mms_handler.training.sweep import Room, Sweep, runs_of

    runs = runs_of(job, points, raw=raw)
    room = Room(machine.this_machine().cpus, machine.available_bytes, machine.used_bytes)
    number = Sweep(
        runs,
        room,
        input_dir=job.base_dir / "input",
        mode=mode,
        local_hosts=local_hosts,
        definitions=definitions,
        report=_report,
    ).run()
    for line in table(runs):
        click.echo(line)
    if number is not None:
        raise Stopped(number)
    failed = [run.name for run in runs if run.state != "succeeded"]
    if failed:
        raise TrainingError(
            f"{len(failed)} of {len(runs)} runs failed: {', '.join(failed)}; each has its output "
            f"in {runs[0].job.base_dir.parent}/NNN/log"
        )


def _report(run: Run) -> None:
    values = " ".join(f"{name}={value}" for name, value in run.point.items())
    seconds = "" if run.state == "running" else f" after {run.seconds:.1f} s"
    reason = f": {run.reason}" if run.reason else ""
    click.echo(f"{run.name} {values}: {run.state}{seconds}{reason}", err=True)


def table(runs: Sequence[Run]) -> list[str]:
    """Lines with a heading and a row for each run, with its last metrics and why it failed.

    Of the metrics, the first METRICS by rank have a column.
    """
    names = list(runs[0].point)
    metrics = list(dict.fromkeys(name for run in runs for name in run.metrics))[:METRICS]
    rows = [["run", *names, "state", "seconds", *metrics, "reason"]]
    for run in runs:
        values = [_shorten(run.point[name]) for name in names]
        seconds = "" if run.state == "not run" else f"{run.seconds:.1f}"
        last = [f"{run.metrics[name]:.4g}" if name in run.metrics else "" for name in metrics]
        rows.append([run.name, *values, run.state, seconds, *last, run.reason])
    if not any(row[-1] for row in rows[1:]):
        rows = [row[:-1] for row in rows]
    widths = [max(map(len, column)) for column in zip(*rows)]
    return ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]


def _shorten(text: str) -> str:
    return text if len(text) <= VALUE_CHARS else f"{text[: VALUE_CHARS - 1]}…"


@group.command("train-run", hidden=True)
@click.argument("base_dir", type=existing)
@click.option("--local-hosts", type=int)
@click.option("--mode")
@click.option("--definitions", type=existing)
def train_run(base_dir: Path, **options: Any) -> None:
    """Run one run of a sweep.  The command train --sweep runs this."""
    from mms_handler.training.sweep import run_one

    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    run_one(base_dir, **options)
