"""tools: mutants change one place each; what make prints becomes a line of the table."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest

from mms_handler import media
from tools import every_python, mutate, with_servers

SOURCE = '''
"""Documentation is for people."""
__all__ = ["area"]
LIMIT_BYTES = 5 << 20
MIN_S, MAX_S = 7, 8

def area(width: int = 2, height=3):
    """So is this."""
    if width < 0 or not height:
        log.warning("negative %d", width)
        raise ValueError(f"{width} is negative")
    return width * height

def is_small(value):
    if value > LIMIT_BYTES:
        return False
    return time.monotonic() < value

def wait(process):
    while not process.wait(timeout_s=9):
        time.sleep(0.05)
    return process.wait(4)

def write(value):
    return json.dumps(value, indent=2)

KINDS = {"i": "a number", "j": "k", "l": "m"}, ("n", "these are more words than four")

class Load(NamedTuple):
    clients: int = 6

def is_number(kind):
    return kind in "if" or "d" in kind
'''

CHANGES = {
    ("5 << 20", "0"),
    ("7", "0"),
    ("8", "0"),
    ("2", "0"),
    ("3", "0"),
    ("6", "0"),
    ("if width < 0 or not height:", "if False:"),
    ("width < 0 or not height", "width < 0 and (not height)"),
    ("width < 0", "width <= 0"),
    ("0", "1"),
    ("not height", "height"),
    ("raise ValueError(f'{width} is negative')", "pass"),
    ("return width * height", "return None"),
    ("width * height", "width + height"),
    ("if value > LIMIT_BYTES:", "if False:"),
    ("value > LIMIT_BYTES", "value <= LIMIT_BYTES"),
    ("False", "True"),
    ("return time.monotonic() < value", "return None"),
    ("time.monotonic() < value", "time.monotonic() >= value"),
    ("not process.wait(timeout_s=9)", "process.wait(timeout_s=9)"),
    ("9", "0"),
    ("return process.wait(4)", "return None"),
    ("4", "0"),
    ("return json.dumps(value, indent=2)", "return None"),
    *((f"'{letter}'", f"'{letter}X'") for letter in "ijklmn"),
    ("return kind in 'if' or 'd' in kind", "return None"),
    ("kind in 'if' or 'd' in kind", "kind in 'if' and 'd' in kind"),
    ("kind in 'if'", "kind not in 'if'"),
    ("'if'", "'i'"),
    ("'d' in kind", "'d' not in kind"),
    ("'d'", "'dX'"),
}


@pytest.mark.skipif(sys.version_info < (3, 9), reason="ast.unparse is new in 3.9")
def test_each_mutant_changes_one_place():
    """Messages, documentation, types, lines of the log and pauses stay; every mutant compiles.

    So does a limit itself, and the moment at which time is up: nobody meets them exactly.
    """
    from tools.mutants import mutants, mutated

    every = mutants("area.py", SOURCE)
    assert {(mutant.before, mutant.after) for mutant in every} == CHANGES
    assert len(every) == len(CHANGES)
    texts = {mutated(SOURCE, mutant) for mutant in every}
    assert len(texts) == len(CHANGES)
    for text in texts:
        compile(text, "area.py", "exec")
        assert "log.warning('negative %d', width)" in text or "if False" in text


@pytest.mark.skipif(sys.version_info < (3, 9), reason="ast.unparse is new in 3.9")
def test_a_sample_depends_on_its_seed_alone():
    """The same seed and code give the same mutants."""
    first, again, other = (mutate.choose(seed, 20, "codecs/") for seed in (1, 1, 2))
    assert first == again != other
    assert {mutant.module.rpartition("/")[0] for mutant in first} == {"mms_handler/codecs"}
    two = {mutant.module for mutant in mutate.choose(1, 10_000, "archive/s3 media.py")}
    assert two == {"mms_handler/archive/s3.py", "mms_handler/media.py"}


def test_the_own_tests_of_a_module():
    """A folder of modules has a folder or a file; a module at the top has a file."""
    assert mutate.own_folder("mms_handler/worker/mms/output.py") == "tests/unit/worker/mms/"
    assert mutate.own_folder("mms_handler/settings/table.py") == "tests/unit/test_settings.py"
    assert mutate.own_folder("mms_handler/errors.py") == "tests/unit/test_errors.py"


def test_which_test_is_a_modules_own():
    """Its file has the module's name, in the folder for its tests, or in that for its area."""
    for test, module in [
        ("unit/worker/test_lane.py", "worker/lane.py"),
        ("unit/worker/mms/test_output.py", "worker/mms/output.py"),
        ("worker/test_learning.py", "worker/learning.py"),
        ("worker/test_load_sample.py", "worker/sample.py"),
    ]:
        assert mutate.is_own(f"tests/{test}::test_it", f"mms_handler/{module}")
    for test, module in [
        ("unit/worker/test_lane.py", "worker/engine.py"),
        ("unit/server/test_access.py", "worker/access.py"),
        ("worker/test_learning.py", "models/learning.py"),
    ]:
        assert not mutate.is_own(f"tests/{test}::test_it", f"mms_handler/{module}")


USED = """
LIMIT = 5
OTHER = 6

def small(
    value, limit=7
):
    return value < LIMIT

class Large:
    size = 8
"""


@pytest.mark.parametrize(
    ("line", "places"),
    [
        pytest.param(8, [[8], [5, 6, 7, 8]], id="a statement"),
        pytest.param(6, [[6], [5, 6, 7, 8]], id="a default"),
        pytest.param(2, [[2], [2, 8]], id="a constant"),
        pytest.param(11, [[11], [11]], id="a class"),
    ],
)
def test_where_a_line_that_an_import_runs_is_used(line, places):
    """Its tests are those of its function, of the lines that use it, or of the module."""
    whole = list(range(1, 12))
    found = [sorted(lines) for lines in mutate.near_lines(USED, line)]
    assert found[: len(places)] == places
    assert found[-1] == whole


@pytest.mark.skipif(sys.version_info < (3, 9), reason="ast.unparse is new in 3.9")
def test_the_tests_of_a_mutant(monkeypatch):
    """The module's own, first those that reach it; then others that do, while there is time.

    Those of their files come next: what the line has made may be shared by all tests of a file.
    """
    (mutant,) = (each for each in mutate.choose(13, 10_000, "media.py") if each.number == 0)
    own, other, far = (f"tests/unit/{name}" for name in ("test_media.py::", "test_a.py::", "c::"))
    seconds = {f"{own}a": 1, f"{own}b": 2, f"{own}c": 20, f"{other}a": 1, f"{far}a": 0.1}
    seconds[f"{other}b"] = 0.1
    reaching = {f"{own}b", f"{other}a", "a test that failed"}
    tests = mutate.Tests(seconds, {("mms_handler/media.py", mutant.line): reaching})
    chosen = [f"{own}b", f"{own}a", f"{other}a", f"{other}b"]
    assert mutate.tests_of(mutant, tests) == chosen
    monkeypatch.setattr(mutate, "BUDGET_S", 2)
    assert mutate.tests_of(mutant, tests) == [f"{own}b"]
    monkeypatch.setattr(mutate, "BUDGET_S", 3)
    others = {("mms_handler/media.py", line): {f"{far}a"} for line in range(1, 100)}
    others.pop(("mms_handler/media.py", mutant.line))
    for by_line in ({}, others):  # an import may have run the line
        assert mutate.tests_of(mutant, mutate.Tests(seconds, by_line)) == [f"{own}a", f"{own}b"]


COPIED = """
import subprocess, sys
from pathlib import Path
from mms_handler.cli import main

def test_the_package():
    assert main() == 1

def test_a_command_without_variables():
    command = str(Path(sys.executable).with_name("mms-handler"))
    assert subprocess.run([command], env={}).returncode == 1

def test_that_fails_anyway():
    assert main() == 3
"""


def test_tests_with_servers_notice_a_change_of_a_copy(tmp_path):
    """Also in processes that get no variables; what fails without a change does not count."""
    package = tmp_path / "copy" / "mms_handler"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "cli.py").write_text("def main():\n    return 1\n")
    (package.parent / "test_copied.py").write_text(COPIED)
    python = with_servers.environment(package.parent, tmp_path / "environment")
    tests = with_servers.passing(
        package.parent, python, ["test_copied.py"], 1, time.monotonic() + 60
    )
    anyway = "test_copied.py::test_that_fails_anyway"
    assert tests.arguments == ["test_copied.py", f"--deselect={anyway}"]
    (package / "cli.py").write_text("def main():\n    return 22\n")
    command = with_servers.Tests(["test_copied.py::test_a_command_without_variables"], 9)
    assert with_servers.fail(package.parent, python, command, 1)


def test_which_tests_with_servers_may_notice_a_change():
    """The files are there."""
    assert mutate.server_tests("mms_handler/server/gpus.py")[0] == "tests/e2e/test_management.py"
    assert mutate.server_tests("mms_handler/media.py")[0] == "tests/e2e/test_serving.py"
    for area in mutate.SERVER_TESTS:
        for file in mutate.server_tests(f"mms_handler/{area}/module.py"):
            assert (mutate.ROOT / file).is_file()


OUTPUT = """\
....F.
FAILED tests/unit/test_a.py::test_b[in words] - AssertionError: 3
ERROR tests/unit/test_c.py::test_d
2 failed, 1,000 passed, 3 skipped, 1 error in 61.20s (0:01:01)
"""


def test_the_table_of_every_python():
    """Counts of both targets are added; a make that fails without a failed test is named."""
    counts, failures = every_python.read(OUTPUT.replace("1,000", "1000").splitlines())
    assert counts == {"failed": 2, "passed": 1000, "skipped": 3, "error": 1}
    assert failures == ["tests/unit/test_a.py::test_b[in words]", "tests/unit/test_c.py::test_d"]
    good = every_python.Result({"passed": 7}, [], 0, 30)
    results = {
        "3.8": [every_python.Result(counts, failures, 2, 60), good],
        "3.9": [every_python.Result({}, [], 2, 60), good],
        "3.10": [good, good],
    }
    assert every_python.table(results).splitlines()[1:] == [
        "| Python | passed | failed | skipped | minutes |",
        "|---|---|---|---|---|",
        "| 3.8 | 1,007 | 3 | 3 | 1.5 |",
        "| 3.9 | 7 | make failed | 0 | 1.5 |",
        "| 3.10 | 14 | 0 | 0 | 1.0 |",
        "",
        "* 3.8: tests/unit/test_a.py::test_b[in words]",
        "* 3.8: tests/unit/test_c.py::test_d",
    ]


def test_the_lines_that_a_child_of_a_test_runs(tmp_path):
    """Also those of a process that is killed right after them."""
    source = "import os; from mms_handler import media; media.is_text('a/b'); os.abort()"
    path = os.pathsep.join([str(mutate.ROOT / "tools" / "traced"), str(mutate.ROOT)])
    env = {**os.environ, "TESTS_BY_LINE": str(tmp_path), "PYTHONPATH": path}
    env["TESTS_BY_LINE_OF"] = "a test"
    subprocess.run([sys.executable, "-c", source], env=env)
    tests, _ = mutate.read_lines(tmp_path)
    lines = {line for module, line in tests.by_line if module == "mms_handler/media.py"}
    assert media.is_text.__code__.co_firstlineno in lines
    assert set().union(*tests.by_line.values()) == {"a test"}
