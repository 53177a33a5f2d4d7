"""The command ``mms-handler``: words to calls, results to lines and exit codes.

0: done.  1: it failed, and one line says why.  2: wrong usage.  The only place that prints.
What a command needs is imported inside it, so that ``--help`` does not wait for mxnet.
"""

from __future__ import annotations

import dataclasses
import signal
import sys
import traceback
from pathlib import Path
from typing import Any, NoReturn

import click

from mms_handler import __version__, settings
from mms_handler.errors import HandlerError, ServerError, SettingsError, cause

#: Content types of files, by suffix.
SUFFIXES = {".json": "application/json", ".csv": "text/csv", ".npy": "application/x-npy"}

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
@click.option("--entry-point", type=existing, required=True, help="The script with train().")
@click.option("--channel", "channels", multiple=True, callback=_pairs, metavar="NAME=DIR",
              help="An input channel and its folder; may be repeated.")  # fmt: skip
@click.option("--hp", multiple=True, callback=_pairs, metavar="NAME=VALUE",
              help="A hyperparameter, JSON or text; may be repeated.")  # fmt: skip
@click.option("--hyperparameters", type=existing, help="A JSON file of them; --hp wins.")
@click.option("--model-dir", type=click.Path(path_type=Path), default="model", show_default=True,
              help="Where the model goes.")  # fmt: skip
@click.option("--output-data-dir", type=click.Path(path_type=Path), default="output/data",
              show_default=True, help="Where the script may leave other results.")  # fmt: skip
def train(
    entry_point: Path,
    channels: dict[str, str],
    hp: dict[str, str],
    hyperparameters: Path | None,
    model_dir: Path,
    output_data_dir: Path,
) -> None:
    """Call a script's train() and save its model."""
    from mms_handler import training

    given = training.hyperparameters(hyperparameters) if hyperparameters else {}
    given.update({name: training.hyperparameter(text) for name, text in hp.items()})
    job = training.Job(
        entry_point=entry_point,
        hyperparameters=given,
        channels={name: Path(folder) for name, folder in channels.items()},
        model_dir=model_dir,
        output_data_dir=output_data_dir,
    )
    try:
        training.train(job)
    except HandlerError:
        raise
    except Exception as exc:
        traceback.print_exc()
        _end(f"{entry_point.name}: {cause(exc, str(entry_point.parent))}", 1)
    for path in sorted(model_dir.iterdir()):
        click.echo(f"{path}  {_size(path.stat().st_size)}")


# --- archive ---------------------------------------------------------------------------------


@group.command()
@click.argument("model_dir", type=existing)
@click.option("--script", "code", type=existing,
              help="The script, or a folder with it; else MODEL_DIR/code.")  # fmt: skip
@click.option("--name", help="The model's name; else the folder's.")
@click.option("--model-store", type=click.Path(path_type=Path), default="model_archives",
              show_default=True, help="Where the archive goes.")  # fmt: skip
@click.option("--force", is_flag=True, help="Replace an archive of this name.")
def archive(
    model_dir: Path, code: Path | None, name: str | None, model_store: Path, force: bool
) -> None:
    """Pack MODEL_DIR and a script as .mar."""
    from rich.progress import Progress

    from mms_handler import archive as archives

    target = model_store / f"{archives.check_name(name or model_dir.resolve().name)}.mar"
    with Progress(transient=True, disable=not sys.stderr.isatty()) as progress:
        task = progress.add_task(target.name, total=len(archives.contents(model_dir, code)))
        archives.pack(
            model_dir,
            target,
            code=code,
            program=settings.current().program,
            force=force,
            packed=lambda inner: progress.advance(task),
        )
    click.echo(f"{target}  {_size(target.stat().st_size)}")


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

    signal.signal(signal.SIGTERM, _interrupt)
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
    kind = content_type or SUFFIXES.get(Path(file.name).suffix, "application/json")
    answer = client.invoke(url, file.read(), kind, accept, timeout_s)
    if answer.status != 200:
        _end(f"{answer.status} {answer.message()}", 1)
    sys.stdout.buffer.write(answer.body)
    if sys.stdout.isatty():
        click.echo()
