"""The command init: the files of a new project."""

from __future__ import annotations

from pathlib import Path

import click

from mms_handler.cli.command import examples, group
from mms_handler.project import KINDS


@group.command(
    epilog=examples(
        "mms-handler init fruit",
        "mms-handler init words --kind transform",
    )
)
@click.argument("folder", metavar="NAME", type=click.Path(path_type=Path))
@click.option("--kind", type=click.Choice(KINDS), default="gluon", show_default=True,
              help="What the script has: a Gluon Block, a Module, or a transform_fn with a model "
              "of its own.")  # fmt: skip
def init(folder: Path, kind: str) -> None:
    """Make a folder with a script, data, a sample request and a test.

    NAME is the folder, and the name of the model.  The script's docstrings say what each function
    is for.  It can be trained, served and packed as it is; then change it.
    """
    from mms_handler import api

    commands = api.init(folder, kind)
    click.echo(f"{folder} has a script, data, a sample request and a test.  Next:\n")
    for command in (f"cd {folder}", *commands):
        note = "      # in another terminal" if " invoke " in command else ""
        click.echo(f"  {command}{note}")
