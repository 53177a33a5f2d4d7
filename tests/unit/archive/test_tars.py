"""tars: what is unpacked and written.  What is refused is in test_verify."""

from __future__ import annotations

import gzip
import io
import tarfile

import pytest

from mms_handler.archive import tars
from mms_handler.errors import ArchiveError


@pytest.fixture
def tar_of(tmp_path):
    """Write a tar archive of entries: a name with its type, mode and data."""

    def build(*entries, mode="w:gz"):
        path = tmp_path / "a.tar"
        with tarfile.open(path, mode) as tar:
            for name, kind, bits, data in entries:
                entry = tarfile.TarInfo(name)
                entry.type, entry.mode, entry.size = kind, bits, len(data)
                tar.addfile(entry, io.BytesIO(data))
        return path

    return build


FILE, FOLDER = tarfile.REGTYPE, tarfile.DIRTYPE


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
def test_unpack(tar_of, tmp_path, mode):
    """Folders may be missing, empty or come late; only the executable bit is kept."""
    path = tar_of(
        ("a/b/run.sh", FILE, 0o100, b"run"),
        ("a/data", FILE, 0o666, b"12345"),
        ("a/b", FOLDER, 0o000, b""),
        ("empty/deep", FOLDER, 0o000, b""),
        ("none", FILE, 0o677, b""),
        mode=mode,
    )
    target = tmp_path / "x" / "y"
    tars.unpack(path, target)
    files = {
        each.relative_to(target).as_posix(): (each.read_bytes(), each.stat().st_mode & 0o777)
        for each in target.rglob("*")
        if each.is_file()
    }
    assert files == {
        "a/b/run.sh": (b"run", 0o755),
        "a/data": (b"12345", 0o644),
        "none": (b"", 0o644),
    }
    assert (target / "empty" / "deep").is_dir()
    tars.unpack(path, target)
    assert tars.is_tar(path)
    assert tars.size(path) == 8


def test_write(tmp_path):
    """The same bytes for the same files, whatever their times; sorted by name."""
    for name in ("b", "a"):
        (tmp_path / name).write_text(name * 3)
    contents = {"z/b": tmp_path / "b", "a": tmp_path / "a"}
    sizes = []
    first = tars.write(contents, tmp_path / "1.tar.gz", progress=sizes.append)
    assert first == tmp_path / "1.tar.gz"
    assert sizes == [3, 3]
    (tmp_path / "a").touch()
    second = tars.write(dict(reversed(contents.items())), tmp_path / "2.tar.gz")
    assert first.read_bytes() == second.read_bytes()
    with tarfile.open(first) as tar:
        assert [(each.name, each.size, each.mtime) for each in tar] == [("a", 3, 0), ("z/b", 3, 0)]
    with pytest.raises(ArchiveError, match="already exists; --force replaces it$"):
        tars.write({}, first)
    tars.write({}, first, force=True)
    with tarfile.open(first) as tar:
        assert tar.getnames() == []


@pytest.mark.parametrize(("count", "fits"), [(2**20 - 10_240, True), (2**21, False)])
def test_what_follows_the_last_entry(tar_of, tmp_path, count, fits):
    """Some zeros, as programs write."""
    path = tar_of(("a", FILE, 0o644, b"1"), mode="w")
    path.write_bytes(gzip.compress(path.read_bytes() + bytes(count)))
    if fits:
        tars.unpack(path, tmp_path / "x")
        return
    with pytest.raises(ArchiveError, match=r"^a\.tar: more than 1,048,576 bytes follow the last"):
        tars.unpack(path, tmp_path / "x")


def test_a_file_that_cannot_be_read(tmp_path):
    """Says nothing about its kind."""
    with pytest.raises(FileNotFoundError, match="gone"):
        tars.is_tar(tmp_path / "gone")
    (tmp_path / "text").write_text("text")
    assert not tars.is_tar(tmp_path / "text")
    (tmp_path / "cut").write_bytes(gzip.compress(bytes(100))[:20])
    assert tars.is_tar(tmp_path / "cut")
