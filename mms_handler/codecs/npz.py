"""NPZ (application/x-npz): arrays by name, as numpy.savez and savez_compressed write them."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from typing import Any, Callable, TypeVar

from mms_handler.codecs import npy
from mms_handler.codecs.arrays import MAX_ARRAYS, Array, check_bytes, is_named, is_several

T = TypeVar("T")

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

#: The record at the end of a ZIP: magic, two disks' numbers, files on them, the directory's size
#: and place, the comment's length.  Before it may stand the place of a ZIP64's.
_END = struct.Struct("<4sHHHHIIH")
_END_MAGIC, _ZIP64_MAGIC = b"PK\5\6", b"PK\6\7"

#: The limit of a ZIP's directory: 1 KiB for each array, of which NumPy needs 46 bytes and the name.
_MAX_DIRECTORY_BYTES = 1024 * MAX_ARRAYS


def decode(body: bytes, limit_bytes: int) -> dict[str, Array]:
    """Read the arrays by name, even if there is one alone.  Sizes are checked before any is read.

    Raises:
        ValueError: the body is not a ZIP of NPY files.
        TooLarge: the arrays take more than ``limit_bytes`` as float32.
    """
    _check_directory(body)
    try:
        with zipfile.ZipFile(io.BytesIO(body)) as archive:
            return _arrays(archive, _checked(archive.infolist()), limit_bytes)
    except _BROKEN as exc:
        raise ValueError(f"the ZIP cannot be read: {exc}") from exc


def _check_directory(body: bytes) -> None:
    """Check the size of a ZIP's directory, which zipfile reads in full before anything else.

    Raises:
        ValueError: it is too large; or the ZIP has a comment or is a ZIP64, which NumPy's never
            are, and which say where to find another directory.
    """
    end = body[-_END.size :]
    plain = len(end) == _END.size and end.startswith(_END_MAGIC) and end.endswith(b"\0\0")
    if not plain or body[-42:-38] == _ZIP64_MAGIC:
        raise ValueError("the ZIP cannot be read: it does not end with its directory")
    _, _, _, _, files, directory_bytes, _, _ = _END.unpack(end)
    if files > MAX_ARRAYS:
        raise ValueError(f"the ZIP has {files} files; the limit is {MAX_ARRAYS}")
    if directory_bytes > _MAX_DIRECTORY_BYTES:
        raise ValueError(f"the ZIP's directory has more than {_MAX_DIRECTORY_BYTES} bytes")
    if directory_bytes > len(body) - _END.size:  # zipfile of Python 3.10 seeks before the start
        raise ValueError("the ZIP cannot be read: its directory is larger than itself")


def _checked(infos: list[zipfile.ZipInfo]) -> dict[str, zipfile.ZipInfo]:
    """The members by their arrays' names.  zipfile reads no more of a member than it declares."""
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
    return members


def _arrays(
    archive: zipfile.ZipFile, members: dict[str, zipfile.ZipInfo], limit_bytes: int
) -> dict[str, Array]:
    """Read all headers, check what they add up to, and then read the arrays."""
    files, headers = {}, {}
    for name, info in members.items():
        stream = archive.open(info)
        head = stream.read(npy.HEAD_BYTES)
        headers[name] = _named(name, npy.read_header, head, info.file_size)
        files[name] = head, stream
    check_bytes(4 * sum(header.values for header in headers.values()), limit_bytes)
    return {
        name: _named(name, npy.decode_stream, head, headers[name], stream)
        for name, (head, stream) in files.items()
    }


def _named(name: str, function: Callable[..., T], *arguments: Any) -> T:
    """Call a function, and put the array's name before what a ValueError says."""
    try:
        return function(*arguments)
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
