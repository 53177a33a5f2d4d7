"""script.frames: a script's exception as the author of the script reads it."""

from __future__ import annotations

import pytest
from mms.service import Service

from mms_handler import causes, errors
from mms_handler.script.frames import as_edited, script_traceback, write_sources
from mms_handler.script.load import import_script


def raised(path):
    """The exception of a file, as it comes through frames of this package."""
    return errors.attempt(import_script, path).exc


@pytest.fixture
def script(tmp_path):
    def write(source):
        path = tmp_path / "model" / "code" / "inference.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(source)
        return path

    return write


def test_the_scripts_frames_come_first_and_ours_are_not_there(script, tmp_path):
    """What a library did below the script's last line stays."""
    path = script("import json\n\ndef read():\n    return json.loads('{')\n\nread()\n")
    lines = script_traceback(raised(path), str(tmp_path / "model")).splitlines()
    assert lines[:3] == [
        "Traceback (most recent call last):",
        f'  File "{path}", line 6, in <module>',
        "    read()",
    ]
    assert lines[3] == f'  File "{path}", line 4, in read'
    assert any("json/decoder.py" in line for line in lines)
    assert not any("mms_handler" in line or "importlib" in line for line in lines)
    assert lines[-1].startswith("json.decoder.JSONDecodeError: Expecting property name")


def test_an_exception_that_was_never_in_the_script_is_whole(tmp_path):
    """It may be a bug of this package."""
    exc = errors.attempt(errors.fault, 1, 2).exc
    text = script_traceback(exc, str(tmp_path))
    assert "mms_handler/errors.py" in text
    assert text.endswith("TypeError: fault() takes 1 positional argument but 2 were given")


def test_the_paths_are_the_edited_ones(script, tmp_path):
    """Those of a copied folder, of a single file of it, and of an archive."""
    path, model_dir = script("import no_such_library\n"), str(tmp_path / "model")
    exc = raised(path)
    for sources, shown in [
        ({"": "/home/me/iris"}, "/home/me/iris/code/inference.py"),
        ({"": "iris", "code": "/src"}, "/src/inference.py"),
        ({"": "iris", "code/inference.py": "/src/iris.py"}, "/src/iris.py"),
        ({"": "store/iris.mar"}, "store/iris.mar/code/inference.py"),
    ]:
        write_sources(tmp_path / "model", sources)
        text = script_traceback(exc, model_dir)
        assert f'File "{shown}", line 1, in <module>' in text
        assert "import no_such_library" in text


def test_a_library_that_a_function_imports(script, tmp_path):
    """The frames of the import itself help nobody."""
    path = script("import importlib\nimportlib.import_module('no_such_library')\n")
    text = script_traceback(raised(path), str(tmp_path / "model"))
    assert f'File "{path}", line 2, in <module>' in text
    assert "<frozen" not in text
    assert "No module named 'no_such_library'" in text


def test_the_file_of_a_syntax_error_is_the_edited_one(script, tmp_path):
    path = script("def f(:\n")
    for sources, edited in [
        ({"": "/home/me/iris"}, "/home/me/iris/code/inference.py"),
        ({"": "iris", "code": "/src"}, "/src/inference.py"),
    ]:
        write_sources(tmp_path / "model", sources)
        text = script_traceback(raised(path), str(tmp_path / "model"))
        assert text.startswith(f'  File "{edited}", line 1\n')
        assert "importlib" not in text


def test_a_cause_is_shown_in_the_same_way(script, tmp_path):
    """Each exception of a chain begins with the script's frames."""
    source = "try:\n    {}['x']\nexcept KeyError as exc:\n    raise ValueError('no x') from exc\n"
    text = script_traceback(raised(script(source)), str(tmp_path / "model"))
    assert text.count("inference.py") == 2
    assert "importlib" not in text
    assert "KeyError: 'x'" in text


def test_an_exception_on_the_way_from_the_scripts(script, tmp_path):
    """Of one that was never in the script all frames stay, without ours and MMS's."""
    path = script("raise KeyError('x')\n")
    try:
        try:
            import_script(path)
        finally:
            Service.predict(None, [])
    except AttributeError as exc:
        text, line = script_traceback(exc, str(tmp_path / "model")), exc.__traceback__.tb_lineno
    assert [each for each in text.splitlines() if each.startswith("  File")] == [
        f'  File "{path}", line 1, in <module>',
        f'  File "{__file__}", line {line}, in test_an_exception_on_the_way_from_the_scripts',
    ]


def test_a_script_outside_the_model_dir(tmp_path):
    """Its own folder counts too, but not what is installed in an environment there."""
    (tmp_path / "model").mkdir()
    library = tmp_path / "project" / ".venv" / "site-packages" / "library.py"
    library.parent.mkdir(parents=True)
    library.write_text("def call(function):\n    function()\n")
    path = tmp_path / "project" / "iris.py"
    path.write_text(
        f"import sys\nsys.path.insert(0, {str(library.parent)!r})\nimport library\n"
        "def fail(): raise ValueError('no')\nlibrary.call(fail)\n"
    )
    folders = str(tmp_path / "model"), str(path.parent)
    exc = raised(path)
    lines = script_traceback(exc, *folders).splitlines()
    assert lines[1] == f'  File "{path}", line 5, in <module>'
    assert causes.cause(exc, *folders) == "ValueError: no (iris.py, line 4)"


def test_texts_name_the_original(tmp_path):
    """MXNet's messages quote paths of the copy."""
    (tmp_path / "model").mkdir()
    text = f"cannot open {tmp_path}/model/net.params"
    assert as_edited(text, str(tmp_path / "model")) == text
    write_sources(tmp_path / "model", {"": "iris"})
    assert as_edited(text, str(tmp_path / "model")) == "cannot open iris/net.params"
