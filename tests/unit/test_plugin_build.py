"""The jar in the package is built from the sources in java/."""

from __future__ import annotations

import importlib.util
import zipfile
from pathlib import Path
from typing import Mapping

import pytest

JAVA = Path(__file__).parents[2] / "java"

spec = importlib.util.spec_from_file_location("java_build", JAVA / "build.py")
assert spec is not None
assert spec.loader is not None
build = importlib.util.module_from_spec(spec)
spec.loader.exec_module(build)


def contents(jar: Path) -> dict[str, bytes]:
    """The members of ``jar``, by name."""
    with zipfile.ZipFile(jar) as opened:
        return {name: opened.read(name) for name in opened.namelist()}


def manifest(jar: Path) -> Mapping[str, str]:
    """The fields of ``jar``'s manifest."""
    text = contents(jar)["META-INF/MANIFEST.MF"].decode().replace("\r\n ", "")
    return dict(line.split(": ") for line in text.splitlines() if line)


def test_the_jar_is_of_these_sources():
    """After a change of a source, `make plugin` must build the jar again."""
    assert manifest(build.JAR)["Sources"] == build.sources_hash()


def test_the_jar_holds_every_class_and_the_list_of_endpoints():
    """Each source has a class in the jar, and the list has the four endpoints."""
    members = contents(build.JAR)
    for source in JAVA.glob("mms_handler/*.java"):
        assert f"mms_handler/{source.stem}.class" in members
    assert members[build.SERVICES].decode().split() == [
        "mms_handler.ExecutionParameters",
        "mms_handler.Metrics",
        "mms_handler.Ping",
        "mms_handler.Routing",
    ]


def test_the_classes_run_on_java_8():
    """Their version is 52, whichever compiler built them."""
    for name, content in contents(build.JAR).items():
        if name.endswith(".class"):
            assert content[:8] == bytes.fromhex("cafebabe 0000 0034"), name


def test_building_again_gives_the_same_jar(tmp_path):
    """The same javac gives the same bytes, another one the same classes of the same sources."""
    compiler = build.javac()
    if compiler is None:
        pytest.skip("no javac here")
    again = tmp_path / "again.jar"
    build.build(again)
    assert manifest(again)["Javac"] == str(build.major(compiler))
    if manifest(again) == manifest(build.JAR):
        assert again.read_bytes() == build.JAR.read_bytes()
    else:
        assert manifest(again)["Sources"] == manifest(build.JAR)["Sources"]
        assert contents(again).keys() == contents(build.JAR).keys()
