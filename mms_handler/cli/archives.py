"""The commands for archives that there are: check, verify, sbom, sign."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mms_handler import settings
from mms_handler.cli.command import (
    end,
    examples,
    existing,
    group,
    passphrase_option,
    print_rows,
    private_key,
    script_option,
)
from mms_handler.errors import ArchiveError

if TYPE_CHECKING:
    from mms_handler.archive import Keys


@group.command(
    epilog=examples(
        "mms-handler check store/iris.mar",
        "mms-handler check trained --script iris.py --sample row.csv",
    )
)
@click.argument("path", type=existing)
@script_option
@click.option("--sample", type=existing, metavar="FILE",
              help="A request to answer.  [default: the packed sample]")  # fmt: skip
@click.option("--content-type", metavar="TYPE",
              help="Content-Type of the request.  [default: the packed one, or from the file's "
              "suffix]")  # fmt: skip
@click.option("--accept", metavar="TYPE",
              help="Accept header of the request.  [default: the packed one, or */*]")  # fmt: skip
def check(path: Path, **options: Any) -> None:
    """Load a model and report problems.

    PATH is a folder with a model and its script, a .mar, a model.tar.gz, or a script alone.  The
    model is loaded in a process of its own, as in a worker.  Prints the script, how each function
    is called, the files, the kind of the model, and its reply; then what was tried, and a verdict.
    Exits with 1 if the model does not load, refuses the request, or answers the packed sample
    differently than when it was packed.
    """
    from mms_handler import api

    report = api.check(path, **options)
    print_rows(report.details)
    if report.traceback:
        click.echo(report.traceback, err=True)
    if report.details:
        click.echo()
    words = {True: "passed", False: "failed", None: "not tried"}
    print_rows([(words[question.holds], question.statement) for question in report.questions])
    if report.failure:
        end(report.verdict, 1)
    click.echo(report.verdict)


@group.command(
    epilog=examples(
        "mms-handler verify store/iris.mar",
        "mms-handler verify store/*.mar trained",
        "mms-handler verify store/iris.mar --require-signature keys",
    )
)
@click.argument("paths", nargs=-1, required=True, type=existing)
@click.option("--require-signature", type=existing, metavar="KEYS",
              help="File or folder with public keys, one of which must have signed each archive.  "
              "[env var: MMS_HANDLER_REQUIRE_SIGNATURE; default: none: archives need no "
              "signature]")  # fmt: skip
def verify(paths: tuple[Path, ...], require_signature: Path | None) -> None:
    """Check that archives and folders are safe to serve.

    Each of PATHS is a .mar or a folder.  Nothing is unpacked or loaded.  Prints a line for each one
    that is safe.  If some are not safe, prints the reasons and exits with 1.
    """
    from mms_handler import archive

    current = settings.current()
    keys = archive.read_trusted(require_signature) if require_signature else None
    keys = keys or archive.required(current)
    unsafe = []
    for path in paths:
        try:
            click.echo(f"{path}: {_verified(path, keys)}")
        except ArchiveError as exc:
            unsafe.append(exc)
    if unsafe:
        end("; ".join(map(str, unsafe)), 1)


def _verified(path: Path, keys: Keys | None) -> str:
    from mms_handler import archive

    if path.is_dir():
        archive.refuse_unsigned(path, keys)
        archive.verify_folder(path)
        return "a folder without links that lead out of it"
    manifest = archive.verify(path, keys)
    signed = f"; signed by {manifest.signer}" if manifest.signer else ""
    if manifest.hashes is None:
        return f"{manifest.name}, packed by another tool, without hashes{signed}"
    versions = ", ".join(f"{name} {version}" for name, version in manifest.packages.items())
    tuned = f"; tuned to {manifest.tuned}" if manifest.tuned else ""
    files = f"{len(manifest.hashes)} files as they were packed"
    return f"{manifest.name}, {files}, with {versions}{tuned}{signed}"


@group.command(
    epilog=examples(
        "mms-handler sbom store/iris.mar",
        "mms-handler sbom store/iris.mar > iris.cdx.json",
    )
)
@click.argument("path", type=existing)
def sbom(path: Path) -> None:
    """Print the parts and requirements of an archive, in CycloneDX's JSON.

    PATH is a .mar.  The list was made when it was packed: the model's files with their hashes, the
    packages with which it was tried, and the script's requirements.
    """
    from mms_handler import archive

    click.echo(archive.read_parts(path, archive.required(settings.current())))


@group.command(
    epilog=examples(
        "mms-handler sign store/iris.mar --key release.pem",
        "mms-handler sign store/*.mar --key release.pem --passphrase-file passphrase",
    )
)
@click.argument("paths", nargs=-1, required=True, type=existing)
@click.option("--key", required=True, type=existing, metavar="KEY",
              help="File with the Ed25519 private key.")  # fmt: skip
@passphrase_option
def sign(paths: tuple[Path, ...], key: Path, passphrase_file: Path | None) -> None:
    """Sign archives.

    Each of PATHS is a .mar that is safe to serve.  A signature that it has is replaced; its entries
    stay as they are.
    """
    from mms_handler import archive

    private = private_key(key, passphrase_file)
    for path in paths:
        archive.verify(path)
        click.echo(f"{path} is signed by {archive.sign(path, private)}")
