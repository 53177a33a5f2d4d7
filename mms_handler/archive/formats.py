"""The formats of a model: a folder, a ``.mar``, a model.tar.gz."""

from __future__ import annotations

import zipfile
from pathlib import Path

from mms_handler.archive import tars, zips
from mms_handler.errors import ArchiveError


def other_suffix(path: Path) -> str:
    """The suffix of the format that ``path`` can be converted to: ".tar.gz" or ".mar".

    The file's contents decide, not its name.

    Raises:
        ArchiveError: ``path`` is not an archive.
    """
    if zipfile.is_zipfile(path):
        return ".tar.gz"
    if path.is_file() and tars.is_tar(path):
        return ".mar"
    raise ArchiveError(f"{path} is neither a .mar nor a model.tar.gz")


def size(path: Path) -> int:
    """Bytes of the files in a folder, a ``.mar`` or a tar archive, unpacked.

    For an archive, this is the sum of the sizes that its entries claim.

    Raises:
        ArchiveError: ``path`` has another format or is not safe.
    """
    if path.is_dir():
        return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
    return tars.size(path) if other_suffix(path) == ".mar" else zips.size(path)
