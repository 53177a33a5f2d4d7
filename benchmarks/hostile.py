"""Bodies made to cost a worker as much as they can: time, or memory, for each byte sent.

Each is a function of a size in bytes, which the body has roughly.  The tests bound the time that
they take, and ``python -m benchmarks.bodies`` measures their memory.
"""

from __future__ import annotations

import io
import json
import struct
import zipfile
import zlib
from typing import Any, Callable, Dict, Tuple

import numpy as np
import numpy.typing as npt

from mms_handler.codecs import record, wire
from mms_handler.media import CSV, JSON, JSON_LINES, NPY, NPZ, RECORDIO

#: Content type and body of a size.
Bodies = Dict[str, Tuple[str, Callable[[int], bytes]]]


def _repeated(unit: bytes, before: bytes = b"", after: bytes = b"") -> Callable[[int], bytes]:
    return lambda size: before + unit * (size // len(unit)) + after


def _with_names(size: int) -> bytes:
    return json.dumps({f"k{index:08}": 1 for index in range(size // 16)}).encode()


def _lines_of_names(size: int) -> bytes:
    line = json.dumps({f"k{index}": 1 for index in range(200)}).encode()
    return (line + b"\n") * (size // len(line)) + b'{"a": 1}\n'


def _long_text_among_numbers(size: int) -> bytes:
    return b'["' + b"x" * (size // 2) + b'"' + b",0" * (size // 4) + b"]"


TEXT: Bodies = {
    "JSON: numbers": (JSON, _repeated(b"0,", b"[", b"0]")),
    "JSON: numbers and a null": (JSON, _repeated(b"0,", b"[", b"null]")),
    "JSON: floats and a null": (JSON, _repeated(b"1e9,", b"[", b"null]")),
    "JSON: lists of one": (JSON, _repeated(b"[0],", b"[", b"[0]]")),
    "JSON: 32 dimensions and a null": (
        JSON,
        _repeated(
            b"[" * 31 + b"0" + b"]" * 31 + b",", b"[", b"[" * 31 + b"null" + b"]" * 31 + b"]"
        ),
    ),
    "JSON: the last list is longer": (JSON, _repeated(b"[0],", b"[", b"[0,0]]")),
    "JSON: the last list of pairs is longer": (JSON, _repeated(b"[0.5,0.5],", b"[", b"[0,0,0]]")),
    "JSON: the last value is a text": (JSON, _repeated(b"0,", b"[", b'"x"]')),
    "JSON: a long text among numbers": (JSON, _long_text_among_numbers),
    "JSON: empty lists": (JSON, _repeated(b"[],", b"[", b"[]]")),
    "JSON: empty objects": (JSON, _repeated(b"{},", b"[", b"{}]")),
    "JSON: objects in objects": (
        JSON,
        _repeated(b'{"":' * 400 + b"0" + b"}" * 400 + b",", b"[", b"0]"),
    ),
    "JSON: nested too deep": (JSON, _repeated(b"[")),
    "JSON: nested 400 deep": (JSON, _repeated(b"[" * 400 + b"]" * 400 + b",", b"[", b"0]")),
    "JSON: one integer": (JSON, _repeated(b"1", b"[", b"]")),
    "JSON: integers of 900 digits": (JSON, _repeated(b"1" * 900 + b",", b"[", b"0]")),
    "JSON: a huge exponent": (JSON, _repeated(b"9", b"[1e", b"]")),
    "JSON: names": (JSON, _with_names),
    "JSON Lines: numbers": (JSON_LINES, _repeated(b"0\n")),
    "JSON Lines: the last line is a list": (JSON_LINES, _repeated(b"0\n", after=b"[0]\n")),
    "JSON Lines: the last line is a text": (JSON_LINES, _repeated(b"0\n", after=b'"x"\n')),
    "JSON Lines: the last integer is too large": (
        JSON_LINES,
        _repeated(b"0\n", after=b"1" * 400 + b"\n"),
    ),
    "JSON Lines: objects": (JSON_LINES, _repeated(b'{"a":0}\n')),
    "JSON Lines: the last object has a list": (
        JSON_LINES,
        _repeated(b'{"a":0}\n', after=b'{"a":[0]}\n'),
    ),
    "JSON Lines: the last object has other names": (JSON_LINES, _lines_of_names),
    "JSON Lines: names": (JSON_LINES, _with_names),
    "CSV: numbers": (CSV, _repeated(b"0\n")),
    "CSV: numbers and a nan": (CSV, _repeated(b"0\n", after=b"nan\n")),
    "CSV: one line": (CSV, _repeated(b"0,", after=b"nan")),
    "CSV: one line of doubles and a nan": (CSV, _repeated(b"0.5,", after=b"nan")),
    "CSV: the last line is longer": (CSV, _repeated(b"0\n", after=b"0,0\n")),
    "CSV: the last value is a text": (CSV, _repeated(b"0\n", after=b"x\n")),
    "CSV: the last line of a thousand values is shorter": (
        CSV,
        _repeated(b"0," * 999 + b"0\n", after=b"0\n"),
    ),
    "CSV: quotes": (CSV, _repeated(b'"0"\n')),
    "CSV: quotes that are not closed": (CSV, _repeated(b'"0\n')),
    "CSV: blank lines": (CSV, _repeated(b"\n", after=b"0")),
    "CSV: digits": (CSV, _repeated(b"1", after=b",x")),
}


# --- binary types ---


def _npy(array: npt.NDArray[Any]) -> bytes:
    out = io.BytesIO()
    np.save(out, array)
    return out.getvalue()


def _npz(*members: tuple[str, bytes], compressed: bool = True) -> bytes:
    out = io.BytesIO()
    method = zipfile.ZIP_DEFLATED if compressed else zipfile.ZIP_STORED
    with zipfile.ZipFile(out, "w", method) as archive:
        for name, data in members:
            archive.writestr(name, data)
    return out.getvalue()


def _npz_of_nothing(size: int) -> bytes:
    return _npz(*((f"{index}.txt", b"") for index in range(size // 100)))


def frame(data: bytes) -> bytes:
    """A record in RecordIO."""
    return struct.pack("<II", 0xCED7230A, len(data)) + data + bytes(-len(data) % 4)


def _tensor(kind: int, *parts: bytes) -> bytes:
    """A record of one tensor, which consists of ``parts``."""
    value = wire.length_field(2, wire.length_field(kind, *parts))
    return frame(wire.length_field(1, wire.length_field(1, b"values"), value))


def _sparse(size: int) -> bytes:
    """As many keys as values, for a dense row of as many."""
    count = size // 4
    keys = wire.packed_varints(range(count))
    return _tensor(
        7,
        wire.length_field(1, b"\1" * count),
        wire.length_field(2, keys),
        wire.length_field(3, wire.varint(count)),
    )


def _record_of_tensors(count: int) -> bytes:
    tensors = {str(index): np.array([1], np.float32) for index in range(count)}
    return frame(record.write_record(tensors))


BINARY: Bodies = {
    "NPY: bytes": (NPY, lambda size: _npy(np.ones(size, np.uint8))),
    "NPY: doubles in Fortran's order": (
        NPY,
        lambda size: _npy(np.ones((size // 80, 10), order="F")),
    ),
    "NPZ: bytes": (
        NPZ,
        lambda size: _npz(("a.npy", _npy(np.ones(size, np.uint8))), compressed=False),
    ),
    "NPZ: very many files": (NPZ, _npz_of_nothing),
    "RecordIO: bytes": (RECORDIO, lambda size: _tensor(7, wire.length_field(1, b"\1" * size))),
    "RecordIO: sparse": (RECORDIO, _sparse),
    "RecordIO: a field for each value": (
        RECORDIO,
        lambda size: _tensor(2, b"\x0d\0\0\0\0" * (size // 5)),
    ),
    "RecordIO: very many dimensions": (
        RECORDIO,
        lambda size: _tensor(2, wire.length_field(3, b"\1" * size)),
    ),
    "RecordIO: unknown fields": (RECORDIO, lambda size: frame(b"\x18\1" * (size // 2))),
    "RecordIO: parts of a record": (
        RECORDIO,
        lambda size: b"".join(
            struct.pack("<II", 0xCED7230A, flag << 29) for flag in (1, *[2] * (size // 8), 3)
        ),
    ),
    "RecordIO: small records": (RECORDIO, _repeated(_record_of_tensors(1))),
    "RecordIO: records of 256 tensors": (RECORDIO, _repeated(_record_of_tensors(256))),
}

#: Bodies of a few kilobytes whose arrays take as many bytes as the argument says.
SMALL: Bodies = {
    "NPZ: float32": (NPZ, lambda size: _npz(("a.npy", _npy(np.zeros((1, size // 4), np.float32))))),
    "NPZ: doubles in Fortran's order": (
        NPZ,
        lambda size: _npz(("a.npy", _npy(np.zeros((10, size // 40), order="F")))),
    ),
    "NPZ: long doubles": (
        NPZ,
        lambda size: _npz(("a.npy", _npy(np.zeros((1, size // 4), np.longdouble)))),
    ),
    "RecordIO: a sparse row": (
        RECORDIO,
        lambda size: _tensor(
            2,
            wire.length_field(1, b"\0\0\0\0"),
            wire.length_field(2, b"\0"),
            wire.length_field(3, wire.varint(size // 4)),
        ),
    ),
    "RecordIO: two sparse rows": (
        RECORDIO,
        lambda size: (
            2
            * _tensor(
                2,
                wire.length_field(1, b"\0\0\0\0"),
                wire.length_field(2, b"\0"),
                wire.length_field(3, wire.varint(size // 8)),
            )
        ),
    ),
    "PNG": ("image/png", lambda size: png(2_000, size // 24_000)),
    "JPEG": ("image/jpeg", lambda size: jpeg_of_scans(2_000, size // 24_000, 100)),
}


# --- images ---


def png_chunk(kind: bytes, data: bytes = b"") -> bytes:
    """One chunk of a PNG."""
    crc = zlib.crc32(kind + data)
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", crc)


def png(width: int, height: int, more: bytes = b"") -> bytes:
    """A black PNG of one bit a pixel; ``more`` are chunks before its pixels."""
    row = b"\0" + bytes((width + 7) // 8)
    compressor = zlib.compressobj(9)
    pixels = b"".join(compressor.compress(row) for _ in range(height)) + compressor.flush()
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0))
    parts = (header, more, png_chunk(b"IDAT", pixels), png_chunk(b"IEND"))
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def jpeg_of_scans(width: int, height: int, scans: int) -> bytes:
    """A grey progressive JPEG of many scans, each of which says that there is nothing in it.

    A scan of 16 bytes or so has libjpeg go through all blocks of the image.
    """
    blocks = ((width + 7) // 8) * ((height + 7) // 8)

    def segment(marker: int, data: bytes) -> bytes:
        return struct.pack(">BBH", 0xFF, marker, len(data) + 2) + data

    def table(kind: int, symbol: int) -> bytes:
        """A Huffman table of one symbol, which is the bit 0."""
        return segment(0xC4, bytes((kind, 1, *[0] * 15, symbol)))

    def packed(bits: str) -> bytes:
        bits += "1" * (-len(bits) % 8)
        data = int(bits, 2).to_bytes(len(bits) // 8, "big") if bits else b""
        return data.replace(b"\xff", b"\xff\0")

    def scan(first: int, last: int, bits: str) -> bytes:
        return segment(0xDA, bytes((1, 1, 0, first, last, 0))) + packed(bits)

    runs = ""  # of empty blocks: the bit 0, and 14 bits of what the run exceeds 2**14 by
    left = blocks
    while left >= 2**14:
        run = min(left, 2**15 - 1)
        runs += f"0{run - 2**14:014b}"
        left -= run
    # A short run is longer than the image, which libjpeg does not mind.
    runs += f"0{0:014b}" if left else ""
    parts = (
        b"\xff\xd8",
        segment(0xDB, bytes((0, *[1] * 64))),
        segment(0xC2, struct.pack(">BHHB", 8, height, width, 1) + bytes((1, 0x11, 0))),
        table(0x00, 0),
        table(0x10, 0xE0),
        scan(0, 0, "0" * blocks),
        scan(1, 63, runs) * (scans - 1),
        b"\xff\xd9",
    )
    return b"".join(parts)
