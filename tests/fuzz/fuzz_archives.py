"""Targets: archives and their manifests.  They are verified and unpacked in a scratch folder."""

from __future__ import annotations

import bz2
import functools
import gzip
import hashlib
import io
import json
import lzma
import os
import shutil
import struct
import tarfile
import tempfile
import warnings
import zipfile
import zlib
from pathlib import Path
from typing import Any

from fuzz_checks import outcome, writes_only_in
from fuzz_input import Choices

from mms_handler import archive, manifest, names
from mms_handler.archive import handlers, keys, sshsig, tars, zips
from mms_handler.archive.fetch import check_url
from mms_handler.errors import ArchiveError, SettingsError
from mms_handler.manifest import MANIFEST

_NAMES = [
    *("a", "code/inference.py", MANIFEST, "MAR-INF/manifest.json", "../a", "/tmp/a", "a/../../b"),
    *(
        "a/",
        "/",
        "./",
        "._a",
        "..",
        ".",
        "./a",
        "a//b",
        "a\\..\\b",
        "",
        "a\0b",
        "C:a",
        "a/b",
        "A",
        "\u00e9",
        "e\u0301",
    ),
    *("MAR-INF", "a/b/c", "~", "a\n", "\ud800", "code", "x" * 300, "x/" * 200 + "y"),
]
_MANIFEST = manifest.encode("m", "inference.py")


@functools.lru_cache(maxsize=None)
def _scratch() -> Path:
    """A folder for all inputs of this process, in memory where there is such a place."""
    memory = Path("/dev/shm")
    base = str(memory) if os.access(memory, os.W_OK) else None
    folder = Path(tempfile.mkdtemp(prefix="fuzz-", dir=base))
    import atexit

    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def _unpacked(body: bytes, name: str, unpack: Any, size: Any) -> dict[str, bytes] | None:
    """Unpack an archive of these bytes; the files by their names, or None if it was refused."""
    top = _scratch() / name
    top.mkdir(exist_ok=True)
    path, folder = top / name, top / "outer" / "folder"
    path.write_bytes(body)
    folder.mkdir(parents=True)
    try:
        with writes_only_in(folder):
            result = outcome(unpack, path, folder)
        files = sorted(item for item in folder.rglob("*") if item.is_file() or item.is_symlink())
        assert not any(item.is_symlink() for item in files)
        assert {item.name for item in top.rglob("*") if folder not in item.parents} == {
            *(name, "outer", "folder")
        }
        outcome(archive.other_suffix, path)
        claimed = outcome(size, path)
        if isinstance(result, Exception):
            assert isinstance(result, ArchiveError), repr(result)
            assert name == "a.tar.gz" or not files, f"refused, but {files} were written"
            assert str(top) not in str(result), f"the message names the folder: {result}"
            return None
        assert claimed == sum(item.stat().st_size for item in files)
        return {str(item.relative_to(folder)): item.read_bytes() for item in files}
    finally:
        shutil.rmtree(top / "outer", ignore_errors=True)


# --- zips ------------------------------------------------------------------------------------


def zip_archive(data: bytes) -> None:
    """A zip as it comes, or one of any entries, with some of its bytes changed.

    Where it is accepted, MMS, which reads from the first byte on, sees the same files.
    """
    choices = Choices(data)
    body = choices.rest() if choices.number(4) == 0 else _zip(choices)
    verified = None
    (_scratch() / "b.mar").write_bytes(body)
    with writes_only_in(_scratch() / "nothing"):
        verified = outcome(archive.verify, _scratch() / "b.mar")
    files = _unpacked(body, "a.mar", archive.unpack, zips.size)
    assert (files is None) == isinstance(verified, ArchiveError), (verified, files)
    if files is not None:
        assert files == _as_mms_reads(body)


def _zip(choices: Choices) -> bytes:
    out = io.BytesIO()
    flips, hashed = choices.number(4), choices.number(2)
    digests: dict[str, str] = {}
    with zipfile.ZipFile(out, "w") as mar, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about names that occur twice
        for _ in range(choices.number(5)):
            name = choices.pick([*_NAMES, choices.text(30)])
            info = zipfile.ZipInfo("x")
            info.filename = name.encode("utf-8", "replace").decode()
            info.orig_filename = info.filename
            info.external_attr = choices.pick([0, 0o100644, 0o40755, 0o120777, 0o20644]) << 16
            info.compress_type = choices.pick([0, 8, 12])
            info.extra = choices.pick([b"", b"", choices.take(40)])
            content = choices.pick([_MANIFEST, b"", choices.take()])
            digests[info.filename] = hashlib.sha256(content).hexdigest()
            mar.writestr(info, content)
        if choices.number(4):
            hashes = digests if hashed else None
            mar.writestr(MANIFEST, manifest.encode("m", "inference.py", hashes))
    body = bytearray(out.getvalue())
    for _ in range(flips):
        place = (choices.number(256) * 256 + choices.number(256)) % len(body)
        change = choices.number(4)
        piece = choices.take(40)
        if change == 0:
            body[place : place + len(piece)] = piece
        elif change == 1:
            body[place:place] = piece
        elif change == 2:
            del body[place : place + len(piece)]
        else:
            body[place] ^= choices.number(256)
    return bytes(body)


def _as_mms_reads(body: bytes) -> dict[str, bytes]:
    """The files of a zip as java.util.zip.ZipInputStream sees them: headers, one after another."""
    files: dict[str, bytes] = {}
    at = 0
    while body[at : at + 4] == b"PK\3\4":
        _, flags, method, _, _, _, packed, size, names, extras = struct.unpack_from(
            "<5H3L2H", body, at + 4
        )
        name = body[at + 30 : at + 30 + names].decode()
        extra = body[at + 30 + names : at + 30 + names + extras]
        at += 30 + names + extras
        if 0xFFFF_FFFF in (packed, size):  # ZipInputStream.readLOC asks the first such field
            while len(extra) >= 4:
                kind, length = struct.unpack("<2H", extra[:4])
                if kind == 1 and length >= 16:
                    size, packed = struct.unpack("<2Q", extra[4:20])
                extra = extra[4 + length :]
        assert not flags & 0x2049
        if method:
            inflater = zlib.decompressobj(-15)
            content = inflater.decompress(body[at:])
            end = len(body) - len(inflater.unused_data)
            assert end - at == packed
        else:
            content, end = body[at : at + size], at + size
        assert len(content) == size
        at = end
        if not name.endswith("/"):
            files[str(Path(name))] = content
    return files


# --- tars ------------------------------------------------------------------------------------


def tar_archive(data: bytes) -> None:
    """A tar as it comes, or one of any entries, with changed bytes, compressed or not."""
    choices = Choices(data)
    body = choices.rest() if choices.number(4) == 0 else _tar(choices)
    pack = choices.pick(
        [bytes, functools.partial(gzip.compress, mtime=0), bz2.compress, lzma.compress]
    )
    packed = pack(body)
    if choices.number(8) == 7:
        packed = packed[: choices.number(256)]
    _unpacked(packed, "a.tar.gz", tars.unpack, tars.size)


def _tar(choices: Choices) -> bytes:
    out = io.BytesIO()
    flips = choices.number(4)
    kind = choices.pick([tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
    places = [0]
    for _ in range(choices.number(6)):
        info = tarfile.TarInfo(choices.pick([*_NAMES, choices.text(30)]))
        info.type = choices.pick(
            [b"0", b"0", b"5", b"1", b"2", b"3", b"6", b"S", b"7", b"L", b"x", b"g"]
        )
        info.linkname = choices.pick(["", *_NAMES])
        info.mode = choices.pick([0o644, 0o777, 0o4755, 0])
        content = choices.take()
        info.size = choices.pick([len(content), len(content), 0, 10**6, 2**33])
        if kind == tarfile.PAX_FORMAT:
            info.pax_headers = {
                choices.pick(
                    ["path", "size", "linkpath", "GNU.sparse.major", "mtime"]
                ): choices.text(20)
            }
        try:
            out.write(info.tobuf(kind, "utf-8", "surrogateescape"))
        except (ValueError, UnicodeError):
            continue
        out.write(content + bytes(-len(content) % 512))
        places.append(out.tell())
    body = bytearray(out.getvalue() + bytes(1024))
    for _ in range(flips):
        block = choices.pick(places)
        place = block + (choices.number(256) * 2) % 512
        if place < len(body):
            body[place] = choices.number(256)
            header = body[block : block + 512]
            header[148:156] = b" " * 8
            body[block + 148 : block + 156] = b"%06o\0 " % sum(header)
    return bytes(body)


# --- manifests and addresses -----------------------------------------------------------------


def manifest_text(data: bytes) -> None:
    """A manifest is read or refused; its name, handler and sample are safe to use."""
    choices = Choices(data)
    if choices.number(2):
        text = choices.repeated()
    else:
        model = {"modelName": choices.text(20), "handler": choices.text(40)}
        sample = {"name": choices.text(20), "content_type": "a", "accept": choices.text(5)}
        parts = {
            "files": choices.pick([{}, {"a": "b"}, {"a": 1}, [], None]),
            "sample": choices.pick([None, sample, [], "x", {"name": "MAR-INF/sample.json"}]),
            "packages": choices.pick([{}, {"mxnet": "1"}, {"x": None}, 3]),
        }
        text = json.dumps({"model": model, "mms_handler": parts}).encode()
    read = outcome(manifest.read, text)
    if isinstance(read, Exception):
        assert isinstance(read, ArchiveError)
        return
    assert names.check_name(read.name)
    assert read.sample is None or os.path.dirname(os.path.normpath(read.sample.name)) == "MAR-INF"
    handler = outcome(handlers.check_handler, read.handler, ["a.py", "code/inference.py"])
    assert handler is None or isinstance(handler, ArchiveError)


_LINE = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAINdamAGCsQq31Uv+08lkBzoO4XLz2qYjJa8CGmj3B1Ea"
_SIGNATURE = sshsig.encode(sshsig.Signature(bytes(32), bytes(range(64)))).encode()


def signature(data: bytes) -> None:
    """A signature has one spelling, and a file of keys or a private key is read or refused."""
    choices = Choices(data)
    kind = choices.number(3)
    text = choices.rest()
    if kind == 0:
        try:
            decoded = sshsig.decode(text)
        except ValueError:
            return
        assert sshsig.encode(decoded).encode() == text
        return
    path = _scratch() / "keys"
    path.write_bytes(text)
    if kind == 1:
        read = outcome(keys.read_trusted, path)
        assert isinstance(read, SettingsError) or all(len(key.public) == 32 for key in read.keys)
        return
    read = outcome(keys.read_private, path, lambda: "secret")
    assert isinstance(read, SettingsError) or len(keys.public_of(read)) == 32


def address(data: bytes) -> None:
    """No spelling of an address leads to another host, or out of the prefix, that is allowed."""
    choices = Choices(data)
    prefix = choices.pick(["https://host/models", "http://host:81", "s3://bucket/a/b"])
    parts = [
        "://",
        "/",
        "..",
        "%2e",
        "@",
        "\\",
        ":81",
        "host",
        "models",
        "evil",
        "#",
        "?",
        ";",
        "%2F",
    ]
    url = (
        prefix if choices.number(2) else choices.pick(["https", "http", "s3", "HTTPS", "file", ""])
    )
    while choices.more():
        url += choices.pick([*parts, choices.text(5)])
    if isinstance(outcome(check_url, url, [prefix]), Exception):
        return
    import urllib.parse

    parsed, allowed = urllib.parse.urlsplit(url), urllib.parse.urlsplit(prefix)
    assert (parsed.scheme.lower(), (parsed.hostname or "").rstrip(".")) == (
        allowed.scheme,
        allowed.hostname,
    )
    path = os.path.normpath(urllib.parse.unquote(parsed.path) or "/")
    assert path == allowed.path or path.startswith(allowed.path.rstrip("/") + "/")


def _packed_seeds() -> list[bytes]:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", 8) as mar:
        mar.writestr("code/inference.py", b"x = 1\n" * 40)
        mar.writestr(MANIFEST, _MANIFEST)
    return [b"\0" + out.getvalue()]


def _tar_seeds() -> list[bytes]:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        info = tarfile.TarInfo("code/inference.py")
        info.size = 4
        tar.addfile(info, io.BytesIO(b"x=1\n"))
    return [b"\0" + out.getvalue()[:2048], b"\0" + gzip.compress(out.getvalue(), mtime=0)]


TARGETS = {
    "zips": (
        zip_archive,
        lambda: (
            _packed_seeds()
            + [
                bytes([1, 0, 0, 1, name, 0, 0, 0, 1, 65, 0, 1, 66, 1])
                for name in range(len(_NAMES))
            ]
        ),
    ),
    "tars": (
        tar_archive,
        lambda: (
            _tar_seeds()
            + [
                bytes([1, 0, 1, 1, name, 0, kind, 0, 0, 1, 65, 0])
                for name in (0, 4, 5)
                for kind in range(12)
            ]
        ),
    ),
    "manifests": (manifest_text, lambda: [b"\1\0\0" + _MANIFEST, b"\0\1m\3a:b\0\0\0"]),
    "signatures": (
        signature,
        lambda: [
            b"\0" + _SIGNATURE,
            b"\1" + f"# a comment\n{_LINE} ann\n".encode(),
            b"\1" + f'ann valid-before="20270101Z",namespaces="git" {_LINE}\n'.encode(),
            b"\1-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEA\n-----END PUBLIC KEY-----\n",
            b"\2-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIJ1hsZ3v/VpguoRK9JLs"
            b"LMREScVpezJpGXA7rAMcrn9g\n-----END PRIVATE KEY-----\n",
        ],
    ),
    "addresses": (address, lambda: [b"\0\1\1\2\0", b"\0\1\4\5", b"\1\1\0\0\7\1\x08\1\2"]),
}
