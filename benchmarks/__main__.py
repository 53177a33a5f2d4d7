"""The command: make what is missing, measure, print the tables, write the page and its pictures.

python -m benchmarks                under the Python whose mms_handler is measured
python -m benchmarks --quick        one short round, to see that all works; the page stays
python -m benchmarks --from FILE    the page and the pictures anew, from what a run has kept
"""

from __future__ import annotations

import argparse
import datetime
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from importlib import metadata
from pathlib import Path
from typing import Any, Callable

import psutil

from benchmarks import environments, in_process, over_http, packing, report
from benchmarks.plan import Plan
from benchmarks.processes import environment
from benchmarks.results import Results, read

HERE = Path(__file__).parent
PAGE = HERE.parent / "docs" / "performance.md"


def main() -> None:
    """Run the command."""
    given = _arguments()
    if given.results is None:
        given.results = HERE / ".work" / ("quick.json" if given.quick else "results.json")
        _measure(given, given.results)
    results = read(given.results)
    print(report.text(results))
    if not given.quick:
        report.write(results, PAGE)
        _draw(given)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--from", dest="results", type=Path)
    parser.add_argument("--environments", type=Path, default=HERE / ".venvs")
    return parser.parse_args()


def _measure(given: argparse.Namespace, kept: Path) -> None:
    """Measure; what was found is kept, also where something fails."""
    if not shutil.which("wrk"):
        sys.exit("wrk, which makes the load, is not installed; to get it: apt-get install wrk")
    environments.make(given.environments)
    with tempfile.TemporaryDirectory(prefix="bench-") as work:
        plan = _plan(given, Path(work))
        results = Results(_about(plan), report.PANELS)
        try:
            over_http.run(plan, results)
            in_process.run(plan, results)
        finally:
            results.save(kept)


def _plan(given: argparse.Namespace, work: Path) -> Plan:
    many = (1, 1, 1, 1) if given.quick else (5, 3, 4, 3)
    where = (packing.models(), work, given.environments.resolve(), Path(sys.executable))
    return Plan(*many, *where, _clock())


def _clock() -> Callable[[str], None]:
    """Prints a line with the seconds since now."""
    begun = time.monotonic()

    def say(line: str) -> None:
        print(f"{time.monotonic() - begun:5.0f} s  {line}", file=sys.stderr, flush=True)

    return say


def _draw(given: argparse.Namespace) -> None:
    folder = PAGE.parent / "performance"
    folder.mkdir(exist_ok=True)
    python = environments.python(given.environments / "plots")
    words = (given.results.resolve(), folder)
    subprocess.run([python, "-m", "benchmarks.plots", *words], cwd=HERE.parent, check=True)


# --- what was measured, where ---


def _about(plan: Plan) -> dict[str, Any]:
    needed = environments.REQUIREMENTS
    return {
        "date": f"{datetime.datetime.now(datetime.timezone.utc):%Y-%m-%d %H:%M} UTC",
        "commit": _commit(),
        "machine": _machine(),
        "ours": f"Python {platform.python_version()}, " + _versions("mxnet", "multi-model-server"),
        "Java": _java(),
        "peers": ", ".join(dict.fromkeys((*needed["peer"], *needed["litserve"]))),
        "rounds": f"{plan.rounds} of {plan.seconds} s, with images {plan.image_seconds} s",
    }


def _commit() -> str:
    told = _output("git", "describe", "--always", "--dirty=, with changes")
    return told or "not from a checkout"


def _machine() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.partition(": ")[2] for line in lines if line.startswith("model name")), "")
    memory = psutil.virtual_memory().total / 2**30
    return f"{psutil.cpu_count()} cores of {model or platform.machine()}, {memory:.0f} GiB"


def _versions(*packages: str) -> str:
    return ", ".join(f"{package} {metadata.version(package)}" for package in packages)


def _java() -> str:
    """The first line of ``java -version``, of the Java that every system gets."""
    home = environment(Path())["JAVA_HOME"]
    return _output(f"{home}/bin/java" if home else "java", "-version").partition("\n")[0]


def _output(*command: str) -> str:
    done = subprocess.run(
        command, cwd=HERE.parent, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    return done.stdout.strip() if done.returncode == 0 else ""


if __name__ == "__main__":
    main()
