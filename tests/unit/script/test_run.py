"""script.run: a script sees what it sees when Python runs it, and its failure is reported."""

from __future__ import annotations

import json
import os
import random
import re
import select
import signal
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import numpy
import pytest

from mms_handler.script import run
from mms_handler.script.report import read_report


class Ended(NamedTuple):
    """How a process ended."""

    code: int
    out: str
    err: str


def python(folder: Path, *words: object) -> Ended:
    """Run Python in ``folder`` with these words."""
    done = subprocess.run(
        [sys.executable, *map(str, words)], cwd=folder, capture_output=True, text=True, check=False
    )
    return Ended(done.returncode, done.stdout, done.stderr)


def test_the_stacks_of_a_script_that_hangs(tmp_path):
    """Are in a file beside its report, again and again."""
    (tmp_path / "hang.py").write_text(
        "import pathlib, time\n"
        "deadline = time.monotonic() + 20\n"
        "while pathlib.Path('stacks').read_text().count('hang.py') < 2:\n"
        "    assert time.monotonic() < deadline\n"
        "    time.sleep(0.02)\n"
    )
    source = (
        "import sys; from mms_handler.script import report, run; report.STACKS_S = 0.1; "
        "sys.argv[1:] = [sys.argv[1], 'file', 'hang.py']; run.main()"
    )
    assert python(tmp_path, "-c", source, tmp_path / "report") == (0, "", "")


def test_lines_come_at_once_under_mpirun(tmp_path):
    """Also those that are printed to a pipe."""
    (tmp_path / "s.py").write_text("import sys; print('early'); sys.stdin.readline()")
    process = subprocess.Popen(
        [sys.executable, run.__file__, tmp_path / "report", "file", "s.py"],
        cwd=tmp_path,
        env={**os.environ, "OMPI_COMM_WORLD_RANK": "0"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    with process:
        ready, _, _ = select.select([process.stdout], [], [], 60)
        assert ready
        assert process.stdout.readline() == b"early\n"
        process.stdin.write(b"\n")


@pytest.mark.parametrize(("version", "shown"), [((3, 8, 18), "."), ((3, 9, 0), None)])
def test_the_path_of_a_script(tmp_path, version, shown):
    """Python makes it absolute from 3.9 on."""
    (tmp_path / "show.py").write_text("print(__file__)")
    source = (
        "import sys; from mms_handler.script import run; "
        f"sys.version_info = {version}; run.run('script', 'show.py')"
    )
    shown = Path(shown or tmp_path) / "show.py"
    assert python(tmp_path, "-c", source)[:2] == (0, f"{shown}\n")


def test_what_was_printed_before_the_end(tmp_path):
    """Is there, although nothing else of the process is ended in order."""
    source = (
        "import atexit, sys; from mms_handler.script.report import end_now; "
        "atexit.register(print, 'an order'); print('out', end=''); end_now(3)"
    )
    assert python(tmp_path, "-c", source)[:2] == (3, "out")


def by_runner(folder: Path, kind: str, name: str, *arguments: str) -> Ended:
    """Run a script with the runner; its report is FOLDER/report."""
    return python(folder, run.__file__, folder / "report", kind, name, *arguments)


SEES = """
import json, multiprocessing, os, pickle, sys
import sibling
class Own: pass
def double(x): return 2 * x
if __name__ == "__main__":
    context = multiprocessing.get_context("spawn")
    with context.Pool(1) as pool:
        doubled = pool.map(double, [1, 2])
    main = sys.modules["__main__"]
    print(json.dumps([
        sys.argv, sys.path, __name__, __file__, main.__dict__ is globals(), __package__, doubled,
        type(pickle.loads(pickle.dumps(Own()))) is Own, sibling.__file__, os.getcwd(),
        "annotations" in globals(), __doc__, sys.flags.optimize,
    ]))
"""


@pytest.fixture
def folder(tmp_path):
    """A folder with a script that prints what it sees, itself and in a package."""
    for where in (tmp_path, tmp_path / "package"):
        where.mkdir(exist_ok=True)
        (where / "script.py").write_text(SEES)
        (where / "sibling.py").touch()
    (tmp_path / "package" / "__init__.py").touch()
    (tmp_path / "code.py").write_text("raise SystemExit('not the standard library')")
    return tmp_path


@pytest.mark.parametrize("name", ["script.py", "./script.py", "package/script.py"])
def test_a_file_sees_what_python_shows_it(folder, name):
    """Arguments, paths, ``__main__``, spawned processes and pickles are the same."""
    arguments = ["--epochs", "3", "-x", ""]
    plain = python(folder, name, *arguments)
    assert plain.code == 0, plain.err
    assert by_runner(folder, "file", name, *arguments) == plain
    assert read_report(folder / "report") is None


def test_a_module_sees_what_python_shows_it(folder):
    """As with ``python -m``."""
    (folder / "package" / "script.py").write_text(
        "import json, sys\nfrom . import sibling\n"
        "print(json.dumps([sys.argv, sys.path, __name__, __file__, __package__]))\n"
    )
    plain = python(folder, "-m", "package.script", "--epochs", "3")
    assert plain.code == 0, plain.err
    assert by_runner(folder, "module", "package.script", "--epochs", "3") == plain


@pytest.mark.parametrize(
    ("rank", "pieces"), [({"OMPI_COMM_WORLD_RANK": "0"}, 1), ({}, 4)], ids=["mpirun", "alone"]
)
def test_lines_under_mpirun(tmp_path, rank, pieces):
    """Each is written as a whole, because mpirun marks each piece with the rank."""
    (tmp_path / "script.py").write_text("print('a', 'line')")
    reader, writer = os.pipe2(os.O_DIRECT)  # each read returns what one write has written
    command = [sys.executable, run.__file__, tmp_path / "report", "file", "script.py"]
    env = {**os.environ, "PYTHONUNBUFFERED": "1", **rank}
    subprocess.run(command, cwd=tmp_path, env=env, stdout=writer, check=True)
    os.close(writer)
    with open(reader, "rb", buffering=0) as file:
        written = list(iter(lambda: file.read(9999), b""))
    assert b"".join(written) == b"a line\n"
    assert len(written) == pieces


FAILS = """
import argparse, os, signal, sys, warnings
def fail():
    {}
fail()
"""


@pytest.mark.parametrize(
    ("statement", "line"),
    [
        pytest.param("raise ValueError('too\\nbad')", "ValueError: too bad (script.py, line 4)"),
        pytest.param("{}['key']", "KeyError: 'key' (script.py, line 4)"),
        pytest.param("sys.exit(3)", "SystemExit: 3 (script.py, line 4)"),
        pytest.param("sys.exit('no data')", None, id="a text"),
        pytest.param("sys.exit(-1)", "SystemExit: -1 (script.py, line 4)"),
        pytest.param("sys.exit(256 + 7)", "SystemExit: 263 (script.py, line 4)"),
        pytest.param("raise KeyboardInterrupt", "KeyboardInterrupt (script.py, line 4)"),
        pytest.param("compile('a b', 'script.py', 'exec')", "SyntaxError: invalid syntax"),
        pytest.param("sys.excepthook = lambda *e: print('hooked'); 1 / 0",
                     "ZeroDivisionError: division by zero (script.py, line 4)"),
        pytest.param("argparse.ArgumentParser().parse_args(['--x'])", None, id="argparse"),
        pytest.param("sys.exit()", None, id="exit"),
        pytest.param("sys.exit(0)", None, id="exit with 0"),
        pytest.param("sys.exit(1)", "SystemExit: 1 (script.py, line 4)", id="exit with 1"),
        pytest.param("os.kill(os.getpid(), signal.SIGTERM)", None, id="SIGTERM"),
        pytest.param("os._exit(5)", None, id="_exit"),
        pytest.param("sys.stderr.close(); 1 / 0", "ZeroDivisionError: division by zero "
                     "(script.py, line 4)", id="closed"),
    ],
)  # fmt: skip
def test_a_script_that_ends(folder, statement, line):
    """Exit code and output are Python's; the report has the exception, where there is one."""
    (folder / "script.py").write_text(FAILS.format(statement))
    plain = python(folder, "script.py")
    ended = by_runner(folder, "file", "script.py")
    assert (ended.code, ended.out) == (plain.code, plain.out)
    assert without_columns(ended.err) == without_columns(plain.err)
    report = read_report(folder / "report")
    assert (report or {}).get("line", "").startswith(line or "")
    assert bool(report) == bool(line)


def without_columns(text: str) -> list[str]:
    """The lines of a text without addresses, and without the marks below an expression."""
    lines = re.sub(r"0x[0-9a-f]+|refcount : \d+", "", text).splitlines()
    return [line for line in lines if set(line.strip()) - {"^", "~"}]


DRAWS = """
import json, random, sys
early = [name for name in ("numpy", "mxnet") if name in sys.modules]
draws = [random.random()]
for name in sys.argv[1:]:
    module = __import__(name)
    draw = module.random.uniform(0, 1, 1)
    draws.append(float(draw.asscalar() if name == "mxnet" else draw[0]))
print(json.dumps([early, draws, sys.argv]))
"""


@pytest.mark.parametrize("modules", [[], ["numpy"], ["numpy", "mxnet"]], ids=len)
def test_a_seed(folder, modules):
    """Python's, NumPy's and MXNet's generators have it; nothing is imported for that."""
    import mxnet

    (folder / "script.py").write_text(DRAWS)
    words = ["--seed=5", folder / "report", "file", "script.py", *modules]
    ended = python(folder, run.__file__, *words)
    assert ended.code == 0, ended.err
    early, draws, argv = json.loads(ended.out)
    assert (early, argv) == ([], ["script.py", *modules])
    random.seed(5)
    numpy.random.seed(5)
    mxnet.random.seed(5)
    expected = [random.random(), numpy.random.uniform(), mxnet.random.uniform().asscalar().item()]
    assert draws == expected[: len(draws)]


def test_a_seed_and_an_import_that_fails_once(folder):
    """The package has the seed when its import succeeds, and its name can be missing."""
    (folder / "script.py").write_text("""
import sys
try:
    import mxnet
except ImportError:
    print("no mxnet")
import numpy, os
os.rename("numpy.py", "not_numpy.py")
print(numpy.random.seeds)
""")
    numpy_here = "class random:\n    seeds = []\n    seed = seeds.append\n"
    (folder / "numpy.py").write_text(numpy_here)
    (folder / "mxnet.py").write_text("raise ImportError")
    words = ["--seed=5", folder / "report", "file", "script.py"]
    ended = python(folder, run.__file__, *words)
    assert (ended.code, ended.out) == (0, "no mxnet\n[5]\n"), ended.err


def test_a_script_that_is_not_there(folder):
    """The reason is the operating system's."""
    ended = by_runner(folder, "file", "missing.py")
    assert ended.code == 1
    assert "missing.py" in read_report(folder / "report")["line"]


DESTRUCTOR = """
class Store:
    def __del__(self):
        import time
        time.sleep(600)  # as MXNet's, which waits for the other hosts

def step(store):
    {}

def main():
    step(Store())

main()
"""


@pytest.mark.parametrize("statement", ["raise ValueError", "import sys; sys.exit(3)"])
def test_a_failure_does_not_wait_for_destructors(folder, statement):
    """The process ends although an object of the script would never be freed."""
    (folder / "script.py").write_text(DESTRUCTOR.format(statement))
    ended = by_runner(folder, "file", "script.py")
    assert ended.code == (3 if "exit" in statement else 1)


def test_an_error_in_native_code(folder):
    """Python's stack is printed, also after MXNet is imported; the signal stays."""
    (folder / "script.py").write_text("import ctypes, mxnet\nctypes.string_at(0)\n")
    ended = by_runner(folder, "file", "script.py")
    assert ended.code == -signal.SIGSEGV
    assert 'script.py", line 2 in <module>' in ended.err


def test_the_first_of_several_processes_gives_the_reason(folder):
    """Under mpirun, the other processes fail because one did."""
    (folder / "script.py").write_text("import sys\nraise ValueError(sys.argv[1])\n")
    by_runner(folder, "file", "script.py", "first")
    by_runner(folder, "file", "script.py", "second")
    assert json.loads((folder / "report").read_text())["line"].startswith("ValueError: first")


def test_a_report_that_cannot_be_written(folder):
    """The reason is the last line of standard error instead."""
    (folder / "script.py").write_text("raise ValueError('bad')\n")
    ended = python(folder, run.__file__, folder / "no" / "report", "file", "script.py")
    assert ended.err.splitlines()[-1] == "ValueError: bad (script.py, line 1)"
