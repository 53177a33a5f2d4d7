"""Write the settings that a model was tuned to into its archive."""

from __future__ import annotations

import shutil
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

from mms_handler import manifest
from mms_handler.archive import files, signing, zips
from mms_handler.archive.verify import verify
from mms_handler.manifest import MANIFEST, Tuned

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey


def write_tuned(
    path: Path,
    tuned: Tuned,
    target: Path,
    force: bool = False,
    key: Ed25519PrivateKey | None = None,
) -> None:
    """Write an archive with tuned settings; all other entries keep their bytes.

    A signature is not kept, because it would not be this archive's.

    Args:
        path: a ``.mar``.
        tuned: the settings.
        target: the archive to write, which may be ``path`` itself.
        force: replace ``target`` if it exists.
        key: signs the archive; None: it is not signed.

    Raises:
        ArchiveError: the archive is not safe, or ``target`` exists.
    """
    verify(path)
    with files.replacing(target, force or target == path) as partial:
        with zips.opened(path) as mar, zipfile.ZipFile(partial, "w") as written:
            for info in mar.infolist():
                _copy(mar, info, written, tuned)
        verify(partial)
        if key:
            signing.sign_in_place(partial, key)


def _copy(
    mar: zipfile.ZipFile, info: zipfile.ZipInfo, written: zipfile.ZipFile, tuned: Tuned
) -> None:
    entry = zipfile.ZipInfo(info.filename, info.date_time)
    entry.compress_type, entry.external_attr = info.compress_type, info.external_attr
    if info.filename == MANIFEST:
        written.writestr(entry, manifest.with_tuned(mar.read(info), tuned))
        return
    entry.file_size = info.file_size  # by which zipfile decides on zip64 before the first byte
    with mar.open(info) as source, written.open(entry, "w") as copy:
        shutil.copyfileobj(source, copy, 2**20)
