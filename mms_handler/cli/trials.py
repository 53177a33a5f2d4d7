"""What archive and check run in a process of their own: quantize, twin, inspect."""

from __future__ import annotations

import json
from pathlib import Path

import click

from mms_handler.cli.command import existing, group


@group.command("quantize", hidden=True)
@click.argument("folder", type=existing)
@click.argument("report", type=click.Path(path_type=Path))
@click.argument("requests", type=existing)
def quantize_command(folder: Path, report: Path, requests: Path) -> None:
    """Make the int8 graph of the model in FOLDER and write REPORT; used by archive --quantize."""
    from mms_handler.worker import trials

    bodies = [(Path(path), content_type) for path, content_type in json.loads(requests.read_text())]
    report.write_text(json.dumps(trials.quantize(folder, bodies)))


@group.command("twin", hidden=True)
@click.argument("folder", type=existing)
@click.argument("report", type=click.Path(path_type=Path))
@click.argument("target", type=click.Path(path_type=Path))
@click.argument("sample", type=existing)
@click.argument("types", nargs=2)
def twin_command(
    folder: Path, report: Path, target: Path, sample: Path, types: tuple[str, str]
) -> None:
    """Write the ONNX twin of the model in FOLDER, and REPORT; used by archive --engine onnx."""
    from mms_handler.worker import twins

    report.write_text(json.dumps(twins.make(folder, target, sample, types)))


@group.command("inspect", hidden=True)
@click.argument("folder", type=existing)
@click.argument("report", type=click.Path(path_type=Path))
@click.argument("sample", nargs=-1)
@click.option("--script", type=existing)
@click.option("--alone", is_flag=True)
def inspect_command(
    folder: Path, report: Path, sample: tuple[str, ...], script: Path | None, alone: bool
) -> None:
    """Load the model in FOLDER and write REPORT; used by check.

    SAMPLE is a request for the model: the file with its body, its Content-Type, its Accept.
    With --alone, there is a script but no model.
    """
    from mms_handler.worker import inspection

    if script and alone:
        inspected = inspection.inspect_script(script, folder)
    else:
        body, types = sample[:1], sample[1:]
        request = inspection.Sample(Path(body[0]).read_bytes(), *types) if body else None
        inspected = inspection.inspect(folder, request, script)
    report.write_text(json.dumps(inspected))
