"""The command ``mms-handler`` itself, and what its sub-commands share."""

from __future__ import annotations

import shutil
import socket
import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable, NoReturn, Sequence, TypeVar

import click

from mms_handler import __version__, settings
from mms_handler.errors import HandlerError, ServerError, SettingsError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

_Function = TypeVar("_Function", bound=Callable[..., Any])

existing = click.Path(exists=True, path_type=Path)


class _Place(click.Path):
    """An existing path, or an address, which stays text."""

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        return value if "://" in value else super().convert(value, param, ctx)


place = _Place(exists=True, path_type=Path)

script_option = click.option(
    "--script",
    type=existing,
    metavar="FILE",
    help="A script, or a folder with one, to use where it lies.  [default: the model's own]",
)

management_port_option = click.option(
    "--management-port",
    type=int,
    metavar="PORT",
    help="Port of the server's management API on 127.0.0.1.  [env var: "
    f"MMS_HANDLER_MANAGEMENT_PORT; default: {settings.TABLE['management_port'].default}]",
)

token_file_option = click.option(
    "--token-file",
    type=existing,
    metavar="FILE",
    help="The server's token file, if it needs a token.  "
    "[env var: MMS_HANDLER_TOKEN_FILE; default: none]",
)

passphrase_option = click.option(
    "--passphrase-file",
    type=existing,
    metavar="FILE",
    help="File whose first line is the key's passphrase.  [default: ask for it]",
)

#: Help of the option --port of the commands that send a request to a server.
PORT_HELP = (
    "Port of the server on 127.0.0.1.  "
    f"[env var: SAGEMAKER_BIND_TO_PORT; default: {settings.Settings.port}]"
)


def request_options(function: _Function) -> _Function:
    """FILE, --content-type and --accept: the request of a command, if it is not the sample."""
    for option in (
        click.option("--accept", metavar="TYPES",
                     help="Content types that the reply may have.  [default: the sample's, or "
                     "*/*]"),
        click.option("--content-type", metavar="TYPE",
                     help="Content type of the request.  [default: the sample's, or from FILE's "
                     "suffix]"),
        click.argument("file", required=False, type=click.Path(exists=True, dir_okay=False,
                                                               path_type=Path)),
    ):  # fmt: skip
        function = option(function)
    return function


def private_key(path: Path, passphrase_file: Path | None) -> Ed25519PrivateKey:
    """The key in a file, for which a person may have to enter a passphrase.

    Raises:
        SettingsError: as ``archive.read_private``.
    """
    from mms_handler import archive

    def passphrase() -> str:
        if passphrase_file:
            return (passphrase_file.read_text().splitlines() or [""])[0]
        if not sys.stdin.isatty():
            raise SettingsError(f"{path} is encrypted: --passphrase-file names its passphrase")
        return str(click.prompt(f"Passphrase of {path}", hide_input=True, err=True))

    return archive.read_private(path, passphrase)


def main() -> None:
    """Run the command.  A known failure becomes one line and an exit code."""
    settings.forbid_telemetry()
    try:
        group.main(prog_name="mms-handler", standalone_mode=True)
    except SettingsError as exc:
        end(str(exc), 2)
    except (HandlerError, OSError) as exc:
        if traceback := getattr(exc, "traceback", ""):  # of a script
            click.echo(traceback, err=True)
        end(str(exc), 1)


def end(reason: str, code: int) -> NoReturn:
    """Print the reason and exit with ``code``."""
    click.secho("error: ", fg="red", bold=True, err=True, nl=False)
    click.echo(reason, err=True)
    sys.exit(code)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="mms-handler")
def group() -> None:
    """Train, pack and serve SageMaker MXNet scripts with Multi Model Server."""


def examples(*lines: str) -> str:
    """Example commands as an epilog of a command's help."""
    return "\b\nExamples:\n" + "\n".join(f"  {line}" for line in lines)


def print_rows(rows: Sequence[tuple[str, str]], *, err: bool = False) -> None:
    """Print names and values in two columns.  On a terminal long values are wrapped."""
    stream = sys.stderr if err else sys.stdout
    # Programs that read lines get one for each row.
    columns = shutil.get_terminal_size().columns if stream.isatty() else sys.maxsize
    indent = max((len(name) for name, _ in rows), default=0) + 2
    for name, value in rows:
        lines = textwrap.wrap(value, max(columns - indent, 20), break_on_hyphens=False)
        click.echo(name.ljust(indent) + f"\n{' ' * indent}".join(lines), err=err)


def print_table(columns: Sequence[str], rows: Sequence[Sequence[str]], right: str = "") -> None:
    """Print rows below the names of their columns.  On a terminal the last column is wrapped.

    Args:
        columns: the names.
        rows: a text for each column.
        right: the names of columns whose texts are aligned at the right.
    """
    lines = [list(columns), *map(list, rows)]
    widths = [max(map(len, column)) for column in zip(*lines)]
    if columns[-1] in right.split():
        lines = [[*line[:-1], line[-1].rjust(widths[-1])] for line in lines]
    print_rows(
        [
            (
                "  ".join(
                    text.rjust(width) if name in right.split() else text.ljust(width)
                    for name, text, width in zip(columns[:-1], line, widths)
                ),
                line[-1],
            )
            for line in lines
        ]
    )


def connection_advice(exc: ServerError, refused: str, lost: str) -> str:
    """What to do when no answer came, as the rest of a sentence.

    Args:
        exc: the error.
        refused: what to do if nothing listens.
        lost: what it means if the server closed the connection.
    """
    cause = getattr(exc.__cause__, "reason", None) or exc.__cause__
    if isinstance(cause, ConnectionRefusedError):
        return f"; {refused}"
    if isinstance(cause, (TimeoutError, socket.timeout)):
        return "; --timeout-s waits longer"
    if isinstance(cause, (BrokenPipeError, ConnectionResetError)):
        return f"; {lost}"
    return ""


def format_size(count: int) -> str:
    """A number of bytes as people read it: ``900 bytes``, ``12 kB``."""
    return f"{count:,} bytes" if count < 1_000 else f"{count / 1000:,.0f} kB"
