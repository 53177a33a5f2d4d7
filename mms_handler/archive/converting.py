"""From SageMaker's model.tar.gz to ``.mar`` and back, every file as it is.

model.tar.gz   artifacts, code/inference.py             ──▶ the same names in the .mar
model.tar.gz   artifacts, the script beside them        ──▶ likewise: the worker looks there too
model.tar.gz   artifacts; sourcedir.tar.gz has the code ──▶ artifacts, code/
.mar           ──▶ all of it but MAR-INF/
"""

from __future__ import annotations

import tempfile
import zipfile
from pathlib import Path
from typing import Callable

from mms_handler.archive import files, packing, tars, zips
from mms_handler.errors import ArchiveError


def convert(
    path: Path,
    target: Path,
    *,
    code: Path | None = None,
    program: str | None = None,
    force: bool = False,
    progress: Callable[[int], None] = lambda count: None,
) -> Path:
    """Write what is in one kind of archive as the other kind.

    Args:
        path: a model.tar.gz, or a ``.mar``.
        target: the other kind's file; a ``.mar``'s stem is the model's name.
        code: for a model.tar.gz: a script, its folder or its tar.gz, in the place of ``code/``.
        program: for a model.tar.gz: the script's name, if several files could be it.
        force: replace ``target`` if it is there.
        progress: told the bytes of each piece that is written.

    Returns:
        ``target``.

    Raises:
        ArchiveError: ``path`` is neither, or not safe; or ``target`` is there or cannot be named.
        ScriptError: the script cannot be told among several files.
    """
    files.check_free(target, force)
    with tempfile.TemporaryDirectory(prefix="mms-handler-") as scratch:
        folder = Path(scratch) / "model"
        if other(path) == ".tar.gz":
            zips.unpack(path, folder)
            return tars.write(_all(folder), target, force=force, progress=progress)
        tars.unpack(path, folder)
        found = _all(folder)
        if not found:
            raise ArchiveError(f"{path.name} has no files")
        if code:
            found = packing.with_code(found, _code(code, Path(scratch) / "code"))
        return packing.write(
            found,
            target,
            program=program,
            request=packing.made_up(found),
            force=force,
            progress=progress,
        )


def other(path: Path) -> str:
    """The suffix of what ``path`` can be converted to.

    Raises:
        ArchiveError: nothing, it is neither kind.
    """
    if zipfile.is_zipfile(path):
        return ".tar.gz"
    if path.is_file() and tars.is_tar(path):
        return ".mar"
    raise ArchiveError(f"{path} is neither a .mar nor a model.tar.gz")


def pack_tar(model_dir: Path, target: Path, *, code: Path | None = None) -> Path:
    """Write what ``pack`` packs as SageMaker's model.tar.gz has it: artifacts, and code/.

    Raises:
        ArchiveError: as ``packing.contents``.
    """
    return tars.write(packing.contents(model_dir, code), target, force=True)


def _all(folder: Path) -> dict[str, Path]:
    """What an archive had, hidden files too, but for what MMS's own folder has."""
    found = files.walk(folder)
    return {name: path for name, path in found.items() if not name.startswith("MAR-INF/")}


def _code(code: Path, folder: Path) -> dict[str, Path]:
    """The files of ``code``, unpacked if it is an archive."""
    if code.is_file() and tars.is_tar(code):
        tars.unpack(code, folder)
        return files.walk(folder)
    return packing.code_of(code)
