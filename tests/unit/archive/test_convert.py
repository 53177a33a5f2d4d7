"""archive: model.tar.gz of both layouts to .mar and back, every file as it was."""

from __future__ import annotations

import io
import tarfile
import zipfile

import pytest

from mms_handler import archive
from mms_handler.errors import ArchiveError, ScriptError

ARTIFACTS = {
    "model-0000.params": bytes(range(256)) * 40,
    "model-symbol.json": b"{}",
    "model-shapes.json": b'[{"name": "data", "shape": [100, 2]}]',
}
#: What an archive may hold beside that, and a folder is not packed with.
MORE = {".hidden": b"h", "code/old.pyc": b"p", "code/MANIFEST.json": b"{}", "deep/er/a b.txt": b""}
NEW = {**ARTIFACTS, **MORE, "code/inference.py": b"x = 1\n", "code/lib/helper.py": b"y = 2\n"}
OLD = {**ARTIFACTS, "train.py": b"x = 1\n", "helper.py": b"y = 2\n"}


def tar(path, files, prefix="", mode="w:gz"):
    with tarfile.open(path, mode) as out:
        for name, data in files.items():
            entry = tarfile.TarInfo(prefix + name)
            entry.size, entry.mtime, entry.mode = len(data), 1_600_000_000, 0o755
            out.addfile(entry, io.BytesIO(data))
    return path


def in_tar(path):
    with tarfile.open(path) as packed:
        return {entry.name: packed.extractfile(entry).read() for entry in packed.getmembers()}


def in_mar(path):
    with zipfile.ZipFile(path) as packed:
        inside = {name: packed.read(name) for name in packed.namelist()}
    assert inside.pop("MAR-INF/MANIFEST.json")
    assert inside.pop("MAR-INF/sample.json") == b"[[0, 0]]"
    return inside


@pytest.mark.parametrize("mode", ["w:gz", "w"])
@pytest.mark.parametrize("prefix", ["", "./"])
def test_with_the_script_in_code(tmp_path, prefix, mode):
    """As SageMaker has it since MXNet 1.4; the same names and bytes come out, and come back."""
    source = tar(tmp_path / "model.tar.gz", NEW, prefix, mode)
    packed = archive.convert(source, tmp_path / "m.mar")
    assert in_mar(packed) == NEW
    assert archive.verify(packed).name == "m"
    assert in_tar(archive.convert(packed, tmp_path / "back.tar.gz")) == NEW


def test_with_the_script_beside_the_artifacts(tmp_path):
    """As it was before; a name says which file it is, and the places stay as they are."""
    source = tar(tmp_path / "model.tar.gz", OLD)
    with pytest.raises(ScriptError, match=r"which file is the script\? helper\.py, train\.py"):
        archive.convert(source, tmp_path / "m.mar")
    packed = archive.convert(source, tmp_path / "m.mar", program="train.py")
    assert in_mar(packed) == OLD
    with zipfile.ZipFile(packed) as mar:
        assert b'"script": "train.py"' in mar.read("MAR-INF/MANIFEST.json")
    assert in_tar(archive.convert(packed, tmp_path / "back.tar.gz")) == OLD


@pytest.mark.parametrize("form", ["file", "folder", "sourcedir.tar.gz"])
def test_with_the_script_elsewhere(tmp_path, form):
    """As the SDK uploads it for MXNet 1.3 and before: it gets into code/."""
    source = tar(tmp_path / "model.tar.gz", {**ARTIFACTS, "code/old.py": b"old"})
    given = {"train.py": b"x = 1\n"} if form == "file" else {"train.py": b"x = 1\n", "h.py": b""}
    code = tar(tmp_path / form, given) if form.endswith("gz") else tmp_path / "src"
    if not form.endswith("gz"):
        code.mkdir()
        for name, data in given.items():
            (code / name).write_bytes(data)
    if form == "file":
        code = code / "train.py"
    packed = archive.convert(source, tmp_path / "m.mar", code=code, program="train.py")
    assert in_mar(packed) == {**ARTIFACTS, **{f"code/{name}": given[name] for name in given}}


def test_there_and_back_again_is_the_same_archive(tmp_path):
    """Neither kind keeps a time or an owner, so the second .mar has the bytes of the first."""
    one = archive.convert(tar(tmp_path / "a.tar.gz", NEW), tmp_path / "1" / "m.mar")
    back = archive.convert(one, tmp_path / "2" / "m.tar.gz")
    two = archive.convert(back, tmp_path / "3" / "m.mar")
    assert two.read_bytes() == one.read_bytes()
    again = archive.convert(two, tmp_path / "4" / "n.tar.gz")
    assert again.read_bytes() == back.read_bytes()


def test_the_manifest_of_a_tar_is_not_ours(tmp_path):
    """A MAR-INF in it, say of a .mar that was unpacked and tarred, is made anew."""
    files = {**NEW, "MAR-INF/MANIFEST.json": b"not one"}
    packed = archive.convert(tar(tmp_path / "model.tar.gz", files), tmp_path / "m.mar")
    assert in_mar(packed) == NEW


def test_progress_is_told_in_bytes(tmp_path):
    """Of the files, however they are packed."""
    told = []
    source = tar(tmp_path / "model.tar.gz", NEW)
    packed = archive.convert(source, tmp_path / "m.mar", progress=told.append)
    assert sum(told) == archive.size(source) == sum(map(len, NEW.values()))
    told.clear()
    archive.convert(packed, tmp_path / "back.tar.gz", progress=told.append)
    assert sum(told) == sum(map(len, NEW.values()))


def test_what_is_there_is_replaced_by_force_only(tmp_path):
    source = tar(tmp_path / "model.tar.gz", NEW)
    (tmp_path / "m.mar").write_text("old")
    with pytest.raises(ArchiveError, match=r"m\.mar already exists; --force replaces it"):
        archive.convert(source, tmp_path / "m.mar")
    archive.convert(source, tmp_path / "m.mar", force=True)
    (tmp_path / "m.tar.gz").write_text("old")
    with pytest.raises(ArchiveError, match=r"m\.tar\.gz already exists; --force replaces it"):
        archive.convert(tmp_path / "m.mar", tmp_path / "m.tar.gz")


def test_what_is_which(tmp_path):
    """By what a file has, not by what it is called."""
    source = tar(tmp_path / "a", NEW)
    assert archive.other_suffix(source) == ".mar"
    assert archive.other_suffix(archive.convert(source, tmp_path / "m.mar")) == ".tar.gz"


def test_code_that_is_not_there(tmp_path):
    source = tar(tmp_path / "model.tar.gz", NEW)
    with pytest.raises(ArchiveError, match=r"there is no .*gone"):
        archive.convert(source, tmp_path / "m.mar", code=tmp_path / "gone")
    assert not (tmp_path / "m.mar").exists()


def test_a_tar_without_files(tmp_path):
    """MMS would serve it as an empty model."""
    source = tar(tmp_path / "model.tar.gz", {"MAR-INF/MANIFEST.json": b"{}"})
    with pytest.raises(ArchiveError, match=r"model\.tar\.gz has no files"):
        archive.convert(source, tmp_path / "m.mar")
    assert not (tmp_path / "m.mar").exists()
