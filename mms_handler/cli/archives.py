"""The commands around archives: archive, check."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from mms_handler import settings
from mms_handler.cli.command import end, existing, group, size


@group.command()
@click.argument("model_dir", type=existing)
@click.option("--script", "code", type=existing,
              help="The script, or a folder with it; else MODEL_DIR/code.")  # fmt: skip
@click.option("--name", help="The model's name; else the folder's.")
@click.option("--model-store", type=click.Path(path_type=Path), default="model_archives",
              show_default=True, help="Where the archive goes.")  # fmt: skip
@click.option("--sample", type=existing, help="A request to pack with it, for check.")
@click.option("--force", is_flag=True, help="Replace an archive of this name.")
def archive(model_dir: Path, name: str | None, model_store: Path, **packing: Any) -> None:
    """Pack MODEL_DIR and a script as .mar."""
    from mms_handler import archive as archives

    name = archives.check_name(name or model_dir.resolve().name)
    program = settings.current().program
    pack(model_dir, model_store / f"{name}.mar", program=program, **packing)


def pack(model_dir: Path, target: Path, **packing: Any) -> None:
    from rich.progress import Progress

    from mms_handler import archive as archives

    with Progress(transient=True, disable=not sys.stderr.isatty()) as progress:
        count = len(archives.contents(model_dir, packing["code"]))
        task = progress.add_task(target.name, total=count)
        packing["packed"] = lambda inner: progress.advance(task)
        archives.pack(model_dir, target, **packing)
    click.echo(f"{target}  {size(target.stat().st_size)}")


@group.command()
@click.argument("path", type=existing)
@click.option("--sample", type=existing, help="A request to answer; else the archive's own.")
@click.option("--content-type", help="What the sample is; else by its suffix.")
@click.option("--accept", default="*/*", show_default=True, help="What its reply should be.")
def check(path: Path, sample: Path | None, content_type: str | None, accept: str) -> None:
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
    if found.get("status", 200) >= 400:
        end(f"the sample is answered {found['status']}: {found['reply']}", 1)


@group.command(hidden=True)
@click.argument("folder", type=existing)
@click.argument("report", type=click.Path(path_type=Path))
@click.argument("sample", nargs=-1)
def inspect(folder: Path, report: Path, sample: tuple[str, ...]) -> None:
    """What check runs in a process of its own; writes REPORT."""
    import json

    from mms_handler import loading

    asked = (Path(sample[0]).read_bytes(), sample[1], sample[2]) if sample else None
    report.write_text(json.dumps(loading.inspect(folder, asked)))
