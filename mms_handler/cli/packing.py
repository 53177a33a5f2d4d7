"""The commands that make archives: archive, convert."""

from __future__ import annotations

import contextlib
import re
import sys
from pathlib import Path
from typing import Any, Callable, Iterator, NamedTuple

import click

from mms_handler import settings
from mms_handler.cli.command import (
    examples,
    existing,
    format_size,
    group,
    passphrase_option,
    private_key,
)

_model_store = click.option(
    "--model-store", type=click.Path(path_type=Path), default="model_archives", show_default=True,
    help="Folder to write the archive to.",
)  # fmt: skip
_force = click.option("--force", is_flag=True, help="Replace an archive of the same name.")


@group.command(
    "archive",
    epilog=examples(
        "mms-handler archive model_archives/gluon_blocks --model-store store",
        "mms-handler archive trained --script src --name iris --sample row.json",
    ),
)
@click.argument("model_dir", type=existing)
@click.option("--script", "code", type=existing,
              help="A script, or a folder with one, to pack as code/.  [default: "
              "MODEL_DIR/code]")  # fmt: skip
@click.option("--name", help="The model's name.  [default: the folder's name]")
@click.option("--version", metavar="TEXT",
              help="The model's version, by which a server that has several knows it.  [default: a "
              "number that the server counts]")  # fmt: skip
@_model_store
@click.option("--sample", type=existing, metavar="FILE",
              help="A request to pack with the model.  Workers answer it before they are ready, "
              "and check sends it again.  [default: the first file of --calibration, else a row of "
              "zeros in the shapes that the default save wrote, else none]")  # fmt: skip
@click.option("--content-type", metavar="TYPE",
              help="Content-Type of the sample and of the calibration requests.  [default: from "
              "their suffixes]")  # fmt: skip
@click.option("--accept", metavar="TYPE", default="*/*", show_default=True,
              help="Accept header of the sample.")  # fmt: skip
@click.option("--quantize", type=click.Choice(["int8"]),
              help="Also pack a graph that computes in eight-bit integers, which is faster on "
              "CPUs; needs --calibration.  [default: pack none]")  # fmt: skip
@click.option("--calibration", type=click.Path(exists=True, file_okay=False, path_type=Path),
              metavar="FOLDER",
              help="A folder of typical requests for --quantize, a file each; some tens are "
              "enough.")  # fmt: skip
@click.option("--min-agreement", type=click.FloatRange(0, 1), metavar="FRACTION",
              help="Fraction of the predictions that the int8 graph must not change.  "
              "[default: 0.95]")  # fmt: skip
@click.option("--sign", "key", type=existing, metavar="KEY",
              help="Sign the archive with the Ed25519 private key in this file.  [default: do not "
              "sign it]")  # fmt: skip
@passphrase_option
@click.option("--engine", type=click.Choice(["onnx"]),
              help="Also pack an ONNX twin of the model, which is proved to agree with it.  Where "
              "it is faster, workers answer from it, and do without MXNet if the script does.  "
              "Needs the extra onnx.  [default: pack none]")  # fmt: skip
@_force
def archive_command(
    model_dir: Path,
    name: str | None,
    model_store: Path,
    quantize: str | None,
    calibration: Path | None,
    min_agreement: float | None,
    key: Path | None,
    passphrase_file: Path | None,
    engine: str | None,
    **options: Any,
) -> None:
    """Check a model and pack it as a .mar.

    MODEL_DIR is a folder with the model's files, and with the script in code/ if there is one.
    The model is first loaded in a separate process.  If it does not load, nothing is packed.
    """
    from mms_handler import archive
    from mms_handler.names import check_name

    if options["code"]:
        archive.script_at(options["code"])
    if quantize and not calibration:
        raise click.UsageError("--quantize int8 needs --calibration, a folder of requests")
    if not quantize and (calibration or min_agreement is not None):
        option = "--calibration" if calibration else "--min-agreement"
        raise click.UsageError(f"{option} only works with --quantize int8")
    if quantize and engine:
        raise click.UsageError("--quantize int8 and --engine onnx exclude each other")
    if engine:
        options["twin_maker"] = _make_twin
    if calibration:
        requests = archive.calibration_requests(calibration, options["content_type"])
        options["sample"] = options["sample"] or requests[0].path
        options["quantizer"] = _quantizer(requests, min_agreement)
    if passphrase_file and not key:
        raise click.UsageError("--passphrase-file is for the key of --sign")
    if key:
        options["key"] = private_key(key, passphrase_file)
    name = check_name(name or model_dir.resolve().name)
    program = settings.current().program
    pack(model_dir, model_store / f"{name}.mar", program=program, **options)


def _quantizer(requests: list[Any], min_agreement: float | None) -> Callable[[Path], Any]:
    """A function that makes the int8 graph of the model in a folder, and prints a line about it."""
    from mms_handler import archive

    def quantizer(folder: Path) -> Any:
        minimum = archive.MIN_AGREEMENT if min_agreement is None else min_agreement
        graph = archive.quantize(folder, requests, minimum)
        click.echo(graph.summary)
        return graph

    return quantizer


def _make_twin(*arguments: Any) -> Any:
    """Make the ONNX twin of a model, and print a line about it."""
    from mms_handler import archive

    twin = archive.make_twin(*arguments)
    click.echo(twin.summary)
    return twin


def pack(model_dir: Path, target: Path, **options: Any) -> None:
    """Pack a model that loads and answers its sample, and print the archive's size.

    Args:
        model_dir: as for ``archive.pack``.
        target: likewise.
        options: keyword arguments of ``archive.pack``, except progress and trial.
    """
    from mms_handler import archive

    contents = archive.contents(model_dir, options["code"])
    with _progress_bar(target, sum(path.stat().st_size for path in contents.values())) as bar:

        def trial(*arguments: Any) -> Any:
            bar.stop()  # the model's own output would overwrite the bar
            return archive.try_sample(*arguments)

        archive.pack(model_dir, target, progress=bar.advance, trial=trial, **options)
    _print_size(target)


class _Bar(NamedTuple):
    """A progress bar: ``advance`` takes the bytes of each step, ``stop`` removes the bar."""

    advance: Callable[[int], None]
    stop: Callable[[], None]


@contextlib.contextmanager
def _progress_bar(target: Path, total: int) -> Iterator[_Bar]:
    """Show a progress bar of ``total`` bytes, if standard error is a terminal."""
    from rich.console import Console
    from rich.progress import Progress

    hidden = not sys.stderr.isatty()
    with Progress(console=Console(stderr=True), transient=True, disable=hidden) as progress:
        task = progress.add_task(target.name, total=total)
        yield _Bar(lambda count: progress.advance(task, count), progress.stop)


def _print_size(target: Path) -> None:
    click.echo(f"{target}  {format_size(target.stat().st_size)}")


@group.command(
    epilog=examples(
        "mms-handler convert model.tar.gz --name iris --model-store store",
        "mms-handler convert store/iris.mar --model-store store",
    )
)
@click.argument("path", type=existing)
@click.option("--name", help="The model's name.  [default: the file's name]")
@click.option("--script", "code", type=existing,
              help="For a model.tar.gz: a script, a folder with one, or a tar.gz of it, to pack "
              "as code/.  [default: its own code/]")  # fmt: skip
@click.option("--program", metavar="NAME",
              help="For a model.tar.gz: the file name of the script.  [default: SAGEMAKER_PROGRAM, "
              "else inference.py, else the only .py file]")  # fmt: skip
@_model_store
@_force
def convert(
    path: Path,
    name: str | None,
    code: Path | None,
    program: str | None,
    model_store: Path,
    force: bool,
) -> None:
    """Convert a model.tar.gz to a .mar, or a .mar to a model.tar.gz.

    PATH is the file to convert.  Every file in it keeps its name and bytes.  The model is not
    loaded; use check for that.
    """
    from mms_handler import archive
    from mms_handler.names import check_name

    stem = re.sub(r"\.(mar|tar|tar\.gz|tgz)$", "", path.name)
    target = model_store / f"{check_name(name or stem)}{archive.other_suffix(path)}"
    program = program or settings.current().program
    with _progress_bar(target, archive.size(path)) as bar:
        archive.convert(path, target, code=code, program=program, force=force, progress=bar.advance)
    _print_size(target)
    if path.suffix == ".mar" and archive.manifest_of(path).signer:
        click.echo("a model.tar.gz has no signature: the one of the archive is not in it")
