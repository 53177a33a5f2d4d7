"""Measure mms_handler and its peers, print the tables, and update docs/performance.md.

Models and the peers' virtual environments are made first if they are missing.  Run it under the
Python whose mms_handler is to be measured.
"""

from __future__ import annotations

import argparse
import datetime
import functools
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from importlib import metadata
from pathlib import Path
from typing import Any, Callable, Iterator, Sequence

import psutil

from benchmarks import (
    closed_loop,
    environments,
    in_process,
    over_http,
    packing,
    plan,
    report,
    scenarios,
)
from benchmarks.plan import Plan, Step
from benchmarks.processes import NotServing, environment
from benchmarks.results import Results, read
from mms_handler.codecs import compiled

HERE = Path(__file__).parent

#: How long a run may take, without the environments and models that it makes when they are missing.
LIMIT_S = 29 * 60
PAGE = HERE.parent / "docs" / "performance.md"

EXAMPLES = """\
examples:
  python -m benchmarks --quick
  python -m benchmarks --only mlp python
  python -m benchmarks --from benchmarks/.work/results.json
"""


def main() -> None:
    """Run the command."""
    arguments = _arguments()
    cut = False
    if arguments.results is None:
        partial = arguments.quick or arguments.only
        arguments.results = HERE / ".work" / ("partial.json" if partial else "results.json")
        cut = not _measure(arguments, arguments.results)
    results = read(arguments.results)
    results.reached = dict(report.reached(results))
    results.save(arguments.results)
    print(report.text(results))
    if cut:
        sys.exit(
            "The run was cut. What it had measured is above; to write that to the page:\n"
            f"  {sys.executable} -m benchmarks --from {arguments.results}"
        )
    if not arguments.quick and not arguments.only:
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
        "(default: five rounds, in less than half an hour)",
    )
    parser.add_argument(
        "--only",
        nargs="+",
        metavar="STEP",
        choices=[*over_http.models(), *(step.name for step, _ in in_process.steps())],
        help="measure only these, print them, and leave the page as it is",
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


def _measure(arguments: argparse.Namespace, path: Path) -> bool:
    """Measure, and save the results to ``path`` after each step; returns False if it was cut."""
    if not shutil.which("wrk"):
        print(
            "wrk, the load generator, is not installed (apt-get install wrk): a client in Python "
            "makes the load, and takes most of a core; the figures of fast systems are too low",
            file=sys.stderr,
        )
    environments.make(arguments.environments)
    with tempfile.TemporaryDirectory(prefix="bench-") as work:
        made = _plan(arguments, Path(work))
        results = Results(_about(made), report.PANELS)
        for (name, metric), value in scenarios.RECORDED.items():
            results.add(name, scenarios.BEFORE, {metric: value})
        try:
            _run(made, results, path, arguments.only)
        except KeyboardInterrupt:
            return False
        finally:
            results.save(path)
    return True


def _run(made: Plan, results: Results, path: Path, only: Sequence[str] | None) -> None:
    """Run every step, or only some, with as many rounds as there is time for."""
    start, steps = time.monotonic(), list(_steps(made))
    if only:
        steps = [(step, measure) for step, measure in steps if step.name in only]
    estimates = [step for step, _ in steps]
    total_s = sum(step.total_s(made.rounds) for step in estimates)
    made.log(f"about {total_s / 60:.0f} minutes: {', '.join(_lengths(made, estimates))}")
    for number, (step, measure) in enumerate(steps):
        left_s = LIMIT_S - (time.monotonic() - start)
        rounds = plan.rounds(estimates[number:], made.rounds, left_s)
        if rounds < made.rounds:
            made.log(f"{step.name}: {rounds} rounds instead of {made.rounds}, for it is late")
        began = time.monotonic()
        try:
            measure(made._replace(rounds=rounds), results)
        except (NotServing, OSError, RuntimeError, subprocess.SubprocessError) as exc:
            results.is_absent(step.name, "the rest of it", str(exc).strip()[-200:])
            made.log(f"{step.name}: {exc}")
        took_s = time.monotonic() - began
        made.log(f"{step.name}: took {took_s:.0f} s, planned {step.total_s(rounds):.0f} s")
        results.save(path)


def _steps(made: Plan) -> Iterator[tuple[Step, Callable[[Plan, Results], None]]]:
    for model in over_http.models():
        yield over_http.step(model, made), functools.partial(over_http.run, model)
    yield from in_process.steps()


def _lengths(made: Plan, steps: Sequence[Step]) -> Iterator[str]:
    for step in steps:
        yield f"{step.name} {step.total_s(made.rounds):.0f} s"


def _plan(arguments: argparse.Namespace, work: Path) -> Plan:
    amounts = (1, 1, 1, 1) if arguments.quick else (5, 3, 4, 3)
    paths = (packing.models(), work, arguments.environments.resolve(), Path(sys.executable))
    return Plan(*amounts, *paths, plan.logger())


def _draw(arguments: argparse.Namespace) -> None:
    folder = PAGE.parent / "performance"
    folder.mkdir(exist_ok=True)
    python = environments.python(arguments.environments / "plots")
    paths = (arguments.results.resolve(), folder)
    subprocess.run([python, "-m", "benchmarks.plots", *paths], cwd=HERE.parent, check=True)


# --- versions and machine ---


def _about(made: Plan) -> dict[str, Any]:
    requirements = environments.REQUIREMENTS
    return {
        "date": f"{datetime.datetime.now(datetime.timezone.utc):%Y-%m-%d %H:%M} UTC",
        "commit": _commit(),
        "machine": _machine(),
        "ours": f"Python {platform.python_version()}, "
        + _versions("mxnet", "multi-model-server")
        + f"; the compiled core is {'there' if compiled.core else 'not built'}",
        "Java": _java(),
        "peers": ", ".join(
            dict.fromkeys(
                requirement
                for name in ("peer", "litserve", "byhand")
                for requirement in requirements[name]
            )
        ),
        "load": closed_loop.load(),
        "rounds": f"{made.rounds} of {made.seconds} s, {made.image_seconds} s for images",
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
