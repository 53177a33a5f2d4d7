"""The command train, and two hidden commands that it runs in separate processes."""

from __future__ import annotations

import contextlib
import logging
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable, Iterator, Mapping, NoReturn

import click

from mms_handler import settings
from mms_handler.cli import curves
from mms_handler.cli.command import end, examples, existing, format_size, group
from mms_handler.cli.curves import DEFAULT_PLOT
from mms_handler.cli.packing import pack
from mms_handler.cli.sweep import sweep

if TYPE_CHECKING:
    from mms_handler.training import Job, JobOptions


def _pairs(ctx: click.Context, param: click.Parameter, values: tuple[str, ...]) -> dict[str, str]:
    pairs = {}
    for value in values:
        name, equals, text = value.partition("=")
        if not (name and equals):
            raise click.BadParameter(f"{value!r} is not NAME=VALUE", ctx, param)
        pairs[name] = text
    return pairs


@group.command(
    epilog=examples(
        "mms-handler train --entry-point train.py --channel train=data --hp epochs=20",
        "mms-handler train --entry-point train.py --hp lr=0.1,0.01 --hp epochs=5 --sweep",
        "mms-handler train --base-dir /opt/ml --archive digits",
    )
)
@click.option("--base-dir", type=click.Path(path_type=Path), metavar="BASE",
              help="A folder like /opt/ml, with input/, code/, model/ and output/.  [default: "
                   "SAGEMAKER_BASE_DIR, else /opt/ml if it has input/config, else the current "
                   "folder]")  # fmt: skip
@click.option("--entry-point",
              help="The script, relative to the source folder if there is one.  [default: the "
                   "hyperparameter sagemaker_program]")  # fmt: skip
@click.option("--source-dir",
              help="The script's folder, a tar.gz of it, or its s3:// address.  [default: the "
                   "hyperparameter sagemaker_submit_directory, else the script's own "
                   "folder]")  # fmt: skip
@click.option("--channel", "channels", multiple=True, callback=_pairs, metavar="NAME=DIR",
              help="An input channel and its folder; repeatable.  [default: the channels of "
                   "BASE/input/config/inputdataconfig.json]")  # fmt: skip
@click.option("--hp", multiple=True, callback=_pairs, metavar="NAME=VALUE",
              help="A hyperparameter, as JSON or text; repeatable.  [default: those of "
                   "BASE/input/config/hyperparameters.json]")  # fmt: skip
@click.option("--hyperparameters", type=existing,
              help="A JSON file of hyperparameters.  It overrides BASE/input/config/"
                   "hyperparameters.json; --hp overrides both.")  # fmt: skip
@click.option("--raw-hyperparameters", is_flag=True,
              help="Hand hyperparameters to the script as the texts that they are, not as "
                   "JSON.  [env var: MMS_HANDLER_RAW_HYPERPARAMETERS]")  # fmt: skip
@click.option("--sweep", "sweeps", is_flag=True,
              help="Run each combination of the values in --hp NAME=VALUE,VALUE, in folders of its "
                   "own, BASE/sweep/001 and so on, two at a time if they fit.")  # fmt: skip
@click.option("--model-dir", type=click.Path(path_type=Path),
              help="The folder for the model.  [default: BASE/model]")  # fmt: skip
@click.option("--force", is_flag=True,
              help="Remove files from the model's folder that no earlier training left "
                   "there.")  # fmt: skip
@click.option("--output-data-dir", type=click.Path(path_type=Path),
              help="The folder for other results of the script.  [default: "
                   "BASE/output/data]")  # fmt: skip
@click.option("--checkpoint-dir", type=click.Path(path_type=Path),
              help="The folder for checkpoints.  It is kept between runs.  [default: LocalPath in "
                   "BASE/input/config/checkpointconfig.json, else BASE/checkpoints]")  # fmt: skip
@click.option("--seed", type=click.IntRange(0, 2**31 - 1), metavar="NUMBER",
              help="Seed the random generators of Python, NumPy and MXNet, on every host.  "
                   "[default: no seed]")  # fmt: skip
@click.option("--mode", type=click.Choice(["legacy", "script"]),
              help="legacy calls the script's train(), script runs the file.  [default: decided "
                   "by reading the file]")  # fmt: skip
@click.option("--hosts",
              help="All hosts of the job, separated by commas.  [default: those of BASE/input/"
                   "config/resourceconfig.json, else algo-1]")  # fmt: skip
@click.option("--current-host",
              help="The name of this host.  [default: the one in resourceconfig.json, else the "
                   "first of the hosts]")  # fmt: skip
@click.option("--local-hosts", type=click.IntRange(1), default=1, metavar="COUNT",
              show_default=True,
              help="Try the job on this machine with COUNT hosts, a process for "
                   "each.")  # fmt: skip
@click.option("--stall-s", type=click.FloatRange(1), metavar="SECONDS",
              help="Fail if the script uses no processor time for SECONDS.  The log says so each "
                   "minute.  [default: never]")  # fmt: skip
@click.option("--metrics", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE",
              help="Write each metric that the script prints as a JSON line, while it "
                   "runs.")  # fmt: skip
@click.option("--metric-definitions", type=existing, metavar="FILE",
              help="SageMaker's metric definitions, a JSON list of objects with Name and Regex.  "
                   "[default: the usual patterns, such as Epoch[3] "
                   "Train-accuracy=0.93]")  # fmt: skip
@click.option("--plot", is_flag=False, flag_value=DEFAULT_PLOT, metavar="[FILE]",
              help="Draw a learning curve, as .svg or .png.  Without FILE: learning-curve.svg in "
                   "BASE/output/data.  Needs mms_handler[plot].")  # fmt: skip
@click.option("--archive", "name", metavar="NAME",
              help="Pack the model and the script as NAME.mar and NAME.tar.gz.  [default: pack "
                   "nothing]")  # fmt: skip
@click.option("--model-store", type=click.Path(path_type=Path), default="model_archives",
              show_default=True, help="The folder for the archives.")  # fmt: skip
@click.option("--sample", type=existing,
              help="A request to pack as the archive's sample.  [default: a row of zeros in the "
                   "model's shapes]")  # fmt: skip
def train(
    base_dir: Path | None,
    mode: str | None,
    local_hosts: int,
    metrics: Path | None,
    metric_definitions: Path | None,
    plot: str | None,
    name: str | None,
    model_store: Path,
    sample: Path | None,
    sweeps: bool,
    **options: Any,
) -> None:
    """Run a training script as SageMaker does.

    The script, its hyperparameters and its channels come from a folder like /opt/ml, from
    options, or from both.  Options override the folder's files.
    """
    from mms_handler import training

    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    if sweeps:
        _check_sweep({"archive": name, "metrics": metrics, "plot": plot, **options})
    base_dir = base_dir or _base_dir()
    hosts = options["hosts"].split(",") if options["hosts"] else ()
    host = training.host_name(base_dir, hosts, options["current_host"])
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _stop)
    try:
        with training.recorded(base_dir, host):
            with training.phase("reading the job"), _progress("fetching the code") as progress:
                points = training.points(options["hp"]) if sweeps else [options["hp"]]
                job_options = _job_options(**{**options, "hp": points[0]})
                job = training.read_job(base_dir, job_options, progress)
                watching = curves.watching(job, metrics, metric_definitions, plot)
            if sweeps:
                raw = job_options.raw_hyperparameters
                with training.phase("sweeping"):
                    sweep(
                        job,
                        points,
                        raw=raw,
                        mode=mode,
                        local_hosts=local_hosts,
                        definitions=metric_definitions,
                    )
                return
            training.run_job(job, mode=mode, local_hosts=local_hosts, watching=watching)
            with training.phase("listing the model"):
                for path in sorted(path for path in job.model_dir.rglob("*") if path.is_file()):
                    click.echo(f"{path}  {format_size(path.stat().st_size)}")
            if name:
                with training.phase("packing"):
                    _pack(job, name, model_store, sample)
    except training.JobFailed as exc:
        end(str(exc), exc.exit_code)


def _check_sweep(options: Mapping[str, Any]) -> None:
    """Refuse options with which each run of a sweep would replace the results of the one before."""
    single = ("model_dir", "output_data_dir", "checkpoint_dir", "archive", "metrics", "plot")
    names = [f"--{name.replace('_', '-')}" for name in single if options[name]]
    if names:
        raise click.UsageError(
            f"{names[0]} is for one run, and --sweep makes several, each in a folder of its own"
        )
    if not options["hp"]:
        raise click.UsageError("--sweep needs --hp NAME=VALUE,VALUE")


def _stop(number: int, frame: object) -> NoReturn:
    """End the command while no script runs; ``run_job`` passes signals on to a script."""
    from mms_handler.training import Stopped

    raise Stopped(number)


def _pack(job: Job, name: str, model_store: Path, sample: Path | None) -> None:
    """Pack the model and the code as NAME.mar and NAME.tar.gz."""
    from mms_handler import archive

    code = job.source_dir or job.entry_point
    program = None if (code / "inference.py").is_file() else _program(job, code)
    packing = {"code": code, "program": program, "sample": sample, "force": True}
    pack(job.model_dir, model_store / f"{name}.mar", **packing)
    target = model_store / f"{name}.tar.gz"
    archive.pack_tar(job.model_dir, target, code=code)
    click.echo(f"{target}  {format_size(target.stat().st_size)}")


def _program(job: Job, code: Path) -> str:
    """The script's name in the code's folder, where it may be in another folder."""
    script, folder = job.entry_point.resolve(), code.resolve()
    return script.relative_to(folder).as_posix() if folder in script.parents else script.name


def _base_dir() -> Path:
    base_dir = settings.current().base_dir
    if base_dir:
        return Path(base_dir)
    sagemaker = Path("/opt/ml")
    return sagemaker if (sagemaker / "input" / "config").is_dir() else Path()


def _job_options(
    channels: Mapping[str, str],
    hp: Mapping[str, str],
    hyperparameters: Path | None,
    hosts: str | None,
    raw_hyperparameters: bool,
    **options: Any,
) -> JobOptions:
    from mms_handler import training

    raw = raw_hyperparameters or settings.current().raw_hyperparameters
    values = training.read_hyperparameters(hyperparameters, raw=raw) if hyperparameters else {}
    return training.JobOptions(
        channels={name: Path(folder) for name, folder in channels.items()},
        hyperparameters={**values, **training.decode_hyperparameters(hp, raw=raw)},
        raw_hyperparameters=raw,
        hosts=tuple(hosts.split(",")) if hosts else (),
        **options,
    )


@contextlib.contextmanager
def _progress(description: str) -> Iterator[Callable[[int], None]]:
    """A bar on a terminal, advanced by numbers of bytes; it disappears at the end."""
    from rich.console import Console
    from rich.progress import DownloadColumn, Progress, TextColumn

    columns = (TextColumn("{task.description}"), DownloadColumn())
    console, hidden = Console(stderr=True), not sys.stderr.isatty()
    with Progress(*columns, console=console, transient=True, disable=hidden) as progress:
        task = progress.add_task(description, total=None, visible=False)
        yield lambda count: progress.update(task, advance=count, visible=True)


@group.command("train-here", hidden=True)
@click.argument("scratch", type=existing)
@click.argument("folders", nargs=-1, type=existing)
def train_here(scratch: Path, folders: tuple[Path, ...]) -> None:
    """Call the train() of a legacy script in this process.  The command train runs this."""
    from mms_handler.training import legacy

    sys.exit(legacy.main(scratch, folders))


@group.command("train-host", hidden=True)
@click.argument("folder", type=existing)
@click.argument("port", type=int)
@click.argument("mode", required=False)
def train_host(folder: Path, port: int, mode: str | None) -> None:
    """Run one of several hosts on this machine.  The command train --local-hosts runs this."""
    from mms_handler.training.local_hosts import run_host

    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    run_host(folder, port, mode)


@group.command("train-observe", hidden=True)
@click.argument("job")
def train_observe(job: str) -> None:
    """Look for metrics in the output of a job's hosts.  The command train runs this."""
    from mms_handler.training import series

    series.main(job, sys.stdin.fileno(), sys.stdout)
