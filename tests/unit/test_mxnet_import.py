"""mxnet_import: mxnet is imported faster, and what it leaves out is there when it is used."""

from __future__ import annotations

import gc
import json
import subprocess
import sys
from contextlib import suppress

import pytest

from mms_handler import mxnet_import

FAST_IMPORT = """
from mms_handler import mxnet_import
with mxnet_import.without("sklearn"), mxnet_import.fast_import():
    import mxnet as mx
"""

# Prints what each operator's function is made of, as a digest for each module.
OPERATORS = """
import hashlib, sys, types

def parts(code):
    # The source has the address of the operator in MXNet's library, which differs.
    consts = [parts(c) if isinstance(c, types.CodeType) else c for c in code.co_consts
              if not (type(c) is int and c > 1 << 20)]
    return (code.co_code, code.co_names, code.co_varnames, code.co_flags, code.co_argcount,
            code.co_kwonlyargcount, repr(consts))

def is_operator(value):
    return (type(value) is types.FunctionType
            and value.__globals__["__name__"] in ("mxnet.ndarray.register", "mxnet.symbol.register")
            and value.__code__.co_filename == "<string>")

def digests():
    for name, module in sorted(sys.modules.items()):
        if name.split(".")[0] != "mxnet":
            continue
        operators = {key: value for key, value in vars(module).items() if is_operator(value)}
        if operators:
            text = repr([(key, f.__name__, f.__module__, f.__doc__, len(f.__defaults__ or ()),
                          f.__kwdefaults__, parts(f.__code__))
                         for key, f in sorted(operators.items())])
            print(name, len(operators), hashlib.sha256(text.encode()).hexdigest())
"""

# Each line of its input is a program, which a fork runs, and the file for the program's output.
FORKS = (
    "import json, os, sys\n"
    + FAST_IMPORT
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
    """A process with mxnet imported by fast_import, shared by all programs of this file."""
    command = [sys.executable, "-c", FORKS]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        yield process
        process.stdin.close()
        assert process.wait(10) == 0


@pytest.fixture
def run(interpreter, tmp_path):
    """Run a program where only mxnet was imported, by fast_import; return the words it prints."""

    def run(program):
        output = tmp_path / "output"
        print(json.dumps([program, str(output)]), file=interpreter.stdin, flush=True)
        status = int(interpreter.stdout.readline())
        assert status == 0, output.read_text()
        return output.read_text().split()

    return run


def test_modules_that_mxnet_never_uses_are_not_imported(run):
    """scikit-learn, setuptools and scipy.stats are left out: a third of mxnet's memory."""
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
            id="a check that it exists",
        ),
        pytest.param(
            "with mxnet_import.fast_import(): print(mx.test_utils.ss.norm.cdf(0))",
            id="imported again",
        ),
        pytest.param(
            "import scipy; del scipy.__getattr__\n"
            "import scipy.stats; print(scipy.stats.norm.cdf(0))",
            id="an older scipy, which imports no module by itself",
        ),
        pytest.param(
            "import scipy.stats; mx.test_utils.ss.norm; print(scipy.stats.norm.cdf(0))", id="both"
        ),
    ],
)
def test_scipy_stats_is_imported_when_it_is_used(run, program):
    """Every way to import or use scipy.stats works."""
    assert run(program) == ["0.5"]


def test_a_look_through_all_modules_imports_nothing(run):
    """inspect does that for the module of each frame; scipy.stats stays out."""
    program = "import inspect; inspect.stack()\n"
    program += "print('scipy.stats._stats_py' in sys.modules)"
    assert run(program) == ["False"]


def test_each_operator_is_the_same_function_once_it_was_called(run):
    """Code, defaults and documentation are those of a plain import, in every module of mxnet."""
    called = """
functions = {id(value): value for name, module in list(sys.modules.items()) if name[:5] == "mxnet"
             for value in vars(module).values() if type(value) is types.FunctionType}
postponed = [function for function in functions.values()
             if "_compiled" in (function.__kwdefaults__ or ())]
assert len(postponed) > 2000
for function in postponed:
    try:
        function(no_such_parameter=object(), out=object())
    except Exception:
        pass
"""
    plain = subprocess.check_output(
        [sys.executable, "-c", f"import mxnet\n{OPERATORS}digests()"], text=True
    )
    assert len(plain.split()) > 30
    assert run(f"{OPERATORS}{called}digests()") == plain.split()


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("mx.nd.dot(mx.nd.ones((2,)), mx.nd.ones((2,))).asscalar()", "2.0"),
        ("mx.nd.concat(mx.nd.ones((1,)), mx.nd.ones((1,)), dim=0).size", "2"),
        ("mx.nd.sum(data=mx.nd.ones((3,))).asscalar()", "3.0"),
        ("mx.sym.FullyConnected(mx.sym.var('a'), num_hidden=3, name='fc').name", "fc"),
        ("mx.nd.ones((2,)).square().sum().asscalar()", "2.0"),
        ("mx.np.exp(mx.np.zeros((1,))).item()", "1.0"),
    ],
)
def test_the_first_call_of_an_operator(run, expression, value):
    """It answers as each later call does."""
    assert run(f"print({expression})\nprint({expression})") == [value, value]


def test_a_call_that_no_operator_takes_is_its_own_error(run):
    """The first call compiles the operator, so that its own parameters are checked."""
    program = "for _ in range(2):\n try: mx.nd.dot(3)\n except AssertionError as exc: print(exc)"
    sentence = "Argument lhs must have NDArray type, but got 3"
    assert run(program) == sentence.split() * 2


def test_threads_may_call_an_operator_first_together(run):
    """Each gets the operator's value, whichever compiles it."""
    program = """
import threading
sys.setswitchinterval(1e-6)
data, values = mx.nd.ones((2,)), []
names = ["sin", "cos", "tan", "exp", "log", "sqrt", "abs", "square", "sign", "floor", "ceil"]
def call(barrier, name):
    barrier.wait(30)
    values.append(getattr(mx.nd, name)(data).shape)
for name in names:
    barrier = threading.Barrier(8)
    threads = [threading.Thread(target=call, args=(barrier, name)) for _ in range(8)]
    for thread in threads: thread.start()
    for thread in threads: thread.join()
print(len(values), set(values))
"""
    assert run(program) == ["88", "{(2,)}"]


def test_a_broken_module_fails_when_it_is_used(tmp_path, monkeypatch):
    """The import error comes with the first attribute, or with an import from the module."""
    (tmp_path / "broken_package").mkdir()
    (tmp_path / "broken_package" / "__init__.py").touch()
    (tmp_path / "broken_package" / "part.py").write_text("import no_such_module")
    monkeypatch.syspath_prepend(tmp_path)
    mxnet_import._postpone("broken_package.part")
    module = sys.modules["broken_package.part"]
    assert module.__file__ == str(tmp_path / "broken_package" / "part.py")
    with pytest.raises(AttributeError, match="No module named 'no_such_module'"):
        len(module.anything)
    with pytest.raises(ImportError, match="No module named 'no_such_module'"):
        from broken_package.part import anything  # noqa: F401


def test_a_module_is_imported_when_it_is_used(tmp_path, monkeypatch):
    """Once, whichever attribute is first; its package knows it before."""
    (tmp_path / "whole_package").mkdir()
    (tmp_path / "whole_package" / "__init__.py").touch()
    (tmp_path / "whole_package" / "part.py").write_text("value = []\nother = value\n")
    monkeypatch.syspath_prepend(tmp_path)
    mxnet_import._postpone("whole_package.part")
    postponed = sys.modules["whole_package.part"]
    assert sys.modules["whole_package"].part is postponed
    assert postponed.value == []
    module = sys.modules["whole_package.part"]
    assert module is not postponed
    assert postponed.other is module.value is postponed.value
    mxnet_import._postpone("whole_package.part")
    assert sys.modules["whole_package.part"] is module


def test_a_missing_name_is_an_import_error(run):
    """A name that scipy.stats does not have cannot be imported from it."""
    program = "try: from scipy.stats import nothing\nexcept ImportError: print('none')"
    assert run(program) == ["none"]


def test_setuptools_does_not_warn():
    """setuptools warns if distutils was imported before it; newer releases bring their own."""
    program = "import setuptools, distutils; print(distutils.__file__)"
    expected = subprocess.check_output([sys.executable, "-c", program])
    strict = [sys.executable, "-W", "error::UserWarning", "-c", FAST_IMPORT + program]
    assert subprocess.check_output(strict) == expected


def test_a_package_is_hidden_within_the_block():
    """Within the block the import of pyclbr fails; afterwards, or once imported, it works."""
    assert "pyclbr" not in sys.modules
    with mxnet_import.without("pyclbr"), pytest.raises(ImportError, match="pyclbr"):
        import pyclbr
    import pyclbr

    with mxnet_import.without("pyclbr"):
        import pyclbr as again
    assert again is pyclbr


def test_a_missing_module_stays_missing():
    """Neither a missing module nor one in a missing package is put into sys.modules."""
    for name in ("no_such_package.part", "email.no_such_module"):
        mxnet_import._postpone(name)
        assert name not in sys.modules


def test_garbage_collection_is_off_only_within_the_block():
    """It is switched on again even if the block raises."""
    collecting = []
    with suppress(KeyError), mxnet_import.fast_import():
        collecting.append(gc.isenabled())
        raise KeyError
    assert [*collecting, gc.isenabled()] == [False, True]
