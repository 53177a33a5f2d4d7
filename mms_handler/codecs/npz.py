"""NPZ (application/x-npz): arrays by name, as numpy.savez and savez_compressed write them."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from typing import Any

from mms_handler.codecs import npy
from mms_handler.codecs.arrays import MAX_ARRAYS, MAX_UNPACKED_BYTES, Array, is_named, is_several
from mms_handler.errors import TooLarge

#: What zipfile raises for a broken ZIP.
_BROKEN = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    EOFError,
    OSError,
    NotImplementedError,
    RuntimeError,
)


def decode(body: bytes) -> dict[str, Array]:
    """Read the arrays by name, even a single one.  Sizes are checked before any array is read.

    Raises:
        ValueError: the body is not a ZIP of NPY files.
        TooLarge: its files declare more than MAX_UNPACKED_BYTES, and more than the body's size.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(body)) as archive:
            members = _checked(archive.infolist(), max(MAX_UNPACKED_BYTES, len(body)))
            files = {name: archive.read(info) for name, info in members.items()}
    except _BROKEN as exc:
        raise ValueError(f"the ZIP cannot be read: {exc}") from exc
    return {name: _array(name, file) for name, file in files.items()}


def _checked(infos: list[zipfile.ZipInfo], limit_bytes: int) -> dict[str, zipfile.ZipInfo]:
    """The members by their arrays' names.  zipfile reads no more of a member than its size."""
    if len(infos) > MAX_ARRAYS:
        raise ValueError(f"the ZIP has {len(infos)} files; the limit is {MAX_ARRAYS}")
    members: dict[str, zipfile.ZipInfo] = {}
    for info in infos:
        name, suffix = info.filename[:-4], info.filename[-4:]
        if suffix != ".npy" or not name or "/" in name or "\\" in name:
            raise ValueError(f"{info.filename[:40]!r} is not an array's name followed by .npy")
        if name in members:
            raise ValueError(f"{info.filename[:40]!r} occurs twice")
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise ValueError(f"{info.filename[:40]!r} uses a compression other than deflate")
        members[name] = info
    total = sum(info.file_size for info in infos)
    if total > limit_bytes:
        raise TooLarge(f"the arrays unpack to {total} bytes; the limit is {limit_bytes}")
    return members


def _array(name: str, file: bytes) -> Array:
    try:
        return npy.decode(file)
    except ValueError as exc:
        raise ValueError(f"{name[:40]!r}: {exc}") from exc


def encode(value: Any) -> bytes:
    """Write outputs by their names; without names they are arr_0, arr_1, as for numpy.savez.

    The same arrays give the same bytes.
    """
    arrays = value
    if not is_named(value):
        outputs = value if is_several(value) else [value]
        arrays = {f"arr_{index}": output for index, output in enumerate(outputs)}
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, array in arrays.items():
            archive.writestr(zipfile.ZipInfo(f"{name}.npy"), npy.encode(array))
    return out.getvalue()
