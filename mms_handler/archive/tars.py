"""Tar archives: unpack a safe one, and write the same bytes for the same files."""

from __future__ import annotations

import contextlib
import gzip
import shutil
import stat
import tarfile
from pathlib import Path, PurePosixPath
from typing import Any, Callable, Iterator, Mapping

from mms_handler.archive import files
from mms_handler.archive.safety import Entries, is_top, reason
from mms_handler.errors import ArchiveError

#: The largest header data in bytes.  tarfile reads it at once, in the size that the header claims.
_HEADER_BYTES = 2**20
#: The most bytes after the last entry.  tar fills its last block of 10,240 bytes with zeros.
_PADDING_BYTES = 2**20
_HEADERS = (
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
)


class _Header(tarfile.TarInfo):
    """A header whose data is too small to exhaust the memory."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> _Header:
        header = super().frombuf(buf, encoding, errors)
        if header.size < 0 or (header.type in _HEADERS and header.size > _HEADER_BYTES):
            raise ArchiveError(
                f"a header claims {header.size:,} bytes; expected 0 to {_HEADER_BYTES:,}"
            )
        return header


def is_tar(path: Path) -> bool:
    """Whether a file is a tar archive, compressed or not, safe or not, whole or damaged."""
    try:
        tarfile.open(path, tarinfo=_Header).close()
    except tarfile.TarError:
        return False
    except OSError as exc:
        if exc.errno:  # the file cannot be read
            raise
        return True  # a decompressor's
    except Exception:  # _Header's, zlib's, lzma's, EOFError: it begins like an archive
        return True
    return True


def unpack(path: Path, folder: Path) -> None:
    """Unpack a tar archive, compressed or not, if every entry is safe.

    Raises:
        ArchiveError: an entry is not safe, and nothing is written; or the archive is damaged.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with _opened(path) as tar:
        for member in list(_checked(tar, path)):
            _write_member(tar, member, folder)
        _read_to_end(tar)


def size(path: Path) -> int:
    """Bytes of the files in a tar archive, unpacked.

    Raises:
        ArchiveError: as ``unpack``.
    """
    with _opened(path) as tar:
        return sum(member.size for member in _checked(tar, path) if not member.isdir())


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[tarfile.TarFile]:
    try:
        with tarfile.open(path, tarinfo=_Header) as tar:
            yield tar
    except ArchiveError as exc:
        raise ArchiveError(f"{path.name}: {exc}") from exc
    except Exception as exc:  # zlib's, lzma's, EOFError: depends on the part that is broken
        raise ArchiveError(f"{path.name} cannot be unpacked: {reason(exc)}") from exc


def _checked(tar: tarfile.TarFile, path: Path) -> Iterator[tarfile.TarInfo]:
    """The folders and files to write.  Each is checked when it is read, not after a whole bomb.

    A hard link gets the size of its file, which is an earlier one of the archive.
    """
    entries = Entries(path.stat().st_size)
    sizes: dict[str, int] = {}
    for member in tar:
        if member.islnk() and _place(member.linkname) in sizes:
            member.size = sizes[_place(member.linkname)]
            mode = stat.S_IFREG
        else:
            mode = _mode(member)
        entries.add(member.name, mode, member.size)
        if member.name.endswith("/"):  # tarfile has removed it from folders' names
            raise ArchiveError(f"the entry {member.name!r} is a file with a folder's name")
        if _is_of_macos(member.name):
            continue
        if not member.isdir():
            sizes[_place(member.name)] = member.size
        yield member


def _place(name: str) -> str:
    """A file's name in the archive's folder, however it is spelled."""
    return str(PurePosixPath(name))


def _is_of_macos(name: str) -> bool:
    """Whether macOS's tar or Finder added a file, for attributes that only macOS knows.

    ``._inference.py`` beside ``inference.py`` would be a second script.
    """
    path = PurePosixPath(name)
    return path.name.startswith("._") or "__MACOSX" in path.parts


def _read_to_end(tar: tarfile.TarFile) -> None:
    """Read what follows the last entry: only at its end does a gzip file tell that it is damaged.

    Raises:
        ArchiveError: more follows than the zeros that programs write after the last entry.
    """
    assert tar.fileobj is not None  # it is open
    rest = tar.fileobj.read(_PADDING_BYTES + 1)
    if len(rest) > _PADDING_BYTES:
        raise ArchiveError(f"more than {_PADDING_BYTES:,} bytes follow the last entry")


def _mode(member: tarfile.TarInfo) -> int:
    """An entry's type."""
    if member.issym() or member.islnk():
        return stat.S_IFLNK
    if member.isdir():
        return stat.S_IFDIR
    return stat.S_IFREG if member.isreg() and _is_in_order(member) else stat.S_IFCHR


def _is_in_order(member: tarfile.TarInfo) -> bool:
    """Whether the parts of a sparse file follow each other, so that it is read only once."""
    parts: Any = member.sparse or ()  # of the file, each with its offset and its length
    end = 0
    for offset, length in parts:
        if length and (offset < end or length < 0):
            return False
        end = max(end, offset + length)
    return not parts or end <= member.size


def _write_member(tar: tarfile.TarFile, member: tarfile.TarInfo, folder: Path) -> None:
    """Write one entry below ``folder``.  Of its mode, only the executable bit is kept."""
    target = folder / _place(member.name)
    if member.isdir():
        if not is_top(member.name):
            target.mkdir(parents=True, exist_ok=True)
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    if member.islnk():
        shutil.copy(folder / _place(member.linkname), target)
        return
    data = tar.extractfile(member)
    assert data is not None  # it is a regular file
    with data, target.open("wb") as out:
        shutil.copyfileobj(data, out)
    target.chmod(0o755 if member.mode & 0o100 else 0o644)


def write(
    contents: Mapping[str, Path],
    target: Path,
    *,
    force: bool = False,
    progress: Callable[[int], None] = lambda count: None,
) -> Path:
    """Write files as a tar.gz, sorted by name, without times or owners.

    Args:
        contents: path of each file by its name in the archive.
        target: the file to write.
        force: replace ``target`` if it exists.
        progress: called with the bytes of each file that is packed.

    Returns:
        ``target``.

    Raises:
        ArchiveError: ``target`` exists.
    """
    with files.replacing(target, force) as partial, partial.open("wb") as out, gzip.GzipFile(
        "", "wb", fileobj=out, mtime=0
    ) as packed, tarfile.open(fileobj=packed, mode="w") as tar:
        for inner, path in sorted(contents.items()):
            entry = tarfile.TarInfo(inner)
            entry.size = path.stat().st_size
            with path.open("rb") as data:
                tar.addfile(entry, data)
            progress(entry.size)
    return target
