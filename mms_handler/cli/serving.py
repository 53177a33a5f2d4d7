"""The commands around a server: serve, ready, config."""

from __future__ import annotations

import contextlib
import signal
from pathlib import Path
from typing import Any, NoReturn

import click

from mms_handler import settings
from mms_handler.cli.command import end, existing, group
from mms_handler.settings import Effective, Setting


def _server_options(command: Any) -> Any:
    """The options that serve and config share: those of the settings."""
    for field, setting in reversed(settings.TABLE.items()):
        if setting.option:
            command = _option(field, setting)(command)
    return command


def _option(field: str, setting: Setting) -> Any:
    """An option that holds what its setting's first variable does."""
    names = (f"--{setting.option}", field)
    variable, parse = next(iter(setting.variables.items()))
    default = setting.default_text or setting.text(setting.default)
    help_text = f"{setting.help}  [env var: {variable}; default: {default}]"
    if setting.default is False:
        return click.option(*names, is_flag=True, default=None, help=help_text)

    def read(ctx: click.Context, param: click.Parameter, value: str | None) -> Any:
        try:
            return None if value is None else parse(value)
        except ValueError as exc:
            raise click.BadParameter(f"{value!r} is not {exc}") from None

    metavar = setting.unit.upper() or "VALUE"
    return click.option(*names, callback=read, metavar=metavar, help=help_text)


def _effective(options: dict[str, Any]) -> Effective:
    given = {field: value for field, value in options.items() if value is not None}
    return settings.effective(settings.environment(), given)


@group.command()
@click.argument("paths", nargs=-1, type=existing)
@_server_options
def serve(paths: tuple[Path, ...], **options: Any) -> None:
    """Serve archives or folders until Ctrl-C.

    Each of PATHS is a .mar, a model.tar.gz, or a folder with a model and its script in code/.
    Without any it does as a SageMaker container: it serves /opt/ml/model as "model" to everyone
    who reaches the port, or with SAGEMAKER_MULTI_MODEL=true the models it is asked to.
    """
    from mms_handler import processes
    from mms_handler.server import serve as serve_models

    effective = _effective(options)
    local = paths or effective.origins["multi_model"].startswith("option")
    chosen = (effective if local else effective.hosting()).settings
    if not paths and not chosen.multi_model:
        paths = (Path(chosen.model_dir),)
    processes.leave_pid_1()
    for number in (signal.SIGTERM, signal.SIGINT):  # a shell's background job ignores the second
        signal.signal(number, _interrupt)
    try:
        with serve_models(paths, chosen, log=_log) as server:
            for name in server.registry.names():
                _say(f"{name} is ready: {server.predictions_url(name)}")
            if not paths:
                _say(f"models can be registered: {server.url}/models")
            server.wait()
    except KeyboardInterrupt:
        _say("stopped")


def _interrupt(number: int, frame: Any) -> NoReturn:
    raise KeyboardInterrupt


def _say(line: str) -> None:
    """Print a line where it can be: a full disk must not end a server."""
    with contextlib.suppress(OSError):
        click.echo(line)


def _log(line: str) -> None:
    with contextlib.suppress(OSError):
        click.echo(line, err=True)


@group.command()
@click.option("--port", type=int, help="Port of the server on 127.0.0.1; else as serve takes it.")
def ready(port: int | None) -> None:
    """Exit 0 if a server here can answer requests, else 1: for probes of containers."""
    from mms_handler import client

    url = f"http://127.0.0.1:{port or settings.current().port}/ping"
    answer = client.call("GET", url, timeout_s=2)
    if answer.status != 200:
        end(f"not ready: {answer.status} {answer.message()}", 1)
    click.echo("ready")


@group.command()
@_server_options
def config(**options: Any) -> None:
    """Print MMS's config.properties for these options.

    After each line stands where it comes from: an option, a variable, or the default.
    """
    from mms_handler.server import config_properties

    click.echo(config_properties(*_effective(options)), nl=False)
