"""sources, store: what is served was signed by a key that the server trusts."""

from __future__ import annotations

import http.server
import logging
import os
import shutil
import threading
from functools import partial

import pytest
from signed_archives import fingerprint, key_of, pack_tiny, trust

from mms_handler import archive
from mms_handler.errors import ServerError, UntrustedArchive
from mms_handler.server.sources import Sources, opened, source_at
from mms_handler.server.store import Store
from mms_handler.settings import Settings

RELEASE = f"release ({fingerprint('release')})"


@pytest.fixture
def models(tmp_path):
    """A model store with a signed archive, one that is not signed, a folder and a tar archive."""
    models = tmp_path / "models"
    models.mkdir()
    archive.sign(pack_tiny(tmp_path / "iris.mar"), key_of("release"), models / "iris.mar")
    pack_tiny(tmp_path / "bare.mar").rename(models / "bare.mar")
    shutil.copytree(tmp_path / "iris-files", models / "folder")
    archive.pack_tar(models / "folder", models / "model.tar.gz")
    return models


@pytest.fixture
def keys(tmp_path):
    return archive.read_trusted(trust(tmp_path / "keys", "release"))


@pytest.fixture
def sources(tmp_path, models):
    settings = Settings(require_signature=str(trust(tmp_path / "keys", "release")))
    (tmp_path / "scratch").mkdir()
    return Sources([models], [], tmp_path / "scratch", partial(archive.required, settings))


UNSIGNED = ["bare.mar", "folder", "model.tar.gz"]


@pytest.mark.parametrize("name", UNSIGNED)
def test_a_model_without_a_signature(models, keys, sources, name, caplog):
    """On the command line and in a registration; no path is in the text."""
    for refused in (
        lambda: source_at(models / name, None, keys),
        lambda: sources.open("m", name).__enter__(),
    ):
        with pytest.raises(UntrustedArchive) as caught:
            refused()
        assert str(caught.value).startswith(name)
        assert f"signed by {RELEASE}" in str(caught.value).replace("signature by", "signed by")
        assert str(models) not in str(caught.value)
    assert caplog.messages == [f"refused: {caught.value}"]


@pytest.mark.parametrize("name", UNSIGNED)
def test_the_store_takes_no_other_model(tmp_path, models, keys, name):
    """Also if what was checked is not what is there then."""
    store = Store(tmp_path / "store", None)
    source = source_at(models / name)._replace(keys=keys)
    with pytest.raises(UntrustedArchive):
        store.put("m", source)
    assert list((tmp_path / "store").iterdir()) == []


def test_a_signed_archive(tmp_path, models, keys, sources, caplog):
    """Its signer is known, and the log says so."""
    caplog.set_level(logging.INFO)
    source = source_at(models / "iris.mar", None, keys)
    assert (source.name, source.signer, source.keys) == ("iris", RELEASE, keys)
    with sources.open(None, "iris.mar") as opened_source:
        assert (opened_source.name, opened_source.signer) == ("iris", RELEASE)
    assert caplog.messages == [f"iris.mar is signed by {RELEASE}"] * 2
    assert Store(tmp_path / "store", None).put("m", source).is_dir()
    assert source_at(models / "iris.mar").signer.endswith(", which was not checked")


def test_an_archive_that_is_replaced_after_it_was_checked(tmp_path, models, keys):
    source = source_at(models / "iris.mar", None, keys)
    os.replace(models / "bare.mar", models / "iris.mar")
    with pytest.raises(UntrustedArchive, match="iris.mar: it is not signed"):
        Store(tmp_path / "store", None).put("m", source)


def test_a_folder_with_one_archive_stands_for_it(models, keys, sources):
    """SageMaker unpacks a model.tar.gz into one; other files there are not used."""
    (models / "folder" / "first.mar").write_bytes((models / "iris.mar").read_bytes())
    source = source_at(models / "folder", None, keys)
    assert (source.name, source.path) == ("folder", models / "folder" / "first.mar")
    with sources.open("m", "folder") as registered:
        assert (registered.name, registered.url) == ("m", "folder")
        assert registered.path == models / "folder" / "first.mar"
    (models / "folder" / "second.mar").write_bytes((models / "iris.mar").read_bytes())
    with pytest.raises(UntrustedArchive, match="folder is not a .mar, and only a .mar can be"):
        source_at(models / "folder", None, keys)


def test_keys_are_replaced_while_models_are_served(tmp_path, sources, models, caplog):
    """They are read for each registration; what cannot be read is not the client's business."""
    trust(tmp_path / "keys", "next")
    (tmp_path / "keys" / "release.pub").unlink()
    with pytest.raises(UntrustedArchive, match=r"expected a signature by next \("):
        sources.open("m", "iris.mar").__enter__()
    trust(tmp_path / "keys", "release")
    with sources.open("m", "iris.mar") as source:
        assert source.signer == RELEASE
    caplog.clear()
    shutil.rmtree(tmp_path / "keys")
    with pytest.raises(ServerError) as caught:
        sources.open("m", "iris.mar").__enter__()
    assert str(caught.value) == (
        "the server cannot read the keys that sign archives; its log has the cause"
    )
    (message,) = caplog.messages
    assert message.startswith(f"no model can be registered: {tmp_path / 'keys'} cannot be read")


def test_what_is_fetched_is_checked(tmp_path, models, keys):
    """At an address of the command line, and of a registration."""

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *words):
            pass

    server = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), partial(Handler, directory=str(models))
    )
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}"
    (tmp_path / "scratch").mkdir()
    remote = Sources([], [url], tmp_path / "scratch", lambda: keys)
    try:
        with opened(f"{url}/iris.mar", None, [], print, keys) as source:
            assert (source.signer, source.fetched) == (RELEASE, True)
        with remote.open("m", f"{url}/iris.mar") as source:
            assert (source.signer, source.fetched) == (RELEASE, True)
        for name in ("bare.mar", "model.tar.gz"):
            for refused in (
                opened(f"{url}/{name}", None, [], print, keys),
                remote.open("m", f"{url}/{name}"),
            ):
                with pytest.raises(UntrustedArchive, match=name), refused:
                    pytest.fail("it is open")
        assert list((tmp_path / "scratch").iterdir()) == []
    finally:
        server.shutdown()
        server.server_close()
