"""training.source: what a script's syntax tree says about its train()."""

from __future__ import annotations

import ast
import sys

import pytest

from mms_handler.errors import TrainingError
from mms_handler.training import source


@pytest.mark.parametrize(
    ("text", "required"),
    [
        pytest.param("def train(): pass", [], id="none"),
        pytest.param("def train(hosts, lr, n=1, *a, k, d=2, **kw): pass", ["hosts", "lr", "k"],
                     id="positional and keyword-only"),
        pytest.param("def train(a, /, b, c=1): pass", ["a", "b"], id="positional-only"),
        pytest.param("def train(a, b): pass\ndef train(c): pass", ["c"], id="the last counts"),
        pytest.param("@wraps(f)\ndef train(a): pass", None, id="decorated"),
        pytest.param("train = f", None, id="assigned"),
        pytest.param("async def train(a): pass", None, id="async"),
        pytest.param("def train(a): pass\ntrain = timed(train)", None, id="wrapped"),
        pytest.param("x = 1", None, id="no train"),
        pytest.param("from a import *", ["lr"], id="imported"),
    ],
)  # fmt: skip
def test_required_parameters(script, text, required):
    """The parameters without a default are known before anything is run."""
    assert source.required_parameters(script(text, a="def train(lr): pass")) == required


def test_a_syntax_error_names_its_line(script):
    """A file that is not Python 3 has no parameters, but an error."""
    path = script("import os\n\nprint 'epoch', 1\n")
    with pytest.raises(TrainingError, match=r"^entry.py, line 3: "):
        source.required_parameters(path)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (
            b"x = 1\0",
            r"^entry.py: source code (string )?cannot contain null bytes$",
        ),
        (None, "^cannot read .*entry.py: No such file or directory$"),
    ],
)
def test_a_file_that_cannot_be_read(tmp_path, content, reason):
    if content is not None:
        (tmp_path / "entry.py").write_bytes(content)
    with pytest.raises(TrainingError, match=reason):
        source.required_parameters(tmp_path / "entry.py")


@pytest.mark.parametrize(
    ("text", "required"), [("from .a import train", None), ("from a import train", ["lr"])]
)
def test_a_relative_import(script, tmp_path, text, required):
    """It takes nothing from ``lib``, where modules of the script may be."""
    path = script(text)
    (path.parent / "lib").mkdir()
    (path.parent / "lib" / "a.py").write_text("def train(lr): pass")
    assert source.required_parameters(path) == required


@pytest.mark.parametrize("name", ["no_such_package_anywhere", "os.path.no", "__main__", ""])
def test_modules_that_are_nowhere(name, monkeypatch):
    """A name without a file has no folder; nothing is imported."""
    monkeypatch.setattr(sys.modules["__main__"], "__spec__", None)  # python -m pytest sets it
    assert source._site_folders(name) == []


@pytest.mark.parametrize(
    ("text", "is_guard"),
    [
        ("if __name__ == '__main__': train()", True),
        ("if '__main__' == __name__ and ready: train()", True),
        ("if __name__ == '__mp_main__': train()", False),
        ("if mode == '__main__': train()", False),
        ("while __name__ == '__main__': train()", False),
    ],
)
def test_what_is_a_main_guard(text, is_guard):
    """What is in it does not run when the file is imported."""
    (statement,) = ast.parse(text).body
    assert source._is_main_guard(statement) is is_guard


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("a()\nif x: b()\nelse: c()", "abc"),
        ("try: a()\nexcept E: b()\nelse: c()\nfinally: d()", "abcd"),
        ("for x in y: a()\nelse: b()\nwhile x: c()", "abc"),
        ("with x: a()\nif __name__ == '__main__': b()\nelse: c()", "ac"),
        ("def f(): a()\nclass C:\n    b()\nasync def g(): c()", ""),
    ],
)
def test_what_an_import_executes(text, names):
    """Also what is in other statements, but no function's body and no main guard's."""
    statements = source._module_level(ast.parse(text).body)
    calls = [each.value.func.id for each in statements if isinstance(each, ast.Expr)]
    assert sorted(calls) == list(names)
