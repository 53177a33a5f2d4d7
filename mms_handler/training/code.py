"""Fetch the user's code, from the place that SageMaker or a person names, into the code folder.

s3:// ──download──▶ archive ──unpack──┐
folder, file, file:// ──copy──────────┴──▶ code_dir/.mms-handler-xxxx ──rename──▶ code_dir

A code folder is empty or complete: files are renamed into it only when all have arrived.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import Callable
from urllib.parse import unquote

from mms_handler.archive import s3, tars
from mms_handler.errors import ArchiveError, TrainingError

#: Prefix of the folder in which code is collected.  A process that is killed does not remove it.
_STAGE = ".mms-handler-"


def fetch(
    submit_directory: str,
    code_dir: Path,
    *,
    region: str | None = None,
    progress: Callable[[int], None] | None = None,
    replace: bool = False,
) -> Path:
    """Fetch the code into ``code_dir``.

    Args:
        submit_directory: a folder, a tar archive or a file, by path or ``file://``;
            or ``s3://bucket/key`` of an archive or a file, or ``s3://bucket/folder/``.
        code_dir: made if it does not exist; if it has files, nothing is fetched.
        region: the bucket's; None leaves it to boto3.
        progress: called with the size of each chunk of a download in bytes; when the download
            starts over, with a negative number.
        replace: fetch even so, and replace files of the same name; other files stay.

    Returns:
        ``code_dir``.

    Raises:
        TrainingError: the source does not exist, cannot be read, or is an unsafe archive.

    Source: CONTRACT A4.
    """
    names = [path.name for path in code_dir.iterdir()] if code_dir.is_dir() else []
    if not replace and any(not name.startswith(_STAGE) for name in names):
        return code_dir
    try:
        code_dir.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=_STAGE, dir=code_dir) as scratch:
            stage = Path(scratch) / "code"
            stage.mkdir()
            _fill(stage, _download(submit_directory, Path(scratch), region, progress), code_dir)
            _move(stage, code_dir)
    except ArchiveError as exc:
        raise TrainingError(str(exc)) from exc
    except OSError as exc:
        raise TrainingError(f"the code {submit_directory} cannot be fetched: {exc}") from exc
    return code_dir


def _download(
    source: str, scratch: Path, region: str | None, progress: Callable[[int], None] | None
) -> Path:
    """The path of ``source``, downloaded to ``scratch`` if it is not on this machine."""
    scheme, separator, rest = source.partition("://")
    if not separator:
        return Path(source)
    if scheme.lower() == "s3":
        target = scratch / Path(s3.split(source)[1]).name
        progress = progress or (lambda count: None)
        return s3.download(source, target, region=region, progress=progress)
    if scheme.lower() == "file" and rest.partition("/")[0] in ("", "localhost"):
        return Path("/" + unquote(rest.partition("/")[2]))
    raise TrainingError(
        f"the code {source} cannot be fetched: use s3://bucket/key.tar.gz, file:///folder, "
        "or the path of a folder, a tar.gz or a file"
    )


def _fill(stage: Path, source: Path, code_dir: Path) -> None:
    """Fill ``stage`` with the content of a folder or an archive, or with a file."""
    if source.is_dir():
        _copy_folder(source, stage, code_dir)
    elif not source.is_file():
        raise TrainingError(f"the code {source} does not exist")
    elif tars.is_tar(source):
        tars.unpack(source, stage)
    elif source.name.lower().endswith((".tar.gz", ".tgz", ".tar")):
        raise TrainingError(f"{source.name} is not a tar archive")
    else:
        shutil.copy(source, stage / source.name)


def _copy_folder(source: Path, stage: Path, code_dir: Path) -> None:
    if source.resolve() == code_dir.resolve():
        return
    if source.resolve() in code_dir.resolve().parents:
        raise TrainingError(
            f"the code {source} contains the code folder {code_dir}, where it would be copied to; "
            "use a folder that holds only the code"
        )
    ignored = shutil.ignore_patterns("__pycache__", ".git")
    try:
        shutil.copytree(source, stage, ignore=ignored, dirs_exist_ok=True)
    except shutil.Error as exc:  # its text is a list of triples
        name, _, reason = exc.args[0][0]
        raise TrainingError(f"{name} cannot be copied: {reason}") from exc


def _move(stage: Path, folder: Path) -> None:
    """Move the content of ``stage`` into ``folder``, over files of the same name."""
    for path in sorted(stage.iterdir()):
        target = folder / path.name
        if path.is_dir() and target.is_dir():
            _move(path, target)
        else:
            os.replace(path, target)
