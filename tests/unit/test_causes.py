"""causes: what is said of a script's exception."""

from __future__ import annotations

import runpy
import sys

import pytest

from mms_handler import causes


def raised(path):
    with pytest.raises(BaseException) as caught:  # noqa: PT011
        runpy.run_path(str(path))
    return caught.value


@pytest.mark.parametrize(
    ("source", "line"),
    [
        pytest.param(
            "x = 1\nraise ValueError('no\\n  good')\n",
            "ValueError: no good (code/inference.py, line 2)",
            id="text on several lines becomes one",
        ),
        pytest.param(
            "\n\ndef f(:\n", "SyntaxError: invalid syntax (code/inference.py, line 3)", id="syntax"
        ),
        pytest.param(
            "x = 1\nprint 'accuracy', x\n",
            "SyntaxError: Missing parentheses in call to 'print'. Did you mean print(...)?; if "
            "this is Python 2, convert it: python -m lib2to3 -w -n FILE (code/inference.py, "
            "line 2)",
            marks=pytest.mark.skipif(sys.version_info < (3, 10), reason="other words"),
            id="Python 2",
        ),
        pytest.param(
            "import no_such_library\n",
            "ModuleNotFoundError: No module named 'no_such_library' (code/inference.py, line 1)",
            id="missing library",
        ),
        pytest.param(
            "def f():\n    raise KeyError\nf()\n",
            "KeyError (code/inference.py, line 2)",
            id="the innermost line counts and an exception without text is its name",
        ),
        pytest.param(
            "import json\njson.loads('')\n",
            "JSONDecodeError: Expecting value: line 1 column 1 (char 0) "
            "(code/inference.py, line 2)",
            id="the script's own last line even if a library raised",
        ),
        pytest.param(
            "import sys\nsys.exit('bye')\n",
            "SystemExit: bye (code/inference.py, line 2)",
            id="exit",
        ),
    ],
)
def test_cause_is_one_line_with_the_scripts_place(tmp_path, source, line):
    """A cause has the exception's type, its text, and the place in the model_dir."""
    path = tmp_path / "code" / "inference.py"
    path.parent.mkdir()
    path.write_text(source)
    assert causes.cause(raised(path), str(tmp_path)) == line


def test_cause_without_a_place_in_the_model_dir(tmp_path):
    """An exception from outside the model_dir has no place."""
    assert causes.cause(ValueError("no"), str(tmp_path)) == "ValueError: no"


def test_cause_sees_through_a_linked_model_dir(tmp_path):
    """A model_dir reached by a link is the same folder."""
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "inference.py").write_text("raise ValueError('no')\n")
    (tmp_path / "link").symlink_to("real")
    exc = raised(tmp_path / "real" / "inference.py")
    assert causes.cause(exc, str(tmp_path / "link")) == "ValueError: no (inference.py, line 1)"
