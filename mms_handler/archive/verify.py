"""Verify that a ``.mar`` or a folder is safe to serve, and unpack a ``.mar`` that is.

MMS itself unpacks any archive without checks.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
import zipfile
from pathlib import Path
from typing import Mapping

from mms_handler import manifest
from mms_handler.archive import handlers, signing, zips
from mms_handler.archive.keys import Keys
from mms_handler.errors import ArchiveError, UntrustedArchive
from mms_handler.manifest import MANIFEST, Manifest


def verify(path: Path, keys: Keys | None = None) -> Manifest:
    """Return the manifest of an archive that is safe to unpack.  Nothing is written.

    Args:
        path: a ``.mar``.
        keys: one of these must have signed it; None: it needs no signature.

    Raises:
        ArchiveError: the archive is unsafe or damaged; names the entry and gives the reason.
        UntrustedArchive: it is not as one of ``keys`` signed it; says who was expected.
    """
    with zips.opened(path) as mar:
        return _verified(mar, keys)[0]


def unpack(path: Path, folder: Path, keys: Keys | None = None) -> Manifest:
    """Unpack an archive if it is safe, and return its manifest.

    What is written is what was verified, even if another process changes the archive meanwhile.

    Args:
        path: a ``.mar``.
        folder: where to; new or empty.
        keys: as for ``verify``.

    Raises:
        ArchiveError, UntrustedArchive: as ``verify``; nothing is written then, or left.
    """
    with zips.opened(path) as mar:
        unpacked, hashes = _verified(mar, keys)
        try:
            zips.extract(mar, folder, hashes)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        return unpacked


def read_parts(path: Path, keys: Keys | None = None) -> bytes:
    """The list of an archive's parts, in CycloneDX's JSON.

    Args:
        path: a ``.mar``.
        keys: as for ``verify``.

    Raises:
        ArchiveError, UntrustedArchive: as ``verify``; or the archive has no such list.
    """
    with zips.opened(path) as mar:
        packed, hashes = _verified(mar, keys)
        if not packed.parts:
            raise ArchiveError(
                "the archive has no list of its parts; pack the model again to get one"
            )
        return _read(mar, packed.parts, hashes)


def refuse_unsigned(path: Path, keys: Keys | None) -> None:
    """Refuse a model that cannot have a signature, if one is required.

    Raises:
        UntrustedArchive: says who was expected.
    """
    if keys:
        raise UntrustedArchive(
            f"{path.name} is not a .mar, and only a .mar can be signed; expected one that is "
            f"signed by {keys}: mms-handler archive --sign KEY"
        )


def manifest_of(path: Path) -> Manifest:
    """The manifest of a ``.mar``, whose other entries are not verified.

    Raises:
        ArchiveError: it has no valid manifest.
    """
    with zips.opened(path) as mar:
        _check_manifest(_sizes(mar))
        return manifest.read(mar.read(MANIFEST))._replace(signer=signing.claimed(mar.comment))


def _sizes(mar: zipfile.ZipFile) -> dict[str, int]:
    return {info.orig_filename: info.file_size for info in mar.infolist()}


def _check_manifest(sizes: Mapping[str, int]) -> None:
    if MANIFEST not in sizes:
        raise ArchiveError(f"the archive has no {MANIFEST}")
    if sizes[MANIFEST] > manifest.MAX_BYTES:
        raise ArchiveError(f"{MANIFEST} has more than {manifest.MAX_BYTES:,} bytes")


def _verified(mar: zipfile.ZipFile, keys: Keys | None) -> tuple[Manifest, dict[str, str]]:
    """Read every entry, and check the signature and the manifest against them.

    Returns:
        The manifest, and the SHA-256 of each entry by name.
    """
    sizes = _sizes(mar)
    _check_manifest(sizes)
    if keys:
        key, signature = signing.expected(mar.comment, keys)  # before all is read
        digest = hashlib.sha512()
        try:
            hashes = zips.hashes(mar, digest)
        except ArchiveError as exc:
            raise UntrustedArchive(f"it is not what {key} signed: {exc}") from exc
        signer = signing.check(digest.digest(), key, signature)
    else:
        hashes, signer = zips.hashes(mar), signing.claimed(mar.comment)
    read = manifest.read(_read(mar, MANIFEST, hashes))._replace(signer=signer)
    handlers.check_handler(read.handler, sizes)
    if read.sample and read.sample.name not in sizes:
        raise ArchiveError(f"the manifest's sample {read.sample.name!r} is not in the archive")
    if read.quantized and read.quantized.symbol not in sizes:
        raise ArchiveError(f"the manifest's graph {read.quantized.symbol!r} is not in the archive")
    if read.parts and read.parts not in sizes:
        raise ArchiveError(f"the manifest's list of parts {read.parts!r} is not in the archive")
    if read.twin and read.twin.file not in sizes:
        raise ArchiveError(f"the manifest's ONNX twin {read.twin.file!r} is not in the archive")
    if read.hashes is not None:
        others = {name: digest for name, digest in hashes.items() if name != MANIFEST}
        _check_hashes(read.hashes, others)
    return read, hashes


def _read(mar: zipfile.ZipFile, name: str, hashes: Mapping[str, str]) -> bytes:
    """An entry of which the hash is known, because another process may change the archive."""
    data = mar.read(name)
    if hashlib.sha256(data).hexdigest() != hashes[name]:
        raise ArchiveError(f"the entry {name!r} was changed meanwhile")
    return data


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
