"""store: what a model becomes in the server's own store, and what may not get there."""

from __future__ import annotations

import json
import stat
import zipfile
from pathlib import Path

import pytest

from mms_handler import archive
from mms_handler.errors import ArchiveError, NoSuchModel
from mms_handler.server.store import Store, name_of


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "store", None)


def model(folder, weights=b"w"):
    (folder / "code").mkdir(parents=True)
    (folder / "code" / "inference.py").write_text("def model_fn(model_dir): pass\n")
    (folder / "net.params").write_bytes(weights)
    return folder


def files(folder):
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


CONTENT = ["MAR-INF/MANIFEST.json", "code/inference.py", "net.params"]


def test_a_folder_becomes_one_that_mms_can_take(tmp_path, store):
    """Its own files, and the manifest it lacks; the folder itself is not touched."""
    folder = model(tmp_path / "digits")
    found = store.put(folder, "mine")
    assert files(found) == CONTENT
    manifest = json.loads((found / "MAR-INF" / "MANIFEST.json").read_text())
    assert manifest["model"] == {
        "modelName": "mine",
        "handler": "mms_handler.service:handle",
        "script": "inference.py",
    }
    assert files(folder) == CONTENT[1:]


def test_large_files_are_linked_and_scripts_copied(tmp_path, store):
    """Weights are not copied; a script that writes to itself changes nobody's file."""
    folder = model(tmp_path / "digits", bytes(2**20))
    found = store.put(folder, "mine")
    assert (found / "net.params").resolve() == folder / "net.params"
    assert not (found / "code" / "inference.py").is_symlink()
    assert (found / "net.params").read_bytes() == bytes(2**20)


@pytest.mark.parametrize("suffix", ["mar", "tar.gz"])
def test_an_archive_is_unpacked_by_us(tmp_path, store, suffix):
    """Both kinds, to the same files."""
    packed = tmp_path / f"digits.{suffix}"
    pack = archive.pack if suffix == "mar" else archive.pack_tar
    pack(model(tmp_path / "digits"), packed)
    assert files(store.put(packed, "mine")) == CONTENT
    assert [path.name for path in (tmp_path / "store").iterdir()] == ["mine"]


def test_what_is_not_safe_leaves_nothing(tmp_path, store):
    """An archive that leads out of its folder, and a folder with a link."""
    with zipfile.ZipFile(tmp_path / "bad.mar", "w") as mar:
        mar.writestr("MAR-INF/MANIFEST.json", "{}")
        mar.writestr("../outside", "x")
    folder = model(tmp_path / "linked")
    (folder / "secret").symlink_to("/etc/passwd")
    for path in (tmp_path / "bad.mar", folder):
        with pytest.raises(ArchiveError):
            store.put(path, "mine")
    assert list((tmp_path / "store").iterdir()) == []
    assert not (tmp_path / "outside").exists()


def test_a_model_that_is_removed_is_gone(tmp_path, store):
    """What it was linked to is not."""
    folder = model(tmp_path / "digits", bytes(2**20))
    store.put(folder, "mine")
    store.remove("mine")
    assert not (tmp_path / "store" / "mine").exists()
    assert stat.S_ISREG((folder / "net.params").stat().st_mode)


def test_the_folder_we_are_in_has_its_name(tmp_path, monkeypatch):
    """``serve .`` serves the folder under its own name."""
    monkeypatch.chdir(model(tmp_path / "digits"))
    assert name_of(Path()) == "digits"


@pytest.mark.parametrize("name", ["digits.mar", "digits.tar.gz"])
def test_an_archive_has_its_files_name(tmp_path, name):
    """Without what tells its kind."""
    (tmp_path / name).write_bytes(b"")
    assert name_of(tmp_path / name) == "digits"


@pytest.mark.parametrize("name", ["gone", "gone.mar", "model.zip"])
def test_what_is_no_model(tmp_path, name):
    """Anything else is refused by its path."""
    if name.endswith("zip"):
        (tmp_path / name).write_bytes(b"zip")
    with pytest.raises(NoSuchModel) as caught:
        name_of(tmp_path / name)
    assert str(caught.value) == f"{tmp_path / name} is neither a .mar, a .tar.gz nor a folder"


@pytest.mark.parametrize("name", ["my model", "-x", "caf\u00e9"])
def test_a_name_mms_cannot_address(tmp_path, name):
    """A folder's name must be able to name a model."""
    with pytest.raises(ArchiveError, match="is not a valid model name"):
        name_of(model(tmp_path / name))
