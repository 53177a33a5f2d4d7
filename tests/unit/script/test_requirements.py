"""dependencies: requirements installed once, apart, with what this Python has left as it is.

Every package here is made on the spot, and pip is the real one.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import zipfile
from importlib import metadata

import pytest

from mms_handler.errors import ScriptError, SettingsError
from mms_handler.script import requirements

#: A build backend of its own, so that building needs no network; notes its builds in built.txt.
BACKEND = """
import os, zipfile

def build_wheel(folder, config_settings=None, metadata_directory=None):
    with open(os.environ["BUILT"], "a") as file:
        file.write("NAME\\n")
    info = "NAME-1.0.dist-info/"
    with zipfile.ZipFile(os.path.join(folder, "NAME-1.0-py3-none-any.whl"), "w") as wheel:
        wheel.write("NAME.py")
        wheel.writestr(info + "METADATA", "Metadata-Version: 2.1\\nName: NAME\\nVersion: 1.0\\n")
        wheel.writestr(info + "WHEEL", "Wheel-Version: 1.0\\nTag: py3-none-any\\n")
        wheel.writestr(info + "RECORD", "")
    return "NAME-1.0-py3-none-any.whl"
"""


@pytest.fixture
def code(tmp_path, monkeypatch):
    """A script's folder with an empty code/wheels; pip's own settings of this machine are off."""
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("BUILT", str(tmp_path / "built.txt"))
    (tmp_path / "code" / "wheels").mkdir(parents=True)
    return tmp_path / "code"


@pytest.fixture
def cache(tmp_path):
    return tmp_path / "cache"


@pytest.fixture(scope="module")
def ready(tmp_path_factory):
    """A script's folder and the cache in which its requirements are installed; not to be changed.

    Installed where the user's pip is set to ``user = true``, which no environment of its own takes.
    """
    home = tmp_path_factory.mktemp("ready")
    code = home / "code"
    (code / "lib").mkdir(parents=True)
    (code / "wheels").mkdir()
    wheel(code / "wheels", "one", requires=["two>=2", "numpy", "requests"])
    wheel(code / "wheels", "two", "2.5")
    wheel(code / "wheels", "three")
    wheel(code / "wheels", "click", "0.1")
    fits = ("mxnet", running("numpy"), "numpy<2", "requests")
    ask(code, "# mine", "one==1.0  # with a comment", "", *fits, "click==0.1")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PIP_USER", "1")
        requirements.paths(code, home / "cache")
    return code, home / "cache"


def ask(code, *lines):
    (code / "requirements.txt").write_text("\n".join(lines) + "\n")


def wheel(folder, name, version="1.0", requires=(), files=None):
    """A wheel with one module, ``name.py``, or with other files."""
    path = folder / f"{name}-{version}-py3-none-any.whl"
    needs = "".join(f"Requires-Dist: {one}\n" for one in requires)
    about = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{needs}"
    told = {"METADATA": about, "WHEEL": "Wheel-Version: 1.0\nTag: py3-none-any\n", "RECORD": ""}
    with zipfile.ZipFile(path, "w") as archive:
        for file, text in (files or {f"{name}.py": f"version = '{version}'\n"}).items():
            archive.writestr(file, text)
        for file, text in told.items():
            archive.writestr(f"{name}-{version}.dist-info/{file}", text)
    return path


def source(folder, name):
    """A folder that pip can build: ``name`` 1.0."""
    folder.mkdir(parents=True)
    (folder / f"{name}.py").write_text("")
    (folder / "backend.py").write_text(BACKEND.replace("NAME", name))
    (folder / "pyproject.toml").write_text(
        '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
    )
    return folder


def repository(folder, name):
    """The same, in a git repository with a branch ``main``."""
    source(folder, name)
    for command in ("init -q -b main", "add .", "commit -q -m one"):
        git = ["git", "-c", "user.name=a", "-c", "user.email=a@b", *command.split()]
        subprocess.run(git, cwd=folder, check=True)


def modules(folder):
    return sorted(path.name for path in folder.glob("*.py"))


def running(name):
    return f"{name}=={metadata.version(name)}"


def digest(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


# --- the folders ---


@pytest.mark.parametrize("text", [None, "", "\n# nothing yet\n"])
def test_without_requirements_nothing_is_made(code, cache, text):
    """No requirements.txt, or one that says nothing."""
    if text is not None:
        (code / "requirements.txt").write_text(text)
    assert requirements.paths(code, cache) == []
    assert not cache.exists()


def test_code_lib_is_a_folder_of_its_own(code, cache):
    """What the script brings along needs no requirements.txt."""
    (code / "lib").mkdir()
    assert requirements.paths(code, cache) == [code / "lib"]


def test_code_lib_comes_first(ready):
    """It wins over what is installed."""
    lib, folder = requirements.paths(*ready)
    assert lib == ready[0] / "lib"
    assert folder.parent == ready[1]


def test_what_is_asked_for_and_missing_is_installed(ready):
    """With what it needs in turn.  Mxnet, numpy and requests are here, and no wheel of them."""
    folder = requirements.paths(*ready)[1]
    found = sorted(path.name for path in folder.iterdir() if path.name != "__pycache__")
    assert found == [
        "click-0.1.dist-info",
        "click.py",
        "one-1.0.dist-info",
        "one.py",
        "two-2.5.dist-info",
        "two.py",
    ]


def test_another_version_is_put_beside_this_pythons(ready):
    """The folder has the click that is asked for; this Python keeps its own."""
    assert "version = '0.1'" in (requirements.paths(*ready)[1] / "click.py").read_text()
    check = "import click; print(click.__name__, hasattr(click, 'version'))"
    assert subprocess.check_output([sys.executable, "-c", check], text=True) == "click False\n"


def test_the_cache_holds_the_folder_and_its_lock_alone(ready):
    """What was made on the way is gone."""
    folder = requirements.paths(*ready)[1]
    assert sorted(p.name for p in ready[1].iterdir()) == [folder.name, f"{folder.name}.lock"]


# --- what stays as it is ---


@pytest.mark.parametrize(
    ("line", "asked"),
    [
        ("numpy==1.26", "requirements.txt asks for numpy==1.26"),
        ("one", r"one 1.0 depends on numpy>=1.26"),
    ],
)
def test_another_numpy_is_refused(code, cache, line, asked):
    """It says who asks for what, and what is fixed; no folder is left."""
    wheel(code / "wheels", "numpy", "1.26")
    wheel(code / "wheels", "one", requires=["numpy>=1.26"])
    ask(code, line)
    with pytest.raises(ScriptError, match=f"{asked}; fixed here is {running('numpy')}"):
        requirements.paths(code, cache)
    assert [path.suffix for path in cache.iterdir()] == [".lock"]


def test_mxnet_under_another_name_is_refused(code, cache):
    """mxnet-cu112 is a second mxnet, and would be imported in the place of the first."""
    wheel(code / "wheels", "mxnet_cu112", files={"mxnet/__init__.py": ""})
    ask(code, "mxnet-cu112")
    with pytest.raises(ScriptError, match=f"brings another mxnet; .* {running('mxnet')}"):
        requirements.paths(code, cache)
    assert [path.suffix for path in cache.iterdir()] == [".lock"]


# --- all that requirements.txt may say ---


def test_sources_are_built(code, cache):
    """Folders, links, repositories and included files: all are in the cache, none is linked."""
    source(code / "src/one", "one")
    source(code / "src/two", "two")
    source(code / "src/three", "three")
    source(code / "src/four", "four")
    repository(code / "src/five", "five")
    repository(code / "src/six", "six")
    (code / "more").mkdir()
    (code / "more" / "other.txt").write_text("./src/one\n-r deeper.txt\n")
    (code / "more" / "deeper.txt").write_text(f"two @ file://{code}/src/two\n")
    git = f"git+file://{code}/src"
    ask(code, "-r more/other.txt", "-e ./src/three", f"{code}/src/four", f"-e {git}/five#egg=five")
    with (code / "requirements.txt").open("a") as file:
        file.write(f"{git}/six@main\n")
    (folder,) = requirements.paths(code, cache)
    assert modules(folder) == ["five.py", "four.py", "one.py", "six.py", "three.py", "two.py"]
    assert list(folder.glob("*.pth")) == []


def test_wheels_are_found_by_path(code, cache):
    """Relative to the script, absolute, and where SageMaker has the script (CONTRACT C19).

    A constraint is relative to the file it is in, and files of the script that are called like
    modules of pip do no harm.
    """
    (code / "dist").mkdir()
    names = [f"{wheel(code / 'dist', name).name}" for name in ("one", "two", "three", "four")]
    for version in ("1.0", "2.0"):
        wheel(code / "dist", "five", version)
    for name in ("pip", "logging", "json"):
        (code / f"{name}.py").write_text("raise SystemExit('not me')")
    (code / "limits.txt").write_text("five<2\n")
    sagemaker = "/opt/ml/model/code/dist"
    ask(code, f"./dist/{names[0]}", f"{code}/dist/{names[1]}", f"{sagemaker}/{names[2]}")
    with (code / "requirements.txt").open("a") as file:
        file.write(f"four @ file://{sagemaker}/{names[3]}\n-c limits.txt\n-f dist\nfive\n")
    (folder,) = requirements.paths(code, cache)
    assert modules(folder) == ["five.py", "four.py", "one.py", "three.py", "two.py"]
    assert "'1.0'" in (folder / "five.py").read_text()


def test_files_are_installed_by_their_hash(code, cache):
    """A locked file also has numpy's, which is here and so is not looked for."""
    right = digest(wheel(code / "wheels", "one", requires=["numpy"]))
    numpy = f"{running('numpy')} --hash=sha256:{'0' * 64}"
    ask(code, "--require-hashes", "one==1.0 \\", f"    --hash=sha256:{right}", numpy)
    (folder,) = requirements.paths(code, cache)
    assert modules(folder) == ["one.py"]


def test_a_file_with_another_hash_is_refused(code, cache):
    """In pip's words."""
    wheel(code / "wheels", "one")
    ask(code, f"one==1.0 --hash=sha256:{'0' * 64}")
    with pytest.raises(ScriptError, match="DO NOT MATCH THE HASHES"):
        requirements.paths(code, cache)


# --- once ---


def test_the_second_time_nothing_is_run(ready, tmp_path, monkeypatch):
    """The folder is there, so no process is started, also for a copy of the script elsewhere."""
    monkeypatch.setattr(requirements.subprocess, "run", None)
    shutil.copytree(ready[0], tmp_path / "copy")
    here, there = (
        requirements.paths(*ready),
        requirements.paths(tmp_path / "copy", ready[1]),
    )
    assert here[1] == there[1]


@pytest.mark.parametrize(
    ("change", "same"),
    [
        pytest.param(lambda code: ask(code, "one", "./src"), False, id="requirements.txt"),
        pytest.param(lambda code: wheel(code / "wheels", "one", "1.1"), False, id="a wheel"),
        pytest.param(lambda code: (code / "src/a.py").write_text("2"), False, id="a source"),
        pytest.param(lambda code: (code / "more.txt").write_text("two"), False, id="an include"),
        pytest.param(
            lambda code: (code / "src/build/a").write_text("2"), True, id="what was built"
        ),
        pytest.param(
            lambda code: (code / "src/a.egg-info/a").write_text("2"), True, id="what is told of it"
        ),
        pytest.param(
            lambda code: (code / "__pycache__/a").write_text("2"), True, id="what was compiled"
        ),
    ],
)
def test_the_folder_is_for_these_contents(code, cache, monkeypatch, change, same):
    """Requirements, wheels and the files that requirements name; not what building them leaves."""
    monkeypatch.setattr(requirements, "_install_alone", lambda *_: None)
    for folder in ("src/build", "src/a.egg-info", "__pycache__"):
        (code / folder).mkdir(parents=True)
    (code / "more.txt").write_text("one")
    ask(code, "-r more.txt", "./src")
    before = requirements.paths(code, cache)
    change(code)
    assert (requirements.paths(code, cache) == before) == same


def test_without_named_files_the_script_may_change(code, cache, monkeypatch):
    """Another line in the script is no reason to install again."""
    monkeypatch.setattr(requirements, "_install_alone", lambda *_: None)
    ask(code, "one>=1,<2 ; python_version > '3'", "two[all]", "git+https://localhost/a/b.git")
    before = requirements.paths(code, cache)
    (code / "inference.py").write_text("")
    assert requirements.paths(code, cache) == before


def test_two_processes_install_once(code, cache, tmp_path):
    """Both get the same folder; one of them waited for the other."""
    source(code / "src", "one")
    ask(code, "./src")
    call = (
        "import sys; from pathlib import Path; from mms_handler.script import requirements; "
        "print(*requirements.paths(Path(sys.argv[1]), Path(sys.argv[2])))"
    )
    command = [sys.executable, "-c", call, str(code), str(cache)]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    said = {process.communicate()[0] for process in both}
    assert [process.returncode for process in both] == [0, 0]
    assert said == {f"{requirements.paths(code, cache)[0]}\n"}
    assert (tmp_path / "built.txt").read_text() == "one\n"


def test_what_a_killed_process_left_is_cleared_away(code, cache):
    """A half-made folder is under another name, and goes with the next attempt."""
    wheel(code / "wheels", "one")
    ask(code, "one")
    lines = requirements._lines(code / "requirements.txt", ())
    name = requirements._key(lines, code)
    (cache / f".{name}.half" / "env").mkdir(parents=True)
    assert requirements.paths(code, cache) == [cache / name]
    assert sorted(path.name for path in cache.iterdir()) == [name, f"{name}.lock"]


# --- what goes wrong ---


def test_what_cannot_be_found_is_refused_with_pips_last_line(code, cache):
    """With code/wheels nothing else is looked at; no folder is left."""
    ask(code, "no-such-one")
    last = r"^requirements.txt: No matching distribution found for no-such-one$"
    with pytest.raises(ScriptError, match=last):
        requirements.paths(code, cache)
    assert [path.suffix for path in cache.iterdir()] == [".lock"]


def test_a_line_that_pip_cannot_read_is_refused(code, cache):
    """With the line."""
    ask(code, "# mine", "", "one two")
    with pytest.raises(ScriptError, match=r"^requirements.txt: Invalid requirement: 'one two'"):
        requirements.paths(code, cache)


def test_a_source_that_cannot_be_built_is_refused(code, cache):
    """With what stopped it."""
    (source(code / "src", "one") / "backend.py").write_text("def build_wheel(*_): 1 / 0\n")
    ask(code, "./src")
    with pytest.raises(ScriptError, match="^requirements.txt: .*: ZeroDivisionError: division by"):
        requirements.paths(code, cache)


@pytest.mark.parametrize("included", ["gone.txt", "requirements.txt"])
def test_an_included_file_that_is_not_there_is_refused(code, cache, included):
    """Or one that includes itself."""
    ask(code, f"-r {included}")
    with pytest.raises(ScriptError, match=f"requirements.txt includes {included}, which"):
        requirements.paths(code, cache)


def test_a_python_without_pip_says_so(code, cache, monkeypatch):
    """And how to get one."""
    monkeypatch.setattr(requirements, "_site", lambda: [])
    ask(code, "one")
    with pytest.raises(ScriptError, match="there is no pip .* -m ensurepip"):
        requirements.paths(code, cache)


def test_a_cache_that_cannot_be_written_names_the_setting(code, cache):
    """Here it is a file."""
    cache.write_text("")
    ask(code, "one")
    with pytest.raises(SettingsError, match=r"^MMS_HANDLER_CACHE_DIR: .*cache: File exists$"):
        requirements.paths(code, cache)
