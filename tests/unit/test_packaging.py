"""The sdist and the wheel, tried outside the repository."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from email import message_from_string
from pathlib import Path

import pytest

from mms_handler import __version__

ROOT = Path(__file__).parents[2]
PYTHONS = ("3.8", "3.9", "3.10", "3.11")
NAME = f"mms_handler-{__version__}"


def run(*command, cwd, **env):
    """Run a command in ``cwd`` without Python's variables; returns what it prints."""
    inherited = {name: value for name, value in os.environ.items() if name[:6] != "PYTHON"}
    done = subprocess.run(
        command,
        cwd=cwd,
        env={**inherited, **env},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


# --- the sdist and the wheel -----------------------------------------------------------------


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    """A copy of the repository, so that nothing is written in it."""
    folder = tmp_path_factory.mktemp("sources") / "repository"
    ignored = shutil.ignore_patterns(
        ".*", "build", "dist", "*.egg-info", "__pycache__", "benchmarks"
    )
    shutil.copytree(ROOT, folder, ignore=ignored)
    return folder


def build(sources, output):
    """As ``make dist``: the sdist, and the wheel from a copy of the sdist elsewhere."""
    command = (sys.executable, "-m", "build", "--no-isolation", "--outdir", str(output))
    run(*command, cwd=sources, SOURCE_DATE_EPOCH="1700000000")
    return output


@pytest.fixture(scope="module")
def dist(sources, tmp_path_factory):
    """The folder with both."""
    return build(sources, tmp_path_factory.mktemp("dist"))


@pytest.fixture(scope="module")
def wheel(dist):
    return dist / f"{NAME}-py3-none-any.whl"


@pytest.fixture(scope="module")
def metadata(wheel):
    """The wheel's METADATA."""
    with zipfile.ZipFile(wheel) as archive:
        return message_from_string(archive.read(f"{NAME}.dist-info/METADATA").decode())


@pytest.fixture(scope="module")
def package():
    """The package's files, by their names from the root."""
    files = [path for path in (ROOT / "mms_handler").rglob("*") if path.is_file()]
    return {str(path.relative_to(ROOT)) for path in files if path.parent.name != "__pycache__"}


def test_the_wheel_has_the_package_and_nothing_else(wheel, package):
    """Its Python, the front end's jar, the logging's set-up and the mark of types; no test."""
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert names == package
    assert {
        "mms_handler/plugins/mms_handler.jar",
        "mms_handler/log4j2.xml",
        "mms_handler/py.typed",
    } <= names


def test_the_sdist_has_the_package_and_the_sources_of_its_jar(dist, package):
    """Both programs can be built again from it."""
    with tarfile.open(dist / f"{NAME}.tar.gz") as archive:
        names = {name[len(NAME) + 1 :] for name in archive.getnames()}
    java = {str(path.relative_to(ROOT)) for path in (ROOT / "java").rglob("*.java")}
    assert package | java <= names
    assert {"LICENSE", "README.md", "CHANGELOG.md", "setup.py", "java/build.py"} <= names


def test_the_same_sources_give_the_same_bytes(sources, dist, tmp_path):
    """Whenever and by whom the files were checked out."""
    again = tmp_path / "elsewhere"
    shutil.copytree(sources, again, copy_function=shutil.copyfile)
    for path in again.rglob("*"):
        if path.is_file():
            path.chmod(0o600)
    build(again, tmp_path / "dist")
    assert {path.name: path.read_bytes() for path in (tmp_path / "dist").iterdir()} == {
        path.name: path.read_bytes() for path in dist.iterdir()
    }


def test_the_metadata_is_complete(metadata):
    """What an index shows: whose it is, under which licence, for which Pythons, and the README."""
    assert metadata["Name"] == "mms_handler"
    assert (
        metadata["Summary"]
        == "Serve, train and pack SageMaker MXNet scripts with Multi Model Server"
    )
    assert metadata["Author"] == metadata["Maintainer"] == "mms_handler maintainers"
    assert metadata["License"] == "Apache-2.0"
    assert metadata["License-File"] == "LICENSE"
    assert metadata["Requires-Python"] in ("<3.12,>=3.8", ">=3.8,<3.12")
    assert metadata["Description-Content-Type"] == "text/markdown"
    assert metadata.get_payload().strip() == (ROOT / "README.md").read_text().strip()
    classifiers = metadata.get_all("Classifier")
    prefix = "Programming Language :: Python :: 3."
    assert [name for name in classifiers if name.startswith(prefix)] == [
        f"Programming Language :: Python :: {python}" for python in PYTHONS
    ]
    assert "Typing :: Typed" in classifiers


@pytest.fixture(scope="module")
def clean(wheel, tmp_path_factory):
    """A new environment with the wheel; its bin folder.

    To save a minute of downloads, the dependencies are this environment's, added to the path after
    the new one's own packages. Nothing else of this environment is seen: the ``.pth`` file that
    stands for an editable install is not read in a folder that a ``.pth`` file adds.
    """
    folder = tmp_path_factory.mktemp("clean") / "environment"
    venv.create(folder, with_pip=False, symlinks=True)
    python = str(folder / "bin" / "python")
    pip = (sys.executable, "-m", "pip", "--python", python)
    run(*pip, "install", "--quiet", "--no-index", "--no-deps", str(wheel), cwd=folder)
    paths = "import sysconfig; print(sysconfig.get_path('purelib'))"
    packages = Path(run(python, "-c", paths, cwd=folder).strip())
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib"))
    return folder / "bin"


def test_the_wheel_works_outside_the_repository(clean, tmp_path):
    """Installed from it, the command runs, and loads a model as a worker does."""
    shutil.copytree(ROOT / "model_archives" / "linear", tmp_path / "linear")
    script = "import mms_handler; print(mms_handler.__file__)"
    imported = Path(run(str(clean / "python"), "-c", script, cwd=tmp_path).strip())
    assert clean.parent in imported.parents
    version = run(str(clean / "mms-handler"), "--version", cwd=tmp_path)
    assert version == f"mms-handler, version {__version__}\n"
    report = run(str(clean / "mms-handler"), "check", "linear", cwd=tmp_path)
    assert re.search(r"^ model +mxnet\.module\.module\.Module *$", report, re.MULTILINE)
