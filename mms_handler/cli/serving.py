"""The commands for a server: serve, ready, config."""

from __future__ import annotations

import contextlib
import signal
import sys
import time
from pathlib import Path
from typing import Any, NoReturn

import click

from mms_handler import settings
from mms_handler.cli import editing
from mms_handler.cli.command import (
    PORT_HELP,
    end,
    examples,
    existing,
    group,
    management_port_option,
    place,
)
from mms_handler.errors import HandlerError
from mms_handler.log_records import as_json, make_record
from mms_handler.settings import Effective, Setting


def _server_options(command: Any) -> Any:
    """Add the options of serve and config: one for each setting that has one."""
    for field, setting in reversed(settings.TABLE.items()):
        if setting.option:
            command = _option(field, setting)(command)
    return command


def _option(field: str, setting: Setting) -> Any:
    """An option that takes the same text as its setting's first variable."""
    names = (f"--{setting.option}", field)
    variable, parse = next(iter(setting.variables.items()))
    default = setting.default_text or f"{setting.text(setting.default)} {setting.unit}".rstrip()
    help_text = f"{setting.help}  [env var: {variable}; default: {default}]"
    if setting.default is False:
        return click.option(*names, is_flag=True, default=None, help=help_text)
    repeatable = isinstance(setting.default, tuple)

    def read(ctx: click.Context, param: click.Parameter, value: Any) -> Any:
        text = ",".join(value) or None if repeatable else value
        try:
            return None if text is None else parse(text)
        except ValueError as exc:
            raise click.BadParameter(f"{text!r} is not {exc}") from None

    metavar = setting.unit.upper() or setting.metavar
    return click.option(*names, callback=read, multiple=repeatable, metavar=metavar, help=help_text)


def _effective(options: dict[str, Any]) -> Effective:
    values = {field: value for field, value in options.items() if value is not None}
    return settings.effective(settings.environment(), values)


@group.command(
    epilog=examples(
        "mms-handler serve model_archives/linear store/iris.mar --workers 1",
        "mms-handler serve model.tar.gz --host 0.0.0.0 --port 9000",
        "mms-handler serve s3://bucket/models/iris.tar.gz",
        "mms-handler serve --dev trained --script iris.py",
    )
)
@click.argument("places", metavar="[PATHS]...", nargs=-1, type=place)
@click.option("--dev", is_flag=True,
              help="Serve one model without Java, and load it again whenever its files change; for "
              "the time of editing.")  # fmt: skip
@click.option("--script", type=existing, metavar="FILE",
              help="A script, or a folder with one, to use instead of a folder's own.  [default: "
              "the model's own]")  # fmt: skip
@_server_options
def serve(places: tuple[str | Path, ...], dev: bool, script: Path | None, **options: Any) -> None:
    """Serve models until Ctrl-C.

    Each of PATHS is a .mar, a model.tar.gz, or a folder with a model and its script in code/; or an
    s3://, https:// or http:// address of one, which is fetched first.  A folder's address is
    s3://bucket/folder/.

    Without PATHS, serve is the command of a SageMaker container.  It listens on all addresses,
    and serves /opt/ml/model under the name "model".  With SAGEMAKER_MULTI_MODEL=true it starts
    without models, and clients load and unload them.
    """
    if (dev or script) and len(places) != 1:
        raise click.UsageError(f"{'--dev' if dev else '--script'} needs exactly one PATH")
    if script:
        from mms_handler import archive

        archive.script_at(script)
    if dev:
        if not isinstance(places[0], Path):
            raise click.UsageError("--dev is for a model on this machine, not for an address")
        if options["require_signature"]:
            raise click.UsageError("--dev serves what is being edited, which nobody has signed")
        editing.serve(places[0], script, _effective(options).settings)
        return
    from mms_handler.cli import startup
    from mms_handler.processes import leave_pid_1, make_private
    from mms_handler.server import access
    from mms_handler.server import serve as serve_models

    effective = _effective(options)
    local = places or effective.origins["multi_model"].startswith("option")
    server_settings = (effective if local else effective.hosting()).settings
    if not places and not server_settings.multi_model:
        places = (Path(server_settings.model_dir),)
    if local:
        access.check_exposure(server_settings)
    if server_settings.hide_env:
        make_private()
    leave_pid_1()
    for number in (signal.SIGTERM, signal.SIGINT):  # a shell's background job ignores the second
        signal.signal(number, _interrupt)
    announce = _print_line if server_settings.log_format == "text" else _print_record
    try:
        with startup.shown(_print_error) as start, serve_models(
            places,
            server_settings,
            log=start.print_line,
            script=script,
            colours=sys.stderr.isatty(),
            starting=start.follow,
        ) as server:
            start.end()
            for name in server.versions.names():
                announce(f"{name} is ready: {server.predictions_url(name)}")
            if not places:
                announce(f"models can be registered: {server.url}/models")
            server.wait()
    except KeyboardInterrupt:
        announce("stopped")
    except (HandlerError, OSError) as exc:
        if server_settings.log_format == "text":
            raise
        traceback = getattr(exc, "traceback", "")
        record = make_record("ERROR", str(exc), source="serve", traceback=traceback)
        _print_error(as_json(record))
        sys.exit(1)


def _interrupt(number: int, frame: Any) -> NoReturn:
    raise KeyboardInterrupt


def _print_line(line: str) -> None:
    """Print a line if possible: a full disk must not end a server."""
    with contextlib.suppress(OSError):
        click.echo(line)


def _print_record(message: str) -> None:
    """Print what is a line otherwise, as a record of the log."""
    _print_line(as_json(make_record("INFO", message, source="serve")))


def _print_error(line: str) -> None:
    with contextlib.suppress(OSError):
        click.echo(line, err=True)


@group.command(
    epilog=examples(
        "mms-handler ready",
        "mms-handler ready --wait 60 && echo serving",
        "mms-handler ready digits",
    )
)
@click.argument("model", required=False)
@click.option("--port", type=int, metavar="PORT", help=PORT_HELP)
@management_port_option
@click.option("--wait", "wait_s", type=click.FloatRange(0), default=0, metavar="SECONDS",
              help="Ask again and again for so long.  [default: ask once]")  # fmt: skip
def ready(model: str | None, port: int | None, management_port: int | None, wait_s: float) -> None:
    """Check whether the server on this machine is ready, or one MODEL of it.

    Exits with 0 if it can answer requests, else with 1.  Use it for health checks of containers.
    """
    end_s = time.monotonic() + wait_s
    while reason := _why_not_ready(model, port, management_port):
        if time.monotonic() >= end_s:
            end(f"not ready: {reason}", 1)
        time.sleep(0.2)
    click.echo(f"{model} is ready" if model else "ready")


def _why_not_ready(model: str | None, port: int | None, management_port: int | None) -> str | None:
    from mms_handler import client

    current = settings.current()
    if model is None:
        return client.why_not_ready(f"http://127.0.0.1:{port or current.port}")
    token = ""
    if current.token_file:
        from mms_handler.server.access import read_tokens

        token = read_tokens(Path(current.token_file)).management
    url = f"http://127.0.0.1:{management_port or current.management_port}"
    return client.why_model_not_ready(url, model, token)


@group.command(
    epilog=examples(
        "mms-handler config > config.properties",
        "SAGEMAKER_BIND_TO_PORT=9000 mms-handler config --workers 2",
    )
)
@_server_options
def config(**options: Any) -> None:
    """Print MMS's config.properties for these options.

    MMS's own command reads this file: multi-model-server --start --mms-config FILE.  The comment
    after each line says where its value comes from: an option, a variable, or the default.
    """
    from mms_handler.server import config_properties

    click.echo(config_properties(*_effective(options)), nl=False)
