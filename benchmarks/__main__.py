"""Measure mms_handler and its peers, print the tables, and update docs/performance.md.

Models and the peers' virtual environments are made first if they are missing.  Run it under the
Python whose mms_handler is to be measured.
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

EXAMPLES = """\
examples:
  python -m benchmarks --quick
  python -m benchmarks --from benchmarks/.work/results.json
"""


def main() -> None:
    """Run the command."""
    arguments = _arguments()
    if arguments.results is None:
        arguments.results = HERE / ".work" / ("quick.json" if arguments.quick else "results.json")
        _measure(arguments, arguments.results)
    results = read(arguments.results)
    print(report.text(results))
    if not arguments.quick:
        report.write(results, PAGE)
        _draw(arguments)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--quick",
        action="store_true",
        help="one short round to see that everything works; the page is not changed "
        "(default: five rounds, about 25 minutes)",
    )
    parser.add_argument(
        "--from",
        dest="results",
        type=Path,
        metavar="FILE",
        help="measure nothing; print the results of an earlier run and update the page and its "
        "pictures with them",
    )
    parser.add_argument(
        "--environments",
        type=Path,
        default=HERE / ".venvs",
        metavar="FOLDER",
        help="where the peers' virtual environments are (default: benchmarks/.venvs)",
    )
    return parser.parse_args()


def _measure(arguments: argparse.Namespace, path: Path) -> None:
    """Measure, and save the results to ``path``, even if a measurement fails."""
    if not shutil.which("wrk"):
        sys.exit("wrk, the load generator, is not installed; to get it: apt-get install wrk")
    environments.make(arguments.environments)
    with tempfile.TemporaryDirectory(prefix="bench-") as work:
        plan = _plan(arguments, Path(work))
        results = Results(_about(plan), report.PANELS)
        try:
            over_http.run(plan, results)
            in_process.run(plan, results)
        finally:
            results.save(path)


def _plan(arguments: argparse.Namespace, work: Path) -> Plan:
    amounts = (1, 1, 1, 1) if arguments.quick else (5, 3, 4, 3)
    paths = (packing.models(), work, arguments.environments.resolve(), Path(sys.executable))
    return Plan(*amounts, *paths, _log())


def _log() -> Callable[[str], None]:
    """Return a function that prints a line after the seconds since now."""
    start = time.monotonic()

    def log(line: str) -> None:
        print(f"{time.monotonic() - start:5.0f} s  {line}", file=sys.stderr, flush=True)

    return log


def _draw(arguments: argparse.Namespace) -> None:
    folder = PAGE.parent / "performance"
    folder.mkdir(exist_ok=True)
    python = environments.python(arguments.environments / "plots")
    paths = (arguments.results.resolve(), folder)
    subprocess.run([python, "-m", "benchmarks.plots", *paths], cwd=HERE.parent, check=True)


# --- versions and machine ---


def _about(plan: Plan) -> dict[str, Any]:
    requirements = environments.REQUIREMENTS
    return {
        "date": f"{datetime.datetime.now(datetime.timezone.utc):%Y-%m-%d %H:%M} UTC",
        "commit": _commit(),
        "machine": _machine(),
        "ours": f"Python {platform.python_version()}, " + _versions("mxnet", "multi-model-server"),
        "Java": _java(),
        "peers": ", ".join(dict.fromkeys((*requirements["peer"], *requirements["litserve"]))),
        "rounds": f"{plan.rounds} of {plan.seconds} s, {plan.image_seconds} s for images",
    }


def _commit() -> str:
    return _output("git", "describe", "--always", "--dirty=, with changes") or "not a checkout"


def _machine() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.partition(": ")[2] for line in lines if line.startswith("model name")), "")
    memory = psutil.virtual_memory().total / 2**30
    return f"{psutil.cpu_count()} cores of {model or platform.machine()}, {memory:.0f} GiB"


def _versions(*packages: str) -> str:
    return ", ".join(f"{package} {metadata.version(package)}" for package in packages)


def _java() -> str:
    """Return the first line of ``java -version`` of the Java that every system gets."""
    home = environment(Path())["JAVA_HOME"]
    return _output(f"{home}/bin/java" if home else "java", "-version").partition("\n")[0]


def _output(*command: str) -> str:
    """Return what a command prints, or an empty text if it fails."""
    process = subprocess.run(
        command, cwd=HERE.parent, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    return process.stdout.strip() if process.returncode == 0 else ""


if __name__ == "__main__":
    main()
