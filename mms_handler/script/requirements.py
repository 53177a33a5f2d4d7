"""Install a script's requirements.txt, once, into a folder for exactly these requirements.

requirements.txt ──key──▶ cache/<key> exists? ──no──▶ lock ▸ pip in an empty environment ▸ rename

pip runs in a temporary virtual environment that sees this Python's packages.  It does not install a
package again that this Python has in a fitting version, and does not change this Python.
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
from typing import Iterator

from mms_handler import settings
from mms_handler.errors import ScriptError, SettingsError

log = logging.getLogger(__name__)

REQUIREMENTS = "requirements.txt"

#: Where SageMaker keeps a script.  Requirements name their wheels by this path (CONTRACT C19).
SAGEMAKER_CODE = "/opt/ml/model/code"

#: The packages that are never replaced; ``mxnet-cu112`` is another build of ``mxnet``.
_FIXED = re.compile(r"numpy|mxnet(-(mkl|native|cu\d+(mkl)?))?")
_BUILT = re.compile(r"build|__pycache__|.+\.egg-info")  # what a build leaves beside the source

#: A line in which pip gives a reason.  Newer versions mark it with a cross and the package with an
#: arrow.
_REASON = re.compile(r"(?:ERROR: |\u00d7 |\u2570\u2500> (?!See above|\[))(.+)")


def paths(code: Path, cache: Path, *, shared: bool = False) -> list[Path]:
    """The folders to put on ``sys.path`` after the script's own.  Installs what is missing.

    Args:
        code: the script's folder; may have ``lib/``, ``requirements.txt`` and ``wheels/``.
        cache: folder for installed requirements; made if it does not exist.
        shared: whether other users may own ``cache`` or write to it, as when a person has set it.
            Otherwise what is there was put there by this user, or is not used.

    Returns:
        ``code/lib`` if it exists, then the folder with the installed requirements, if any.

    Raises:
        ScriptError: pip cannot install the requirements; gives pip's reason.
        SettingsError: ``cache`` cannot be written, or is not this user's alone.
    """
    code, cache = code.resolve(), cache.resolve()
    library = code / "lib"
    folders = [library] if library.is_dir() else []
    lines = _lines(code / REQUIREMENTS, ()) if (code / REQUIREMENTS).is_file() else []
    if any(map(str.strip, lines)):
        folder = cache / _key(lines, code)
        if not shared:
            refusal = settings.make_private(cache)
            if refusal:
                raise _cannot_install(cache, refusal)
        if not folder.is_dir():
            _install_once(lines, code, folder)
        folders.append(folder)
    return folders


def lines_of(path: Path) -> list[str]:
    """The lines of a requirements file, with those of the files that it includes.

    Raises:
        ScriptError: it includes a file that does not exist, or itself.
    """
    return _lines(path, ())


# --- the requirements ------------------------------------------------------------------------


def _lines(path: Path, parents: tuple[Path, ...]) -> list[str]:
    """The lines of ``path`` without comments, with those of the files it includes in place.

    Args:
        path: a requirements file.
        parents: the files that include it, outermost first.
    """
    if not path.is_file() or path in parents:
        raise ScriptError(
            f"{parents[-1].name} includes {path.name}, which does not exist or includes itself"
        )
    lines = path.read_bytes().decode("utf-8-sig", "replace").splitlines()
    included = [_line(re.sub(r"^\s*#.*", "", line), path, parents) for line in lines]
    return [line for part in included for line in part]


def _line(line: str, path: Path, parents: tuple[Path, ...]) -> list[str]:
    """What to write for ``line`` into a file elsewhere, where its paths must still be right."""
    option = re.match(r"\s*(-r|-c|-e|--requirement|--constraint|--editable)[\s=]*([^\s#]+)", line)
    if not option or re.match(r"https?:", option[2]):
        return [line]
    if option[1] in ("-e", "--editable"):  # -e would link to a folder that the cache may outlive
        return [line[option.start(2) :]]
    if option[1] in ("-r", "--requirement"):
        return _lines(path.parent / option[2], (*parents, path))
    return [f"-c {path.parent / option[2]}"]


def _names_files(line: str) -> bool:
    """Whether ``line`` names, or may name, files beside the script."""
    text = line.split(" #")[0].strip()
    if "file:" in text or text.startswith((".", "-c", "-f", "--find-links")):
        return True
    return "://" not in text and bool(re.search(r"/|\.(whl|zip|tar\.\w+|tgz)$", text))


def _key(lines: list[str], code: Path) -> str:
    """A name that is the same for the same requirements, local files and Python."""
    files = code if any(map(_names_files, lines)) else code / "wheels"
    requirements = [line.replace(str(code), "") for line in lines]
    parts = [sys.version, sys.prefix, *requirements, "", *_packages(), "", *_contents(files)]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _contents(folder: Path) -> Iterator[str]:
    """The name and the hash of each file in ``folder``."""
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder)
        if path.is_file() and not any(map(_BUILT.fullmatch, name.parts[:-1])):
            yield f"{name} {hashlib.sha256(path.read_bytes()).hexdigest()}"


# --- this Python -----------------------------------------------------------------------------


def _site_folders() -> list[str]:
    """The folders with this Python's packages."""
    return [
        folder for folder in sys.path if Path(folder).name in ("site-packages", "dist-packages")
    ]


def _packages() -> list[str]:
    """This Python's packages as ``name==version``, each in the version that is imported."""
    versions: dict[str, str] = {}
    for package in metadata.distributions(path=_site_folders()):
        name = re.sub(r"[-_.]+", "-", package.metadata["Name"] or "").lower()
        versions.setdefault(name, package.version)
    return sorted(f"{name}=={version}" for name, version in versions.items())


def _fixed() -> list[str]:
    """The packages that are never replaced, as ``name==version``."""
    return [package for package in _packages() if _FIXED.fullmatch(package.partition("==")[0])]


# --- installing ------------------------------------------------------------------------------


def _install_once(lines: list[str], code: Path, folder: Path) -> None:
    """Install to ``folder``, unless another process does so first."""
    with _locked(folder):
        if folder.is_dir():
            return
        for remains in folder.parent.glob(f".{folder.name}.*"):  # of a process that was killed
            shutil.rmtree(remains, ignore_errors=True)
        with tempfile.TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent) as scratch:
            _install(lines, code, Path(scratch)).rename(folder)


def _cannot_install(cache: Path, reason: str) -> SettingsError:
    return SettingsError(
        f"MMS_HANDLER_CACHE_DIR: requirements cannot be installed in {cache}: {reason}"
    )


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Keep other processes from installing to ``folder``.  A killed process loses its lock."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        file = folder.with_name(f"{folder.name}.lock").open("w")
    except OSError as exc:
        raise _cannot_install(folder.parent, str(exc.strerror)) from exc
    with file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _install(lines: list[str], code: Path, scratch: Path) -> Path:
    """Install what ``lines`` require and this Python lacks; returns the folder, in ``scratch``."""
    venv.create(scratch / "env", with_pip=False, symlinks=True)
    (folder,) = (scratch / "env" / "lib").glob("python*/site-packages")
    this_python = folder / "_this_python.pth"
    this_python.write_text("\n".join(_site_folders()))
    _pip(_pip_arguments(lines, code, scratch), code, scratch)
    this_python.unlink()
    _check_fixed(folder)
    return folder


def _pip_arguments(lines: list[str], code: Path, scratch: Path) -> list[str]:
    """Options of pip for the requirements and the fixed packages; offline if there are wheels."""
    real = str(code) if not Path(SAGEMAKER_CODE).exists() else SAGEMAKER_CODE
    requirements = [re.sub(rf"{SAGEMAKER_CODE}(?=/|$)", lambda _: real, line) for line in lines]
    (scratch / REQUIREMENTS).write_text("\n".join(requirements) + "\n", encoding="utf-8")
    (scratch / "fixed.txt").write_text("\n".join(_fixed()) + "\n")
    wheels = code / "wheels"
    offline = ["--no-index", "--find-links", str(wheels)] if wheels.is_dir() else []
    return ["-r", str(scratch / REQUIREMENTS), "-c", str(scratch / "fixed.txt"), *offline]


def _pip(arguments: list[str], code: Path, scratch: Path) -> None:
    # -I: pip runs in the script's folder, where files may have the names of pip's modules.
    python = [str(scratch / "env" / "bin" / "python"), "-I", "-m", "pip"]
    quiet = ["--disable-pip-version-check", "--no-input", "--no-color", "--require-virtualenv"]
    process = subprocess.run(
        [*python, *quiet, "install", "--no-user", "--progress-bar=off", *arguments],
        cwd=code,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    output = process.stdout.decode(errors="replace")
    level = logging.ERROR if process.returncode else logging.INFO
    log.log(level, "pip: %s", output[-6_000:].strip())
    if process.returncode:
        raise ScriptError(f"{REQUIREMENTS}: {_reason(output).replace(f'{scratch}/', '')}")


def _reason(output: str) -> str:
    """Why pip failed, in one line."""
    if re.search(r"No module named '?pip'?$", output, re.MULTILINE):
        return f"this Python has no pip to install packages with; run {sys.executable} -m ensurepip"
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    reasons = [match[1] for match in map(_REASON.match, lines) if match]
    last = (reasons or lines or ["pip printed nothing"])[-1]
    ends = [index for index, line in enumerate(lines) if line == "[end of output]"]
    build_error = [lines[index - 1] for index in ends[-1:]]
    return _conflict(lines) or ": ".join([last, *build_error])


def _conflict(lines: list[str]) -> str:
    """Which versions conflict; pip's last line only points to its documentation."""
    causes = [
        line.replace("The user requested (constraint) ", "this Python keeps ").replace(
            "The user requested ", f"{REQUIREMENTS} asks for "
        )
        for line in lines
        if line.startswith("The user requested ") or " depends on " in line
    ]
    return "; ".join(causes) if any("ResolutionImpossible" in line for line in lines) else ""


def _check_fixed(folder: Path) -> None:
    """Check that no package, of any name, brought another mxnet or numpy."""
    for name in ("mxnet", "numpy"):
        if (folder / name).exists():
            fixed = ", ".join(_fixed())
            raise ScriptError(f"{REQUIREMENTS} brings another {name}; this Python keeps {fixed}")
