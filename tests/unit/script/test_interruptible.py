"""script.interruptible: a signal interrupts every loop of a script, on every Python."""

from __future__ import annotations

import ast
import dis
import os
import py_compile
import subprocess
import sys

import pytest

from mms_handler.script import interruptible

#: Loops in which no function is called.  The first four jump back to a ``try``.
LOOPS = """
def forever(x):
    while True:
        try:
            x = not x
        except Exception:
            pass

def with_a_condition(x):
    while x:
        try:
            x = not not x
        finally:
            pass

def with_continue(x):
    while True:
        try:
            if x:
                continue
        except Exception:
            pass

def nested(x):
    while True:
        while True:
            try:
                if x:
                    break
            finally:
                pass

def a_block(x):
    import contextlib
    block = contextlib.nullcontext()
    while True:
        with block:
            x = not x

def of_a_for(x):
    import itertools
    for _ in itertools.repeat(None):
        try:
            x = not x
        finally:
            pass

def empty(x):
    while True:
        pass
"""

NAMES = [node.name for node in ast.parse(LOOPS).body]

#: Interrupts each loop of a script after 50 ms, and prints its name.
INTERRUPT = """
import signal, sys
from pathlib import Path
from mms_handler.script.load import import_script

class Expired(BaseException):
    pass

def expire(number, frame):
    raise Expired

module = import_script(Path(sys.argv[1]))
signal.signal(signal.SIGALRM, expire)
for name in sys.argv[2:]:
    signal.setitimer(signal.ITIMER_REAL, 0.05)
    try:
        getattr(module, name)(True)
    except Expired:
        print(name, flush=True)
"""


@pytest.mark.parametrize(
    "files",
    [
        pytest.param({"inference.py": LOOPS}, id="the script"),
        pytest.param({"inference.py": "from loops import *", "loops.py": LOOPS}, id="a sibling"),
        pytest.param(
            {"inference.py": "from a.b import *", "a/__init__.py": "", "a/b.py": LOOPS},
            id="a module of its package",
        ),
    ],
)
def test_every_loop_is_interrupted(tmp_path, files):
    """In a process of its own: this one could not be interrupted either."""
    for path, text in files.items():
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_text(text)
    command = [sys.executable, "-c", INTERRUPT, str(tmp_path / "inference.py"), *NAMES]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        output, _ = process.communicate(timeout=30)
    except subprocess.TimeoutExpired:
        process.kill()
        output, _ = process.communicate()
    assert output.split() == NAMES


def looks_for_signals(function):
    """Whether every jump back of a function lands where CPython 3.10 looks for signals."""
    instructions = {instruction.offset: instruction for instruction in dis.Bytecode(function)}
    return all(
        instructions[jump.argval].opname != "SETUP_FINALLY"
        for jump in instructions.values()
        if jump.opcode in dis.hasjabs and jump.argval <= jump.offset
    )


@pytest.mark.skipif(sys.version_info[:2] != (3, 10), reason="bytecodes of 3.10")
def test_only_310_needs_it():
    """Without the pass, three loops of the list have no look for signals."""
    namespace: dict = {}
    exec(compile(LOOPS, "loops", "exec"), namespace)
    blind = [name for name in NAMES if not looks_for_signals(namespace[name])]
    assert blind == ["forever", "with_a_condition", "with_continue", "nested"]


def is_while(node):
    return isinstance(node, ast.While)


def test_nothing_else_changes(tmp_path):
    """The compiled functions have the lines of the file, and no others."""
    tree = interruptible.interruptible(ast.parse(LOOPS))
    passes = [node for node in ast.walk(tree) if isinstance(node, ast.Pass)]
    assert len(passes) == LOOPS.count("pass") + 4
    starts = [[type(part) for part in each.body[:2]] for each in ast.walk(tree) if is_while(each)]
    assert starts.count([ast.Pass, ast.Try]) == 4
    loader = interruptible.Loader("inference", "inference.py")
    changed, unchanged = {}, {}
    exec(loader.source_to_code(LOOPS, "inference.py"), changed)
    exec(compile(LOOPS, "inference.py", "exec"), unchanged)
    for name in NAMES:
        lines = [
            {line for _, line in dis.findlinestarts(functions[name].__code__)}
            for functions in (changed, unchanged)
        ]
        assert lines[0] == lines[1]


def test_other_files_are_imported_as_they_are(tmp_path, monkeypatch):
    """Packages in the script's lib keep their .pyc; so does everything outside its folder."""
    monkeypatch.setattr(interruptible, "NEEDED", True)
    monkeypatch.setattr(interruptible, "_folders", set())
    monkeypatch.setattr(sys, "path_hooks", list(sys.path_hooks))
    (tmp_path / "code" / "lib").mkdir(parents=True)
    (tmp_path / "code" / "own").mkdir()
    interruptible.import_from(tmp_path / "code")
    hook = sys.path_hooks[0]
    for folder in ("code", "code/own"):
        (tmp_path / folder / "module.py").write_text("")
        spec = hook(str(tmp_path / folder)).find_spec("module")
        assert isinstance(spec.loader, interruptible.Loader)
    for folder in ("code/lib", "."):
        with pytest.raises(ImportError):
            hook(str(tmp_path / folder))


def test_no_compiled_file_is_used(tmp_path):
    """One could have been compiled without the pass."""
    path = tmp_path / "inference.py"
    path.write_text("value = 1")
    py_compile.compile(str(path))
    stat = path.stat()
    path.write_text("value = 2")
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    namespace: dict = {}
    exec(interruptible.Loader("inference", str(path)).get_code("inference"), namespace)
    assert namespace["value"] == 2
