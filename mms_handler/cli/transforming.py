"""The command transform: files through a model, as SageMaker's batch transform."""

from __future__ import annotations

import contextlib
import json
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable, ContextManager, Iterator

import click

from mms_handler import terminal
from mms_handler.cli.command import (
    end,
    examples,
    group,
    print_rows,
    script_option,
    token_file_option,
)

if TYPE_CHECKING:
    from mms_handler.transform import Options, Report
    from mms_handler.transform.run import Ready

#: Exit code of a job that is done, but some records have no prediction.
RECORD_ERRORS = 3


def _choice(name: str, *values: str, default: str, help_text: str) -> Callable[[Any], Any]:
    return click.option(
        name, type=click.Choice(values), default=default, show_default=True, help=help_text
    )


def _record_options(function: Any) -> Any:
    """The options that decide what is written."""
    for option in (
        click.option("--gzip-output", is_flag=True, help="Compress the outputs."),
        click.option("--compression-type", type=click.Choice(["None", "Gzip"]),
                     help="Of the inputs.  [default: Gzip for names that end with .gz]"),
        click.option("--output-filter", default="$", metavar="JSONPATH", show_default=True,
                     help="What of a reply, or of a joined record, is written."),
        _choice("--join-source", "None", "Input", default="None",
                help_text="Write each record together with its reply."),
        click.option("--input-filter", default="$", metavar="JSONPATH", show_default=True,
                     help="What of a record the model gets."),
        click.option("--accept", default="", metavar="TYPE",
                     help="Content type of the replies.  [default: the model's]"),
        click.option("--content-type", default="", metavar="TYPE",
                     help="Content type of the records.  [default: from an input's suffix]"),
        _choice("--assemble-with", "None", "Line", default="None",
                help_text="What follows each reply in an output."),
        click.option("--max-payload-mb", type=click.IntRange(0, 100), default=6, metavar="MB",
                     show_default=True, help="Size of a request at most; 0 for any."),
        _choice("--strategy", "SingleRecord", "MultiRecord", default="SingleRecord",
                help_text="Send each record by itself, or as many as a payload holds."),
        _choice("--split-type", "None", "Line", "RecordIO", "TFRecord", default="None",
                help_text="How an input is split into records."),
    ):  # fmt: skip
        function = option(function)
    return function


def _place_options(function: Any) -> Any:
    """The options that say where records come from and replies go."""
    for option in (
        click.option("--json", "json_file", type=click.Path(path_type=Path, dir_okay=False),
                     metavar="FILE", help="Write the report there, too."),
        click.option("--state", type=click.Path(path_type=Path, file_okay=False),
                     metavar="FOLDER",
                     help="Where a job keeps what is done.  [default: in the output folder; for "
                     "S3 in the cache]"),
        click.option("--overwrite", is_flag=True,
                     help="Replace outputs that are there, and begin anew.  [default: refuse, or "
                     "go on with a job that was stopped]"),
        _choice("--data-type", "S3Prefix", "ManifestFile", default="S3Prefix",
                help_text="ManifestFile: --input is a list of the inputs, in SageMaker's form."),
        click.option("--output", required=True, metavar="PLACE",
                     help="A folder, or its s3:// address.  An output has its input's name, and "
                     ".out."),
        click.option("--input", "source", required=True, metavar="PLACE",
                     help="A file, a folder or a pattern such as 'in/*.csv'; or its s3:// "
                     "address."),
    ):  # fmt: skip
        function = option(function)
    return function


def _run_options(function: Any) -> Any:
    """The options that decide how it runs."""
    for option in (
        click.option("--fail-fast", is_flag=True,
                     help="End at the first record that fails.  [default: write an error in its "
                     "place]"),
        click.option("--timeout-s", type=click.FloatRange(0.001), default=60, metavar="S",
                     help="Time to wait for each part of a server's reply.  [default: 60 s]"),
        click.option("--ray", metavar="ADDRESS",
                     help="Use the nodes of a Ray cluster: HOST:PORT of its head, or auto on a "
                     "node.  [default: this machine]"),
        click.option("--max-concurrent", type=click.IntRange(1, 1000), default=4,
                     metavar="NUMBER", show_default=True,
                     help="Requests at a time, if MODEL is a URL."),
        click.option("--workers", type=click.IntRange(1), metavar="NUMBER",
                     help="Processes with the model.  [default: as many as memory and cores "
                     "allow]"),
    ):  # fmt: skip
        function = option(function)
    return function


@group.command(
    epilog=examples(
        "mms-handler transform iris.mar --input rows.csv --output out --split-type Line "
        "--assemble-with Line",
        "mms-handler transform iris.mar --input s3://bucket/in/ --output s3://bucket/out",
        "mms-handler transform http://127.0.0.1:8080/predictions/iris --input rows/ --output out",
    )
)
@click.argument("model")
@_place_options
@_record_options
@_run_options
@script_option
@token_file_option
def transform(
    model: str,
    source: str,
    output: str,
    workers: int | None,
    ray: str | None,
    max_concurrent: int,
    timeout_s: float,
    script: Path | None,
    token_file: Path | None,
    fail_fast: bool,
    overwrite: bool,
    state: Path | None,
    data_type: str,
    json_file: Path | None,
    max_payload_mb: int,
    **named: Any,
) -> None:
    """Send the records of files through a model, and write its replies to files.

    MODEL is an archive, a folder with a model, the s3:// address of one, or the URL of a model
    that is served.  The options are those of SageMaker's batch transform.

    A job that was stopped goes on when the same command runs again.  Exits with 3 if some records
    have an error in the place of a prediction, and with 1 if an input has no output.
    """
    from mms_handler.transform import Options
    from mms_handler.transform import transform as run
    from mms_handler.transform.run import Target

    options = Options(max_payload_bytes=max_payload_mb << 20, **_filled(named))
    if model.startswith(("http://", "https://")):
        if workers or script or ray:
            raise click.UsageError("--workers, --script and --ray are not for a model at a URL")
        ready = _remote(model, options, max_concurrent, timeout_s, token_file)
    elif ray:
        ready = _on_ray(model, options, ray, script, workers)
    else:
        ready = _local(model, options, script, workers)
    report: Report | None = None

    @contextlib.contextmanager
    def watch(running: Report) -> Iterator[None]:
        nonlocal report
        report = running
        with terminal.progress(running.line):
            yield

    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        target = Target(source, output, overwrite, state, data_type == "ManifestFile")
        run(ready, target, options, fail_fast=fail_fast, watch=watch)
    except KeyboardInterrupt:
        done = f"{report.earlier + report.records:,} records are done; " if report else ""
        end(f"stopped: {done}the same command goes on from here", 130)
    finally:
        if report and json_file:
            json_file.write_text(json.dumps(report.as_dict(), indent=2) + "\n")
    assert report
    _print(report, options)


def _filled(named: dict[str, Any]) -> dict[str, Any]:
    return {name: "" if value is None else value for name, value in named.items()}


def _local(
    model: str, options: Options, script: Path | None, workers: int | None
) -> ContextManager[Ready]:
    from mms_handler.transform.run import local

    return local(model, options, script=script, workers=workers)


def _on_ray(
    model: str, options: Options, address: str, script: Path | None, workers: int | None
) -> ContextManager[Ready]:
    from mms_handler.transform.ray_cluster import on_ray

    return on_ray(model, options, address, script=script, workers=workers)


def _remote(
    url: str, options: Options, max_concurrent: int, timeout_s: float, token_file: Path | None
) -> ContextManager[Ready]:
    from mms_handler.transform.run import remote

    token = ""
    if token_file:  # the variable's tokens are this machine's
        from mms_handler.server.access import read_tokens

        token = read_tokens(token_file).inference
    return remote(url, options, max_concurrent=max_concurrent, timeout_s=timeout_s, token=token)


def _print(report: Report, options: Options) -> None:
    """Print what was done, and end with the exit code that fits."""
    from mms_handler.transform.splitting import BadRecord, place, printable

    print_rows(report.rows())
    for name, error in report.errors[:5]:
        where = place(name, options.split_type, BadRecord(error.record, error.offset, ""))
        click.echo(f"{where}: {error.status} {error.message}", err=True)
    more = report.error_count - 5
    if more > 0:
        click.echo(f"and {more:,} more; see the files that end with .errors", err=True)
    for each in report.failed[:20]:
        click.echo(f"{printable(each.name)} has no output: {each.reason}", err=True)
    if not report.complete:
        count = len(report.failed)
        inputs = "1 input has" if count == 1 else f"{count:,} inputs have"
        end(f"{inputs} no output; run the same command again when that is mended", 1)
    if report.error_count or report.earlier_errors:
        sys.exit(RECORD_ERRORS)
