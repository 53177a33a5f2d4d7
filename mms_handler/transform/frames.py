"""Records in frames: MXNet's and SageMaker's RecordIO, and TensorFlow's TFRecord.

    RecordIO  magic, flag and length, data, zeros to a multiple of 4; a record has one or several
    TFRecord  length, its checksum, data, its checksum

Source: dmlc-core's recordio.h; TensorFlow's record_writer.h.
"""

from __future__ import annotations

import importlib.util
import struct
import warnings
from typing import Any, Sequence

from mms_handler.codecs import recordio
from mms_handler.codecs.recordio import FIRST, HEADER_BYTES, LAST, MAGIC_BYTES, MIDDLE, WHOLE
from mms_handler.errors import SettingsError
from mms_handler.transform.source import CHUNK_BYTES, Source, Split, too_large

_LENGTH, _CHECKSUM = struct.Struct("<Q"), struct.Struct("<I")


class _Unreadable(Exception):
    """Why a record cannot be read; the source stands where reading can go on."""


def recordio_records(source: Source, limit_bytes: int) -> Split:
    """Yield the records of RecordIO's frames; after damage, from the next record on."""
    while True:
        source.begin()
        header = source.read(HEADER_BYTES)
        if not header:
            return
        try:
            pieces, lengths = _frames(source, header, limit_bytes)
            yield source.record(_data(pieces, lengths), *pieces)
        except _Unreadable as exc:
            yield source.bad(str(exc))


def _data(pieces: Sequence[bytes], lengths: Sequence[int]) -> bytes:
    """The data of a record, from its frames; a writer has left out the magic number between them.

    A large record that is one frame is not copied.
    """
    return MAGIC_BYTES.join(data[:length] for data, length in zip(pieces[1::2], lengths))


def _frames(source: Source, header: bytes, limit_bytes: int) -> tuple[list[bytes], list[int]]:
    """Read the frames of a record, of which the first header was read.

    Returns:
        The header and the padded data of each frame, and the lengths of their data.

    Raises:
        _Unreadable: they are damaged, cut off or too large.
    """
    frames: list[bytes] = []
    lengths: list[int] = []
    data_bytes = 0
    while True:
        flag, length = _header(source, header, len(lengths) + 1)
        if frames and flag in (WHOLE, FIRST):
            source.unread(header)
            raise _Unreadable("it has no last frame")
        if flag > LAST or (flag in (MIDDLE, LAST) and not frames):
            source.unread(header[4:])
            raise _Unreadable(f"it has a misplaced frame (flag {flag}); {_find_record(source)}")
        data_bytes += length + (len(MAGIC_BYTES) if frames else 0)
        size = length + -length % 4
        if data_bytes > limit_bytes:
            _skip(source, flag, size)
            raise _Unreadable(too_large(limit_bytes))
        data = source.read(size)
        if len(data) < size:
            raise _Unreadable(f"it is cut off: {len(data)} of its frame's {size} bytes are there")
        frames += (header, data)
        lengths.append(length)
        if flag in (WHOLE, LAST):
            return frames, lengths
        header = source.read(HEADER_BYTES)


def _header(source: Source, header: bytes, number: int) -> tuple[int, int]:
    """The flag and the length of a frame; ``number`` is its place in the record."""
    try:
        return recordio.read_header(header)
    except ValueError as exc:
        if len(header) < HEADER_BYTES:
            raise _Unreadable(f"it is cut off: its frame {number} {exc}") from None
        source.unread(header[4:])
        raise _Unreadable(f"its frame {number} {exc}; {_find_record(source)}") from None


def _skip(source: Source, flag: int, size: int) -> None:
    """Pass over the rest of a record, from the data of a frame on."""
    while source.skip(size) and flag in (FIRST, MIDDLE):
        header = source.read(HEADER_BYTES)
        try:
            flag, length = recordio.read_header(header)
        except ValueError:
            source.unread(header)
            return
        if flag not in (MIDDLE, LAST):
            source.unread(header)
            return
        size = length + -length % 4


def _find_record(source: Source) -> str:
    """Pass over what is damaged, to a frame that begins a record; say whether there is one.

    Frames begin at multiples of 4.  Data have no magic number there: writers cut them at it.
    """
    while True:
        chunk = source.read(CHUNK_BYTES)
        at = chunk.find(MAGIC_BYTES)
        while at >= 0:
            header = chunk[at : at + HEADER_BYTES]
            complete = at % 4 == 0 and len(header) == HEADER_BYTES
            if complete and recordio.read_header(header)[0] in (WHOLE, FIRST):
                source.unread(chunk[at:])
                return "reading goes on at the next record that was found"
            at = chunk.find(MAGIC_BYTES, at + 1)
        if len(chunk) < CHUNK_BYTES:
            return "no record was found after it"
        source.unread(chunk[-4:])  # they may begin a header


def tfrecord_records(source: Source, limit_bytes: int) -> Split:
    """Yield the records of a TFRecord file, whose checksums are checked.

    Raises:
        SettingsError: google-crc32c is not installed.
    """
    crc32c = _crc32c()
    header_bytes = _LENGTH.size + _CHECKSUM.size
    while True:
        source.begin()
        header = source.read(header_bytes)
        if not header:
            return
        if len(header) < header_bytes:
            yield source.bad(f"it is cut off: {len(header)} of its header's 12 bytes are there")
            return
        (length,) = _LENGTH.unpack_from(header)
        if not _matches(crc32c, header[: _LENGTH.size], header[_LENGTH.size :]):
            yield source.bad("the checksum of its length is wrong; nothing after it can be read")
            return
        if length > limit_bytes:
            source.skip(length + _CHECKSUM.size)
            yield source.bad(too_large(limit_bytes))
            continue
        body = source.read(length + _CHECKSUM.size)
        data, checksum = body[:length], body[length:]
        if len(checksum) < _CHECKSUM.size:
            yield source.bad(f"it is cut off: {len(data)} of its {length} bytes are there")
        elif not _matches(crc32c, data, checksum):
            yield source.bad("the checksum of its data is wrong")
        else:
            yield source.record(data, header, body)


def _matches(crc32c: Any, data: bytes, checksum: bytes) -> bool:
    """Whether ``checksum`` is the CRC of ``data``, which TFRecord rotates and moves."""
    crc = crc32c.value(data)
    masked = ((crc >> 15 | crc << 17) + 0xA282EAD8) % 2**32
    return checksum == _CHECKSUM.pack(masked)


def _crc32c() -> Any:
    if importlib.util.find_spec("google_crc32c") is None:
        raise SettingsError(
            "the split type TFRecord needs google-crc32c, which is not installed: "
            "pip install 'mms_handler[transform]'"
        )
    with warnings.catch_warnings():  # the version for Python 3.8 imports pkg_resources
        warnings.simplefilter("ignore", DeprecationWarning)
        import google_crc32c

    return google_crc32c
