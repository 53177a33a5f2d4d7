"""Change the package in many places, one at a time, and see which changes no test notices.

First all tests that start no server run once, to learn which of them run which lines.  Then, for
each mutant of a sample, those tests run that reach its line, first those of the module's own test
folder.  Those that are missed are tried again, with about a minute of tests that start servers.
The table says for each module how many were noticed, and below it are those that were missed.  It
takes less than half an hour on two cores.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import functools
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import Queue
from typing import Iterable, Iterator, NamedTuple

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from tools import forked, with_servers  # noqa: E402
from tools.mutants import Mutant, mutants, mutated  # noqa: E402

#: Where a person or a page is addressed: no answer is decided there.  And what a new project gets,
#: which its owner changes; tests train and serve it as it is.
LEFT_OUT = (
    *("mms_handler/__main__.py", "mms_handler/cli/", "mms_handler/api/", "/texts.py"),
    "mms_handler/project/templates/",
)

#: Folders of tests that start no server.
FOLDERS = ("tests/unit", "tests/worker", "tests/contract")

#: Tests of files that are not the package's, or that would take longer than all others.
NOT_RUN = (
    "test_packaging.py",
    "test_plugin_build.py",
    "test_deploy_files.py",
    "test_docs.py",
    "test_benchmarks_report.py",
    "test_project_files.py",
)

#: About a minute of tests that start servers, by the beginning of a module's path; the longest
#: counts.
SERVER_TESTS = {
    "": ("serving", "logs", "data_plane", "errors_over_http"),
    "archive/": ("archives", "commands"),
    "archive/keys": ("signatures",),
    "archive/s3": ("s3",),
    "archive/signing": ("signatures",),
    "archive/sshsig": ("signatures",),
    "archive/twin": ("twin",),
    "bench/": ("bench",),
    "codecs/tensors": ("open_inference",),
    "dev/": ("open_inference", "commands"),
    "dev/page": ("page", "page_in_a_browser"),
    "export/": ("commands",),
    "models/graphs/int8": ("int8",),
    "models/graphs/quantize": ("int8",),
    "models/graphs/onnx_twin": ("twin",),
    "models/onnx/": ("twin",),
    "models/rows": ("twin", "serving", "data_plane"),
    "models/twin": ("twin",),
    "replay/": ("capture",),
    "server/": ("management", "models_commands", "versions", "logs", "access"),
    "server/access": ("access", "multi_model"),
    "server/admin": ("management", "multi_model", "access"),
    "server/api_parts": ("open_inference",),
    "server/capturing": ("capture",),
    "server/deaths": ("supervisor", "logs"),
    "server/documents": ("open_inference",),
    "server/framing": ("framing", "management"),
    "server/front_end": ("supervisor", "limits", "metrics"),
    "server/inference_api": ("open_inference",),
    "server/left_captures": ("capture",),
    "server/mending": ("supervisor", "metrics"),
    "server/model_processes": ("supervisor", "metrics"),
    "server/page": ("page", "page_in_a_browser"),
    "server/server": ("supervisor", "tune", "serving"),
    "server/sources": ("s3", "signatures", "multi_model"),
    "server/tensor_api": ("open_inference",),
    "server/told": ("metrics",),
    "server/tuned": ("tune",),
    "server/versions": ("versions", "management"),
    "server/watch": ("supervisor", "recycling"),
    "training/": ("train_command", "train_scripts"),
    "training/cluster": ("cluster_processes", "several_hosts_example"),
    "training/grid": ("train_sweep",),
    "training/hub": ("cluster_processes", "several_hosts_example"),
    "training/local_hosts": ("cluster_processes", "several_hosts_example"),
    "training/metrics": ("train_metrics",),
    "training/mpi": ("mpi_hosts",),
    "training/observer": ("train_metrics",),
    "training/plots": ("train_metrics",),
    "training/progress": ("train_metrics",),
    "training/screen": ("train_metrics", "train_sweep"),
    "training/series": ("train_metrics",),
    "training/ssh": ("mpi_hosts",),
    "training/sweep": ("train_sweep",),
    "transform/": ("transform",),
    "tuning/": ("tune",),
    "worker/": ("worker_life", "batches", "logs"),
    "worker/engine": ("twin",),
    "worker/exporting": ("commands",),
    "worker/lane": ("data_plane", "batches"),
    "worker/learning": ("learning",),
    "worker/mms/fork": ("forked_workers", "worker_processes"),
    "worker/mms/metrics": ("metrics",),
    "worker/mms/output": ("logs", "hostile_output"),
    "worker/mms/plain": ("plain_handlers",),
    "worker/mms/plane": ("data_plane", "worker_frames"),
    "worker/plain": ("plain_handlers",),
    "worker/tracing": ("traces",),
    "worker/twins": ("twin",),
}

#: Seconds of tests, as they took without a mutant, that are run for one mutant.
BUDGET_S = 20

#: Not copied: what git ignores, and what the tests do not read.
_IGNORED = shutil.ignore_patterns(".git", ".venv*", "build", "dist", ".*_cache")


class Tests(NamedTuple):
    """The tests that pass: how long each takes, and by file and line which run there."""

    seconds: dict[str, float]
    by_line: dict[tuple[str, int], set[str]]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=13, help="of the sample  [default: 13]")
    parser.add_argument("--count", type=int, default=300, help="mutants  [default: 300]")
    parser.add_argument("--only", default="", help="modules whose path has one of these words")
    parser.add_argument("--jobs", type=int, default=2, help="mutants at a time  [default: 2]")
    parser.add_argument("--minutes", type=float, default=28, help="stop then  [default: 28]")
    options = parser.parse_args()
    end_s = time.monotonic() + 60 * options.minutes
    sample = choose(options.seed, options.count, options.only)
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        paths = folders_of(sample) if options.only else FOLDERS
        tests = learn(Path(folder), paths, options.jobs)
        results = run(sample, tests, Path(folder), options.jobs, end_s)
        results = run_with_servers(results, Path(folder), options.jobs, end_s)
    print(report(results, len(sample)))
    return 0


# --- the sample ------------------------------------------------------------------------------


def choose(seed: int, count: int, only: str) -> list[Mutant]:
    """A sample of all mutants, the same for the same seed and code; see --only."""
    every: list[Mutant] = []
    words = only.split() or [""]
    for path in sorted((ROOT / "mms_handler").rglob("*.py")):
        module = path.relative_to(ROOT).as_posix()
        if any(word in module for word in words) and not any(part in module for part in LEFT_OUT):
            every += mutants(module, path.read_text())
    sample = random.Random(seed).sample(every, min(count, len(every)))
    return sorted(sample)


def own_folder(module: str) -> str:
    """The folder or file of tests that mirrors a module's folder."""
    parts = Path(module).parts[1:-1]
    for depth in range(len(parts), 0, -1):
        folder = Path("tests", "unit", *parts[:depth])
        if (ROOT / folder).is_dir():
            return f"{folder.as_posix()}/"
    return f"tests/unit/test_{parts[0] if parts else Path(module).stem}.py"


def folders_of(sample: list[Mutant]) -> tuple[str, ...]:
    """The test folders of some modules, and those that test several modules together."""
    own = {own_folder(mutant.module).rstrip("/") for mutant in sample}
    return (*sorted(path for path in own if (ROOT / path).exists()), *FOLDERS[1:])


# --- the tests -------------------------------------------------------------------------------


def learn(folder: Path, paths: tuple[str, ...], jobs: int) -> Tests:
    """Run all tests once, and return which run which lines.

    Those that fail while they are traced, for example because they take longer, run once more.
    """
    data = folder / "data"
    data.mkdir()
    ignored = [f"--ignore-glob=*/{name}" for name in NOT_RUN]
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    plugin = ["-p", "tools.tests_by_line", "-n", str(jobs), "--dist", "loadfile"]
    path = os.pathsep.join([str(ROOT / "tools" / "traced"), str(ROOT)])
    env = {**os.environ, "TESTS_BY_LINE": str(data), "PYTHONPATH": path}
    subprocess.run([*command, *plugin, *ignored, *paths], cwd=ROOT, env=env)
    tests, failed = read_lines(data)
    for name in failed:
        if subprocess.run([*command, name], cwd=ROOT).returncode != 0:
            del tests.seconds[name]
    print(f"{len(tests.seconds)} tests pass, which start no server", flush=True)
    return tests


def read_lines(data: Path) -> tuple[Tests, list[str]]:
    """The tests that ran, and the names of those that failed."""
    tests, failed = Tests({}, defaultdict(set)), []
    for path in data.glob("*.json"):
        content = json.loads(path.read_text())
        names = content["tests"]
        tests.seconds.update(zip(names, content["seconds"]))
        failed += [name for name, passed in zip(names, content["passed"]) if not passed]
        for module, by_line in content["lines"].items():
            for line, numbers in by_line.items():
                tests.by_line[module, int(line)] |= {names[number] for number in numbers}
    for path in data.glob("*.lines"):
        name, *lines = path.read_text().splitlines() or [""]  # empty if it ended at once
        for line, _, file in (text.partition(" ") for text in lines):
            module = Path(file).relative_to(ROOT).as_posix()
            tests.by_line[module, int(line)].add(name)
    return tests, failed


def reaching_tests(mutant: Mutant, tests: Tests) -> set[str]:
    """The tests that run a mutant's line.

    An import runs the line of a constant, and Python counts some lines of an expression to others.
    Then they are those of the module's own file, and those that run the nearest lines.
    """
    own: set[str] = set()
    for lines in near_lines((ROOT / mutant.module).read_text(), mutant.line):
        found = set().union(*(tests.by_line.get((mutant.module, line), ()) for line in lines))
        if found & tests.seconds.keys():
            return found & tests.seconds.keys() | own
        own = {name for name in tests.seconds if is_own(name, mutant.module)}
    return own


def is_own(test: str, module: str) -> bool:
    """Whether a test is in the file, or one of the files, that has a module's tests."""
    file = file_of(test)
    folders = (own_folder(module), f"tests/{Path(module).parts[1]}/")  # such as tests/worker
    return file.startswith(folders) and Path(module).stem in Path(file).name


def file_of(test: str) -> str:
    return test.partition("::")[0]


def near_lines(source: str, line: int) -> Iterator[Iterable[int]]:
    """The line; those of its function; those that use what it defines; those of the module."""
    yield [line]
    tree = ast.parse(source)
    around = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.stmt) and node.lineno <= line <= (node.end_lineno or 0)
    ]
    for node in reversed(around):  # the innermost is the last
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            yield range(node.lineno, (node.end_lineno or 0) + 1)
    names = {
        getattr(node, "id", getattr(node, "name", None))
        for statement in around[:1]
        for node in [statement, *ast.walk(statement)]
        if isinstance(getattr(node, "ctx", ast.Store()), ast.Store)
    }
    yield [
        node.lineno for node in ast.walk(tree) if isinstance(node, ast.Name) and node.id in names
    ]
    yield range(1, len(source.splitlines()) + 1)


def tests_of(mutant: Mutant, tests: Tests) -> list[str]:
    """The tests to run for a mutant, up to BUDGET_S seconds of them.

    First the module's own, which may be more than those that reach its line: it may run once in a
    process, in the test that happens to be the first, or only in a child process.  Then others that
    reach it, those of their files, which may share what one of them has made, and others of the
    folder.
    """
    own = own_folder(mutant.module)
    reaching = reaching_tests(mutant, tests)
    files = {file_of(name) for name in reaching}
    ordered = sorted(
        (name for name in tests.seconds if file_of(name) in files or name.startswith(own)),
        key=lambda name: (
            not is_own(name, mutant.module),
            name not in reaching,
            file_of(name) not in files,
            tests.seconds[name],
        ),
    )
    chosen, seconds = [], 0.0
    for name in ordered:
        if seconds + tests.seconds[name] <= BUDGET_S or not chosen:
            seconds += tests.seconds[name]
            chosen.append(name)
    return chosen


# --- the mutants -----------------------------------------------------------------------------


def run(
    sample: list[Mutant], tests: Tests, folder: Path, jobs: int, end_s: float
) -> list[tuple[Mutant, str]]:
    """What became of each mutant that was tried: "noticed", "missed" or "untested"."""
    copies: Queue[Path] = Queue()
    for number in range(jobs):
        copy = folder / f"copy{number}"
        shutil.copytree(ROOT, copy, ignore=_IGNORED, symlinks=True)
        copies.put(copy)

    def judge(mutant: Mutant) -> tuple[Mutant, str] | None:
        if time.monotonic() > end_s:
            return None
        names = tests_of(mutant, tests)
        if not names:
            return mutant, "untested"
        copy = copies.get()
        try:
            with changed(copy / mutant.module, mutant):
                noticed = is_noticed(copy, names, tests)
        finally:
            copies.put(copy)
        if not noticed:
            print(f"missed: {described(mutant)}", flush=True)
        return mutant, "noticed" if noticed else "missed"

    order = list(sample)
    random.Random(0).shuffle(order)  # if the time is too short, all modules have their share
    with ThreadPoolExecutor(jobs) as pool:
        return sorted(result for result in pool.map(judge, order) if result)


@contextlib.contextmanager
def changed(path: Path, mutant: Mutant) -> Iterator[None]:
    source = path.read_text()
    path.write_text(mutated(source, mutant))
    try:
        yield
    finally:
        path.write_text(source)


def is_noticed(copy: Path, names: list[str], tests: Tests) -> bool:
    """Whether one of these tests fails, or they take far longer than before.

    Those of the first one's file run alone first: mostly one of them fails, and then the others'
    files need not be read.
    """
    file = file_of(names[0])
    for is_first in (True, False):
        part = [name for name in names if (file_of(name) == file) is is_first]
        limit_s = 30 + 4 * sum(tests.seconds[name] for name in part)
        if part and forked.fail(copy, part, limit_s):
            return True
    return False


# --- the mutants, with servers ---------------------------------------------------------------


def server_tests(module: str) -> tuple[str, ...]:
    """The files of tests with servers that may notice a change of a module."""
    path = Path(module).relative_to("mms_handler").as_posix()
    names = SERVER_TESTS[max((each for each in SERVER_TESTS if path.startswith(each)), key=len)]
    return tuple(f"tests/e2e/test_{name}.py" for name in names)


def run_with_servers(
    results: list[tuple[Mutant, str]], folder: Path, jobs: int, end_s: float
) -> list[tuple[Mutant, str]]:
    """Try again what no test noticed; the outcome of what is noticed now is "with a server".

    Tests that fail without a change do not count.
    """
    copy = folder / "copy0"
    python = with_servers.environment(copy, folder / "environment")

    @functools.lru_cache(maxsize=None)
    def passing(files: tuple[str, ...]) -> with_servers.Tests:
        tests = with_servers.passing(copy, python, files, jobs, end_s)
        print(f"{tests.seconds:.0f} s with servers: {' '.join(tests.arguments)}", flush=True)
        return tests

    outcomes = dict(results)
    missed = [mutant for mutant, outcome in results if outcome != "noticed"]
    random.Random(0).shuffle(missed)
    untried = 0
    for mutant in missed:
        tests = passing(server_tests(mutant.module))
        if time.monotonic() + tests.seconds > end_s:
            untried += 1
            continue
        with changed(copy / mutant.module, mutant):
            if with_servers.fail(copy, python, tests, jobs):
                outcomes[mutant] = "with a server"
        print(f"{outcomes[mutant]}, tried with servers: {described(mutant)}", flush=True)
    print(f"{untried} of {len(missed)} were not tried with servers, for want of time", flush=True)
    return list(outcomes.items())


# --- the report ------------------------------------------------------------------------------


def described(mutant: Mutant) -> str:
    return f"{mutant.module}:{mutant.line}: {mutant.before}  ->  {mutant.after}"


def report(results: list[tuple[Mutant, str]], count: int) -> str:
    """A table by module, and the mutants that no test noticed."""
    keys = ("noticed", "with a server", "missed", "untested")
    lines = ["", "", f"| module | mutants | {' | '.join(keys)} |", "|---" * (len(keys) + 2) + "|"]
    by_module: dict[str, Counter[str]] = defaultdict(Counter)
    for mutant, outcome in results:
        by_module[mutant.module.partition("/")[2]][outcome] += 1
    total: Counter[str] = sum(by_module.values(), Counter())
    for module, counts in [*sorted(by_module.items()), ("all", total)]:
        columns = [sum(counts.values()), *(counts[key] for key in keys)]
        lines.append(f"| {module} | {' | '.join(map(str, columns))} |")
    alone, all_noticed = total["noticed"], total["noticed"] + total["with a server"]
    lines += [
        "",
        f"{alone / max(1, len(results)):.1%} noticed by tests without a server, "
        f"{all_noticed / max(1, len(results)):.1%} by all; {len(results)} tried of {count}.",
        "",
    ]
    lines += [
        f"{outcome}: {described(mutant)}"
        for mutant, outcome in results
        if outcome in ("missed", "untested")
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
