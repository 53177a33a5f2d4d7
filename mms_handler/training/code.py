"""The user's code, from where SageMaker says it is, into the code folder.

s3:// ──download──▶ archive ──unpack──┐
folder, file, file:// ──copy──────────┴──▶ code_dir/.mms-handler-xxxx ──rename──▶ code_dir

A code folder that is not empty is whole: what was fetched only half is never there under its name.
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

#: What a folder is called while it is filled; one that is found was left by a process that died.
_STAGE = ".mms-handler-"


def fetch(
    submit_directory: str,
    code_dir: Path,
    *,
    region: str | None = None,
    progress: Callable[[int], None] | None = None,
    replace: bool = False,
) -> Path:
    """The code is in ``code_dir``.

    Args:
        submit_directory: a folder, a tar archive or a file, by path or ``file://``;
            or ``s3://bucket/key`` of an archive or file.
        code_dir: made if it is not there; one that has files is left as it is.
        region: the bucket's; None leaves it to boto3.
        progress: told the bytes of a download as they come, less than 0 for those that a
            broken connection makes it fetch again.
        replace: fetch in any case, over files of the same name; the others stay.

    Returns:
        ``code_dir``.

    Raises:
        TrainingError: it is not there, cannot be read, or is an archive that is not safe.

    Source: CONTRACT A4.
    """
    if _is_filled(code_dir) and not replace:
        return code_dir
    try:
        code_dir.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=_STAGE, dir=code_dir) as scratch:
            stage = Path(scratch) / "code"
            stage.mkdir()
            _stage(_local(submit_directory, Path(scratch), region, progress), stage, code_dir)
            _put(stage, code_dir)
    except ArchiveError as exc:
        raise TrainingError(str(exc)) from exc
    except OSError as exc:
        raise TrainingError(f"the code {submit_directory} cannot be fetched: {exc}") from exc
    return code_dir


def _is_filled(folder: Path) -> bool:
    return folder.is_dir() and any(not p.name.startswith(_STAGE) for p in folder.iterdir())


def _local(
    source: str, scratch: Path, region: str | None, progress: Callable[[int], None] | None
) -> Path:
    """``source`` as a path on this machine, downloaded if it is elsewhere."""
    scheme, found, rest = source.partition("://")
    if not found:
        return Path(source)
    if scheme.lower() == "s3":
        target = scratch / Path(s3.split(source)[1]).name
        told = progress or (lambda count: None)
        return s3.download(source, target, region=region, progress=told)
    if scheme.lower() == "file" and rest.partition("/")[0] in ("", "localhost"):
        return Path("/" + unquote(rest.partition("/")[2]))
    raise TrainingError(
        f"the code {source} cannot be fetched: wanted s3://bucket/key.tar.gz, file:///folder, "
        "or the path of a folder, a tar.gz or a file"
    )


def _stage(source: Path, stage: Path, code_dir: Path) -> None:
    """Fill ``stage`` with what is in a folder or an archive, or with a file."""
    if source.is_dir():
        _copy_folder(source, stage, code_dir)
    elif not source.is_file():
        raise TrainingError(f"there is no code {source}")
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
        raise TrainingError(f"the code {source} has the code folder {code_dir} within it")
    ignored = shutil.ignore_patterns("__pycache__", ".git")
    try:
        shutil.copytree(source, stage, ignore=ignored, dirs_exist_ok=True)
    except shutil.Error as exc:  # its text is a list of triples
        name, _, why = exc.args[0][0]
        raise TrainingError(f"{name} cannot be copied: {why}") from exc


def _put(stage: Path, folder: Path) -> None:
    """Move what is in ``stage`` into ``folder``, over what is called the same."""
    for path in sorted(stage.iterdir()):
        target = folder / path.name
        if path.is_dir() and target.is_dir():
            _put(path, target)
        else:
            os.replace(path, target)
