"""The command itself, and what all its sub-commands share: how a failure ends, how sizes read."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import NoReturn

import click

from mms_handler import __version__
from mms_handler.errors import HandlerError, SettingsError

existing = click.Path(exists=True, path_type=Path)


def main() -> None:
    """Run the command; every failure that has a sentence ends in that sentence."""
    try:
        group.main(prog_name="mms-handler", standalone_mode=True)
    except SettingsError as exc:
        end(str(exc), 2)
    except (HandlerError, OSError) as exc:
        end(str(exc), 1)


def end(reason: str, code: int) -> NoReturn:
    click.secho("error: ", fg="red", bold=True, err=True, nl=False)
    click.echo(reason, err=True)
    sys.exit(code)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="mms-handler")
def group() -> None:
    """Train, pack, serve and ask SageMaker MXNet scripts."""


def examples(*lines: str) -> str:
    """Example commands as an epilog of a command's help."""
    return "\b\nExamples:\n" + "\n".join(f"  {line}" for line in lines)


def size(count: int) -> str:
    return f"{count:,} bytes" if count < 1_000 else f"{count / 1000:,.0f} kB"
