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
    """The arrays by name, one alone too; nothing is read before its size is known.

    Raises:
        ValueError: it is not a ZIP of NPY files.
        TooLarge: its files say that they are more than MAX_UNPACKED_BYTES, and than the body.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(body)) as archive:
            members = _checked(archive.infolist(), max(MAX_UNPACKED_BYTES, len(body)))
            files = {name: archive.read(info) for name, info in members.items()}
    except _BROKEN as exc:
        raise ValueError(f"the ZIP cannot be read: {exc}") from exc
    return {name: _array(name, file) for name, file in files.items()}


def _checked(infos: list[zipfile.ZipInfo], limit_bytes: int) -> dict[str, zipfile.ZipInfo]:
    """The members by their arrays' names.  zipfile reads no more of each than it declares."""
    if len(infos) > MAX_ARRAYS:
        raise ValueError(f"{len(infos)} files; at most {MAX_ARRAYS} are read")
    members: dict[str, zipfile.ZipInfo] = {}
    for info in infos:
        name, suffix = info.filename[:-4], info.filename[-4:]
        if suffix != ".npy" or not name or "/" in name or "\\" in name:
            raise ValueError(f"{info.filename[:40]!r} is not the name of an array and .npy")
        if name in members:
            raise ValueError(f"{info.filename[:40]!r} is there twice")
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise ValueError(f"{info.filename[:40]!r} is compressed by another way than deflate")
        members[name] = info
    total = sum(info.file_size for info in infos)
    if total > limit_bytes:
        raise TooLarge(f"the arrays have {total} bytes; at most {limit_bytes} are unpacked")
    return members


def _array(name: str, file: bytes) -> Array:
    try:
        return npy.decode(file)
    except ValueError as exc:
        raise ValueError(f"{name[:40]!r}: {exc}") from exc


def encode(value: Any) -> bytes:
    """Named outputs by their names; others as numpy.savez names them: arr_0, arr_1.

    The same arrays give the same bytes.
    """
    arrays = value
    if not is_named(value):
        arrays = {f"arr_{i}": one for i, one in enumerate(value if is_several(value) else [value])}
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, array in arrays.items():
            archive.writestr(zipfile.ZipInfo(f"{name}.npy"), npy.encode(array))
    return out.getvalue()
