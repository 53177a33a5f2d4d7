"""How many bytes a model has, in whatever it comes."""

from __future__ import annotations

from pathlib import Path

from mms_handler.archive import tars, zips
from mms_handler.archive.converting import other


def size(path: Path) -> int:
    """Bytes of the files in a folder, a ``.mar`` or a tar archive, as it says of itself.

    Raises:
        ArchiveError: ``path`` is neither, or not safe.
    """
    if path.is_dir():
        return sum(one.stat().st_size for one in path.rglob("*") if one.is_file())
    return tars.size(path) if other(path) == ".mar" else zips.size(path)
