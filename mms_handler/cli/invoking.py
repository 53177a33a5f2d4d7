"""The command invoke."""

from __future__ import annotations

import http.client
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mms_handler import media, settings
from mms_handler.cli.command import (
    PORT_HELP,
    connection_advice,
    end,
    examples,
    format_size,
    group,
    token_file_option,
)
from mms_handler.errors import ServerError

if TYPE_CHECKING:
    from mms_handler.client import Answer


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
@token_file_option
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
    body = file.read()
    try:
        answer = client.invoke(url, body, content_type, accept, timeout_s, token)
    except ServerError as exc:
        size = format_size(len(body))
        lost = f"a server does this when a body is too large: this one has {size}"
        refused = "start a server (mms-handler serve), or name its port with --port"
        end(f"{exc}{connection_advice(exc, refused, lost)}", 1)
    if reason := answer.headers.get("x-does-not-load"):  # of serve --dev
        click.echo(f"the edited files do not load, the last version answers: {reason}", err=True)
    if answer.status >= 400:
        end(_failure(answer, len(body)), 1)
    sys.stdout.buffer.write(answer.body)
    if sys.stdout.isatty():
        click.echo()


def _failure(answer: Answer, body_bytes: int) -> str:
    """The status and the reason of a failed request, what to do, and how to find it in the log."""
    advice = {
        401: "; name the server's token file with --token-file",
        404: "; serve prints the names of its models",
        413: f"; this body has {format_size(body_bytes)}, serve --max-body-bytes sets the limit",
        429: "; the server limits what each client may send",
        503: "; try again later",
    }
    # MMS sends no text with some of its answers.
    reason = answer.message() or http.client.responses.get(answer.status, "without a reason")
    line = f"{answer.status} {reason}{advice.get(answer.status, '')}"
    request_id = answer.request_id()
    if not request_id:
        return line
    return f"{line}\nfind it in the server's log by its id: {request_id}"
