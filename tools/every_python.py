"""Run all tests on each supported Python of this machine, and print a table.

The exit code is 1 if a test fails.  Each Python has an environment of its own, .venv-3.x, which
make creates and keeps.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
VERSIONS = ("3.8", "3.9", "3.10", "3.11")
TARGETS = ("quick", "e2e")


class Result(NamedTuple):
    """What one make said: pytest's counts, the tests that failed, and how long it took."""

    counts: dict[str, int]
    failures: list[str]
    code: int
    seconds: float


def interpreter(version: str) -> str | None:
    """A Python of this version that works, on the PATH or among pyenv's; None without one."""
    name = f"python{version}"
    pyenv = sorted(Path.home().glob(f".pyenv/versions/{version}.*/bin/{name}"), reverse=True)
    for path in filter(None, [shutil.which(name), *map(str, pyenv)]):
        # A shim of pyenv may be on the PATH and still run nothing.
        command = [path, "-c", "import ensurepip, venv"]
        if subprocess.run(command, stderr=subprocess.DEVNULL).returncode == 0:
            return path
    return None


def make(target: str, version: str, python: str) -> Result:
    """Run a target in the environment of this version; its output is also printed."""
    command = ["make", "--no-print-directory", f"VENV=.venv-{version}", f"PYTHON={python}", target]
    start_s = time.monotonic()
    lines = []
    with subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            print(line, end="", flush=True)
            lines.append(line)
    counts, failures = read(lines)
    return Result(counts, failures, process.returncode, time.monotonic() - start_s)


def read(lines: list[str]) -> tuple[dict[str, int], list[str]]:
    """The counts of pytest's last line, and the tests of its summary that failed."""
    counts: dict[str, int] = {}
    failures = []
    for line in lines:
        if re.search(r"\d+ \w+.* in [\d.]+s", line):
            for count, word in re.findall(r"(\d+) (passed|failed|skipped|error)", line):
                counts[word] = counts.get(word, 0) + int(count)
        match = re.match(r"(?:FAILED|ERROR) (\S.*?)(?: - |$)", line.rstrip())
        if match:
            failures.append(match[1])
    return counts, failures


def table(results: dict[str, list[Result]]) -> str:
    """One line for each Python, then the tests that failed."""
    lines = ["", "| Python | passed | failed | skipped | minutes |", "|---|---|---|---|---|"]
    failures = []
    for version, parts in results.items():
        total = {
            word: sum(part.counts.get(word, 0) for part in parts)
            for word in ("passed", "failed", "error", "skipped")
        }
        minutes = sum(part.seconds for part in parts) / 60
        failed = total["failed"] + total["error"]
        broken = not failed and any(part.code for part in parts)
        lines.append(
            f"| {version} | {total['passed']:,} | {'make failed' if broken else failed} | "
            f"{total['skipped']} | {minutes:.1f} |"
        )
        failures += [f"* {version}: {name}" for part in parts for name in part.failures]
    return "\n".join([*lines, "", *failures])


def main() -> int:
    results = {}
    for version in VERSIONS:
        python = interpreter(version)
        if python is None:
            print(f"there is no Python {version} here", flush=True)
            continue
        results[version] = [make(target, version, python) for target in TARGETS]
    print(table(results))
    return (
        0 if results and not any(part.code for parts in results.values() for part in parts) else 1
    )


if __name__ == "__main__":
    sys.exit(main())
