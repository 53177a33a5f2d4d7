"""Java's class data: made once for a Java and its jars, and used by later front ends."""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from pathlib import Path

import pytest

from mms_handler.server import class_data, java
from mms_handler.settings import Settings

RELEASE = 'JAVA_VERSION="17.0.1"\n'


@pytest.fixture
def fake(tmp_path, monkeypatch):
    """A Java's folder with a program that writes its file slowly, and a folder with a jar."""
    home = tmp_path / "java"
    (home / "bin").mkdir(parents=True)
    (home / "release").write_text(RELEASE)
    program = home / "bin" / "java"
    program.write_text(
        "#!/bin/sh\nfor word; do file=${word#-XX:SharedArchiveFile=}; done\n"
        'echo half > "$file"; sleep 0.2; echo "$@" > "$file"\n'
    )
    program.chmod(0o755)
    jars = tmp_path / "jars"
    jars.mkdir()
    (jars / "one.jar").write_bytes(b"1")
    monkeypatch.setattr(java, "class_path", lambda newer=None: f"{jars / '*'}")
    return {"PATH": os.environ["PATH"], "JAVA_HOME": str(home)}


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "front").mkdir()
    (tmp_path / "front" / "classes").write_text("java/lang/Object\n")
    return tmp_path / "front"


@pytest.fixture
def settings(tmp_path):
    return Settings(cache_dir=str(tmp_path / "cache"))


def wait_for(file: Path) -> None:
    for _ in range(600):
        if file.exists():
            return
        time.sleep(0.05)
    pytest.fail(f"{file.name} was not written")


def test_a_real_java_uses_it(tmp_path, folder, settings):
    """The classes come from the file; -Xshare:on would end Java if it did not fit.

    Java says where it puts the file: at another address it would change all of its pages.  Java 11
    leaves out classes of Java 5, which commons-cli's are, and ModelServer, which needs them.
    """
    env = {**os.environ, **java.java_variables(os.environ)}
    data = class_data.of(env, folder, settings)
    listed = [java.program(env), *java.FLAGS, *data.options(), "-cp", java.class_path()]
    server = "com.amazonaws.ml.mms.ModelServer"
    subprocess.run([*listed, server, "--help"], env=env, capture_output=True)  # it exits with 1
    assert server.replace(".", "/") in (folder / "classes").read_text()
    with data.written(env):
        wait_for(data.file)
    again = class_data.of(env, folder, settings)
    assert again.file == data.file
    command = [java.program(env), *java.FLAGS, *again.options(), "-Xshare:on", "-verbose:class"]
    command += ["-Xlog:gc+metaspace"]
    shown = subprocess.run(
        [*command, "-cp", java.class_path(), server, "--help"],
        env=env,
        capture_output=True,
        text=True,
    ).stdout
    name = "com.amazonaws.ml.mms.util.ConnectorType"
    (line,) = [line for line in shown.splitlines() if f" {name} source: " in line]
    assert "source: shared objects file" in line
    assert "ArchiveRelocationMode: 1" not in shown


def test_it_is_there_only_when_it_is_whole(fake, folder, settings):
    data = class_data.of(fake, folder, settings)
    assert data.options() == [f"-XX:DumpLoadedClassList={folder / 'classes'}"]
    with data.written(fake):
        wait_for(data.file)
    text = data.file.read_text()
    assert text.startswith("-XX:TieredStopAtLevel=1 -XX:+UseSerialGC -Xmx32m -cp ")
    assert f"-Xshare:dump -XX:SharedClassListFile={folder / 'classes'} -XX:Shared" in text
    assert [file.name for file in data.file.parent.iterdir()] == [data.file.name]
    os.utime(data.file, (1, 1))
    assert data.options() == [
        f"-XX:SharedArchiveFile={data.file}",
        "-Xshare:auto",
        "-Xlog:cds*=off",
        "-XX:+IgnoreUnrecognizedVMOptions",
        "-XX:+UnlockDiagnosticVMOptions",
        "-XX:ArchiveRelocationMode=0",
    ]
    assert data.file.stat().st_mtime > 1  # it is in use, so it is not removed


def test_a_server_that_ends_first_leaves_nothing(fake, folder, settings):
    data = class_data.of(fake, folder, settings)
    with data.written(fake):
        pass
    assert list(data.file.parent.iterdir()) == []


def test_another_java_or_jar_has_another_file(fake, folder, settings):
    files = [class_data.of(fake, folder, settings).file]
    jars = Path(java.class_path()).parent
    (jars / "two.jar").write_bytes(b"2")
    files.append(class_data.of(fake, folder, settings).file)
    os.utime(jars / "one.jar", ns=(1, 1))
    files.append(class_data.of(fake, folder, settings).file)
    (Path(fake["JAVA_HOME"]) / "release").write_text('JAVA_VERSION="21"\n')
    files.append(class_data.of(fake, folder, settings).file)
    assert len(set(files)) == 4
    assert class_data.of(fake, folder, settings).file == files[-1]


@pytest.mark.parametrize("release", ['JAVA_VERSION="1.8.0_402"\n', 'JAVA_VERSION="10"', "", None])
def test_an_old_or_unknown_java_has_none(fake, folder, settings, release):
    file = Path(fake["JAVA_HOME"]) / "release"
    file.unlink() if release is None else file.write_text(release)
    data = class_data.of(fake, folder, settings)
    assert (data.file, data.options()) == (None, [])
    with data.written(fake):
        pass
    assert not Path(settings.cache_dir).exists()


def test_what_others_can_write_is_not_used(fake, folder, tmp_path, monkeypatch):
    """Java maps the file as code.  A folder that a person set is used as it is."""
    monkeypatch.setenv("HOME", str(tmp_path))
    cache = tmp_path / ".cache" / "mms_handler"
    assert class_data.of(fake, folder, Settings()).file.parent == cache
    cache.chmod(0o777)
    assert class_data.of(fake, folder, Settings()).file is None
    assert class_data.of(fake, folder, Settings(cache_dir=str(cache))).file.parent == cache


def test_nothing_is_written_where_memory_is_short(fake, folder, settings, monkeypatch):
    monkeypatch.setattr(class_data, "available_bytes", lambda: 2**29 - 1)
    data = class_data.of(fake, folder, settings)
    with data.written(fake):
        pass
    assert not data.file.parent.exists()


def test_files_that_nobody_uses_are_removed(fake, folder, settings):
    data = class_data.of(fake, folder, settings)
    data.file.parent.mkdir()
    days = {"java-a.jsa": 31, "java-b.jsa": 29, "requirements": 31}
    for name, age in days.items():
        path = data.file.with_name(name)
        path.touch()
        os.utime(path, (time.time() - age * 86_400,) * 2)
    with data.written(fake), contextlib.suppress(RuntimeError):
        raise RuntimeError
    assert {file.name for file in data.file.parent.iterdir()} == {"java-b.jsa", "requirements"}


def test_what_a_killed_server_was_writing_is_removed(fake, folder, settings):
    """At the next start; not what a server writes now."""
    cache = Path(settings.cache_dir)
    cache.mkdir()
    ended = subprocess.Popen(["true"])
    ended.wait(30)
    names = [f".java-0123.{pid}.part" for pid in (ended.pid, os.getpid(), "x")]
    for name in names:
        (cache / name).touch()
    reused = cache / f".java-4567.{os.getpid()}.part"  # by a process that is younger than the file
    reused.touch()
    os.utime(reused, (1, 1))
    class_data.of(fake, folder, settings)
    assert sorted(file.name for file in cache.iterdir()) == sorted(names[1:])
