"""script.requirements: requirements are installed once, and this Python is left unchanged.

The tests make every package themselves and run the real pip.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
import subprocess
import sys
import zipfile
from importlib import metadata

import pytest

from mms_handler import settings
from mms_handler.errors import ScriptError, SettingsError
from mms_handler.script import requirements

#: A build backend, so that building needs no network.  It adds a line to built.txt each time.
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
    """A script's folder with an empty code/wheels.  This machine's pip settings are ignored."""
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("BUILT", str(tmp_path / "built.txt"))
    (tmp_path / "code" / "wheels").mkdir(parents=True)
    return tmp_path / "code"


@pytest.fixture
def cache(tmp_path):
    return tmp_path / "cache"


@pytest.fixture(scope="module")
def ready(tmp_path_factory):
    """A script's folder and the cache with its installed requirements.  Tests must not change them.

    They are installed with pip's setting ``user = true``, which virtual environments refuse.
    """
    folder = tmp_path_factory.mktemp("ready")
    code = folder / "code"
    (code / "lib").mkdir(parents=True)
    (code / "wheels").mkdir()
    wheel(code / "wheels", "one", requires=["two>=2", "numpy", "requests"])
    wheel(code / "wheels", "two", "2.5")
    wheel(code / "wheels", "three")
    wheel(code / "wheels", "click", "0.1")
    fits = ("mxnet", installed("numpy"), "numpy<2", "requests")
    require(code, "# mine", "one==1.0  # with a comment", "", *fits, "click==0.1")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PIP_USER", "1")
        requirements.paths(code, folder / "cache")
    return code, folder / "cache"


def require(code, *lines):
    (code / "requirements.txt").write_text("\n".join(lines) + "\n")


def wheel(folder, name, version="1.0", requires=(), files=None):
    """A wheel with one module, ``name.py``, or with other files."""
    path = folder / f"{name}-{version}-py3-none-any.whl"
    dependencies = "".join(f"Requires-Dist: {requirement}\n" for requirement in requires)
    info = {
        "METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{dependencies}",
        "WHEEL": "Wheel-Version: 1.0\nTag: py3-none-any\n",
        "RECORD": "",
    }
    with zipfile.ZipFile(path, "w") as archive:
        for file, text in (files or {f"{name}.py": f"version = '{version}'\n"}).items():
            archive.writestr(file, text)
        for file, text in info.items():
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


def installed(name):
    return f"{name}=={metadata.version(name)}"


def digest(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


# --- the folders ---


@pytest.mark.parametrize("text", [None, "", "\n# empty\n"])
def test_without_requirements_nothing_is_created(code, cache, text):
    """Without a requirements.txt, and with an empty one."""
    if text is not None:
        (code / "requirements.txt").write_text(text)
    assert requirements.paths(code, cache) == []
    assert not cache.exists()


def test_code_lib_needs_no_requirements(code, cache):
    """Packages in code/lib are found without a requirements.txt."""
    (code / "lib").mkdir()
    assert requirements.paths(code, cache) == [code / "lib"]


def test_code_lib_comes_first(ready):
    """Its packages win over the installed ones."""
    lib, folder = requirements.paths(*ready)
    assert lib == ready[0] / "lib"
    assert folder.parent == ready[1]


def test_missing_packages_are_installed(ready):
    """And their own dependencies.  mxnet, numpy and requests are here, so they need no wheel."""
    folder = requirements.paths(*ready)[1]
    names = sorted(path.name for path in folder.iterdir() if path.name != "__pycache__")
    assert names == [
        "click-0.1.dist-info",
        "click.py",
        "one-1.0.dist-info",
        "one.py",
        "two-2.5.dist-info",
        "two.py",
    ]


def test_another_version_does_not_replace_this_pythons(ready):
    """The folder has the required click; this Python still has its own."""
    assert "version = '0.1'" in (requirements.paths(*ready)[1] / "click.py").read_text()
    check = "import click; print(click.__name__, hasattr(click, 'version'))"
    assert subprocess.check_output([sys.executable, "-c", check], text=True) == "click False\n"


def test_the_cache_has_only_the_folder_and_its_lock(ready):
    """Temporary files of the installation are gone."""
    folder = requirements.paths(*ready)[1]
    assert sorted(p.name for p in ready[1].iterdir()) == [folder.name, f"{folder.name}.lock"]


# --- packages that are never replaced ---


@pytest.mark.parametrize(
    ("line", "cause"),
    [
        ("numpy==1.26", "requirements.txt asks for numpy==1.26"),
        ("one", r"one 1.0 depends on numpy>=1.26"),
    ],
)
def test_another_numpy_is_refused(code, cache, line, cause):
    """The message gives the cause and the version that stays; no folder is left behind."""
    wheel(code / "wheels", "numpy", "1.26")
    wheel(code / "wheels", "one", requires=["numpy>=1.26"])
    require(code, line)
    with pytest.raises(ScriptError, match=f"{cause}; this Python keeps {installed('numpy')}"):
        requirements.paths(code, cache)
    assert [path.suffix for path in cache.iterdir()] == [".lock"]


@pytest.mark.parametrize("name", ["mxnet", "numpy"])
def test_another_package_that_brings_one_of_them(tmp_path, name):
    """Whatever it is called, it would be imported instead of this Python's."""
    requirements._check_fixed(tmp_path)
    (tmp_path / name).mkdir()
    with pytest.raises(ScriptError, match=f"^requirements.txt brings another {name}; this Python "):
        requirements._check_fixed(tmp_path)


def test_mxnet_under_another_name_is_refused(code, cache):
    """mxnet-cu112 is a second mxnet, which would be imported instead of the first."""
    wheel(code / "wheels", "mxnet_cu112", files={"mxnet/__init__.py": ""})
    require(code, "mxnet-cu112")
    with pytest.raises(ScriptError, match=f"brings another mxnet; .* {installed('mxnet')}"):
        requirements.paths(code, cache)
    assert [path.suffix for path in cache.iterdir()] == [".lock"]


# --- what requirements.txt may contain ---


def test_sources_are_built(code, cache):
    """Folders, links, repositories and included files are installed, not linked."""
    source(code / "src/one", "one")
    source(code / "src/two", "two")
    source(code / "src/three", "three")
    source(code / "src/four", "four")
    repository(code / "src/five", "five")
    repository(code / "src/six", "six")
    (code / "more").mkdir()
    (code / "more" / "other.txt").write_text("./src/one\n--requirement deeper.txt\n")
    (code / "more" / "deeper.txt").write_text(f"two @ file://{code}/src/two\n")
    git = f"git+file://{code}/src"
    require(
        code, "-r more/other.txt", "-e ./src/three", f"{code}/src/four", f"-e {git}/five#egg=five"
    )
    with (code / "requirements.txt").open("a") as file:
        file.write(f"{git}/six@main\n")
    (folder,) = requirements.paths(code, cache)
    assert modules(folder) == ["five.py", "four.py", "one.py", "six.py", "three.py", "two.py"]
    assert list(folder.glob("*.pth")) == []


def test_wheels_are_found_by_path(code, cache):
    """Relative to the script, absolute, and in SageMaker's folder (CONTRACT C19).

    A constraint is relative to its file.  The script's files may be called like pip's modules.
    """
    (code / "dist").mkdir()
    names = [f"{wheel(code / 'dist', name).name}" for name in ("one", "two", "three", "four")]
    for version in ("1.0", "2.0"):
        wheel(code / "dist", "five", version)
    for name in ("pip", "logging", "json"):
        (code / f"{name}.py").write_text("raise SystemExit('not me')")
    (code / "limits.txt").write_text("five<2\n")
    sagemaker = "/opt/ml/model/code/dist"
    require(code, f"./dist/{names[0]}", f"{code}/dist/{names[1]}", f"{sagemaker}/{names[2]}")
    with (code / "requirements.txt").open("a") as file:
        file.write(f"four @ file://{sagemaker}/{names[3]}\n-c limits.txt\n-f dist\nfive\n")
    (folder,) = requirements.paths(code, cache)
    assert modules(folder) == ["five.py", "four.py", "one.py", "three.py", "two.py"]
    assert "'1.0'" in (folder / "five.py").read_text()


def test_files_are_installed_by_their_hash(code, cache):
    """A lock file also has numpy's hash; numpy is here, so no file of it is needed."""
    right = digest(wheel(code / "wheels", "one", requires=["numpy"]))
    numpy = f"{installed('numpy')} --hash=sha256:{'0' * 64}"
    require(code, "--require-hashes", "one==1.0 \\", f"    --hash=sha256:{right}", numpy)
    (folder,) = requirements.paths(code, cache)
    assert modules(folder) == ["one.py"]


def test_a_file_with_another_hash_is_refused(code, cache):
    """With pip's own message."""
    wheel(code / "wheels", "one")
    require(code, f"one==1.0 --hash=sha256:{'0' * 64}")
    with pytest.raises(ScriptError, match="DO NOT MATCH THE HASHES"):
        requirements.paths(code, cache)


# --- once ---


def test_the_second_time_nothing_is_run(ready, tmp_path, monkeypatch):
    """The folder exists, so no process is started, not even for a copy of the script elsewhere."""
    monkeypatch.setattr(requirements.subprocess, "run", None)
    shutil.copytree(ready[0], tmp_path / "copy")
    first = requirements.paths(*ready)
    second = requirements.paths(tmp_path / "copy", ready[1])
    assert first[1] == second[1]


@pytest.mark.parametrize(
    ("change", "same"),
    [
        pytest.param(lambda code: require(code, "one", "./src"), False, id="requirements.txt"),
        pytest.param(lambda code: wheel(code / "wheels", "one", "1.1"), False, id="a wheel"),
        pytest.param(lambda code: (code / "src/a.py").write_text("2"), False, id="a source"),
        pytest.param(lambda code: (code / "more.txt").write_text("two"), False, id="an include"),
        pytest.param(lambda code: (code / "src/build/a").write_text("2"), True, id="a built file"),
        pytest.param(
            lambda code: (code / "src/a.egg-info/a").write_text("2"), True, id="metadata of a build"
        ),
        pytest.param(
            lambda code: (code / "__pycache__/a").write_text("2"), True, id="compiled Python"
        ),
    ],
)
def test_the_folder_is_for_these_contents(code, cache, monkeypatch, change, same):
    """Requirements, wheels and named files count; what a build leaves behind does not."""
    monkeypatch.setattr(requirements, "_install_once", lambda *_: None)
    for folder in ("src/build", "src/a.egg-info", "__pycache__"):
        (code / folder).mkdir(parents=True)
    (code / "more.txt").write_text("one")
    require(code, "-r more.txt", "./src")
    original = requirements.paths(code, cache)
    change(code)
    assert (requirements.paths(code, cache) == original) == same


def test_without_named_files_the_script_may_change(code, cache, monkeypatch):
    """If requirements name no files, a change of the script does not install them again."""
    monkeypatch.setattr(requirements, "_install_once", lambda *_: None)
    require(code, "one>=1,<2 ; python_version > '3'", "two[all]", "git+https://localhost/a/b.git")
    original = requirements.paths(code, cache)
    (code / "inference.py").write_text("")
    assert requirements.paths(code, cache) == original


def test_two_processes_install_once(code, cache, tmp_path):
    """Both get the same folder; one waits for the other."""
    source(code / "src", "one")
    require(code, "./src")
    call = (
        "import sys; from pathlib import Path; from mms_handler.script import requirements; "
        "print(*requirements.paths(Path(sys.argv[1]), Path(sys.argv[2])))"
    )
    command = [sys.executable, "-c", call, str(code), str(cache)]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    outputs = {process.communicate()[0] for process in both}
    assert [process.returncode for process in both] == [0, 0]
    assert outputs == {f"{requirements.paths(code, cache)[0]}\n"}
    assert (tmp_path / "built.txt").read_text() == "one\n"


def test_leftovers_of_a_killed_process_are_removed(code, cache):
    """An unfinished folder has another name, and the next installation removes it."""
    wheel(code / "wheels", "one")
    require(code, "one")
    lines = requirements._lines(code / "requirements.txt", ())
    name = requirements._key(lines, code)
    (cache / f".{name}.half" / "env").mkdir(parents=True)
    assert requirements.paths(code, cache) == [cache / name]
    assert sorted(path.name for path in cache.iterdir()) == [name, f"{name}.lock"]


# --- errors ---


def test_an_unknown_package_is_refused_with_pips_last_line(code, cache):
    """With code/wheels pip looks nowhere else; no folder is left behind."""
    require(code, "no-such-one")
    last = r"^requirements.txt: No matching distribution found for no-such-one$"
    with pytest.raises(ScriptError, match=last):
        requirements.paths(code, cache)
    assert [path.suffix for path in cache.iterdir()] == [".lock"]


def test_a_line_that_pip_cannot_read_is_refused(code, cache):
    """The message has the line."""
    require(code, "# mine", "", "one two")
    with pytest.raises(ScriptError, match=r"^requirements.txt: Invalid requirement: 'one two'"):
        requirements.paths(code, cache)


def test_a_source_that_cannot_be_built_is_refused(code, cache):
    """The message has the error of the build."""
    (source(code / "src", "one") / "backend.py").write_text("def build_wheel(*_): 1 / 0\n")
    require(code, "./src")
    with pytest.raises(ScriptError, match="^requirements.txt: .*: ZeroDivisionError: division by"):
        requirements.paths(code, cache)


@pytest.mark.parametrize(
    ("line", "written"),
    [
        *((f"{option} more.txt", ["one", "two"]) for option in ("-r", "--requirement")),
        ("-rmore.txt", ["one", "two"]),
        ("  --requirement=more.txt  # why", ["one", "two"]),
        *((f"{option} limits.txt", ["-c {code}/limits.txt"]) for option in ("-c", "--constraint")),
        *((f"{option} ./src", ["./src"]) for option in ("-e", "--editable")),
        ("-r https://example.com/a.txt", ["-r https://example.com/a.txt"]),
        ("-c http://example.com/a.txt", ["-c http://example.com/a.txt"]),
        ("--no-index", ["--no-index"]),
        ("one -r more.txt", ["one -r more.txt"]),
        ("# -r more.txt", [""]),
    ],
)
def test_the_lines_of_a_file(code, line, written):
    """Of files that it includes, too; paths are right elsewhere."""
    code.mkdir(exist_ok=True)
    (code / "more.txt").write_text("one\ntwo\n")
    (code / "requirements.txt").write_bytes(b"\xef\xbb\xbf" + line.encode())
    lines = requirements._lines(code / "requirements.txt", ())
    assert lines == [each.format(code=code) for each in written]


@pytest.mark.parametrize("included", ["gone.txt", "requirements.txt"])
def test_a_missing_or_circular_include_is_refused(code, cache, included):
    """A file that does not exist, and one that includes itself."""
    require(code, f"-r {included}")
    with pytest.raises(ScriptError, match=f"requirements.txt includes {included}, which does"):
        requirements.paths(code, cache)


def test_a_python_without_pip(code, cache, monkeypatch):
    """The message says how to install pip."""
    monkeypatch.setattr(requirements, "_site_folders", lambda: [])
    require(code, "one")
    with pytest.raises(ScriptError, match="this Python has no pip .* -m ensurepip"):
        requirements.paths(code, cache)


def test_a_cache_that_cannot_be_written(code, cache):
    """The message names the setting.  Here the cache is a file."""
    cache.write_text("")
    require(code, "one")
    with pytest.raises(SettingsError, match=r"^MMS_HANDLER_CACHE_DIR: .*cache: File exists$"):
        requirements.paths(code, cache)


# --- other users of the machine ---


def planted(code, cache):
    """Put a module where the requirements of ``code`` would be, and return its folder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(requirements, "_install_once", lambda lines, code, folder: folder.mkdir())
        (*_, folder) = requirements.paths(code, cache)
    (folder / "one.py").write_text("raise SystemExit('planted')")
    return folder


def give_away(cache, code, monkeypatch):
    """Let the folder belong to another user; only root can really do that."""
    if os.geteuid() == 0:
        os.chown(cache, 12345, -1)
    else:
        monkeypatch.setattr(requirements.os, "geteuid", lambda: os.getuid() + 1)


def link_to_anothers(cache, code, monkeypatch):
    cache.rename(cache.with_name("elsewhere"))
    cache.symlink_to(cache.with_name("elsewhere"))
    give_away(cache, code, monkeypatch)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        pytest.param(give_away, "it belongs to another user", id="another user's"),
        pytest.param(link_to_anothers, "it belongs to another user", id="a link to another user's"),
        pytest.param(
            lambda cache, *_: cache.chmod(0o777), "other users can write to it", id="everyone's"
        ),
        pytest.param(
            lambda cache, *_: cache.chmod(0o770), "other users can write to it", id="a group's"
        ),
        pytest.param(
            lambda cache, *_: cache.parent.chmod(0o777),
            "other users can replace it",
            id="in a folder without a sticky bit",
        ),
    ],
)
def test_what_other_users_put_there_is_not_used(code, cache, monkeypatch, change, reason):
    """A module that lies there would run in the worker.  A folder that a person set is used."""
    wheel(code / "wheels", "one")
    require(code, "one")
    folder = planted(code, cache)
    change(cache, code, monkeypatch)
    with pytest.raises(SettingsError) as caught:
        requirements.paths(code, cache)
    message = str(caught.value)
    assert message.startswith("MMS_HANDLER_CACHE_DIR: requirements cannot be installed in ")
    assert f": {reason}; " in message
    assert [path.resolve() for path in requirements.paths(code, cache, shared=True)] == [
        folder.resolve()
    ]


@pytest.mark.parametrize("shared", [False, True])
def test_a_cache_below_a_file(code, tmp_path, shared):
    """The message names the variable and what the system says."""
    require(code, "one")
    (tmp_path / "file").touch()
    with pytest.raises(SettingsError, match="^MMS_HANDLER_CACHE_DIR: .*file/cache: (Not a|File)"):
        requirements.paths(code, tmp_path / "file" / "cache", shared=shared)


@pytest.mark.parametrize("shared", [False, True])
def test_the_folders_of_a_cache_are_made(code, tmp_path, shared):
    """A home may have no .cache yet."""
    wheel(code / "wheels", "one")
    require(code, "one")
    cache = tmp_path / "home" / ".cache" / "mms_handler"
    if not shared:
        assert settings.make_private(cache) is None
        assert settings.make_private(cache) is None  # it may stay
    else:
        with requirements._locked(cache / "key"):
            pass
    assert cache.is_dir()


def test_the_cache_is_for_its_user_alone(code, cache, monkeypatch):
    """Whatever the process's umask; a sticky folder like /tmp is no danger."""
    require(code, "one")
    cache.parent.chmod(0o1777)
    before = os.umask(0)
    try:
        planted(code, cache)
    finally:
        os.umask(before)
    assert stat.S_IMODE(cache.stat().st_mode) == 0o700
    assert requirements.paths(code, cache)[0].parent == cache


def test_this_pythons_packages(tmp_path, monkeypatch):
    """By their usual names, in the versions that are imported: those that come first."""
    folders = [tmp_path / "a" / "site-packages", tmp_path / "b" / "dist-packages"]
    packages = [(0, "Some_Package", "1.0"), (1, "some-package", "2.0"), (1, "numpy", "1.23.5")]
    for number, name, version in packages:
        folder = folders[number] / f"{name.replace('-', '_')}-{version}.dist-info"
        folder.mkdir(parents=True)
        (folder / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
        )
    (tmp_path / "other" / "x-1.dist-info").mkdir(parents=True)
    monkeypatch.setattr(sys, "path", [*map(str, folders), str(tmp_path / "other")])
    assert requirements._packages() == ["numpy==1.23.5", "some-package==1.0"]
    assert requirements._fixed() == ["numpy==1.23.5"]


@pytest.mark.parametrize(
    ("line", "names"),
    [
        ("numpy", False),
        ("numpy==1.2 # see a/b", False),
        ("a @ https://host/a.whl", False),
        ("a.b", False),
        ("wheels/a.whl", True),
        ("a.whl", True),
        ("a.zip", True),
        ("a.tar.gz", True),
        ("a.tgz", True),
        ("folder/", True),
        (".", True),
        ("./folder", True),
        ("-c limits.txt", True),
        ("-f folder", True),
        ("--find-links folder", True),
        ("a @ file:///a", True),
    ],
)
def test_lines_that_name_files(line, names):
    """What they name counts for the folder's key, too."""
    assert requirements._names_files(line) is names


@pytest.mark.parametrize(
    ("output", "reason"),
    [
        ("", "pip printed nothing"),
        (" \n", "pip printed nothing"),
        ("Collecting one\nsomething odd\n", "something odd"),
        ("ERROR: first\nERROR: last\nnote: this\n", "last"),
        ("ERROR: no\n  a line\n  SyntaxError: bad\n  [end of output]\n", "no: SyntaxError: bad"),
        (
            "\u00d7 Getting requirements failed\n\u2570\u2500> See above for output.\n",
            "Getting requirements failed",
        ),
    ],
)
def test_why_pip_failed(output, reason):
    """The last reason that it marks, with the end of a build's output."""
    assert requirements._reason(output) == reason
