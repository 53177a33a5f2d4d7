"""importing: mxnet comes sooner, and whoever imports what it left out finds all of it."""

from __future__ import annotations

import gc
import json
import subprocess
import sys
from contextlib import suppress

import pytest

from mms_handler.worker import mxnet_import

SWIFTLY = """
from mms_handler.worker import mxnet_import
with mxnet_import.fast_import():
    import mxnet as mx
"""

# Each line of its input is a program, which a fork runs, and the file for what that prints.
FORKS = (
    "import json, os, sys\n"
    + SWIFTLY
    + """
for line in sys.stdin:
    program, output = json.loads(line)
    child = os.fork()
    if child:
        print(os.waitpid(child, 0)[1], flush=True)
        continue
    file = os.open(output, os.O_CREAT | os.O_WRONLY)
    os.dup2(file, 1)
    os.dup2(file, 2)
    exec(program)
    break
"""
)


@pytest.fixture(scope="module")
def interpreter():
    """A process that has imported mxnet fast_import, once for all the programs of this file."""
    command = [sys.executable, "-c", FORKS]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        yield process
        process.stdin.close()
        assert process.wait(10) == 0


@pytest.fixture
def run(interpreter, tmp_path):
    """Run a program where mxnet was imported fast_import, and nothing else; give what it prints."""

    def run(program):
        output = tmp_path / "output"
        print(json.dumps([program, str(output)]), file=interpreter.stdin, flush=True)
        status = int(interpreter.stdout.readline())
        assert status == 0, output.read_text()
        return output.read_text().split()

    return run


def test_what_mxnet_never_uses_is_not_imported(run):
    """scikit-learn, setuptools and scipy.stats; they are a third of its memory."""
    names = run("print([n for n in ('sklearn', 'setuptools', 'scipy.stats._stats_py')"
                " if n in sys.modules])")  # fmt: skip
    assert names == ["[]"]


@pytest.mark.parametrize(
    "program",
    [
        pytest.param("print(mx.test_utils.ss.norm.cdf(0))", id="by mxnet"),
        pytest.param("import scipy.stats; print(scipy.stats.norm.cdf(0))", id="import"),
        pytest.param("from scipy import stats; print(stats.norm.cdf(0))", id="from its package"),
        pytest.param("from scipy.stats import norm; print(norm.cdf(0))", id="from"),
        pytest.param(
            "import scipy.stats.distributions as d; print(d.norm.cdf(0))", id="a module in it"
        ),
        pytest.param(
            "from importlib.util import find_spec; print(0.5 if find_spec('scipy.stats') else '')",
            id="whether it is there",
        ),
        pytest.param(
            "with mxnet_import.fast_import(): print(mx.test_utils.ss.norm.cdf(0))",
            id="imported again",
        ),
        pytest.param(
            "import scipy; del scipy.__getattr__\n"
            "import scipy.stats; print(scipy.stats.norm.cdf(0))",
            id="of an older scipy, which imports no module by itself",
        ),
        pytest.param(
            "import scipy.stats; mx.test_utils.ss.norm; print(scipy.stats.norm.cdf(0))", id="both"
        ),
    ],
)
def test_scipys_statistics_come_when_they_are_asked_for(run, program):
    assert run(program) == ["0.5"]


def test_who_looks_through_all_modules_imports_nothing(run):
    """As inspect does, for each traceback's module."""
    program = "import inspect; inspect.stack()\n"
    program += "print('scipy.stats._stats_py' in sys.modules)"
    assert run(program) == ["False"]


def test_a_module_that_cannot_be_imported(tmp_path, monkeypatch):
    """What it lacks it says when it is asked, as an attribute and in an import."""
    (tmp_path / "broken_package").mkdir()
    (tmp_path / "broken_package" / "__init__.py").touch()
    (tmp_path / "broken_package" / "part.py").write_text("import no_such_module")
    monkeypatch.syspath_prepend(tmp_path)
    mxnet_import._postpone("broken_package.part")
    later = sys.modules["broken_package.part"]
    assert later.__file__ == str(tmp_path / "broken_package" / "part.py")
    with pytest.raises(AttributeError, match="No module named 'no_such_module'"):
        len(later.anything)
    with pytest.raises(ImportError):
        from broken_package.part import anything  # noqa: F401


def test_what_is_not_in_them_is_not_found(run):
    program = "try: from scipy.stats import nothing\nexcept ImportError: print('none')"
    assert run(program) == ["none"]


def test_setuptools_finds_nothing_amiss():
    """It warns where distutils was imported before it; the newer ones bring their own."""
    program = "import setuptools, distutils; print(distutils.__file__)"
    expected = subprocess.check_output([sys.executable, "-c", program])
    strict = [sys.executable, "-W", "error::UserWarning", "-c", SWIFTLY + program]
    assert subprocess.check_output(strict) == expected


def test_a_package_is_hidden_for_a_while():
    """Nobody has imported pyclbr here; whoever does so within is told that there is none."""
    assert "pyclbr" not in sys.modules
    with mxnet_import._without("pyclbr"), pytest.raises(ImportError):
        import pyclbr
    import pyclbr

    with mxnet_import._without("pyclbr"):
        import pyclbr as again
    assert again is pyclbr


def test_a_module_that_is_not_there_stays_so():
    """Also where the package that it would be in is missing."""
    for name in ("no_such_package.part", "email.no_such_module"):
        mxnet_import._postpone(name)
        assert name not in sys.modules


def test_garbage_is_collected_afterwards():
    """Whatever happens within."""
    collecting = []
    with suppress(KeyError), mxnet_import.fast_import():
        collecting.append(gc.isenabled())
        raise KeyError
    assert [*collecting, gc.isenabled()] == [False, True]
