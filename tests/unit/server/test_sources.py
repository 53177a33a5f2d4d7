"""sources: from where a registration may take models."""

from __future__ import annotations

import gzip
import http.server
import tempfile
import threading
import zipfile
from functools import partial
from pathlib import Path

import pytest

from mms_handler.api.management import own_name
from mms_handler.errors import ArchiveError, NoSuchModel
from mms_handler.server.sources import Source, Sources, allowed_folders, name_of, opened, source_at
from mms_handler.settings import Settings


@pytest.fixture
def store(tmp_path):
    """A model store with a folder, an archive and a tar archive's name."""
    store = tmp_path / "store"
    (store / "folder" / "code").mkdir(parents=True)
    (store / "folder" / "code" / "inference.py").write_text("12345")
    with zipfile.ZipFile(store / "iris.mar", "w") as mar:
        mar.writestr("MAR-INF/MANIFEST.json", '{"model": {}}')
        mar.writestr("weights", bytes(100))
    (store / "model.tar.gz").touch()
    (store / "notes.txt").touch()
    return store


def test_names(store, monkeypatch):
    """After the file or folder, without the suffix."""
    names = {"folder": "folder", "iris.mar": "iris", "model.tar.gz": "model"}
    for file, name in names.items():
        assert name_of(store / file) == name
    monkeypatch.chdir(store / "folder")
    assert name_of(Path()) == "folder"
    for file in ("notes.txt", "gone.mar", "gone"):
        with pytest.raises(
            NoSuchModel, match=f"{file} is neither a .mar, a .tar.gz, a .tgz nor a folder$"
        ):
            name_of(store / file)
    (store / "a b").mkdir()
    with pytest.raises(ArchiveError, match="'a b' is not a valid"):
        name_of(store / "a b")


@pytest.mark.parametrize(
    ("file", "name"),
    [("a.mar", "a"), ("b-2.0.tar.gz", "b-2.0"), ("c.tgz", "c"), ("d.tgz.mar", "d.tgz")],
)
def test_a_client_gives_the_name_that_a_server_gives(tmp_path, file, name):
    """One suffix is left out, also of an address that the client cannot look into."""
    (tmp_path / file).touch()
    assert name_of(tmp_path / file) == own_name(f"s3://bucket/{file}") == name


def test_sources_of_paths(store):
    """With the size of all their files."""
    folder, mar = store / "folder", store / "iris.mar"
    assert source_at(folder) == Source("folder", folder, 5, str(folder))
    assert source_at(mar) == Source("iris", mar, 113, str(mar))


def test_the_allowed_folders():
    """SageMaker's too, for many models."""
    settings = Settings(model_store="/store")
    assert allowed_folders(settings) == [Path("/store")]
    many = Settings(model_store="/store", multi_model=True)
    assert allowed_folders(many) == [Path("/store"), Path("/opt/ml/models")]
    elsewhere = Settings(model_store="/store", multi_model=True, base_dir="/base")
    assert allowed_folders(elsewhere) == [Path("/store"), Path("/base/models")]


@pytest.mark.parametrize("absolute", [False, True])
def test_a_path_in_the_store(store, tmp_path, absolute):
    """By its name, or in full; the name of the model is the client's."""
    url = str(store / "folder") if absolute else "folder"
    sources = Sources([tmp_path / "other", store], (), tmp_path)
    with sources.open("mine", url) as source:
        assert source == Source("mine", store / "folder", 5, url)


MANIFEST = '{"model": {"modelName": "flowers", "handler": "a:b"}}'


def test_a_model_without_a_name(store, tmp_path):
    """Its manifest has one; else it is called after its file or folder."""
    with zipfile.ZipFile(store / "other.mar", "w") as mar:
        mar.writestr("MAR-INF/MANIFEST.json", MANIFEST)
    for folder, text in (("packed", MANIFEST), ("broken", "{"), ("plain", None)):
        (store / folder / "MAR-INF").mkdir(parents=True)
        if text:
            (store / folder / "MAR-INF" / "MANIFEST.json").write_text(text)
    (store / "model.tar.gz").write_bytes(gzip.compress(bytes(1024)))
    sources = Sources([store], (), tmp_path)
    names = {}
    for url in ("other.mar", "packed", "broken", "plain", "model.tar.gz"):
        with sources.open(None, url) as source:
            names[url] = source.name
    assert names == {
        "other.mar": "flowers",
        "packed": "flowers",
        "broken": "broken",
        "plain": "plain",
        "model.tar.gz": "model",
    }


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("iris.mar", "MAR-INF/MANIFEST.json is not a valid manifest: KeyError"),
        ("notes.txt", "^model_name is missing, and notes.txt does not give one$"),
        ("a b", "^model_name is missing, and a b does not give one$"),
    ],
)
def test_a_model_that_gives_no_name(store, tmp_path, url, words):
    """The client has to name it."""
    (store / "a b").mkdir()
    unnamed = Sources([store], (), tmp_path).open(None, url)
    with pytest.raises(ArchiveError, match=words), unnamed:
        pytest.fail("it is open")


@pytest.mark.parametrize(
    "url",
    [
        "gone.mar",
        "",
        ".",
        "..",
        "../store",
        "../secret",
        "/etc",
        "link",
        "loop",
        "folder/../../secret",
        "a\0b",
        "x" * 5_000,
    ],
)
def test_paths_elsewhere(store, tmp_path, url):
    """The store itself is no model, and links are followed first."""
    (tmp_path / "secret").mkdir()
    (store / "link").symlink_to(tmp_path / "secret")
    (store / "loop").symlink_to(store / "loop")
    found = Sources([store], (), tmp_path).open("mine", url)
    with pytest.raises(
        NoSuchModel, match="^(Model not found in model store|Relative path is not allowed in url): "
    ), found:
        pytest.fail("it is open")


@pytest.fixture
def address(store):
    """The store on a web server."""
    handler = partial(http.server.SimpleHTTPRequestHandler, directory=str(store))
    handler.func.log_message = lambda *_: None
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_a_fetched_archive_stays_in_the_scratch_folder(store, tmp_path, address):
    """Until it is in the store; nothing is left there then, whatever happens."""
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    sources = Sources([store], (f"{address}/",), scratch)
    url = f"{address}/iris.mar"
    with sources.open("mine", url) as source:
        assert scratch in source.path.parents
        assert source.path.read_bytes() == (store / "iris.mar").read_bytes()
        assert source == Source("mine", source.path, 113, url, fetched=True)
        assert [path.parent for path in scratch.rglob("*.mar")] == [source.path.parent]
    assert list(scratch.iterdir()) == []
    with pytest.raises(KeyError, match="mine"), sources.open("mine", url):
        raise KeyError("mine")
    assert list(scratch.iterdir()) == []


def test_an_address_that_is_not_allowed(store, tmp_path, address):
    """Nothing is fetched from it."""
    elsewhere = Sources([store], ("https://elsewhere/",), tmp_path)
    with pytest.raises(ArchiveError, match="iris.mar"), elsewhere.open("a", f"{address}/iris.mar"):
        pytest.fail("it is open")


def test_a_script_for_an_archive_is_refused(tmp_path):
    """It has its own; a folder's may be replaced."""
    with zipfile.ZipFile(tmp_path / "iris.mar", "w") as mar:
        mar.writestr("x", "1")
    (tmp_path / "folder").mkdir()
    (tmp_path / "mine.py").touch()
    assert source_at(tmp_path / "folder", tmp_path / "mine.py").code == tmp_path / "mine.py"
    with pytest.raises(ArchiveError, match="iris.mar has a script of its own; --script is for"):
        source_at(tmp_path / "iris.mar", tmp_path / "mine.py")


def test_places_of_a_command_line(store, tmp_path, monkeypatch, address):
    """A path, or an address that nothing else has to allow; what is fetched is gone afterwards."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temp"))
    (tmp_path / "temp").mkdir()
    lines = []
    with opened(store / "iris.mar", None, (), lines.append) as source:
        assert source == source_at(store / "iris.mar")
    assert lines == []
    url = f"{address}/iris.mar"
    with opened(url, None, (), lines.append) as source:
        assert source == Source("iris", source.path, 113, url, fetched=True)
        assert tmp_path / "temp" in source.path.parents
    assert lines == [f"fetching {url}"]
    assert list((tmp_path / "temp").iterdir()) == []


def test_a_script_for_a_model_at_an_address(tmp_path, address):
    """It is refused before anything is fetched."""
    remote = opened(f"{address}/iris.mar", tmp_path / "mine.py", (), print)
    with pytest.raises(ArchiveError, match="iris.mar: --script is for a model in a folder"), remote:
        pytest.fail("it is open")
