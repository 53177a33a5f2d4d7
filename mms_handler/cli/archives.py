"""The commands around archives: archive, check, verify, convert."""

from __future__ import annotations

import contextlib
import re
import sys
from pathlib import Path
from typing import Any, Callable, Iterator, NamedTuple

import click

from mms_handler import settings
from mms_handler.cli.command import end, existing, group, size
from mms_handler.errors import ArchiveError

_store = click.option("--model-store", type=click.Path(path_type=Path), default="model_archives",
                      show_default=True, help="Where the archive goes.")  # fmt: skip
_force = click.option("--force", is_flag=True, help="Replace an archive of this name.")


@group.command()
@click.argument("model_dir", type=existing)
@click.option("--script", "code", type=existing,
              help="The script, or a folder with it; else MODEL_DIR/code.")  # fmt: skip
@click.option("--name", help="The model's name; else the folder's.")
@_store
@click.option("--sample", type=existing, help="A request to pack with it, for check.")
@click.option("--content-type", help="What the sample is; else by its suffix.")
@click.option("--accept", default="*/*", show_default=True, help="What its reply should be.")
@click.option("--quantize", type=click.Choice(["int8"]),
              help="Pack the model's graph in eight-bit numbers too.")  # fmt: skip
@click.option("--calibration", type=click.Path(exists=True, file_okay=False, path_type=Path),
              help="A folder of requests like those to come, for --quantize.")  # fmt: skip
@click.option("--min-agreement", type=click.FloatRange(0, 1),
              help="Part of the predictions that must stay; else 0.95.")  # fmt: skip
@_force
def archive(
    model_dir: Path,
    name: str | None,
    model_store: Path,
    quantize: str | None,
    calibration: Path | None,
    min_agreement: float | None,
    **packing: Any,
) -> None:
    """Check MODEL_DIR and a script, and pack them as .mar."""
    from mms_handler import archive as archives

    if quantize and not calibration:
        raise click.UsageError("--quantize int8 wants --calibration, a folder of requests")
    if not quantize and (calibration or min_agreement is not None):
        given = "--calibration" if calibration else "--min-agreement"
        raise click.UsageError(f"{given} is for --quantize int8, which is not given")
    if calibration:
        requests = archives.bodies(calibration, packing["content_type"])
        packing["sample"] = packing["sample"] or requests[0].path
        packing["quantizer"] = _quantizer(requests, min_agreement)
    name = archives.check_name(name or model_dir.resolve().name)
    program = settings.current().program
    pack(model_dir, model_store / f"{name}.mar", program=program, **packing)


def _quantizer(requests: list[Any], min_agreement: float | None) -> Callable[[Path], Any]:
    """Makes the int8 graph of the model in a folder, and says how it did."""
    from mms_handler import archive as archives

    def quantizer(folder: Path) -> Any:
        least = archives.MIN_AGREEMENT if min_agreement is None else min_agreement
        found = archives.quantize(folder, requests, least)
        click.echo(found.words)
        return found

    return quantizer


def pack(model_dir: Path, target: Path, **packing: Any) -> None:
    """Pack a model that loads and answers its sample, and say so."""
    from mms_handler import archive as archives

    found = archives.contents(model_dir, packing["code"])
    with _bar(target, sum(path.stat().st_size for path in found.values())) as bar:

        def trial(*asked: Any) -> Any:
            bar.stop()  # what the model prints would be written over it
            return archives.trial(*asked)

        archives.pack(model_dir, target, progress=bar.advance, trial=trial, **packing)
    _say(target)


class _Bar(NamedTuple):
    """A bar on a terminal: told the bytes that are done, and when it should go."""

    advance: Callable[[int], None]
    stop: Callable[[], None]


@contextlib.contextmanager
def _bar(target: Path, total: int) -> Iterator[_Bar]:
    from rich.console import Console
    from rich.progress import Progress

    shown = sys.stderr.isatty()
    with Progress(console=Console(stderr=True), transient=True, disable=not shown) as progress:
        task = progress.add_task(target.name, total=total)
        yield _Bar(lambda count: progress.advance(task, count), progress.stop)


def _say(target: Path) -> None:
    click.echo(f"{target}  {size(target.stat().st_size)}")


@group.command()
@click.argument("path", type=existing)
@click.option("--sample", type=existing, help="A request to answer; else the archive's own.")
@click.option("--content-type", help="What it is; else as it was packed, or by its suffix.")
@click.option("--accept", help="What its reply should be; else as it was packed, or anything.")
def check(path: Path, sample: Path | None, content_type: str | None, accept: str | None) -> None:
    """Say what a worker would find in PATH.

    PATH is a .mar or a folder; it is loaded in a process of its own.
    """
    from rich.console import Console
    from rich.table import Table

    from mms_handler import archive as archives

    found = archives.check(path, sample, content_type, accept)
    if "error" in found:
        end(f"{path} would not load: {found['error']}", 1)
    table = Table(show_header=False, box=None)
    table.add_row("script", found["script"] or "none: everything is the default")
    for hook, is_default, understood in found["functions"]:
        table.add_row(hook, "the default" if is_default else understood)
    table.add_row("files", ", ".join(found["files"]) or "none")
    table.add_row("model", found["model"])
    if "reply" in found:
        table.add_row("reply", f"{found['status']} {found['content_type']}: {found['reply']}")
    width = None if sys.stdout.isatty() else 1_000  # for who reads lines
    Console(width=width, highlight=False, markup=False).print(table)
    if "differs" in found:
        end(f"the sample {found['differs']}", 1)
    if found.get("status", 200) >= 400:
        end(f"the sample is answered {found['status']}: {found['reply']}", 1)


@group.command()
@click.argument("paths", nargs=-1, required=True, type=existing)
def verify(paths: tuple[Path, ...]) -> None:
    """Say of each of PATHS, .mar files and folders, whether it is safe to serve.

    Nothing is unpacked or loaded.
    """
    from mms_handler import archive as archives

    unsafe = []
    for path in paths:
        try:
            click.echo(f"{path}: {_verified(archives, path)}")
        except ArchiveError as exc:
            unsafe.append(exc)
    if unsafe:
        end("; ".join(map(str, unsafe)), 1)


def _verified(archives: Any, path: Path) -> str:
    if path.is_dir():
        archives.verify_folder(path)
        return "a folder without links that lead out of it"
    found = archives.verify(path)
    if found.hashes is None:
        return f"{found.name}, packed by another tool, without hashes"
    versions = ", ".join(f"{name} {version}" for name, version in found.packages.items())
    return f"{found.name}, {len(found.hashes)} files as they were packed, with {versions}"


@group.command()
@click.argument("path", type=existing)
@click.option("--name", help="The model's name; else the file's.")
@click.option("--script", "code", type=existing,
              help="Of a model.tar.gz: its script, a folder with it, or its tar.gz.")  # fmt: skip
@click.option("--program", help="Which file is the script; else SAGEMAKER_PROGRAM.")
@_store
@_force
def convert(
    path: Path,
    name: str | None,
    code: Path | None,
    program: str | None,
    model_store: Path,
    force: bool,
) -> None:
    """Write a model.tar.gz as .mar, or a .mar as model.tar.gz.

    Nothing is loaded; check does that.
    """
    from mms_handler import archive as archives

    stem = re.sub(r"\.(mar|tar|tar\.gz|tgz)$", "", path.name)
    target = model_store / f"{archives.check_name(name or stem)}{archives.other(path)}"
    program = program or settings.current().program
    with _bar(target, archives.size(path)) as bar:
        archives.convert(
            path, target, code=code, program=program, force=force, progress=bar.advance
        )
    _say(target)


@group.command("quantize", hidden=True)
@click.argument("folder", type=existing)
@click.argument("report", type=click.Path(path_type=Path))
@click.argument("asked", type=existing)
def quantized(folder: Path, report: Path, asked: Path) -> None:
    """What archive --quantize runs in a process of its own; writes REPORT."""
    import json

    from mms_handler.worker import trials

    bodies = [(Path(path), content_type) for path, content_type in json.loads(asked.read_text())]
    report.write_text(json.dumps(trials.quantize(folder, bodies)))


@group.command(hidden=True)
@click.argument("folder", type=existing)
@click.argument("report", type=click.Path(path_type=Path))
@click.argument("sample", nargs=-1)
def inspect(folder: Path, report: Path, sample: tuple[str, ...]) -> None:
    """What check runs in a process of its own; writes REPORT."""
    import json

    from mms_handler.worker import trials

    asked = (Path(sample[0]).read_bytes(), sample[1], sample[2]) if sample else None
    report.write_text(json.dumps(trials.inspect(folder, asked)))
