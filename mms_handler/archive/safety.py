"""What an archive may not have in it, be it a zip or a tar, nor a folder that is served in place.

Rules alone: who reads an archive asks for each entry before a byte of it is written.
"""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path, PurePosixPath

from mms_handler.errors import ArchiveError
from mms_handler.manifest import MANIFEST

#: Entries of one archive.  A model has tens of files, one with whole libraries some thousands.
MAX_ENTRIES = 100_000

#: Bytes that an archive may unpack to; MXNet's own largest models have a tenth of them.
MAX_BYTES = 50 * 10**9

#: How many times its packed size an entry, or all of them, may unpack to.  Weights shrink by a
#: tenth and text to a tenth; deflate reaches 1,032 with nothing but one repeated byte.
MAX_RATIO = 200

#: Bytes that may be of any ratio: some zeros of a sample, an empty log.
ANY_RATIO_BYTES = 10 * 10**6

_ODD = re.compile("[\x00-\x1f\x7f\ud800-\udfff]")  # control characters, and what is not UTF-8


class Entries:
    """The entries of one archive so far; the one that is not safe is refused."""

    def __init__(self, archive_bytes: int) -> None:
        self._archive_bytes = archive_bytes
        self._count = self._bytes = 0
        self._files: set[str] = set()

    def add(self, name: str, mode: int, size: int, packed: int | None = None) -> None:
        """Count an entry in.

        Args:
            name: as the archive has it.
            mode: its type, as ``st_mode`` has it; 0 is a file.
            size: bytes it says that it unpacks to.
            packed: bytes it takes in the archive, where it is packed by itself.

        Raises:
            ArchiveError: it is not safe; names it and says why.
        """
        check_name(name)
        _check_type(name, mode)
        if not stat.S_ISDIR(mode) and not name.endswith("/"):
            self._check_new(name)
        self._check_size(name, size, packed)

    def _check_new(self, name: str) -> None:
        path = str(PurePosixPath(name))
        if path.casefold() == MANIFEST.casefold():  # MMS looks for some files in any case
            path = MANIFEST
        if path in self._files:
            raise ArchiveError(f"the entry {name!r} is there twice")
        self._files.add(path)

    def _check_size(self, name: str, size: int, packed: int | None) -> None:
        if size < 0:
            raise ArchiveError(f"the entry {name!r} says that it has {size} bytes")
        self._count, self._bytes = self._count + 1, self._bytes + size
        if self._count > MAX_ENTRIES:
            raise ArchiveError(f"it has more than {MAX_ENTRIES:,} entries")
        if self._bytes > MAX_BYTES:
            raise ArchiveError(f"it unpacks to more than {MAX_BYTES:,} bytes")
        if packed is not None and _is_bomb(size, packed):
            raise ArchiveError(f"the entry {name!r} unpacks from {packed:,} to {size:,} bytes")
        if _is_bomb(self._bytes, self._archive_bytes):
            raise ArchiveError(
                f"it unpacks from {self._archive_bytes:,} to {self._bytes:,} bytes or more"
            )


def _is_bomb(size: int, packed: int) -> bool:
    return size > ANY_RATIO_BYTES and size > MAX_RATIO * packed


def check_name(name: str) -> None:
    """Do nothing if an entry may be called ``name``.

    Raises:
        ArchiveError: it leads out of the archive's folder, or no file should be called so.
    """
    if name.startswith("/") or ".." in name.split("/") or "\\" in name:
        raise ArchiveError(f"the entry {name!r} leads out of the archive's folder")
    if not name or _ODD.search(name):
        raise ArchiveError(f"the entry {name!r} has a name that no file should have")


def _check_type(name: str, mode: int) -> None:
    kind = stat.S_IFMT(mode)
    if kind == stat.S_IFLNK:
        raise ArchiveError(f"the entry {name!r} is a link; put the file itself there")
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise ArchiveError(f"the entry {name!r} is neither a file nor a folder")


def verify_folder(folder: Path) -> None:
    """Do nothing if ``folder`` can be served in place.

    Raises:
        ArchiveError: it is not there or empty, a link leads out of it, or it has what is neither
            a file nor a folder, such as a device.
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
