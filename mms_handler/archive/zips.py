"""Read a zip as MMS will, and refuse one in which MMS and Python would see different files.

MMS reads a zip from its first byte on and trusts the header before each entry
(ZipUtils.java:46-63, java.util.zip.ZipInputStream).  Python reads the list at the end.  An archive
can show them different files.  So headers and list must agree here, and there must be no data
between the entries.
"""

from __future__ import annotations

import contextlib
import hashlib
import struct
import zipfile
import zlib
from pathlib import Path, PurePosixPath
from typing import IO, Iterator, Mapping, Sequence

from mms_handler.archive.safety import Entries, reason
from mms_handler.errors import ArchiveError

# The header before an entry: signature, version, flags, method, time, date, CRC, packed bytes,
# bytes, and the lengths of the name and of the extra fields that follow.
_HEADER = struct.Struct("<4s5H3L2H")
_ENTRY, _LIST = b"PK\3\4", b"PK\1\2"
_ZIP64 = 1  # the extra field with the sizes of entries larger than 4 GiB
_IN_EXTRA = 0xFFFF_FFFF  # in place of a size that is in such a field
_ENCRYPTED, _STREAMED = 0x2041, 0x8
_CHUNK = 2**20  # bytes


@contextlib.contextmanager
def opened(path: Path) -> Iterator[zipfile.ZipFile]:
    """Open a zip whose list of entries is safe.

    Raises:
        ArchiveError: the list is not safe, or the ``with`` block cannot read the archive.
    """
    if path.exists() and not path.is_file():  # a pipe or a device may have no end
        raise ArchiveError(f"{path.name} is not a file")
    try:
        with zipfile.ZipFile(path) as archive:
            _check_list(archive.infolist(), path.stat().st_size)
            yield archive
    except ArchiveError as exc:
        raise type(exc)(f"{path.name}: {exc}") from exc
    except Exception as exc:  # zlib's, struct's, UnicodeError: depends on the part that is broken
        raise ArchiveError(f"{path.name} cannot be unpacked: {reason(exc)}") from exc


def size(path: Path) -> int:
    """Bytes of the files in a zip, according to its list.

    Raises:
        ArchiveError: the list is not safe.
    """
    with opened(path) as archive:
        return sum(info.file_size for info in archive.infolist())


def _check_list(infos: Sequence[zipfile.ZipInfo], archive_bytes: int) -> None:
    entries = Entries(archive_bytes)
    for info in infos:
        name = info.orig_filename
        entries.add(name, info.external_attr >> 16, info.file_size, info.compress_size)
        if info.filename != name:
            raise ArchiveError(f"the entry {name!r} is also called {info.filename!r}")
        if info.is_dir() and (info.file_size or info.compress_size):
            raise ArchiveError(f"the entry {name!r} is a folder with data of its own")
        if info.flag_bits & _ENCRYPTED:
            raise ArchiveError(f"the entry {name!r} is encrypted")
        if info.flag_bits & _STREAMED:
            raise ArchiveError(
                f"the entry {name!r} has its sizes after its data, as in a zip written to a pipe; "
                "write the archive to a file"
            )
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise ArchiveError(f"the entry {name!r} is compressed in a way that MMS cannot read")


class _Reader:
    """A file that is read from its start to its end, and a digest of its bytes."""

    def __init__(self, file: IO[bytes], digest: hashlib._Hash | None) -> None:
        self._file, self._digest = file, digest
        file.seek(0)

    def read(self, count: int) -> bytes:
        data = self._file.read(count)
        self._add(data)
        return data

    def read_end(self, comment: bytes) -> None:
        """Read the rest, which is digested as if the comment were empty."""
        end, rest = struct.pack("<H", len(comment)) + comment, b""
        while chunk := self._file.read(_CHUNK):
            rest += chunk
            self._add(rest[: -len(end)])
            rest = rest[-len(end) :]
        if rest != end:
            raise ArchiveError("there is data after the archive's end")
        self._add(bytes(2))

    def tell(self) -> int:
        return self._file.tell()

    def _add(self, data: bytes) -> None:
        if self._digest:
            self._digest.update(data)


def hashes(archive: zipfile.ZipFile, digest: hashlib._Hash | None = None) -> dict[str, str]:
    """Read a whole archive once, in the order in which MMS reads it.

    Args:
        archive: the archive.
        digest: is updated with the bytes that the archive has without its comment.

    Returns:
        The SHA-256 of each entry by name.

    Raises:
        ArchiveError: an entry differs from the list, or there is data outside the entries.
    """
    assert archive.fp is not None  # the archive is open
    file = _Reader(archive.fp, digest)
    infos = {
        info.orig_filename: info for info in archive.infolist()
    }  # a folder may be listed twice
    digests = {}
    for info in sorted(infos.values(), key=lambda info: info.header_offset):
        _check_header(file, info)
        digest = hashlib.sha256()
        for chunk in _contents(file, info):
            digest.update(chunk)
        digests[info.orig_filename] = digest.hexdigest()
    if file.read(len(_LIST)) != _LIST:
        raise ArchiveError("there is data after the last entry that is not in the archive's list")
    file.read_end(archive.comment)
    return digests


def extract(archive: zipfile.ZipFile, folder: Path, verified: Mapping[str, str]) -> None:
    """Unpack an archive that was verified; what is written is what ``hashes`` has read.

    Args:
        archive: the archive.
        folder: where to.
        verified: the SHA-256 of each entry by name.

    Raises:
        ArchiveError: another process changed the archive meanwhile.
    """
    for info in archive.infolist():
        path = folder.joinpath(*PurePosixPath(info.orig_filename.lstrip("/")).parts)
        (path if info.is_dir() else path.parent).mkdir(parents=True, exist_ok=True)
        if info.is_dir():
            continue
        digest = hashlib.sha256()
        with archive.open(info) as source, path.open("xb") as file:
            while chunk := source.read(_CHUNK):
                digest.update(chunk)
                file.write(chunk)
        if digest.hexdigest() != verified[info.orig_filename]:
            raise ArchiveError(f"the entry {info.orig_filename!r} was changed meanwhile")


def _check_header(file: _Reader, info: zipfile.ZipInfo) -> None:
    """Read the header at the file's position, and check that it agrees with the list's ``info``."""
    position = file.tell()
    header = file.read(_HEADER.size)
    if position != info.header_offset or len(header) < _HEADER.size:
        raise ArchiveError(
            f"there is data before the entry {info.orig_filename!r} that is not in the archive's "
            "list"
        )
    signature, _, flags, method, _, _, crc, packed, size, *lengths = _HEADER.unpack(header)
    name, extra = (file.read(length) for length in lengths)
    fields = (signature, flags, method, crc, name)
    listed = (_ENTRY, info.flag_bits, info.compress_type, info.CRC, info.orig_filename.encode())
    if fields != listed or _sizes(size, packed, extra) != {(info.file_size, info.compress_size)}:
        raise ArchiveError(
            f"the header of the entry {info.orig_filename!r} differs from the archive's list"
        )


def _sizes(size: int, packed: int, extra: bytes) -> set[tuple[int, int]]:
    """All sizes that a header gives.  A reader may trust any of them, so only one is allowed."""
    large = set()
    while len(extra) >= 4:
        kind, length = struct.unpack("<2H", extra[:4])
        field, extra = extra[4 : 4 + length], extra[4 + length :]
        if len(field) < length:  # cut off, so nothing after its start can be trusted
            return set()
        if kind == _ZIP64 and length >= 16:
            large.add(struct.unpack("<2Q", field[:16]))
    small = {(size, packed)} - ({(_IN_EXTRA, _IN_EXTRA)} if large else set())
    return small | large


def _contents(file: _Reader, info: zipfile.ZipInfo) -> Iterator[bytes]:
    """The unpacked data of an entry in chunks, never more than the entry claims to have."""
    read = _stored if info.compress_type == zipfile.ZIP_STORED else _inflated
    size = crc = 0
    for chunk in read(file, info.compress_size):
        size, crc = size + len(chunk), zlib.crc32(chunk, crc)
        if size > info.file_size:
            raise ArchiveError(
                f"the entry {info.orig_filename!r} has more than the "
                f"{info.file_size:,} bytes that it claims"
            )
        yield chunk
    if (size, crc) != (info.file_size, info.CRC):
        raise ArchiveError(
            f"the entry {info.orig_filename!r} is damaged: its size or checksum is wrong"
        )


def _stored(file: _Reader, size: int) -> Iterator[bytes]:
    while size:
        chunk = file.read(min(_CHUNK, size))
        if not chunk:
            return
        size -= len(chunk)
        yield chunk


def _inflated(file: _Reader, size: int) -> Iterator[bytes]:
    """Inflate ``size`` bytes of the file, which must be exactly one deflate stream."""
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    while not inflater.eof:
        packed = inflater.unconsumed_tail
        if not packed:
            packed = file.read(min(_CHUNK, size))
            size -= len(packed)
        chunk = inflater.decompress(packed, _CHUNK)
        if not packed and not chunk:
            raise zlib.error("the data of an entry ends early")
        yield chunk
    if size or inflater.unused_data:
        raise zlib.error("an entry has data after its end")
