"""archive.verify, zips, tars: unsafe entries are refused by name, and nothing is written."""

from __future__ import annotations

import bz2
import contextlib
import gzip
import io
import json
import lzma
import os
import random
import stat
import struct
import tarfile
import time
import zipfile
import zlib

import pytest

from mms_handler import archive
from mms_handler.archive import safety, tars
from mms_handler.errors import ArchiveError

MANIFEST = "MAR-INF/MANIFEST.json"
#: As plain model-archiver writes it.
PLAIN = {
    "runtime": "python",
    "model": {"modelName": "m", "handler": "mms_handler.service:handle"},
    "modelServerVersion": "1.0",
    "implementationVersion": "1.0",
    "specificationVersion": "1.0",
}


class Entry:
    """An entry of a zip with two headers, which may contradict each other and the data."""

    def __init__(self, name, data=b"x", packed=None, method=None, mode=0o644, **claims):
        """``claims``: fields of both headers; ``here_`` fields are only in the one at the entry."""
        self.name, self.mode = name, mode
        self.packed = data if packed is None else packed
        self.both = {
            "name": name.encode(),
            "flags": 0,
            "method": 0 if method is None else method,
            "crc": zlib.crc32(data),
            "packed_bytes": len(self.packed),
            "size": len(data),
            "extra": b"",
        }
        here = {key[5:]: value for key, value in claims.items() if key.startswith("here_")}
        self.both.update({k: v for k, v in claims.items() if not k.startswith("here_")})
        self.here = {**self.both, **here}


def fields(header):
    sizes = (header["crc"], header["packed_bytes"], header["size"])
    return struct.pack(
        "<5H3L2H",
        20, header["flags"], header["method"], 0, 0x21, *sizes,
        len(header["name"]), len(header["extra"]),
    )  # fmt: skip


def zipped(path, *entries, prefix=b"", unlisted=()):
    """Write a zip byte by byte; the list at its end leaves out ``unlisted`` entries."""
    out, listed = prefix, b""
    for entry in entries:
        if entry not in unlisted:
            listed += (
                b"PK\1\2" + struct.pack("<H", 0x0314) + fields(entry.both)
                + struct.pack("<3H2L", 0, 0, 0, entry.mode << 16, len(out))
                + entry.both["name"] + entry.both["extra"]
            )  # fmt: skip
        out += b"PK\3\4" + fields(entry.here) + entry.here["name"] + entry.here["extra"]
        out += entry.packed
    count = len(entries) - len(unlisted)
    end = struct.pack("<4H2LH", 0, 0, count, count, len(listed), len(out), 0)
    path.write_bytes(out + listed + b"PK\5\6" + end)
    return path


def plain(**changes):
    """The entry of a manifest without hashes, with changes to its model."""
    changed = {**PLAIN, "model": {**PLAIN["model"], **changes}}
    return Entry(MANIFEST, json.dumps(changed).encode())


def deflated(data):
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    return packer.compress(data) + packer.flush()


def tree(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


def refused(path, message):
    """Check that verify and unpack refuse an archive with this message, and write nothing."""
    files = tree(path.parent)
    for attempt in (archive.verify, lambda path: archive.unpack(path, path.parent / "folder")):
        with pytest.raises(ArchiveError) as caught:
            attempt(path)
        assert str(caught.value) == f"{path.name}: {message}"
    assert tree(path.parent) == files


# --- a safe archive ----------------------------------------------------------------------------


@pytest.mark.parametrize("top", ["/", "./", "//"])
def test_an_archive_of_another_tool(tmp_path, top):
    """Without hashes and with folders, their own too, as model-archiver and others write them."""
    path = zipped(
        tmp_path / "m.mar",
        plain(),
        Entry(top, b"", mode=0o040755),
        Entry("code/", b"", mode=0o040755),
        Entry("code/inference.py", b"x = 1\n", mode=0),
        Entry("words.txt", b"a" * 100, packed=deflated(b"a" * 100), method=8),
    )
    read = archive.verify(path)
    assert (read.name, read.hashes, read.sample) == ("m", None, None)
    archive.unpack(path, tmp_path / "folder")
    assert (tmp_path / "folder" / "words.txt").read_bytes() == b"a" * 100
    assert tree(tmp_path) == [
        "folder",
        "folder/MAR-INF",
        "folder/MAR-INF/MANIFEST.json",
        "folder/code",
        "folder/code/inference.py",
        "folder/words.txt",
        "m.mar",
    ]


# --- single entries --------------------------------------------------------------------------


LEADS_OUT = "leads outside the archive's folder"


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        pytest.param(Entry("../out.txt"), f"the entry '../out.txt' {LEADS_OUT}", id="up"),
        pytest.param(
            Entry("a/../../out.txt"), f"the entry 'a/../../out.txt' {LEADS_OUT}", id="up, within"
        ),
        pytest.param(Entry("a/.."), f"the entry 'a/..' {LEADS_OUT}", id="up, at its end"),
        pytest.param(Entry("/etc/out"), f"the entry '/etc/out' {LEADS_OUT}", id="absolute"),
        pytest.param(Entry("..\\out"), f"the entry '..\\\\out' {LEADS_OUT}", id="a backslash"),
        pytest.param(
            Entry("a\nb"),
            "the entry 'a\\nb' has a name with control characters or broken UTF-8",
            id="a newline",
        ),
        pytest.param(
            Entry("a\0b"),
            "the entry 'a\\x00b' has a name with control characters or broken UTF-8",
            id="a null byte",
        ),
        pytest.param(Entry("/../", b""), f"the entry '/../' {LEADS_OUT}", id="up from the top"),
        pytest.param(Entry(""), "an entry has no name", id="no name"),
        pytest.param(
            Entry("a/" + "x" * 256),
            f"the name of the entry 'a/{'x' * 58}'... is too long: at most 1024 bytes are allowed, "
            "and 255 between slashes",
            id="a name that no file system takes",
        ),
        pytest.param(
            Entry("x/" * 512 + "y"),
            f"the name of the entry '{'x/' * 30}'... is too long: at most 1024 bytes are allowed, "
            "and 255 between slashes",
            id="a path that no system takes",
        ),
        pytest.param(
            Entry("a.txt/b"),
            "the entry 'a.txt/b' and another one are a file and a folder",
            id="a file in a file",
        ),
        pytest.param(
            Entry("a.txt/", b""),
            "the entry 'a.txt/' and another one are a file and a folder",
            id="a folder called like a file",
        ),
        pytest.param(
            Entry("MAR-INF"),
            "the entry 'MAR-INF' and another one are a file and a folder",
            id="a file called like a folder",
        ),
        pytest.param(
            Entry("."),
            "the entry '.' and another one are a file and a folder",
            id="a file called like the top",
        ),
        pytest.param(
            Entry("f/", b"data"),
            "the entry 'f/' is a folder with data of its own",
            id="a folder with data",
        ),
        pytest.param(
            Entry("l", b"/etc/passwd", mode=0o120777),
            "the entry 'l' is a link; replace it with the file itself",
            id="a link",
        ),
        *(
            pytest.param(
                Entry("d", mode=kind | 0o644),
                "the entry 'd' is neither a file nor a folder",
                id=name,
            )
            for name, kind in {
                "a device": stat.S_IFCHR,
                "a disk": stat.S_IFBLK,
                "a pipe": stat.S_IFIFO,
                "a socket": stat.S_IFSOCK,
            }.items()
        ),
        pytest.param(Entry("e", flags=1), "the entry 'e' is encrypted", id="encrypted"),
        pytest.param(
            Entry("b", b"x", packed=bz2.compress(b"x"), method=12),
            "the entry 'b' is compressed in a way that MMS cannot read",
            id="bzip2",
        ),
        pytest.param(
            Entry("p", packed=deflated(b"x") + b"PK\7\10" + bytes(12), method=8, flags=8),
            "the entry 'p' has its sizes after its data, as in a zip written to a pipe; "
            "write the archive to a file",
            id="sizes after the data",
        ),
        pytest.param(
            Entry("mar-inf/Manifest.JSON"),
            "the entry 'mar-inf/Manifest.JSON' appears twice",
            id="a manifest in another case",
        ),
    ],
)
def test_an_unsafe_entry(tmp_path, entry, message):
    """The message names it, and the entries before and after it are not written, either."""
    refused(zipped(tmp_path / "m.mar", plain(), Entry("a.txt"), entry, Entry("z.txt")), message)


@pytest.mark.parametrize("name", ["a.txt", "./a.txt", "b//../a.txt", "b/a.txt"])
def test_two_entries_for_one_file(tmp_path, name):
    """MMS would overwrite the first with the second, however they are spelled."""
    path = zipped(tmp_path / "m.mar", plain(), Entry("a.txt"), Entry(name))
    if name == "b/a.txt":
        archive.verify(path)
    elif ".." in name:
        refused(path, f"the entry {name!r} {LEADS_OUT}")
    else:
        refused(path, f"the entry {name!r} appears twice")


# --- bombs -----------------------------------------------------------------------------------


def test_a_bomb_is_refused_at_once(tmp_path):
    """Its list claims sixty megabytes in sixty kilobytes, so its data is not read."""
    zeros = bytes(60_000_000)
    entry = Entry("zeros.txt", zeros, packed=deflated(zeros), method=8)
    path = zipped(tmp_path / "m.mar", plain(), entry)
    started = time.monotonic()
    packed = len(entry.packed)
    refused(
        path,
        f"the entry 'zeros.txt' unpacks from {packed:,} to 60,000,000 bytes; "
        "at most 200 times its packed size is allowed",
    )
    assert time.monotonic() - started < 0.5


def test_a_bomb_of_small_entries(tmp_path):
    """Each of them would be allowed, all of them together are not."""
    zeros = bytes(9_000_000)
    entry = {"data": zeros, "packed": deflated(zeros), "method": 8}
    path = zipped(tmp_path / "m.mar", plain(), *(Entry(f"{n}.txt", **entry) for n in range(4)))
    size = path.stat().st_size
    refused(
        path,
        f"the archive unpacks from {size:,} to 18,000,{len(plain().packed)} bytes or more; "
        "at most 200 times its size is allowed",
    )


@pytest.mark.parametrize("method", [0, 8], ids=["stored", "deflated"])
def test_a_bomb_that_lies(tmp_path, method):
    """Its headers claim 1,000 bytes and their checksum; reading stops after them."""
    zeros = bytes(12_000_000)
    packed = deflated(zeros) if method else zeros
    lie = {"size": 1_000, "crc": zlib.crc32(bytes(1_000))}
    path = zipped(tmp_path / "m.mar", plain(), Entry("z", zeros, packed, method, **lie))
    with zipfile.ZipFile(path) as mar:
        assert len(mar.read("z")) == 1_000  # what Python itself reads
    started = time.monotonic()
    refused(path, "the entry 'z' has more than the 1,000 bytes that it claims")
    assert time.monotonic() - started < 0.5


def test_too_many_entries(tmp_path, monkeypatch):
    """Even an empty file takes space on the disk."""
    monkeypatch.setattr(safety, "MAX_ENTRIES", 10)
    entries = [Entry(f"{n}.txt", b"") for n in range(10)]
    refused(zipped(tmp_path / "m.mar", plain(), *entries), "the archive has more than 10 entries")


def test_too_many_bytes(tmp_path, monkeypatch):
    """However small the archive is."""
    monkeypatch.setattr(safety, "MAX_BYTES", 1_000)
    path = zipped(tmp_path / "m.mar", plain(), Entry("a", bytes(999)))
    refused(path, "the archive unpacks to more than 1,000 bytes")


# --- files that only MMS would see ----------------------------------------------------


DIFFERS = "differs from the archive's list"


@pytest.mark.parametrize(
    "claims",
    [
        pytest.param({"here_name": b"../b"}, id="another name"),
        pytest.param({"here_name": "\u00e9/b".encode()}, id="a longer name"),
        pytest.param({"here_size": 3}, id="another size"),
        pytest.param({"here_packed_bytes": 3}, id="another packed size"),
        pytest.param({"here_crc": 3}, id="another checksum"),
        pytest.param({"here_method": 8}, id="another method"),
        pytest.param({"here_flags": 8}, id="sizes after the data"),
        pytest.param({"here_extra": struct.pack("<2H2Q", 1, 16, 3, 3)}, id="larger than 4 GiB"),
        pytest.param({"here_extra": struct.pack("<2HQ", 1, 16, 4)}, id="half a field"),
        pytest.param(
            {
                "here_size": 0xFFFFFFFF,
                "here_packed_bytes": 0xFFFFFFFF,
                "here_extra": struct.pack("<2H2Q", 1, 99, 4, 4),
            },
            id="a field that is cut off",
        ),
        pytest.param({"here_extra": struct.pack("<2H", 0x7855, 4)}, id="a field without its data"),
        pytest.param({"here_size": 0xFFFFFFFF, "here_packed_bytes": 0xFFFFFFFF}, id="no sizes"),
    ],
)
def test_two_headers_that_differ(tmp_path, claims):
    """MMS believes the header before an entry, and other programs the list at the end."""
    entry = Entry("ab/b", b"four", **claims)
    refused(
        zipped(tmp_path / "m.mar", plain(), entry, Entry("z")),
        f"the header of the entry 'ab/b' {DIFFERS}",
    )


def test_a_name_without_its_encoding(tmp_path):
    """Without the UTF-8 flag, Python reads another name than Java."""
    path = zipped(tmp_path / "m.mar", plain(), Entry("\u00e9"))
    refused(path, f"the header of the entry '\u251c\u2310' {DIFFERS}")
    archive.verify(zipped(tmp_path / "m.mar", plain(), Entry("\u00e9", flags=0x800)))


def test_sizes_in_an_extra_field(tmp_path):
    """Tools write them for entries of more than 4 GiB, and some for smaller ones."""
    field = struct.pack("<2H2Q", 1, 16, 4, 4)
    large = {"here_size": 0xFFFFFFFF, "here_packed_bytes": 0xFFFFFFFF, "here_extra": field}
    path = zipped(tmp_path / "m.mar", plain(), Entry("a", b"four", **large))
    assert archive.verify(path).name == "m"


@pytest.mark.parametrize("length", [4, 16, 24])
def test_extra_fields_of_other_kinds(tmp_path, length):
    """Times, owners and names of other tools say nothing about sizes, even if they look so."""
    field = struct.pack("<2H", 0x7855, length) + bytes(range(1, length + 1))
    path = zipped(tmp_path / "m.mar", plain(), Entry("a", b"four", here_extra=field))
    assert archive.verify(path).name == "m"
    assert archive.unpack(path, tmp_path / "folder") == archive.verify(path)
    assert (tmp_path / "folder" / "a").read_bytes() == b"four"


EVIL = Entry("../evil.txt", b"evil")


def test_an_entry_that_is_not_listed(tmp_path):
    """Before, between or after the others: MMS would write it."""
    entries = [plain(), Entry("a.txt")]
    for place, message in enumerate(
        [
            "there is data before the entry 'MAR-INF/MANIFEST.json' that is not in the archive's "
            "list",
            "there is data before the entry 'a.txt' that is not in the archive's list",
            "there is data after the last entry that is not in the archive's list",
        ]
    ):
        mixed = [*entries[:place], EVIL, *entries[place:]]
        refused(zipped(tmp_path / "m.mar", *mixed, unlisted=[EVIL]), message)


def test_data_that_is_not_an_entry(tmp_path):
    """MMS would stop there and serve an empty model."""
    path = zipped(tmp_path / "m.mar", plain(), prefix=b"#!/bin/sh\n")
    refused(
        path,
        "there is data before the entry 'MAR-INF/MANIFEST.json' that is not in the archive's list",
    )


def test_an_entry_within_an_entry(tmp_path):
    """Its stream ends early, and another entry begins within the size that it claims."""
    inner = b"PK\3\4" + fields(EVIL.here) + EVIL.here["name"] + EVIL.packed
    hiding = Entry("a.txt", b"x", packed=deflated(b"x") + inner, method=8)
    refused_as_broken(tmp_path, hiding, "an entry has data after its end")


def test_an_entry_that_ends_early(tmp_path):
    half = Entry("a.txt", b"x" * 100, packed=deflated(os.urandom(100))[:50], method=8)
    refused_as_broken(tmp_path, half, "the data of an entry ends early")


def refused_as_broken(tmp_path, entry, message):
    path = zipped(tmp_path / "m.mar", plain(), entry)
    with pytest.raises(ArchiveError) as caught:
        archive.unpack(path, tmp_path / "folder")
    assert str(caught.value) == f"m.mar cannot be unpacked: {message}"
    assert tree(tmp_path) == ["m.mar"]


def test_a_damaged_entry(tmp_path):
    path = zipped(tmp_path / "m.mar", plain(), Entry("a", b"abc", packed=b"abd"))
    refused(path, "the entry 'a' is damaged: its size or checksum is wrong")


@pytest.mark.parametrize("content", [b"", b"text", b"PK\5\6" + bytes(18), b"PK\1\2PK\5\6"])
def test_a_file_that_is_not_an_archive(tmp_path, content):
    """MMS would load it as an empty model."""
    (tmp_path / "m.mar").write_bytes(content)
    with pytest.raises(
        ArchiveError, match=r"^m\.mar(: the archive has no MAR-INF| cannot be unpacked: )"
    ):
        archive.verify(tmp_path / "m.mar")


# --- the manifest ----------------------------------------------------------------------------


def test_no_manifest(tmp_path):
    refused(zipped(tmp_path / "m.mar", Entry("a")), "the archive has no MAR-INF/MANIFEST.json")


def test_a_manifest_that_fills_the_memory(tmp_path):
    path = zipped(tmp_path / "m.mar", Entry(MANIFEST, bytes(20_000_001)))
    refused(path, "MAR-INF/MANIFEST.json has more than 20,000,000 bytes")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        pytest.param("", "JSONDecodeError", id="empty"),
        pytest.param("[]", "TypeError", id="a list"),
        pytest.param("[" * 100_000, "RecursionError", id="nested deeply"),
        pytest.param("{}", "KeyError\\('model'\\)", id="no model"),
        pytest.param('{"model": {"handler": "a:b"}}', "KeyError\\('modelName'\\)", id="no name"),
        pytest.param('{"model": {"modelName": "m"}}', "KeyError\\('handler'\\)", id="no handler"),
        pytest.param('{"model": {"modelName": 7}}', "TypeError\\('7 is", id="a number"),
    ],
)
def test_an_invalid_manifest(tmp_path, text, reason):
    path = zipped(tmp_path / "m.mar", Entry(MANIFEST, text.encode()))
    with pytest.raises(ArchiveError, match=f"MANIFEST.json is not a valid manifest: {reason}"):
        archive.verify(path)


@pytest.mark.parametrize("name", ["", "-rf", "../m", "a/b", "a b"])
def test_a_name_that_mms_cannot_address(tmp_path, name):
    with pytest.raises(ArchiveError, match="is not a valid model name"):
        archive.verify(zipped(tmp_path / "m.mar", plain(modelName=name)))


@pytest.mark.parametrize(
    "handler",
    [
        "mms_handler.service:handle",
        "service.py:handle",
        "service:handle",
        "service.py",
        "service",
        "code/service.py:handle",
        "pkg.mod:go",
        "pkg:go",
        "json:loads",
    ],
)
def test_handlers_that_exist(tmp_path, handler):
    """In the archive, where MMS looks for them, or installed."""
    names = ("service.py", "code/service.py", "pkg/__init__.py", "pkg/mod.py")
    path = zipped(tmp_path / "m.mar", plain(handler=handler), *map(Entry, names))
    assert archive.verify(path).handler == handler


FORM = "is not module:function or module, with a module in the archive or an installed one"


@pytest.mark.parametrize(
    ("handler", "reason"),
    [
        ("", FORM),
        ("../service.py", FORM),
        (":handle", FORM),
        ("service:", FORM),
        ("service:a.b", FORM),
        ("service:handle:again", FORM),
        ("/tmp/service.py:handle", FORM),
        ("../service.py:handle", FORM),
        ("a/../../service.py:handle", FORM),
        ("gone.py:handle", "is neither in the archive nor installed"),
        ("no_such_package.mod:handle", "is neither in the archive nor installed"),
        (".service:handle", "is neither in the archive nor installed"),
        ("__main__:handle", "is neither in the archive nor installed"),
    ],
)
def test_handlers_that_do_not_exist(tmp_path, handler, reason):
    """MMS would run a file outside the model, or fail after a minute."""
    path = zipped(tmp_path / "m.mar", plain(handler=handler), Entry("service.py"))
    refused(path, f"the handler {handler!r} {reason}")


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("a.txt", b"other", "the entry 'a.txt' was changed after packing: its hash differs"),
        ("a.txt", None, "the file 'a.txt' of the manifest's list is missing"),
        ("new.py", b"x", "the entry 'new.py' is not in the manifest's list of files"),
        ("new/", b"", "the entry 'new/' is not in the manifest's list of files"),
    ],
    ids=["changed", "removed", "added", "a folder added"],
)
def test_an_archive_that_was_changed(tmp_path, name, data, message):
    """The hashes in the manifest show it."""
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "a.txt").write_text("text")
    packed = archive.pack(tmp_path / "model", tmp_path / "m.mar")
    with zipfile.ZipFile(packed) as mar:
        entries = {entry: mar.read(entry) for entry in mar.namelist()}
    entries = {key: value for key, value in {**entries, name: data}.items() if value is not None}
    refused(zipped(packed, *(Entry(*entry) for entry in entries.items())), message)


@pytest.mark.parametrize(
    ("extension", "message"),
    [
        ({"sample": {"name": "MAR-INF/sample.json", "content_type": "", "accept": ""}},
         "the manifest's sample 'MAR-INF/sample.json' is not in the archive"),
        ({"sample": {"name": "../../etc/passwd", "content_type": "", "accept": ""}},
         "MAR-INF/MANIFEST.json is not a valid manifest: "
         "ValueError(\"the sample is '../../etc/passwd'; expected MAR-INF/sample with a suffix\")"),
        ({"files": {MANIFEST: 7}},
         "MAR-INF/MANIFEST.json is not a valid manifest: TypeError('7 is not a string')"),
    ],
    ids=["no sample", "a sample elsewhere", "no hash"],
)  # fmt: skip
def test_an_invalid_extension_of_a_manifest(tmp_path, extension, message):
    text = json.dumps({**PLAIN, "mms_handler": extension})
    refused(zipped(tmp_path / "m.mar", Entry(MANIFEST, text.encode())), message)


# --- tar archives ----------------------------------------------------------------------------


def tar(path, *members, mode="w:gz"):
    """Write a tar of members: each is a name and other fields of its header."""
    with tarfile.open(path, mode, compresslevel=1) as out:
        for name, claims in members:
            data = claims.pop("data", b"x")
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            for key, value in claims.items():
                setattr(entry, key, value)
            out.addfile(entry, io.BytesIO(data) if entry.isreg() else None)
    return path


def tar_refused(path, message):
    files = tree(path.parent)
    with pytest.raises(ArchiveError) as caught:
        archive.convert(path, path.parent / "out.mar")
    assert str(caught.value) == f"{path.name}: {message}"
    assert tree(path.parent) == files


LINK, NEITHER = "is a link; replace it with the file itself", "is neither a file nor a folder"


@pytest.mark.parametrize(
    ("name", "claims", "reason"),
    [
        pytest.param("../a", {}, LEADS_OUT, id="up"),
        pytest.param("a/../../b", {}, LEADS_OUT, id="up, within"),
        pytest.param("/tmp/a", {}, LEADS_OUT, id="absolute"),
        pytest.param("a\\b", {}, LEADS_OUT, id="a backslash"),
        pytest.param("a", {"type": tarfile.SYMTYPE, "linkname": "/etc"}, LINK, id="a link"),
        pytest.param(
            "a", {"type": tarfile.LNKTYPE, "linkname": "b"}, LINK, id="a hard link to no file"
        ),
        pytest.param(
            "a",
            {"type": tarfile.LNKTYPE, "linkname": "/first"},
            LINK,
            id="a hard link to another folder's file",
        ),
        pytest.param(
            "a",
            {"type": tarfile.LNKTYPE, "linkname": "../first"},
            LINK,
            id="a hard link that leads out",
        ),
        pytest.param("a", {"type": tarfile.CHRTYPE}, NEITHER, id="a device"),
        pytest.param("a", {"type": tarfile.BLKTYPE}, NEITHER, id="a disk"),
        pytest.param("a", {"type": tarfile.FIFOTYPE}, NEITHER, id="a pipe"),
        pytest.param(
            "a",
            {"pax_headers": {"GNU.sparse.map": "4,1,0,1", "GNU.sparse.size": "8"}},
            NEITHER,
            id="a sparse file whose parts are not in order",
        ),
        pytest.param("./", {}, "is a file with a folder's name", id="the folder itself, as a file"),
        pytest.param("a/", {}, "is a file with a folder's name", id="a folder's name"),
        pytest.param("first", {}, "appears twice", id="twice"),
        pytest.param("./first", {}, "appears twice", id="twice, spelled differently"),
        pytest.param("first/a", {}, "and another one are a file and a folder", id="in a file"),
        pytest.param(".", {}, "and another one are a file and a folder", id="the folder itself"),
    ],
)
def test_an_unsafe_tar_entry(tmp_path, name, claims, reason):
    """The message names it, and the entry before it is not written, either."""
    path = tar(tmp_path / "model.tar.gz", ("first", {}), (name, dict(claims)))
    tar_refused(path, f"the entry {name!r} {reason}")


def test_a_sparse_tar_entry_that_no_disk_takes(tmp_path):
    """A sparse file counts with its holes."""
    claims = {"pax_headers": {"GNU.sparse.map": "0,1", "GNU.sparse.size": str(2**40)}}
    path = tar(tmp_path / "model.tar.gz", ("a", claims))
    tar_refused(path, "the archive unpacks to more than 50,000,000,000 bytes")


def test_a_tar_bomb_of_hard_links(tmp_path):
    """Each of them counts like the file that it becomes."""
    links = [(f"{n}", {"type": tarfile.LNKTYPE, "linkname": "a"}) for n in range(9)]
    path = tar(tmp_path / "model.tar.gz", ("a", {"data": bytes(2_000_000)}), *links)
    packed = path.stat().st_size
    tar_refused(
        path,
        f"the archive unpacks from {packed:,} to 12,000,000 bytes or more; "
        "at most 200 times its size is allowed",
    )


def test_a_tar_bomb(tmp_path):
    """It is refused at its first header, long before its end."""
    path = tar(tmp_path / "model.tar.gz", ("zeros", {"data": bytes(30_000_000)}))
    packed = path.stat().st_size
    tar_refused(
        path,
        f"the archive unpacks from {packed:,} to 30,000,000 bytes or more; "
        "at most 200 times its size is allowed",
    )


@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME])
def test_a_tar_header_that_fills_the_memory(tmp_path, kind):
    """tarfile would read all four gigabytes of it at once."""
    header = tarfile.TarInfo("a")
    header.type, header.size = kind, 4 * 10**9
    path = tmp_path / "model.tar.gz"
    path.write_bytes(gzip.compress(header.tobuf() + bytes(10_000)))
    tar_refused(path, "a header claims 4,000,000,000 bytes; expected 0 to 1,048,576")


def test_a_tar_entry_with_a_negative_size(tmp_path):
    """It would be read for ever: the next header would be the same one again."""
    header = tarfile.TarInfo("a")
    header.size = -512
    path = tmp_path / "model.tar.gz"
    path.write_bytes(gzip.compress(header.tobuf(tarfile.GNU_FORMAT) + bytes(10_000)))
    tar_refused(path, "a header claims -512 bytes; expected 0 to 1,048,576")


def test_a_tar_entry_with_a_negative_size_in_its_extended_header(tmp_path):
    path = tar(tmp_path / "model.tar.gz", ("first", {}), ("a", {"pax_headers": {"size": "-5120"}}))
    tar_refused(path, "the entry 'a' claims a size of -5120 bytes")


def test_a_tar_that_is_cut_off(tmp_path):
    path = tar(tmp_path / "model.tar.gz", ("a", {"data": os.urandom(200_000)}))
    path.write_bytes(path.read_bytes()[:100_000])
    with pytest.raises(ArchiveError, match=r"model\.tar\.gz cannot be unpacked: "):
        archive.convert(path, tmp_path / "m.mar")
    assert tree(tmp_path) == ["model.tar.gz"]


def _damaged(content, position):
    return content[:position] + bytes([content[position] ^ 1]) + content[position + 1 :]


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        pytest.param(lambda tgz: b"", r"is neither a \.mar nor a model\.tar\.gz", id="empty"),
        pytest.param(lambda tgz: bytes(100), "is neither ", id="zeros"),
        pytest.param(lambda tgz: tgz[:3], "cannot be unpacked: ", id="a part of gzip's header"),
        pytest.param(lambda tgz: tgz[:40], "cannot be unpacked: ", id="a part of a tar header"),
        pytest.param(lambda tgz: tgz[:-4], "cannot be unpacked: ", id="without its last bytes"),
        pytest.param(
            lambda tgz: _damaged(tgz, 100_000), "cannot be unpacked: CRC", id="a bit of the data"
        ),
        pytest.param(
            lambda tgz: _damaged(gzip.compress(bytes(1_000)), 12), "", id="a bit of the code table"
        ),
        pytest.param(lambda tgz: bz2.compress(tgz)[:30], "", id="a part of a bz2"),
        pytest.param(lambda tgz: lzma.compress(tgz)[:50], "", id="a part of an xz"),
        pytest.param(
            lambda tgz: gzip.compress(bytes(10_240)), "has no files", id="an archive of nothing"
        ),
        pytest.param(
            lambda tgz: gzip.compress(gzip.decompress(tgz) + bytes(2**21)),
            "more than 1,048,576 bytes follow the last entry",
            id="zeros without end",
        ),
    ],
)
@pytest.mark.parametrize("use", ["size", "convert"])
def test_a_damaged_tar(tmp_path, damage, reason, use):
    """Whatever the damage is, the error is ours and names the file; nothing is left behind."""
    noise = random.Random(7).getrandbits(1_600_000).to_bytes(200_000, "big")
    path = tar(tmp_path / "model.tar.gz", ("a", {"data": noise}))
    path.write_bytes(damage(path.read_bytes()))
    with contextlib.ExitStack() as refused:
        if use == "convert":
            refused.enter_context(pytest.raises(ArchiveError, match=rf"model\.tar\.gz.*{reason}"))
            archive.convert(path, tmp_path / "m.mar")
        with contextlib.suppress(ArchiveError):  # the headers may be whole
            archive.size(path)
    assert tree(tmp_path) == ["model.tar.gz"]


def test_a_file_that_is_not_a_tar(tmp_path):
    (tmp_path / "m").write_text("text")
    assert not tars.is_tar(tmp_path / "m")
    for use in (
        archive.other_suffix,
        archive.size,
        lambda path: archive.convert(path, tmp_path / "x"),
    ):
        with pytest.raises(ArchiveError, match=r"m is neither a \.mar nor a model\.tar\.gz$"):
            use(tmp_path / "m")


# --- folders ---------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "model"
    (folder / "code").mkdir(parents=True)
    (folder / "code" / "inference.py").write_text("x = 1\n")
    return folder


@pytest.mark.parametrize("target", ["code", "code/inference.py", "nowhere", "b"])
def test_a_folder_with_links_within_it(folder, target):
    """Also a link to nothing, and links in a circle."""
    (folder / "a").symlink_to(target)
    (folder / "b").symlink_to("a")
    archive.verify_folder(folder)


def test_a_folder_behind_a_link(tmp_path, folder):
    """As in multi-model endpoints."""
    (tmp_path / "current").symlink_to(folder)
    archive.verify_folder(tmp_path / "current")


@pytest.mark.parametrize("target", ["/etc/passwd", "..", "../model2", "code/../../x"])
def test_a_folder_with_a_link_that_leads_out(folder, target):
    (folder / "code" / "a").symlink_to(folder / target)
    with pytest.raises(ArchiveError) as caught:
        archive.verify_folder(folder)
    assert str(caught.value) == f"{folder}/code/a is a link that leads out of {folder}"


def test_a_folder_with_a_pipe(folder):
    os.mkfifo(folder / "pipe")
    with pytest.raises(ArchiveError, match="pipe is neither a file nor a folder"):
        archive.verify_folder(folder)


def test_a_missing_folder_and_an_empty_one(tmp_path):
    """MMS would serve them as empty models."""
    with pytest.raises(ArchiveError, match="there is no folder"):
        archive.verify_folder(tmp_path / "gone")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ArchiveError, match="empty has no files"):
        archive.verify_folder(tmp_path / "empty")


def test_what_is_not_a_file(tmp_path):
    """A device may have no end, and a pipe waits for a writer."""
    (tmp_path / "zeros.mar").symlink_to("/dev/zero")
    os.mkfifo(tmp_path / "pipe.mar")
    for name in ("zeros.mar", "pipe.mar"):
        with pytest.raises(ArchiveError, match=f"^{name} is not a file$"):
            archive.verify(tmp_path / name)
