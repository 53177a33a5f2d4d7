"""The command export: a model as ONNX, for a server, or as arrays."""

from __future__ import annotations

import json
import re
from pathlib import Path

import click

from mms_handler.cli.command import examples, existing, format_size, group, print_rows


@group.command(
    epilog=examples(
        "mms-handler export store/iris.mar --to onnx",
        "mms-handler export trained --to onnx --as triton --output model_repository",
        "mms-handler export model.tar.gz --to npz --output iris.npz",
    )
)
@click.argument("model", type=existing)
@click.option("--to", type=click.Choice(["onnx", "npz"]), required=True,
              help="onnx: the graph and its weights, proved.  npz: the weights alone, by name, for "
              "NumPy.")  # fmt: skip
@click.option("--as", "layout", type=click.Choice(["triton", "kserve", "sagemaker"]),
              help="Write what this server reads: a model repository for Triton, that and an "
              "InferenceService for KServe, a model.tar.gz for SageMaker's Triton containers.  "
              "[default: the .onnx file alone]")  # fmt: skip
@click.option("--output", type=click.Path(path_type=Path), metavar="PATH",
              help="The file to write; for triton and kserve the folder.  [default: NAME.onnx, "
              "NAME.npz, model_repository, kserve or NAME.tar.gz]")  # fmt: skip
@click.option("--name", help="The model's name.  [default: the file's or the folder's name]")
@click.option("--sample", type=existing, metavar="FILE",
              help="A request by which the model is traced and proved.  [default: the packed one, "
              "else a row of zeros in the shapes that the default save wrote]")  # fmt: skip
@click.option("--content-type", metavar="TYPE",
              help="Content-Type of the sample.  [default: the packed one, or from the file's "
              "suffix]")  # fmt: skip
@click.option("--tolerance", type=click.FloatRange(0, min_open=True), metavar="NUMBER",
              help="How far ONNX Runtime's answer may be from MXNet's, relative to an output's "
              "largest value.  [default: 1e-5]")  # fmt: skip
@click.option("--max-batch-size", type=click.IntRange(0), metavar="ROWS",
              help="The most rows that Triton puts together; 0: none.  [default: 32]")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
@click.option("--force", is_flag=True, help="Replace files that exist.")
def export(
    model: Path,
    to: str,
    layout: str | None,
    output: Path | None,
    name: str | None,
    sample: Path | None,
    content_type: str | None,
    tolerance: float | None,
    max_batch_size: int | None,
    as_json: bool,
    force: bool,
) -> None:
    """Export a model to ONNX, with a proof, or its weights to NumPy.

    MODEL is a folder with a model and perhaps code/, a .mar, or a model.tar.gz.  The model answers
    the sample and made-up rows, several at a time and of extreme size, in MXNet and in ONNX
    Runtime.  Where an output differs by more than the tolerance, nothing is written.  Functions of
    the script around the model are not exported; the report names them.
    """
    from mms_handler import export as exports
    from mms_handler.archive import files
    from mms_handler.export import report as reports
    from mms_handler.names import check_name

    if to == "npz":
        _refuse(to, {"--as": layout, "--sample": sample, "--content-type": content_type,
                     "--tolerance": tolerance})  # fmt: skip
    if max_batch_size is not None and not layout:
        raise click.UsageError("--max-batch-size only works with --as")
    name = check_name(name or re.sub(r"\.(mar|tar|tar\.gz|tgz)$", "", model.resolve().name))
    target = output or Path(exports.LAYOUTS[layout].default(name) if layout else f"{name}.{to}")
    if target.resolve() == model.resolve():
        raise click.UsageError(f"{target} is the model itself; name another file with --output")
    if not layout:
        files.check_free(target, force)
    if to == "npz":
        exported = exports.export_npz(model)
    else:
        limit = exports.TOLERANCE if tolerance is None else tolerance
        exported = exports.export_onnx(model, sample, content_type, limit)
    if layout:
        size = {} if max_batch_size is None else {"max_batch_size": max_batch_size}
        content, report = exported
        written = exports.write(layout, name, content, report, target, force=force, **size)
    else:
        with files.replacing(target, force) as partial:
            partial.write_bytes(exported.content)
        written = [target]
    if as_json:
        click.echo(json.dumps(reports.as_dict(exported.report, written), indent=2))
        return
    print_rows(reports.rows(exported.report))
    for path in written:
        click.echo(f"{path}  {format_size(path.stat().st_size)}")


def _refuse(to: str, options: dict[str, object]) -> None:
    for option, value in options.items():
        if value is not None:
            raise click.UsageError(f"{option} only works with --to onnx, not --to {to}")


@group.command("export-model", hidden=True)
@click.argument("folder", type=existing)
@click.argument("report", type=click.Path(path_type=Path))
@click.argument("target", type=click.Path(path_type=Path))
@click.argument("sample", nargs=-1)
def export_model(folder: Path, report: Path, target: Path, sample: tuple[str, ...]) -> None:
    """Export the model in FOLDER to TARGET and write REPORT; used by export.

    SAMPLE is a request for an export to ONNX: the file with its body, its Content-Type, the
    tolerance.  Without one, the weights are exported.
    """
    from mms_handler.worker import exporting

    if sample:
        body, content_type, tolerance = sample
        request = Path(body), content_type, float(tolerance)
        result = exporting.export_onnx(folder, target, *request)
    else:
        result = exporting.export_npz(folder, target)
    report.write_text(json.dumps(result))
