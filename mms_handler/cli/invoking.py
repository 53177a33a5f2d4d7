"""The command invoke."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from mms_handler import media, settings
from mms_handler.cli.command import PORT_HELP, end, examples, existing, group


@group.command(
    epilog=examples(
        "mms-handler invoke iris flower.csv",
        "echo '[[5.1, 3.5, 1.4, 0.2]]' | mms-handler invoke iris --accept text/csv",
    )
)
@click.argument("model")
@click.argument("file", type=click.File("rb"), default="-")
@click.option(
    "--content-type",
    metavar="TYPE",
    help="Content type of FILE.  [default: from its suffix, else application/json]",
)
@click.option(
    "--accept",
    metavar="TYPES",
    default="*/*",
    help="Content types that the reply may have.  [default: */*]",
)
@click.option("--port", type=int, metavar="PORT", help=PORT_HELP)
@click.option(
    "--timeout-s",
    type=float,
    metavar="S",
    default=60,
    help="Time to wait for each part of the reply.  [default: 60 s]",
)
@click.option(
    "--token-file",
    type=existing,
    metavar="FILE",
    help="The server's token file, if it needs a token.  "
    "[env var: MMS_HANDLER_TOKEN_FILE; default: none]",
)
def invoke(
    model: str,
    file: Any,
    content_type: str | None,
    accept: str,
    port: int | None,
    timeout_s: float,
    token_file: Path | None,
) -> None:
    """Send FILE to a model and print its reply.

    MODEL is the name of a model that is served on this machine, or a URL.  FILE has the body of
    the request.  Without FILE, the body is read from standard input.
    """
    from mms_handler import client

    url = model
    if "://" not in model:
        url = f"http://127.0.0.1:{port or settings.current().port}/predictions/{model}"
    content_type = content_type or media.type_of_file(Path(file.name))
    token = ""
    # The variable's tokens are this machine's: they are not sent to other servers.
    if path := token_file or ("://" not in model and settings.current().token_file):
        from mms_handler.server.access import read_tokens

        token = read_tokens(Path(path)).inference
    answer = client.invoke(url, file.read(), content_type, accept, timeout_s, token)
    if answer.status >= 400:
        end(f"{answer.status} {answer.message()}", 1)
    sys.stdout.buffer.write(answer.body)
    if sys.stdout.isatty():
        click.echo()
