"""The command invoke."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from mms_handler import media, settings
from mms_handler.cli.command import end, group


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
    kind = content_type or media.type_of_file(Path(file.name))
    answer = client.invoke(url, file.read(), kind, accept, timeout_s)
    if answer.status >= 400:
        end(f"{answer.status} {answer.message()}", 1)
    sys.stdout.buffer.write(answer.body)
    if sys.stdout.isatty():
        click.echo()
