"""store, sources: how a model gets into the server's store, and what is refused."""

from __future__ import annotations

import json
import stat
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from mms_handler import archive
from mms_handler.errors import ArchiveError, NoSuchModel
from mms_handler.server.sources import Source, name_of, source_at
from mms_handler.server.store import Store


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "store", None)


def model(folder, weights=b"w"):
    (folder / "code").mkdir(parents=True)
    (folder / "code" / "inference.py").write_text("def model_fn(model_dir): pass\n")
    (folder / "net.params").write_bytes(weights)
    return folder


def source(path, name="mine"):
    return Source(name, path, 0, str(path))


def files(folder):
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


CONTENT = ["MAR-INF/MANIFEST.json", "MAR-INF/sources", "code/inference.py", "net.params"]


def test_a_folder_gets_a_manifest(tmp_path, store):
    """The store has its files and the manifest that it lacks; the folder is not changed."""
    folder = model(tmp_path / "digits")
    stored = store.put("mine~2", source(folder))
    assert stored == tmp_path / "store" / "mine~2"
    assert files(stored) == CONTENT
    manifest = json.loads((stored / "MAR-INF" / "MANIFEST.json").read_text())
    assert manifest["model"] == {
        "modelName": "mine",
        "handler": "mms_handler.service:handle",
        "script": "inference.py",
    }
    sources = json.loads((stored / "MAR-INF" / "sources").read_text())
    assert sources == {"": str(folder)}  # for tracebacks
    assert files(folder) == CONTENT[2:]


def test_a_fetched_folder_is_moved(tmp_path, store):
    """Its own place is temporary.  Tracebacks name its address."""
    folder = model(tmp_path / "iris", weights=bytes(2**20))
    fetched = Source("iris", folder, 0, "s3://bucket/iris/", fetched=True)
    stored = store.put("iris", fetched)
    assert files(stored) == CONTENT
    assert not (stored / "net.params").is_symlink()
    assert files(folder) == []
    sources = json.loads((stored / "MAR-INF" / "sources").read_text())
    assert sources == {"": "s3://bucket/iris/"}


HANDLER = "def handle(data, context):\n    return data\n"


@pytest.mark.parametrize(
    ("form", "path"),
    [("tgz", "m.tar.gz"), ("tgz", "m.tgz"), ("no-archive", "m"), ("default", "m.mar")],
)
@pytest.mark.parametrize("handler", ["service:handle", "mms_handler.service:handle"])
def test_what_model_archiver_writes(tmp_path, store, form, path, handler):
    """Each of its formats keeps its handler, and the files beside it."""
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "service.py").write_text(HANDLER)
    (tmp_path / "model" / "net.params").write_bytes(b"w")
    subprocess.run(
        [
            *(sys.executable, "-m", "model_archiver.model_packaging", "--model-name", "m"),
            *("--model-path", tmp_path / "model", "--handler", handler, "--runtime", "python3"),
            *("--archive-format", form, "--export-path", tmp_path),
        ],
        check=True,
    )
    if path == "m.tgz":
        (tmp_path / "m.tar.gz").rename(tmp_path / path)
    stored = store.put("mine", source_at(tmp_path / path))
    (stored / "MAR-INF" / "sources").unlink()  # for tracebacks
    parts = ["MAR-INF/bom.json"] if form == "tgz" else []  # which is converted first
    assert files(stored) == ["MAR-INF/MANIFEST.json", *parts, "net.params", "service.py"]
    manifest = json.loads((stored / "MAR-INF" / "MANIFEST.json").read_text())
    assert manifest["model"]["modelName"] == "m"
    assert manifest["model"]["handler"] == handler


def test_a_handler_that_is_not_there(tmp_path, store):
    """MMS would fail after a minute."""
    folder = model(tmp_path / "digits")
    (folder / "MAR-INF").mkdir()
    text = json.dumps({"model": {"modelName": "m", "handler": "gone_service:handle"}})
    (folder / "MAR-INF" / "MANIFEST.json").write_text(text)
    with pytest.raises(ArchiveError, match="neither in the archive nor installed"):
        store.put("mine", source(folder))
    (folder / "MAR-INF" / "MANIFEST.json").write_text("invalid, so it is written anew")
    assert (
        "mms_handler.service"
        in (store.put("mine", source(folder)) / "MAR-INF/MANIFEST.json").read_text()
    )


@pytest.mark.parametrize("name", ["", "mine.py"])
def test_a_script_elsewhere_replaces_the_folders(tmp_path, store, name):
    """A file or a folder; tracebacks will name it."""
    code = tmp_path / "project"
    code.mkdir()
    (code / "mine.py").write_text("mine = 1")
    folder = model(tmp_path / "digits")
    stored = store.put("mine", source(folder)._replace(code=code / name))
    assert sorted(path.name for path in (stored / "code").iterdir()) == ["mine.py"]
    manifest = json.loads((stored / "MAR-INF" / "MANIFEST.json").read_text())
    assert manifest["model"]["script"] == "mine.py"
    sources = json.loads((stored / "MAR-INF" / "sources").read_text())
    place = f"code/{name}".rstrip("/")
    assert sources == {"": str(folder), place: str(code / name)}


def test_large_files_are_linked_and_scripts_copied(tmp_path, store):
    """Weights are not copied; a script that writes into its folder does not change the user's."""
    folder = model(tmp_path / "digits", bytes(2**20))
    stored = store.put("mine", source(folder))
    assert (stored / "net.params").resolve() == folder / "net.params"
    assert not (stored / "code" / "inference.py").is_symlink()
    assert (stored / "net.params").read_bytes() == bytes(2**20)


@pytest.mark.parametrize("suffix", ["mar", "tar.gz"])
def test_an_archive_is_unpacked(tmp_path, store, suffix):
    """Both kinds of archive give the same files."""
    packed = tmp_path / f"digits.{suffix}"
    pack = archive.pack if suffix == "mar" else archive.pack_tar
    pack(model(tmp_path / "digits"), packed)
    assert files(store.put("mine", source(packed))) == sorted([*CONTENT, "MAR-INF/bom.json"])
    assert [path.name for path in (tmp_path / "store").iterdir()] == ["mine"]


def test_a_refused_model_leaves_no_files(tmp_path, store):
    """Refused are an archive that leads out of its folder, and a folder with a link."""
    with zipfile.ZipFile(tmp_path / "bad.mar", "w") as mar:
        mar.writestr("MAR-INF/MANIFEST.json", "{}")
        mar.writestr("../outside", "x")
    folder = model(tmp_path / "linked")
    (folder / "secret").symlink_to("/etc/passwd")
    for path, reason in (
        (tmp_path / "bad.mar", "outside the archive"),
        (folder, "secret is a link"),
    ):
        with pytest.raises(ArchiveError, match=reason):
            store.put("mine", source(path))
    assert list((tmp_path / "store").iterdir()) == []
    assert not (tmp_path / "outside").exists()


def test_removing_a_model_keeps_linked_files(tmp_path, store):
    """Its folder in the store goes, the files that it links to stay."""
    folder = model(tmp_path / "digits", bytes(2**20))
    store.put("mine", source(folder))
    store.remove("mine")
    assert not (tmp_path / "store" / "mine").exists()
    assert stat.S_ISREG((folder / "net.params").stat().st_mode)


def test_the_current_folder_has_a_name(tmp_path, monkeypatch):
    """``serve .`` serves the folder under its own name."""
    monkeypatch.chdir(model(tmp_path / "digits"))
    assert name_of(Path()) == "digits"


@pytest.mark.parametrize("name", ["digits.mar", "digits.tar.gz", "digits.tgz"])
def test_an_archive_gives_its_name_to_the_model(tmp_path, name):
    """The suffix is left out."""
    (tmp_path / name).write_bytes(b"")
    assert name_of(tmp_path / name) == "digits"


def test_a_path_is_measured(tmp_path):
    """The name, the path and the bytes of all files."""
    folder = model(tmp_path / "digits", b"weights")
    script_bytes = (folder / "code" / "inference.py").stat().st_size
    assert source_at(folder) == Source("digits", folder, script_bytes + 7, str(folder))


@pytest.mark.parametrize("name", ["gone", "gone.mar", "model.zip"])
def test_paths_that_are_no_model(tmp_path, name):
    """The message has the path, and what it must be."""
    if name.endswith("zip"):
        (tmp_path / name).write_bytes(b"zip")
    with pytest.raises(NoSuchModel) as caught:
        name_of(tmp_path / name)
    assert (
        str(caught.value) == f"{tmp_path / name} is neither a .mar, a .tar.gz, a .tgz nor a folder"
    )


@pytest.mark.parametrize("name", ["my model", "-x", "caf\u00e9"])
def test_names_that_mms_cannot_address(tmp_path, name):
    """A folder must have a name that a model can have."""
    with pytest.raises(ArchiveError, match="is not a valid model name"):
        name_of(model(tmp_path / name))
