"""archive.convert: a model.tar.gz of each layout to .mar and back, with every file unchanged."""

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
#: Files that convert keeps in an archive; pack leaves some of them out of a folder.
EXTRA = {".hidden": b"h", "code/old.pyc": b"p", "code/MANIFEST.json": b"{}", "deep/er/a b.txt": b""}
NEW = {**ARTIFACTS, **EXTRA, "code/inference.py": b"x = 1\n", "code/lib/helper.py": b"y = 2\n"}
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
    assert inside.pop("MAR-INF/bom.json")
    assert inside.pop("MAR-INF/sample.json") == b"[[0, 0]]"
    return inside


@pytest.mark.parametrize("mode", ["w:gz", "w"])
@pytest.mark.parametrize("prefix", ["", "./"])
def test_with_the_script_in_code(tmp_path, prefix, mode):
    """SageMaker's layout since MXNet 1.4: the same names and bytes in the .mar, and back."""
    source = tar(tmp_path / "model.tar.gz", NEW, prefix, mode)
    packed = archive.convert(source, tmp_path / "m.mar")
    assert in_mar(packed) == NEW
    assert archive.verify(packed).name == "m"
    assert in_tar(archive.convert(packed, tmp_path / "back.tar.gz")) == NEW


def test_with_the_script_beside_the_artifacts(tmp_path):
    """The layout before MXNet 1.4: a name selects the script, and files keep their folders."""
    source = tar(tmp_path / "model.tar.gz", OLD)
    with pytest.raises(
        ScriptError, match=r"several files could be the script: helper\.py, train\.py"
    ):
        archive.convert(source, tmp_path / "m.mar")
    packed = archive.convert(source, tmp_path / "m.mar", program="train.py")
    assert in_mar(packed) == OLD
    with zipfile.ZipFile(packed) as mar:
        assert b'"script": "train.py"' in mar.read("MAR-INF/MANIFEST.json")
    assert in_tar(archive.convert(packed, tmp_path / "back.tar.gz")) == OLD


@pytest.mark.parametrize("form", ["file", "folder", "sourcedir.tar.gz"])
def test_with_the_script_elsewhere(tmp_path, form):
    """As the SDK uploads it for MXNet 1.3 and earlier: it becomes code/."""
    source = tar(tmp_path / "model.tar.gz", {**ARTIFACTS, "code/old.py": b"old"})
    files = {"train.py": b"x = 1\n"} if form == "file" else {"train.py": b"x = 1\n", "h.py": b""}
    code = tar(tmp_path / form, files) if form.endswith("gz") else tmp_path / "src"
    if not form.endswith("gz"):
        code.mkdir()
        for name, data in files.items():
            (code / name).write_bytes(data)
    if form == "file":
        code = code / "train.py"
    packed = archive.convert(source, tmp_path / "m.mar", code=code, program="train.py")
    assert in_mar(packed) == {**ARTIFACTS, **{f"code/{name}": files[name] for name in files}}


def test_there_and_back_gives_the_same_archive(tmp_path):
    """Neither format keeps times or owners, so the second .mar has the bytes of the first."""
    first_mar = archive.convert(tar(tmp_path / "a.tar.gz", NEW), tmp_path / "1" / "m.mar")
    first_tar = archive.convert(first_mar, tmp_path / "2" / "m.tar.gz")
    second_mar = archive.convert(first_tar, tmp_path / "3" / "m.mar")
    assert second_mar.read_bytes() == first_mar.read_bytes()
    second_tar = archive.convert(second_mar, tmp_path / "4" / "n.tar.gz")
    assert second_tar.read_bytes() == first_tar.read_bytes()


def test_the_code_replaces_the_handler(tmp_path):
    """A script for an archive of model-archiver is served with this package.

    Zeros are a sample for this package's script, and not for another handler.
    """
    manifest = b'{"model": {"modelName": "m", "handler": "service:handle"}}'
    inside = {**ARTIFACTS, "service.py": b"x", "MAR-INF/MANIFEST.json": manifest}
    source = tar(tmp_path / "m.tar.gz", inside, "m/")
    assert archive.verify(archive.convert(source, tmp_path / "1" / "m.mar")).handler == (
        "service:handle"
    )
    (tmp_path / "inference.py").write_text("x = 1")
    code = tmp_path / "inference.py"
    packed = archive.convert(source, tmp_path / "2" / "m.mar", code=code)
    assert archive.verify(packed).handler == "mms_handler.service:handle"
    samples = {}
    for number in "12":
        with zipfile.ZipFile(tmp_path / number / "m.mar") as mar:
            samples[number] = "MAR-INF/sample.json" in mar.namelist()
    assert samples == {"1": False, "2": True}


def test_a_handler_of_the_archives_own(tmp_path):
    """It must be there; which other files are scripts is its own matter."""
    manifest = b'{"model": {"modelName": "m", "handler": "service:handle"}}'
    inside = {"service.py": b"x", "helper.py": b"y", "MAR-INF/MANIFEST.json": manifest}
    packed = archive.convert(tar(tmp_path / "m.tar.gz", inside, "m/"), tmp_path / "m.mar")
    assert archive.verify(packed).handler == "service:handle"
    del inside["service.py"]
    source = tar(tmp_path / "n.tar.gz", inside, "m/")
    with pytest.raises(ArchiveError, match="neither in the archive nor installed$"):
        archive.convert(source, tmp_path / "n.mar")
    assert not (tmp_path / "n.mar").exists()


def test_a_manifest_in_a_tar_is_replaced(tmp_path):
    """A MAR-INF, say of a .mar that was unpacked and tarred, is written anew."""
    files = {**NEW, "MAR-INF/MANIFEST.json": b"invalid"}
    packed = archive.convert(tar(tmp_path / "model.tar.gz", files), tmp_path / "m.mar")
    assert in_mar(packed) == NEW


def test_progress_in_bytes(tmp_path):
    """Of the files, in both formats."""
    steps = []
    source = tar(tmp_path / "model.tar.gz", NEW)
    packed = archive.convert(source, tmp_path / "m.mar", progress=steps.append)
    assert sum(steps) == archive.size(source) == sum(map(len, NEW.values()))
    steps.clear()
    archive.convert(packed, tmp_path / "back.tar.gz", progress=steps.append)
    assert sum(steps) == sum(map(len, NEW.values()))


def test_an_existing_file_is_replaced_only_by_force(tmp_path):
    source = tar(tmp_path / "model.tar.gz", NEW)
    (tmp_path / "m.mar").write_text("old")
    with pytest.raises(ArchiveError, match=r"m\.mar already exists; --force replaces it"):
        archive.convert(source, tmp_path / "m.mar")
    with pytest.raises(ArchiveError, match="already exists"):  # before anything is unpacked
        archive.convert(tmp_path / "no archive", tmp_path / "m.mar")
    archive.convert(source, tmp_path / "m.mar", force=True)
    (tmp_path / "m.tar.gz").write_text("old")
    with pytest.raises(ArchiveError, match=r"m\.tar\.gz already exists; --force replaces it"):
        archive.convert(tmp_path / "m.mar", tmp_path / "m.tar.gz")


def test_the_format_of_a_file(tmp_path):
    """Its contents decide, not its name."""
    source = tar(tmp_path / "a", NEW)
    assert archive.other_suffix(source) == ".mar"
    assert archive.other_suffix(archive.convert(source, tmp_path / "m.mar")) == ".tar.gz"


def test_code_that_does_not_exist(tmp_path):
    source = tar(tmp_path / "model.tar.gz", NEW)
    with pytest.raises(ArchiveError, match=r".*gone does not exist$"):
        archive.convert(source, tmp_path / "m.mar", code=tmp_path / "gone")
    assert not (tmp_path / "m.mar").exists()


def test_a_tar_without_files(tmp_path):
    """MMS would serve it as an empty model."""
    source = tar(tmp_path / "model.tar.gz", {"MAR-INF/MANIFEST.json": b"{}"})
    with pytest.raises(ArchiveError, match=r"model\.tar\.gz has no files"):
        archive.convert(source, tmp_path / "m.mar")
    assert not (tmp_path / "m.mar").exists()
