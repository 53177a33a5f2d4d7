"""Install what a script's requirements.txt names, once, into a folder of its own.

requirements.txt ──key──▶ cache/<key> there? ──no──▶ lock ▸ pip in an empty environment ▸ rename

pip runs in a virtual environment made for the occasion, which sees the packages of this Python:
what is there and fits is not installed again, and nothing of this Python is changed.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import logging
import re
import shutil
import subprocess
import sys
import tempfile
import venv
from importlib import metadata
from pathlib import Path
from typing import IO, Iterator

from mms_handler.errors import ScriptError, SettingsError

log = logging.getLogger(__name__)

REQUIREMENTS = "requirements.txt"

#: Where SageMaker keeps a script; requirements name their wheels by it (CONTRACT C19).
SAGEMAKER_CODE = "/opt/ml/model/code"

#: The packages that stay as they are; ``mxnet-cu112`` is another build of ``mxnet``.
_FIXED = re.compile(r"numpy|mxnet(-(mkl|native|cu\d+(mkl)?))?")
_BUILT = re.compile(r"build|__pycache__|.+\.egg-info")  # what building leaves beside the source


#: Where pip tells what went wrong; in its later words a cross, and an arrow to the package.
_TOLD = re.compile(r"(?:ERROR: |\u00d7 |\u2570\u2500> (?!See above|\[))(.+)")


def paths(code: Path, cache: Path) -> list[Path]:
    """Folders for ``sys.path``, right behind the script's own.

    Args:
        code: the script's folder; may have ``lib/``, ``requirements.txt`` and ``wheels/``.
        cache: where installed requirements are kept; made if it is not there.

    Returns:
        ``code/lib`` if it is there, then the folder with what requirements.txt names.

    Raises:
        ScriptError: the requirements cannot be installed; says why in pip's words.
        SettingsError: ``cache`` cannot be written.
    """
    library = code.resolve() / "lib"
    return ([library] if library.is_dir() else []) + _requirements(code.resolve(), cache.resolve())


def _requirements(code: Path, cache: Path) -> list[Path]:
    lines = _lines(code / REQUIREMENTS, ()) if (code / REQUIREMENTS).is_file() else []
    if not any(map(str.strip, lines)):
        return []
    folder = cache / _key(lines, code)
    if not folder.is_dir():
        _install_alone(lines, code, folder)
    return [folder]


# --- what is asked for -----------------------------------------------------------------------


def _lines(path: Path, within: tuple[Path, ...]) -> list[str]:
    """The lines of ``path`` without comments, those of the files it includes in their place."""
    if not path.is_file() or path in within:
        raise ScriptError(f"{within[-1].name} includes {path.name}, which is not there or a circle")
    lines = path.read_bytes().decode("utf-8-sig", "replace").splitlines()
    found = [_line(re.sub(r"^\s*#.*", "", one), path, within) for one in lines]
    return [one for some in found for one in some]


def _line(line: str, path: Path, within: tuple[Path, ...]) -> list[str]:
    """``line`` as it can stand in another file, from which relative names would be others."""
    option = re.match(r"\s*(-r|-c|-e|--requirement|--constraint|--editable)[\s=]*([^\s#]+)", line)
    if not option or re.match(r"https?:", option[2]):
        return [line]
    if option[1] in ("-e", "--editable"):  # a link into a folder that may go while the cache stays
        return [line[option.start(2) :]]
    if option[1] in ("-r", "--requirement"):
        return _lines(path.parent / option[2], (*within, path))
    return [f"-c {path.parent / option[2]}"]


def _names_files(line: str) -> bool:
    """Whether what ``line`` asks for is, or may be, in files beside the script."""
    text = line.split(" #")[0].strip()
    if "file:" in text or text.startswith((".", "-c", "-f", "--find-links")):
        return True
    return "://" not in text and bool(re.search(r"/|\.(whl|zip|tar\.\w+|tgz)$", text))


def _key(lines: list[str], code: Path) -> str:
    """One name for the same requirements, the same local files and the same Python."""
    files = code if any(map(_names_files, lines)) else code / "wheels"
    said = [line.replace(str(code), "") for line in lines]
    told = [sys.version, sys.prefix, *said, "", *_packages(), "", *_contents(files)]
    return hashlib.sha256("\n".join(told).encode()).hexdigest()


def _contents(folder: Path) -> Iterator[str]:
    """Name and hash of each file in ``folder``."""
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder)
        if path.is_file() and not any(map(_BUILT.fullmatch, name.parts[:-1])):
            yield f"{name} {hashlib.sha256(path.read_bytes()).hexdigest()}"


# --- what is there ---------------------------------------------------------------------------


def _site() -> list[str]:
    """The folders with this Python's packages."""
    return [one for one in sys.path if Path(one).name in ("site-packages", "dist-packages")]


def _packages() -> list[str]:
    """This Python's packages as ``name==version``, first found first, as imports have it."""
    found: dict[str, str] = {}
    for one in metadata.distributions(path=_site()):
        found.setdefault(_normal(one.metadata["Name"] or ""), one.version)
    return sorted(f"{name}=={version}" for name, version in found.items())


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _fixed() -> list[str]:
    return [one for one in _packages() if _FIXED.fullmatch(one.partition("==")[0])]


# --- installing ------------------------------------------------------------------------------


def _install_alone(lines: list[str], code: Path, folder: Path) -> None:
    """``folder`` is there, whole, made by this process or by another that was faster."""
    with _lock(folder):
        if folder.is_dir():
            return
        for left in folder.parent.glob(f".{folder.name}.*"):  # by a process that was killed
            shutil.rmtree(left, ignore_errors=True)
        with tempfile.TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent) as work:
            _install(lines, code, Path(work)).rename(folder)


@contextlib.contextmanager
def _lock(folder: Path) -> Iterator[None]:
    """Nobody else installs into ``folder`` meanwhile; the system unlocks for who is killed."""
    with _opened(folder.with_name(f"{folder.name}.lock")) as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _opened(path: Path) -> IO[str]:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return path.open("w")
    except OSError as exc:
        raise SettingsError(
            f"MMS_HANDLER_CACHE_DIR: requirements cannot be installed in {path.parent}: "
            f"{exc.strerror}"
        ) from exc


def _install(lines: list[str], code: Path, work: Path) -> Path:
    """The folder in ``work`` with all that ``lines`` ask for and this Python lacks."""
    venv.create(work / "env", with_pip=False, symlinks=True)
    (folder,) = (work / "env" / "lib").glob("python*/site-packages")
    seen = folder / "_this_python.pth"
    seen.write_text("\n".join(_site()))
    _pip(_asked(lines, code, work), code, work)
    seen.unlink()
    _check(folder)
    return folder


def _asked(lines: list[str], code: Path, work: Path) -> list[str]:
    """Pip's arguments: the requirements, what is fixed, and where to look without a network."""
    here = str(code) if not Path(SAGEMAKER_CODE).exists() else SAGEMAKER_CODE
    asked = [re.sub(rf"{SAGEMAKER_CODE}(?=/|$)", lambda _: here, line) for line in lines]
    (work / REQUIREMENTS).write_text("\n".join(asked) + "\n", encoding="utf-8")
    (work / "fixed.txt").write_text("\n".join(_fixed()) + "\n")
    wheels = code / "wheels"
    offline = ["--no-index", "--find-links", str(wheels)] if wheels.is_dir() else []
    return ["-r", str(work / REQUIREMENTS), "-c", str(work / "fixed.txt"), *offline]


def _pip(asked: list[str], code: Path, work: Path) -> None:
    # -I: the script's folder, where pip runs, may have files that are called like its modules.
    python = [str(work / "env" / "bin" / "python"), "-I", "-m", "pip"]
    quiet = ["--disable-pip-version-check", "--no-input", "--no-color", "--require-virtualenv"]
    done = subprocess.run(
        [*python, *quiet, "install", "--no-user", "--progress-bar=off", *asked],
        cwd=code,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    said = done.stdout.decode(errors="replace")
    log.log(logging.ERROR if done.returncode else logging.INFO, "pip: %s", said[-6_000:].strip())
    if done.returncode:
        raise ScriptError(f"{REQUIREMENTS}: {_reason(said).replace(f'{work}/', '')}")


def _reason(said: str) -> str:
    """What kept pip from installing, in one line."""
    if re.search(r"No module named '?pip'?$", said, re.MULTILINE):
        return f"there is no pip to install it with; try {sys.executable} -m ensurepip"
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    found = [one[1] for one in map(_TOLD.match, lines) if one]
    last = (found or lines or ["pip said nothing"])[-1]
    ends = [index for index, line in enumerate(lines) if line == "[end of output]"]
    built = [lines[index - 1] for index in ends[-1:]]  # what stopped a build
    return _conflict(lines) or ": ".join([last, *built])


def _conflict(lines: list[str]) -> str:
    """Who asked for what and what is fixed; pip's last line only tells of its documentation."""
    causes = [
        line.replace("The user requested (constraint) ", "fixed here is ").replace(
            "The user requested ", f"{REQUIREMENTS} asks for "
        )
        for line in lines
        if line.startswith("The user requested ") or " depends on " in line
    ]
    return "; ".join(causes) if any("ResolutionImpossible" in line for line in lines) else ""


def _check(folder: Path) -> None:
    """No other mxnet or numpy was installed, under whatever name."""
    for name in ("mxnet", "numpy"):
        if (folder / name).exists():
            fixed = ", ".join(_fixed())
            raise ScriptError(f"{REQUIREMENTS} brings another {name}; fixed here is {fixed}")
