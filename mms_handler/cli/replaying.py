"""The command replay: captured predictions against another model or server."""

from __future__ import annotations

import contextlib
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Callable, Iterator

import click

from mms_handler import settings, terminal
from mms_handler.cli.command import end, examples, group, print_rows, token_file_option

if TYPE_CHECKING:
    from mms_handler.replay import Report


@group.command(
    epilog=examples(
        "mms-handler replay captured --against iris-2.mar",
        "mms-handler replay captured --against http://staging:8080 --clients 4",
        "mms-handler replay s3://bucket/captured --against iris-2.mar --tolerance 0.01",
    )
)
@click.argument("capture")
@click.option("--against", required=True, metavar="MODEL|URL",
              help="An archive, a folder or its address, which is served for this; or the URL of a "
              "server, or of one of its models.")  # fmt: skip
@click.option("--model", default="", metavar="NAME",
              help="Send only predictions of this model.  [default: all]")  # fmt: skip
@click.option("--tolerance", type=click.FloatRange(0), default=1e-4, metavar="NUMBER",
              show_default=True,
              help="How far a number may be from the one of then, relatively.")  # fmt: skip
@click.option("--allow", type=click.FloatRange(0, 100), default=0, metavar="PERCENT",
              show_default=True, help="How many replies may differ.")  # fmt: skip
@click.option("--clients", type=click.IntRange(1, 1000), default=1, metavar="NUMBER",
              show_default=True, help="How many send at one time.")  # fmt: skip
@click.option("--spaced", is_flag=True,
              help="Send each as long after the first as it came then.  [default: as soon as the "
              "last one is answered]")  # fmt: skip
@click.option("--json", "json_file", type=click.Path(path_type=Path, dir_okay=False),
              metavar="FILE", help="Write the result there, too.")  # fmt: skip
@click.option("--timeout-s", type=click.FloatRange(0.001), default=60, metavar="S",
              help="Time to wait for each part of a reply.  [default: 60 s]")  # fmt: skip
@token_file_option
def replay(
    capture: str,
    against: str,
    model: str,
    tolerance: float,
    allow: float,
    clients: int,
    spaced: bool,
    json_file: Path | None,
    timeout_s: float,
    token_file: Path | None,
) -> None:
    """Send captured predictions again, and compare the replies with those of then.

    CAPTURE is a folder or a file that serve --capture has written, or its s3:// address; or one of
    SageMaker's data capture.

    Exits with 1 if a reply has another status, other texts, or a number that is further away than
    the tolerance: use it before a model is promoted.  Nothing is sent to the model of then.
    """
    from mms_handler.replay import Report, Target, fetched, read
    from mms_handler.replay import replay as send

    report = Report(tolerance)
    with fetched(capture) as files, _progress(report) as print_line, _served(
        against, print_line
    ) as url:
        target = Target(url, model, _token(token_file), timeout_s)
        send(read(files), target, report, clients=clients, spaced=spaced)
    if json_file:
        json_file.write_text(json.dumps(report.as_dict(), indent=2) + "\n")
    if not report.total:
        end(f"{capture} has no predictions of the model {model}", 1)
    print_rows(report.rows())
    if report.counts["unanswered"]:
        click.echo(f"no answer came: {report.reason}", err=True)
    if report.failed > report.total * allow / 100:
        end(f"{report.failed:,} of {report.total:,} replies are not the same as then", 1)


@contextlib.contextmanager
def _progress(report: Report) -> Iterator[Callable[[str], None]]:
    """Show on a terminal how many are sent; yields what prints a line of a server's log."""
    if not sys.stderr.isatty():
        yield _print_error
        return
    live = terminal.Live(lambda: f"{report.total:,} predictions replayed")

    def print_line(line: str) -> None:
        with contextlib.suppress(OSError):  # the terminal is gone
            live.log(f"{line}\n")

    with live.shown():
        yield print_line


@contextlib.contextmanager
def _served(against: str, print_line: Callable[[str], None]) -> Iterator[str]:
    """The URL of a server: the one that is named, or one that serves the model for a while."""
    if against.startswith(("http://", "https://")) and not _is_archive(against):
        yield against
        return
    from mms_handler.bench.target import served

    if "://" not in against and not Path(against).exists():
        raise click.UsageError(
            f"--against {against}: there is no such file or folder; for a server, give its URL, "
            "such as http://127.0.0.1:8080"
        )
    place = against if "://" in against else Path(against)
    with served(place, settings.current(), print_line, use_tuned=True) as url:
        yield url


def _is_archive(url: str) -> bool:
    return url.endswith((".mar", ".tar.gz", ".tgz"))


def _print_error(line: str) -> None:
    with contextlib.suppress(OSError):
        click.echo(line, err=True)


def _token(path: Path | None) -> str:
    """The token for inference of a token file; "" without a file.

    The variable's tokens are this machine's, and not those of the server that is asked.
    """
    if not path:
        return ""
    from mms_handler.server.access import read_tokens

    return read_tokens(path).inference
