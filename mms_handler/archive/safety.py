"""Rules for the entries of an archive, zip or tar.

The module reads no archive.  Readers check each entry here before they write a byte of it.
"""

from __future__ import annotations

import re
import stat
from pathlib import PurePosixPath

from mms_handler.errors import ArchiveError
from mms_handler.manifest import MANIFEST

#: Entries of one archive.  A model has tens of files, or with whole libraries some thousands.
MAX_ENTRIES = 100_000

#: Bytes that an archive may unpack to.  MXNet's largest models have a tenth of this.
MAX_BYTES = 50 * 10**9

#: The limit of unpacked to packed size, for each entry and for all together.  Weights shrink by a
#: tenth and text to a tenth; for one repeated byte, deflate reaches a ratio of 1,032.
MAX_RATIO = 200

#: Up to this size in bytes any ratio is allowed, for example for a sample of zeros.
ANY_RATIO_BYTES = 10 * 10**6

#: Bytes of an entry's name: a quarter of the longest path (PATH_MAX), which begins with a folder's.
#: Bytes of each part between slashes: what file systems allow (NAME_MAX).
MAX_NAME_BYTES, MAX_PART_BYTES = 1_024, 255

_NOT_PRINTABLE = re.compile("[\x00-\x1f\x7f\ud800-\udfff]")  # control characters, broken UTF-8


class Entries:
    """The entries of one archive, checked as they are added."""

    def __init__(self, archive_bytes: int) -> None:
        self._archive_bytes = archive_bytes
        self._count = self._bytes = 0
        self._files: set[str] = set()
        self._places: set[str] = set()  # of files, and of the folders that they are in
        self._folders = {"."}

    def add(self, name: str, mode: int, size: int, packed: int | None = None) -> None:
        """Check one more entry, alone and with those before it.

        A folder that is the archive's own (``/``, ``./``) may be an entry.

        Args:
            name: as the archive has it.
            mode: its type, as in ``st_mode``; 0 is a file.
            size: bytes that it claims to unpack to.
            packed: its bytes in the archive; None if entries are not packed one by one.

        Raises:
            ArchiveError: the entry is not safe; names it and gives the reason.
        """
        is_file = not stat.S_ISDIR(mode) and not name.endswith("/")
        if is_file or not is_top(name):
            check_entry_name(name)
        _check_type(name, mode)
        if is_file:
            self._check_unique(name)
        self._check_place(name, is_file)
        self._check_size(name, size, packed)

    def _check_unique(self, name: str) -> None:
        path = str(PurePosixPath(name))
        if path.casefold() == MANIFEST.casefold():  # MMS looks for some files in any case
            path = MANIFEST
        if path in self._files:
            raise ArchiveError(f"the entry {name!r} appears twice")
        self._files.add(path)

    def _check_place(self, name: str, is_file: bool) -> None:
        """Check that no file is where a folder must be."""
        path = PurePosixPath(name)
        folders = {str(parent) for parent in path.parents} | (set() if is_file else {str(path)})
        if folders & self._places or (is_file and str(path) in self._folders):
            raise ArchiveError(f"the entry {name!r} and another one are a file and a folder")
        self._folders |= folders
        if is_file:
            self._places.add(str(path))

    def _check_size(self, name: str, size: int, packed: int | None) -> None:
        if size < 0:
            raise ArchiveError(f"the entry {name!r} claims a size of {size} bytes")
        self._count, self._bytes = self._count + 1, self._bytes + size
        if self._count > MAX_ENTRIES:
            raise ArchiveError(f"the archive has more than {MAX_ENTRIES:,} entries")
        if self._bytes > MAX_BYTES:
            raise ArchiveError(f"the archive unpacks to more than {MAX_BYTES:,} bytes")
        if packed is not None and _is_bomb(size, packed):
            raise ArchiveError(
                f"the entry {name!r} unpacks from {packed:,} to {size:,} bytes; "
                f"at most {MAX_RATIO} times its packed size is allowed"
            )
        if _is_bomb(self._bytes, self._archive_bytes):
            raise ArchiveError(
                f"the archive unpacks from {self._archive_bytes:,} to {self._bytes:,} bytes or "
                f"more; at most {MAX_RATIO} times its size is allowed"
            )


def _is_bomb(size: int, packed: int) -> bool:
    return size > ANY_RATIO_BYTES and size > MAX_RATIO * packed


def is_top(folder: str) -> bool:
    """Whether a folder's name in an archive means the archive's own folder.

    SageMaker's SDK repacks a model with ``tar.add(folder, arcname="/")``, which gives ``/``; tar
    gives ``./`` for ``tar -cf model.tar .``.
    """
    return set(folder.split("/")) <= {"", "."}


def check_entry_name(name: str) -> None:
    """Check that an entry may have this name.

    Raises:
        ArchiveError: the name leads outside the archive's folder, is empty, or is not printable.
    """
    if name.startswith("/") or ".." in name.split("/") or "\\" in name:
        raise ArchiveError(f"the entry {name!r} leads outside the archive's folder")
    if not name:
        raise ArchiveError("an entry has no name")
    if _NOT_PRINTABLE.search(name):
        raise ArchiveError(f"the entry {name!r} has a name with control characters or broken UTF-8")
    encoded = name.encode()
    if len(encoded) > MAX_NAME_BYTES or max(map(len, encoded.split(b"/"))) > MAX_PART_BYTES:
        raise ArchiveError(
            f"the name of the entry {name[:60]!r}... is too long: at most {MAX_NAME_BYTES} bytes "
            f"are allowed, and {MAX_PART_BYTES} between slashes"
        )


def _check_type(name: str, mode: int) -> None:
    kind = stat.S_IFMT(mode)
    if kind == stat.S_IFLNK:
        raise ArchiveError(f"the entry {name!r} is a link; replace it with the file itself")
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise ArchiveError(f"the entry {name!r} is neither a file nor a folder")


def reason(exc: Exception) -> str:
    """Why an archive cannot be read: without the paths of this machine that an OSError names."""
    return exc.strerror if isinstance(exc, OSError) and exc.strerror else str(exc)
