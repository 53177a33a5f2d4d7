"""tars: what is unpacked and written.  What is refused is in test_verify."""

from __future__ import annotations

import gzip
import io
import os
import subprocess
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


def names(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


@pytest.fixture
def model_dir(tmp_path):
    """A folder with a model, a script, and a file with two names."""
    folder = tmp_path / "model"
    (folder / "code" / "lib").mkdir(parents=True)
    (folder / "code" / "inference.py").write_text("x = 1\n")
    (folder / "model-0000.params").write_bytes(bytes(range(256)) * 40)
    os.link(folder / "model-0000.params", folder / "code" / "again.params")
    return folder


MODEL = ["code", "code/again.params", "code/inference.py", "code/lib", "model-0000.params"]


@pytest.mark.parametrize("arcname", ["/", "", ".", "./"])
@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_an_upload_of_sagemakers_sdk(model_dir, tmp_path, arcname, form):
    """sagemaker.utils.repack_model adds the folder as "/", which is the archive's own folder."""
    path = tmp_path / "model.tar.gz"
    with tarfile.open(path, "w:gz", format=form) as tar:
        tar.add(model_dir, arcname=arcname)
    assert tars.size(path) == 2 * 10_240 + 6
    tars.unpack(path, tmp_path / "x")
    assert names(tmp_path / "x") == MODEL
    assert (tmp_path / "x" / "code" / "again.params").read_bytes() == bytes(range(256)) * 40


@pytest.mark.parametrize("form", ["gnu", "oldgnu", "posix", "ustar", "v7"])
@pytest.mark.parametrize("what", [".", "./", "./model-0000.params ./code"])
def test_an_archive_of_tar(model_dir, tmp_path, form, what):
    """With any prefix and in any format; a hard link is the file that it leads to."""
    path = tmp_path / "model.tar.gz"
    command = ["tar", f"--format={form}", "-czf", path, "-C", model_dir, *what.split()]
    subprocess.run(command, check=True)
    with tarfile.open(path) as tar:
        assert any(member.islnk() for member in tar)
    tars.unpack(path, tmp_path / "x")
    assert names(tmp_path / "x") == MODEL
    assert (tmp_path / "x" / "code" / "again.params").read_bytes() == bytes(range(256)) * 40


@pytest.mark.parametrize(
    "options",
    [
        ["--format=gnu"],
        *(["--format=posix", f"--sparse-version={n}"] for n in ("0.0", "0.1", "1.0")),
    ],
)
def test_a_sparse_file_of_tar(tmp_path, options):
    """Its holes are zeros again."""
    folder = tmp_path / "model"
    folder.mkdir()
    with (folder / "a.params").open("wb") as file:
        file.write(b"begin")
        file.seek(1_000_000)
        file.write(b"end")
        file.truncate(2_000_000)
    path = tmp_path / "m.tar.gz"
    subprocess.run(["tar", *options, "--sparse", "-czf", path, "-C", folder, "."], check=True)
    with tarfile.open(path) as tar:
        assert any(member.issparse() for member in tar)
    assert tars.size(path) == 2_000_000
    tars.unpack(path, tmp_path / "x")
    assert (tmp_path / "x" / "a.params").read_bytes() == (folder / "a.params").read_bytes()


def test_files_of_macos_are_left_out(tar_of, tmp_path):
    """Its tar and its Finder add a hidden one beside each file."""
    path = tar_of(
        ("./._model", FILE, 0o644, b"attributes"),
        ("./model", FILE, 0o644, b"m"),
        ("./code", FOLDER, 0o755, b""),
        ("./code/._train.py", FILE, 0o644, b"\0\5\x16\7"),
        ("./code/train.py", FILE, 0o644, b"x = 1"),
        ("./__MACOSX/code/x", FILE, 0o644, b"attributes"),
    )
    assert tars.size(path) == 6
    tars.unpack(path, tmp_path / "x")
    assert names(tmp_path / "x") == ["code", "code/train.py", "model"]


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
    assert first.read_bytes()[4:8] == bytes(4)  # gzip's own time (RFC 1952)
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
