"""Run tests that start servers on a copy of the repository.

The copy has an environment of its own, with this environment's packages.  So all processes of the
tests import the copy's package: also those that get no PYTHONPATH, and Java's workers.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
import venv
from pathlib import Path
from typing import NamedTuple, Sequence

import psutil

_FAILED = re.compile(r"^(?:FAILED|ERROR) (\S+::\S.*?)(?: - .*)?$", re.MULTILINE)


class Tests(NamedTuple):
    """Tests that pass.

    Fields:
        arguments: pytest's, which select them; empty if there are none.
        seconds: how long they take.
    """

    arguments: list[str]
    seconds: float


def environment(copy: Path, folder: Path) -> Path:
    """Make an environment in ``folder``, and return its Python.

    Its commands, such as ``mms-handler``, are there, too.
    """
    venv.EnvBuilder(symlinks=True).create(folder)
    python = folder / "bin" / "python"
    (packages,) = folder.glob("lib/python*/site-packages")
    ours = sysconfig.get_path("purelib")
    (packages / "copy.pth").write_text(f"{copy}\nimport site; site.addsitedir({ours!r})\n")
    for path in Path(sys.executable).parent.iterdir():
        script = folder / "bin" / path.name
        if path.is_file() and not script.exists() and path.read_bytes()[:2] == b"#!":
            script.write_text(path.read_text().replace(sys.prefix, str(folder), 1))
            script.chmod(0o755)
    return python


def passing(copy: Path, python: Path, files: Sequence[str], jobs: int, end_s: float) -> Tests:
    """Run the tests of some files, until a moment, and return those that pass.

    Many tests wait: there are twice as many of them at a time as ``jobs``, one for each core.
    """
    start_s = time.monotonic()
    passed, failed = _run(copy, python, files, jobs, end_s - start_s)
    arguments = [*files, *(f"--deselect={name}" for name in failed)] if passed or failed else []
    return Tests(arguments, time.monotonic() - start_s)


def fail(copy: Path, python: Path, tests: Tests, jobs: int) -> bool:
    """Whether one of these tests fails, twice, or they take far longer than before."""
    if not tests.arguments:
        return False
    limit_s = 30 + 3 * tests.seconds
    passed, failed = _run(copy, python, ["-x", *tests.arguments], jobs, limit_s)
    if failed:  # on a busy machine a test may fail once
        passed, _ = _run(copy, python, failed, jobs, limit_s)
    return not passed


def _run(
    copy: Path, python: Path, arguments: Sequence[str], jobs: int, limit_s: float
) -> tuple[bool, list[str]]:
    """Run tests, end what they leave behind, and return whether all passed, and which failed.

    None failed if pytest did not end in time, or could not begin.
    """
    folder = python.parents[1]
    temporary = folder / "tmp"
    temporary.mkdir(exist_ok=True)
    command = [str(python), "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    env = {**os.environ, "TMPDIR": str(temporary)}
    env.pop("PYTHONDONTWRITEBYTECODE", None)  # each process would compile the package again
    with tempfile.TemporaryFile("w+") as output:
        process = subprocess.Popen(
            [*command, "-n", str(2 * jobs), "--dist", "worksteal", *arguments],
            cwd=copy,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
        try:
            code = process.wait(limit_s)
        except subprocess.TimeoutExpired:
            return False, []
        finally:
            _end_all(folder)
            process.wait()
            shutil.rmtree(temporary, ignore_errors=True)
        output.seek(0)
        return code == 0, _FAILED.findall(output.read())


def _end_all(folder: Path) -> None:
    """Kill what runs in an environment: a change may be that something does not end."""
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if any(str(folder) in word for word in process.cmdline()):
                process.kill()
