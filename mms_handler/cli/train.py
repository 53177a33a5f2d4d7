"""The command train, and the hidden ones that it runs in processes of their own."""

from __future__ import annotations

import contextlib
import logging
import sys
from pathlib import Path
from typing import Any, Callable, Iterator

import click

from mms_handler import settings
from mms_handler.cli.archives import pack
from mms_handler.cli.command import end, existing, group, size


def _pairs(ctx: click.Context, param: click.Parameter, values: tuple[str, ...]) -> dict[str, str]:
    pairs = {}
    for value in values:
        name, equals, rest = value.partition("=")
        if not (name and equals):
            raise click.BadParameter(f"{value!r} is not NAME=VALUE", ctx, param)
        pairs[name] = rest
    return pairs


@group.command()
@click.option("--base-dir", type=click.Path(path_type=Path),
              help="A folder like /opt/ml; else SAGEMAKER_BASE_DIR or that.")  # fmt: skip
@click.option("--entry-point", help="The script; else sagemaker_program of the hyperparameters.")
@click.option("--source-dir", help="Its folder, tar.gz or s3:// address; else the script's own.")
@click.option("--channel", "channels", multiple=True, callback=_pairs, metavar="NAME=DIR",
              help="An input channel and its folder; may be repeated.")  # fmt: skip
@click.option("--hp", multiple=True, callback=_pairs, metavar="NAME=VALUE",
              help="A hyperparameter, JSON or text; may be repeated.")  # fmt: skip
@click.option("--hyperparameters", type=existing, help="A JSON file of them; --hp wins.")
@click.option("--model-dir", type=click.Path(path_type=Path),
              help="Where the model goes; else BASE/model.")  # fmt: skip
@click.option("--output-data-dir", type=click.Path(path_type=Path),
              help="Where the script may leave other results; else BASE/output/data.")  # fmt: skip
@click.option("--mode", type=click.Choice(["legacy", "script"]),
              help="Call train(), or run the file; else as the script looks.")  # fmt: skip
@click.option("--hosts", help="All hosts of the job, with commas.")
@click.option("--current-host", help="This one of them.")
@click.option("--local-hosts", type=click.IntRange(1), help="Try a job of so many hosts here.")
@click.option(
    "--archive", "name", help="Pack the result and the script as an archive of this name."
)
@click.option("--model-store", type=click.Path(path_type=Path), default="model_archives",
              show_default=True, help="Where that archive goes.")  # fmt: skip
@click.option("--sample", type=existing,
              help="A request to pack with it; else zeros in the model's shapes.")  # fmt: skip
def train(
    base_dir: Path | None,
    channels: dict[str, str],
    hp: dict[str, str],
    hyperparameters: Path | None,
    hosts: str | None,
    mode: str | None,
    local_hosts: int | None,
    name: str | None,
    model_store: Path,
    sample: Path | None,
    **given: Any,
) -> None:
    """Train with a script, as SageMaker does.

    Everything comes from a folder like /opt/ml, from options, or from both.
    """
    from mms_handler import archive as archives
    from mms_handler import training

    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    values = training.hyperparameters(hyperparameters) if hyperparameters else {}
    values.update({name: training.hyperparameter(text) for name, text in hp.items()})
    options = training.Options(
        channels={name: Path(folder) for name, folder in channels.items()},
        hyperparameters=values,
        hosts=tuple(hosts.split(",")) if hosts else (),
        **given,
    )
    base = base_dir or _base_dir()
    with _progress("fetching the code") as fetched:
        job = training.read(base, options, fetched)
    try:
        if local_hosts and local_hosts > 1:
            training.run_local_hosts(job, local_hosts, wanted=mode)
        else:
            training.run(job, wanted=mode)
    except training.Stopped as exc:
        end(str(exc), 128 + exc.number)
    for path in sorted(path for path in job.model_dir.rglob("*") if path.is_file()):
        click.echo(f"{path}  {size(path.stat().st_size)}")
    if name:
        code = job.source_dir or job.entry_point
        program = None if (code / "inference.py").is_file() else job.entry_point.name
        packing = {"code": code, "program": program, "sample": sample, "force": True}
        pack(job.model_dir, model_store / f"{name}.mar", **packing)
        target = model_store / f"{name}.tar.gz"
        archives.pack_tar(job.model_dir, target, code=code)
        click.echo(f"{target}  {size(target.stat().st_size)}")


def _base_dir() -> Path:
    chosen = settings.current().base_dir
    if chosen:
        return Path(chosen)
    sagemaker = Path("/opt/ml")
    return sagemaker if (sagemaker / "input" / "config").is_dir() else Path()


@contextlib.contextmanager
def _progress(what: str) -> Iterator[Callable[[int], None]]:
    """A bar on a terminal for bytes as they come; it is gone afterwards."""
    from rich.console import Console
    from rich.progress import DownloadColumn, Progress, TextColumn

    columns = (TextColumn("{task.description}"), DownloadColumn())
    console, hidden = Console(stderr=True), not sys.stderr.isatty()
    with Progress(*columns, console=console, transient=True, disable=hidden) as progress:
        task = progress.add_task(what, total=None)
        yield lambda count: progress.advance(task, count)


@group.command("train-here", hidden=True)
@click.argument("scratch", type=existing)
@click.argument("also", nargs=-1, type=existing)
def train_here(scratch: Path, also: tuple[Path, ...]) -> None:
    """What train runs in a process of its own, for a script with train()."""
    from mms_handler.training.run import here

    sys.exit(here(scratch, list(also)))


@group.command("train-host", hidden=True)
@click.argument("folder", type=existing)
@click.argument("port", type=int)
@click.argument("mode", required=False)
def train_host(folder: Path, port: int, mode: str | None) -> None:
    """What train --local-hosts runs for each host."""
    from mms_handler.training.run import host_here

    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    host_here(folder, port, mode)
