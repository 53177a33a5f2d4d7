"""Convert SageMaker's model.tar.gz to ``.mar`` and back.  Every file keeps its name and bytes.

model.tar.gz   artifacts, code/inference.py             ──▶ the same names in the .mar
model.tar.gz   artifacts, the script beside them        ──▶ likewise; a worker finds it there too
model.tar.gz   artifacts; sourcedir.tar.gz has the code ──▶ artifacts, code/
NAME.tar.gz    model-archiver's: NAME/ with MAR-INF/    ──▶ the files of NAME/, their own handler
.mar           ──▶ all files except MAR-INF/
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Callable

from mms_handler import manifest
from mms_handler.archive import files, samples, tars
from mms_handler.archive.formats import other_suffix
from mms_handler.archive.pack import code_files, with_code, write
from mms_handler.archive.verify import unpack
from mms_handler.errors import ArchiveError
from mms_handler.manifest import MANIFEST


def convert(
    path: Path,
    target: Path,
    *,
    code: Path | None = None,
    program: str | None = None,
    force: bool = False,
    progress: Callable[[int], None] = lambda count: None,
) -> Path:
    """Write an archive in the other format.

    Args:
        path: a model.tar.gz or a ``.mar``.
        target: the file to write; the stem of a ``.mar`` is the model's name.
        code: for a model.tar.gz: a script, its folder or a tar.gz of that, which replaces the
            archive's ``code/``.
        program: for a model.tar.gz: the script's name, needed if several files could be the
            script.
        force: replace ``target`` if it exists.
        progress: called with the bytes of each chunk that is written.

    Returns:
        ``target``.

    Raises:
        ArchiveError: ``path`` is not one of these archives or is not safe, or ``target`` exists
            or has an invalid name.
        ScriptError: several files could be the script.
    """
    files.check_free(target, force)
    with tempfile.TemporaryDirectory(prefix="mms-handler-") as scratch:
        folder = Path(scratch) / "model"
        if other_suffix(path) == ".tar.gz":
            unpack(path, folder)
            return tars.write(_model_files(folder), target, force=force, progress=progress)
        tars.unpack(path, folder)
        folder = _top(folder)
        packed = _model_files(folder)
        if not packed:
            raise ArchiveError(f"{path.name} has no files")
        handler = None if code else manifest.foreign_handler(folder)
        if code:
            packed = with_code(packed, _unpacked_code(code, Path(scratch) / "code"))
        return write(
            packed,
            target,
            program=program,
            request=None if handler else samples.zeros(packed),
            handler=handler,
            force=force,
            progress=progress,
        )


def _top(folder: Path) -> Path:
    """The folder with a model's files: model-archiver's tgz has them all in one folder."""
    inside = list(folder.iterdir())
    return inside[0] if len(inside) == 1 and (inside[0] / MANIFEST).is_file() else folder


def _model_files(folder: Path) -> dict[str, Path]:
    """All files of an unpacked archive, hidden ones too, except MMS's MAR-INF/."""
    unpacked = files.walk(folder)
    return {name: path for name, path in unpacked.items() if not name.startswith("MAR-INF/")}


def _unpacked_code(code: Path, folder: Path) -> dict[str, Path]:
    """The files of ``code``, which is unpacked to ``folder`` if it is an archive."""
    if code.is_file() and tars.is_tar(code):
        tars.unpack(code, folder)
        return files.walk(folder)
    return code_files(code)
