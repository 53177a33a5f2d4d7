"""The commands around a server: serve, config."""

from __future__ import annotations

import dataclasses
import signal
from pathlib import Path
from typing import Any, NoReturn

import click

from mms_handler import settings
from mms_handler.cli.command import existing, group
from mms_handler.errors import ServerError


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
