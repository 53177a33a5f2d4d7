"""Read a ``.mar`` as MMS will, without writing anything, and refuse what MMS should not unpack.

MMS reads a zip from its first byte on and believes the header before each entry
(ZipUtils.java:46-63, java.util.zip.ZipInputStream); Python reads the list at its end.  An
archive can tell the two different things, so here both must say the same, and nothing may lie
between the entries.
"""

from __future__ import annotations

import contextlib
import hashlib
import struct
import zipfile
import zlib
from pathlib import Path
from typing import IO, Iterable, Iterator, Mapping, Sequence

from mms_handler import manifest
from mms_handler.archive.safety import Entries
from mms_handler.errors import ArchiveError
from mms_handler.manifest import MANIFEST, Manifest

# The header before an entry: signature, version, flags, method, time, date, CRC, packed bytes,
# bytes, bytes of the name and of the extra fields that follow.
_HEADER = struct.Struct("<4s5H3L2H")
_ENTRY, _LIST = b"PK\3\4", b"PK\1\2"
_ZIP64 = 1  # the extra field with the sizes of what is larger than 4 GiB
_IN_EXTRA = 0xFFFF_FFFF  # in place of a size that such a field has
_ENCRYPTED, _STREAMED = 0x2041, 0x8
_CHUNK = 2**20  # bytes


def verify(path: Path) -> Manifest:
    """The manifest of an archive that is safe to unpack; nothing is written.

    Raises:
        ArchiveError: it is not safe or not whole; names the entry and says why.
    """
    with _opened(path) as listed:
        return _verified(listed)


def unpack(path: Path, folder: Path) -> Manifest:
    """Unpack an archive, if it is safe; gives its manifest.

    Raises:
        ArchiveError: as ``verify``; then nothing is written.
    """
    with _opened(path) as listed:
        found = _verified(listed)
        listed.extractall(folder)
        return found


def size(path: Path) -> int:
    """Bytes of the files in a zip, as it lists them.

    Raises:
        ArchiveError: what it lists is not safe.
    """
    with _opened(path) as listed:
        return sum(info.file_size for info in listed.infolist())


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[zipfile.ZipFile]:
    """A zip whose list is safe."""
    try:
        with zipfile.ZipFile(path) as listed:
            _check_list(listed.infolist(), path.stat().st_size)
            yield listed
    except ArchiveError as exc:
        raise ArchiveError(f"{path.name}: {exc}") from exc
    except Exception as exc:  # zlib's, struct's and UnicodeError too: what is broken decides
        raise ArchiveError(f"{path.name} cannot be unpacked: {exc}") from exc


def _check_list(infos: Sequence[zipfile.ZipInfo], archive_bytes: int) -> None:
    entries = Entries(archive_bytes)
    for info in infos:
        name = info.orig_filename
        entries.add(name, info.external_attr >> 16, info.file_size, info.compress_size)
        if info.filename != name:
            raise ArchiveError(f"the entry {name!r} has another name too, {info.filename!r}")
        if info.flag_bits & _ENCRYPTED:
            raise ArchiveError(f"the entry {name!r} is encrypted")
        if info.flag_bits & _STREAMED:
            raise ArchiveError(
                f"the entry {name!r} has its sizes behind it, as what was written to a pipe; "
                "pack it into a file"
            )
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise ArchiveError(f"the entry {name!r} is packed in a way that MMS does not know")


def _verified(listed: zipfile.ZipFile) -> Manifest:
    """Read every entry; what its manifest says of them is true."""
    infos = {info.orig_filename: info for info in listed.infolist()}
    if MANIFEST not in infos:
        raise ArchiveError(f"it has no {MANIFEST}")
    if infos[MANIFEST].file_size > manifest.MAX_BYTES:
        raise ArchiveError(f"its {MANIFEST} has more than {manifest.MAX_BYTES:,} bytes")
    assert listed.fp is not None  # it is open
    hashes = _hashes(listed.fp, infos.values())
    found = manifest.read(listed.read(MANIFEST))
    manifest.check_handler(found.handler, infos)
    if found.sample and found.sample.name not in infos:
        raise ArchiveError(f"the sample {found.sample.name!r} of its manifest is not there")
    if found.quantized and found.quantized.symbol not in infos:
        raise ArchiveError(f"the graph {found.quantized.symbol!r} of its manifest is not there")
    if found.hashes is not None:
        del hashes[MANIFEST]
        _check_hashes(found.hashes, hashes)
    return found


def _check_hashes(told: Mapping[str, str], found: Mapping[str, str]) -> None:
    for name in sorted({*told, *found}):
        if name not in told:
            raise ArchiveError(f"the entry {name!r} is not in the manifest's list of files")
        if name not in found:
            raise ArchiveError(f"the file {name!r} of the manifest's list is not there")
        if told[name] != found[name]:
            raise ArchiveError(f"the entry {name!r} is not what was packed: its hash differs")


def _hashes(file: IO[bytes], infos: Iterable[zipfile.ZipInfo]) -> dict[str, str]:
    """Each entry's SHA-256, read as MMS reads them: one behind the other."""
    found = {}
    file.seek(0)
    for info in sorted(infos, key=lambda info: info.header_offset):
        _check_header(file, info)
        digest = hashlib.sha256()
        for chunk in _contents(file, info):
            digest.update(chunk)
        found[info.orig_filename] = digest.hexdigest()
    if file.read(len(_LIST)) != _LIST:
        raise ArchiveError("something lies behind its entries that it does not list")
    return found


def _check_header(file: IO[bytes], info: zipfile.ZipInfo) -> None:
    """The header here is that of ``info`` and says the same; the file is at the entry's data."""
    place = file.tell()
    header = file.read(_HEADER.size)
    if place != info.header_offset or len(header) < _HEADER.size:
        raise ArchiveError(f"something lies before the entry {info.orig_filename!r}")
    signature, _, flags, method, _, _, crc, packed, size, *lengths = _HEADER.unpack(header)
    name, extra = (file.read(length) for length in lengths)
    here = (signature, flags, method, crc, name)
    listed = (_ENTRY, info.flag_bits, info.compress_type, info.CRC, info.orig_filename.encode())
    if here != listed or _sizes(size, packed, extra) != {(info.file_size, info.compress_size)}:
        raise ArchiveError(
            f"the entry {info.orig_filename!r} is listed as something else than it is"
        )


def _sizes(size: int, packed: int, extra: bytes) -> set[tuple[int, int]]:
    """All that a header says of its sizes: which of it is believed is for its reader to choose."""
    large = set()
    while len(extra) >= 4:
        kind, length = struct.unpack("<2H", extra[:4])
        field, extra = extra[4 : 4 + length], extra[4 + length :]
        if len(field) < length:  # nothing behind its beginning can be believed
            return set()
        if kind == _ZIP64 and length >= 16:
            large.add(struct.unpack("<2Q", field[:16]))
    small = {(size, packed)} - ({(_IN_EXTRA, _IN_EXTRA)} if large else set())
    return small | large


def _contents(file: IO[bytes], info: zipfile.ZipInfo) -> Iterator[bytes]:
    """What an entry unpacks to, in pieces, never more of it than it says."""
    read = _stored if info.compress_type == zipfile.ZIP_STORED else _inflated
    size = crc = 0
    for chunk in read(file, info.compress_size):
        size, crc = size + len(chunk), zlib.crc32(chunk, crc)
        if size > info.file_size:
            raise ArchiveError(
                f"the entry {info.orig_filename!r} has more than the "
                f"{info.file_size:,} bytes that it says"
            )
        yield chunk
    if (size, crc) != (info.file_size, info.CRC):
        raise ArchiveError(f"the entry {info.orig_filename!r} is damaged")


def _stored(file: IO[bytes], size: int) -> Iterator[bytes]:
    while size:
        chunk = file.read(min(_CHUNK, size))
        if not chunk:
            return
        size -= len(chunk)
        yield chunk


def _inflated(file: IO[bytes], size: int) -> Iterator[bytes]:
    """What ``size`` bytes of the file inflate to; they must be one deflate stream, whole."""
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    while not inflater.eof:
        packed = inflater.unconsumed_tail
        if not packed:
            packed = file.read(min(_CHUNK, size))
            size -= len(packed)
        chunk = inflater.decompress(packed, _CHUNK)
        if not packed and not chunk:
            raise zlib.error("an entry ends early")
        yield chunk
    if size or inflater.unused_data:
        raise zlib.error("an entry goes on behind its end")
