"""The command run: one request to a model in this process, without a server."""

from __future__ import annotations

import bdb
import contextlib
import os
import stat
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Mapping, NamedTuple

import click

from mms_handler import media
from mms_handler.cli.command import (
    end,
    examples,
    existing,
    format_size,
    group,
    script_option,
)

if TYPE_CHECKING:
    from mms_handler.api import Model

#: What a step does, by its function; others are called as they are.
_STEPS = {"input_fn": "decode", "predict_fn": "predict", "output_fn": "encode"}

#: Phases of loading that took less are left out.
_SHORT_S = 0.005


class _Request(NamedTuple):
    description: str
    body: bytes
    content_type: str
    accept: str


@group.command(
    epilog=examples(
        "mms-handler run trained row.csv --script iris.py",
        "echo '[[5.1, 3.5, 1.4, 0.2]]' | mms-handler run store/iris.mar",
    )
)
@click.argument("model", type=existing)
@click.argument(
    "file", type=click.Path(exists=True, dir_okay=False, allow_dash=True), required=False
)
@script_option
@click.option("--content-type", metavar="TYPE",
              help="Content type of FILE.  [default: from its suffix, else "
              "application/json]")  # fmt: skip
@click.option("--accept", metavar="TYPES",
              help="Content types that the reply may have.  [default: */*]")  # fmt: skip
def run(
    model: Path, file: str | None, script: Path | None, content_type: str | None, accept: str | None
) -> None:
    """Answer one request in this process, and print the reply.

    MODEL is a folder with a model, a .mar or a model.tar.gz.  FILE has the body of the request; -
    is standard input.  Without FILE, the body is what is piped in, or else the packed sample.  No
    server and no Java are needed.  A breakpoint() in the script works.

    The reply is on standard output.  All else is on standard error: what the script prints, and how
    long each phase of loading and each step took.
    """
    from mms_handler import api
    from mms_handler.quiet import quiet_process

    flush = quiet_process()
    with contextlib.redirect_stdout(sys.stderr):
        loaded = api.load(model, script=script)
        _print("load", _phases(loaded.load_s))
        request = _request(file, content_type, accept, loaded.sample)
        _print("request", request.description)
        try:
            answer = loaded.answer(request.body, request.content_type, request.accept, raises=True)
        except bdb.BdbQuit:
            end("the debugger was quit", 1)
        except Exception as exc:
            _print_steps(loaded)
            status, reason, traceback = loaded.failure(exc)
            if traceback:
                click.echo(traceback, err=True)
            end(f"{status} {reason}", 1)
        _print_steps(loaded)
        _print("reply", f"{answer.status} {answer.content_type}, {format_size(len(answer.body))}")
    if answer.status >= 400:
        end(f"{answer.status} {answer.message()}", 1)
    flush()  # a terminal shows both
    sys.stdout.buffer.write(answer.body)
    if sys.stdout.isatty():
        click.echo()


def _request(
    file: str | None,
    content_type: str | None,
    accept: str | None,
    sample: tuple[bytes, str, str] | None,
) -> _Request:
    if file is None and sample and not _is_piped():
        body, sample_type, sample_accept = sample
        name, content_type, accept = (
            "the sample",
            content_type or sample_type,
            accept or sample_accept,
        )
    elif file is None and not _is_piped():
        raise click.UsageError(
            "there is no request: name a FILE, or pipe a body in; the model has no sample"
        )
    else:
        name = "standard input" if file in (None, "-") else str(file)
        body = sys.stdin.buffer.read() if file in (None, "-") else Path(str(file)).read_bytes()
        content_type = content_type or media.type_of_file(Path(name))
    description = f"{name}, {format_size(len(body))} of {content_type}"
    return _Request(description, body, content_type, accept or "*/*")


def _is_piped() -> bool:
    """Whether standard input is a pipe or a file, and not a terminal or /dev/null."""
    mode = os.fstat(sys.stdin.fileno()).st_mode
    return stat.S_ISFIFO(mode) or stat.S_ISREG(mode)


def _phases(seconds: Mapping[str, float]) -> str:
    parts = [f"{name} {time_s:.2f}" for name, time_s in seconds.items() if time_s > _SHORT_S]
    return f"{sum(seconds.values()):.2f} s: {', '.join(parts)}"


def _print_steps(model: Model) -> None:
    """How long each step of the latest request took; those that it did not reach are left out."""
    for name, time_s in model.answer_s.items():
        source = "the default " if model.functions.get(name) else ""
        _print(_STEPS.get(name, "answer"), f"{1000 * time_s:.2f} ms, {source}{name}")


def _print(name: str, value: str) -> None:
    click.echo(f"{name:<8} {value}", err=True)
