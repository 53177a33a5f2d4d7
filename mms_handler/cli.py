"""The command ``mms-handler``: words to calls, results to lines and exit codes.

0: done.  1: it failed, and one line says why.  2: wrong usage.  The only place that prints.
What a command needs is imported inside it, so that ``--help`` does not wait for mxnet.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import signal
import sys
from pathlib import Path
from typing import Any, Callable, Iterator, NoReturn

import click

from mms_handler import __version__, settings
from mms_handler.errors import HandlerError, ServerError, SettingsError

existing = click.Path(exists=True, path_type=Path)


def main() -> None:
    """Run the command; every failure that has a sentence ends in that sentence."""
    try:
        group.main(prog_name="mms-handler", standalone_mode=True)
    except SettingsError as exc:
        _end(str(exc), 2)
    except (HandlerError, OSError) as exc:
        _end(str(exc), 1)


def _end(reason: str, code: int) -> NoReturn:
    click.secho("error: ", fg="red", bold=True, err=True, nl=False)
    click.echo(reason, err=True)
    sys.exit(code)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="mms-handler")
def group() -> None:
    """Train, pack, serve and ask SageMaker MXNet scripts."""


# --- train -----------------------------------------------------------------------------------


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
        _end(str(exc), 128 + exc.number)
    for path in sorted(path for path in job.model_dir.rglob("*") if path.is_file()):
        click.echo(f"{path}  {_size(path.stat().st_size)}")
    if name:
        code = job.source_dir or job.entry_point
        program = None if (code / "inference.py").is_file() else job.entry_point.name
        packing = {"code": code, "program": program, "sample": sample, "force": True}
        _pack(job.model_dir, model_store / f"{name}.mar", **packing)
        target = model_store / f"{name}.tar.gz"
        archives.pack_tar(job.model_dir, target, code=code)
        click.echo(f"{target}  {_size(target.stat().st_size)}")


def _base_dir() -> Path:
    chosen = settings.current().base_dir
    if chosen:
        return Path(chosen)
    sagemaker = Path("/opt/ml")
    return sagemaker if (sagemaker / "input" / "config").is_dir() else Path()


@contextlib.contextmanager
def _progress(what: str) -> Iterator[Callable[[int], None]]:
    """A bar on a terminal for bytes as they come; it is gone afterwards."""
    from rich.progress import DownloadColumn, Progress, TextColumn

    columns = (TextColumn("{task.description}"), DownloadColumn())
    with Progress(*columns, transient=True, disable=not sys.stderr.isatty()) as progress:
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


# --- archive ---------------------------------------------------------------------------------


@group.command()
@click.argument("model_dir", type=existing)
@click.option("--script", "code", type=existing,
              help="The script, or a folder with it; else MODEL_DIR/code.")  # fmt: skip
@click.option("--name", help="The model's name; else the folder's.")
@click.option("--model-store", type=click.Path(path_type=Path), default="model_archives",
              show_default=True, help="Where the archive goes.")  # fmt: skip
@click.option("--sample", type=existing, help="A request to pack with it, for check.")
@click.option("--force", is_flag=True, help="Replace an archive of this name.")
def archive(model_dir: Path, name: str | None, model_store: Path, **packing: Any) -> None:
    """Pack MODEL_DIR and a script as .mar."""
    from mms_handler import archive as archives

    name = archives.check_name(name or model_dir.resolve().name)
    program = settings.current().program
    _pack(model_dir, model_store / f"{name}.mar", program=program, **packing)


def _pack(model_dir: Path, target: Path, **packing: Any) -> None:
    from rich.progress import Progress

    from mms_handler import archive as archives

    with Progress(transient=True, disable=not sys.stderr.isatty()) as progress:
        count = len(archives.contents(model_dir, packing["code"]))
        task = progress.add_task(target.name, total=count)
        packing["packed"] = lambda inner: progress.advance(task)
        archives.pack(model_dir, target, **packing)
    click.echo(f"{target}  {_size(target.stat().st_size)}")


@group.command()
@click.argument("path", type=existing)
@click.option("--sample", type=existing, help="A request to answer; else the archive's own.")
@click.option("--content-type", help="What the sample is; else by its suffix.")
@click.option("--accept", default="*/*", show_default=True, help="What its reply should be.")
def check(path: Path, sample: Path | None, content_type: str | None, accept: str) -> None:
    """Say what a worker would find in PATH.

    PATH is a .mar or a folder; it is loaded in a process of its own.
    """
    from rich.console import Console
    from rich.table import Table

    from mms_handler import archive as archives

    found = archives.check(path, sample, content_type, accept)
    if "error" in found:
        _end(f"{path} would not load: {found['error']}", 1)
    table = Table(show_header=False, box=None)
    table.add_row("script", found["script"] or "none: everything is the default")
    for hook, is_default, understood in found["functions"]:
        table.add_row(hook, "the default" if is_default else understood)
    table.add_row("files", ", ".join(found["files"]) or "none")
    table.add_row("model", found["model"])
    if "reply" in found:
        table.add_row("reply", f"{found['status']} {found['content_type']}: {found['reply']}")
    width = None if sys.stdout.isatty() else 1_000  # for who reads lines
    Console(width=width, highlight=False, markup=False).print(table)
    if found.get("status", 200) >= 400:
        _end(f"the sample is answered {found['status']}: {found['reply']}", 1)


@group.command(hidden=True)
@click.argument("folder", type=existing)
@click.argument("report", type=click.Path(path_type=Path))
@click.argument("sample", nargs=-1)
def inspect(folder: Path, report: Path, sample: tuple[str, ...]) -> None:
    """What check runs in a process of its own; writes REPORT."""
    import json

    from mms_handler import loading

    asked = (Path(sample[0]).read_bytes(), sample[1], sample[2]) if sample else None
    report.write_text(json.dumps(loading.inspect(folder, asked)))


def _size(count: int) -> str:
    return f"{count:,} bytes" if count < 10_000 else f"{count / 1000:,.0f} kB"


# --- serve -----------------------------------------------------------------------------------


def _server_options(command: Any) -> Any:
    """The options that serve and config share: one a field of Settings."""
    for name, help_text in (
        ("timeout-s", "Seconds for one request, and for loading a model."),
        ("max-batch-delay-ms", "How long the first request of a batch waits for others."),
        ("batch-size", "Requests that MMS may hand to a worker together."),
        ("workers", "Worker processes of each model."),
        ("management-port", "Port of the management API, on 127.0.0.1."),
        ("port", "Port that clients use."),
    ):
        kind = click.IntRange(1, 32_766) if name.endswith("port") else click.IntRange(1)
        command = click.option(f"--{name}", type=kind, help=help_text)(command)
    return click.option("--host", help="Address that clients use.")(command)


def _chosen(options: dict[str, Any]) -> settings.Settings:
    given = {name: value for name, value in options.items() if value is not None}
    return dataclasses.replace(settings.current(), **given)


@group.command()
@click.argument("paths", nargs=-1, required=True, type=existing)
@_server_options
def serve(paths: tuple[Path, ...], **options: Any) -> None:
    """Serve archives or folders until Ctrl-C.

    Each of PATHS is a .mar, or a folder with a model and its script in code/.
    """
    from mms_handler import server

    for number in (signal.SIGTERM, signal.SIGINT):  # a shell's background job ignores the second
        signal.signal(number, _interrupt)
    try:
        with server.running(paths, _chosen(options), log=_log) as running:
            for path in paths:
                name = path.resolve().stem if path.is_file() else path.resolve().name
                click.echo(f"{name} is ready: {running.predictions(name)}")
            code = running.process.wait()
        raise ServerError(f"MMS ended by itself, with {code}")
    except KeyboardInterrupt:
        click.echo("stopped")


def _interrupt(number: int, frame: Any) -> NoReturn:
    raise KeyboardInterrupt


def _log(line: str) -> None:
    click.echo(line, err=True)


@group.command()
@_server_options
def config(**options: Any) -> None:
    """Print MMS's config.properties for these options."""
    from mms_handler import server

    click.echo(server.properties(_chosen(options)), nl=False)


# --- invoke ----------------------------------------------------------------------------------


@group.command()
@click.argument("model")
@click.argument("file", type=click.File("rb"), default="-")
@click.option("--content-type", help="What FILE is; else by its suffix, else application/json.")
@click.option("--accept", default="*/*", show_default=True, help="What the reply should be.")
@click.option("--port", type=int, help="Port of the server on 127.0.0.1.")
@click.option("--timeout-s", type=float, default=60, show_default=True, help="Seconds to wait.")
def invoke(
    model: str, file: Any, content_type: str | None, accept: str, port: int | None, timeout_s: float
) -> None:
    """Ask a model: FILE in, reply out.

    MODEL is a name or a URL; FILE is - for standard input, the default.
    """
    from mms_handler import client

    url = model
    if "://" not in model:
        url = f"http://127.0.0.1:{port or settings.current().port}/predictions/{model}"
    kind = content_type or client.content_type(Path(file.name))
    answer = client.invoke(url, file.read(), kind, accept, timeout_s)
    if answer.status >= 400:
        _end(f"{answer.status} {answer.message()}", 1)
    sys.stdout.buffer.write(answer.body)
    if sys.stdout.isatty():
        click.echo()
