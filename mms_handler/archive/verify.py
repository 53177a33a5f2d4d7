"""Verify that a ``.mar`` or a folder is safe to serve, and unpack a ``.mar`` that is.

MMS itself unpacks any archive without checks.
"""

from __future__ import annotations

import os
import stat
import zipfile
from pathlib import Path
from typing import Mapping

from mms_handler import manifest
from mms_handler.archive import zips
from mms_handler.errors import ArchiveError
from mms_handler.manifest import MANIFEST, Manifest


def verify(path: Path) -> Manifest:
    """Return the manifest of an archive that is safe to unpack.  Nothing is written.

    Raises:
        ArchiveError: the archive is unsafe or damaged; names the entry and gives the reason.
    """
    with zips.opened(path) as mar:
        return _verified(mar)


def unpack(path: Path, folder: Path) -> Manifest:
    """Unpack an archive if it is safe, and return its manifest.

    Raises:
        ArchiveError: as ``verify``; nothing is written then.
    """
    with zips.opened(path) as mar:
        unpacked = _verified(mar)
        mar.extractall(folder)
        return unpacked


def manifest_of(path: Path) -> Manifest:
    """The manifest of a ``.mar``, whose other entries are not verified.

    Raises:
        ArchiveError: it has no valid manifest.
    """
    with zips.opened(path) as mar:
        _check_manifest(_sizes(mar))
        return manifest.read(mar.read(MANIFEST))


def _sizes(mar: zipfile.ZipFile) -> dict[str, int]:
    return {info.orig_filename: info.file_size for info in mar.infolist()}


def _check_manifest(sizes: Mapping[str, int]) -> None:
    if MANIFEST not in sizes:
        raise ArchiveError(f"the archive has no {MANIFEST}")
    if sizes[MANIFEST] > manifest.MAX_BYTES:
        raise ArchiveError(f"{MANIFEST} has more than {manifest.MAX_BYTES:,} bytes")


def _verified(mar: zipfile.ZipFile) -> Manifest:
    """Read every entry, and check the manifest against them."""
    sizes = _sizes(mar)
    _check_manifest(sizes)
    hashes = zips.hashes(mar)
    read = manifest.read(mar.read(MANIFEST))
    manifest.check_handler(read.handler, sizes)
    if read.sample and read.sample.name not in sizes:
        raise ArchiveError(f"the manifest's sample {read.sample.name!r} is not in the archive")
    if read.quantized and read.quantized.symbol not in sizes:
        raise ArchiveError(f"the manifest's graph {read.quantized.symbol!r} is not in the archive")
    if read.hashes is not None:
        del hashes[MANIFEST]
        _check_hashes(read.hashes, hashes)
    return read


def _check_hashes(packed: Mapping[str, str], present: Mapping[str, str]) -> None:
    for name in sorted({*packed, *present}):
        if name not in packed:
            raise ArchiveError(f"the entry {name!r} is not in the manifest's list of files")
        if name not in present:
            raise ArchiveError(f"the file {name!r} of the manifest's list is missing")
        if packed[name] != present[name]:
            raise ArchiveError(f"the entry {name!r} was changed after packing: its hash differs")


def verify_folder(folder: Path) -> None:
    """Check that ``folder`` can be served in place.

    Raises:
        ArchiveError: it does not exist or is empty, a link leads out of it, or it has something
            that is neither a file nor a folder, such as a device.
    """
    if not folder.is_dir():
        raise ArchiveError(f"there is no folder {folder}")
    if not any(folder.iterdir()):
        raise ArchiveError(f"{folder} has no files")
    top = os.path.realpath(folder)
    for parent, folders, files in os.walk(top, onerror=_raise):
        for name in (*folders, *files):
            _check_in_place(os.path.join(parent, name), top)


def _check_in_place(path: str, top: str) -> None:
    target = os.path.realpath(path)
    if os.path.commonpath([target, top]) != top:
        raise ArchiveError(f"{path} is a link that leads out of {top}")
    mode = os.lstat(path).st_mode
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode) or stat.S_ISLNK(mode)):
        raise ArchiveError(f"{path} is neither a file nor a folder")


def _raise(error: OSError) -> None:
    raise ArchiveError(f"{error.filename} cannot be read: {error.strerror}")
