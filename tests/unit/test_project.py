"""project, and the plug-in for pytest: what init writes works as it is, and its own tests pass."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from importlib import metadata

import pytest

import mms_handler
from mms_handler.archive import verify
from mms_handler.errors import ArchiveError, ProjectError
from mms_handler.project import KINDS


def run_tests(folder, *options):
    """Run the project's tests, with no settings of this repository."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *options]
    env = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST")}
    done = subprocess.run(
        command, cwd=folder, env=env, stdout=subprocess.PIPE, text=True, timeout=120, check=False
    )
    return done.returncode, done.stdout


@pytest.mark.parametrize("kind", KINDS)
def test_a_project_trains_answers_and_can_be_packed(tmp_path, kind):
    """With the commands' functions, and the values that init prints; its tests pass."""
    folder = tmp_path / "fruit"
    mms_handler.init(folder, kind)
    trained = mms_handler.train(
        str(folder / "code" / "inference.py"),
        channels={"train": folder / "data"},
        base_dir=folder,
    )
    assert trained == folder / "model"
    code, output = run_tests(folder)
    assert code == 0, output
    assert re.search(r"^3 passed in ", output, re.MULTILINE), output  # and no warning
    mar = mms_handler.pack(
        trained, tmp_path / "fruit.mar", script=folder / "code", sample=folder / "sample.csv"
    )
    reply = verify(mar).sample.reply
    assert (reply["status"], reply["body"]) == (200, '["banana", "cherry"]')


def test_a_project_is_explained(tmp_path):
    """Its README has the commands that init returns; every function has its contract."""
    commands = mms_handler.init(tmp_path / "fruit")
    assert [command.split()[1] for command in commands if command.startswith("mms-")] == [
        *("train", "run", "check", "archive", "serve", "invoke")
    ]
    readme = (tmp_path / "fruit" / "README.md").read_text()
    assert re.findall(r"^\$ (.+)$", readme, re.MULTILINE) == commands
    assert readme.startswith("# fruit\n")
    named = set(re.findall(r"^\| `(.+?)` \|", readme, re.MULTILINE))
    assert all((tmp_path / "fruit" / path).exists() for path in named)


@pytest.mark.parametrize("kind", KINDS)
def test_every_function_of_a_script_has_its_docstring(tmp_path, kind):
    """Also those that are left out, as comments."""
    mms_handler.init(tmp_path / "fruit", kind)
    script = (tmp_path / "fruit" / "code" / "inference.py").read_text()
    functions = re.findall(r'^(?:# )?def (\w+)\(.*\):\n(?:#  )? +"""', script, re.MULTILINE)
    hooks = {"transform_fn"} if kind == "transform" else {"input_fn", "predict_fn", "output_fn"}
    assert {"train", "save", "model_fn", *hooks} <= set(functions)


@pytest.mark.parametrize(
    ("name", "kind", "error", "reason"),
    [
        ("used", "gluon", ProjectError, "used exists and is not empty; choose another name"),
        ("-rf", "gluon", ArchiveError, "'-rf' is not a valid model name"),
        ("fruit", "onnx", ProjectError, "choose one of gluon, module, transform"),
    ],
)
def test_what_cannot_be_written_is_told(tmp_path, name, kind, error, reason):
    (tmp_path / "used").mkdir()
    (tmp_path / "used" / "file").touch()
    with pytest.raises(error, match=reason):
        mms_handler.init(tmp_path / name, kind)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["used"]


def test_an_empty_folder_can_be_used(tmp_path):
    (tmp_path / "fruit").mkdir()
    mms_handler.init(tmp_path / "fruit")
    assert (tmp_path / "fruit" / "sample.csv").is_file()


def test_tests_of_a_model_that_is_not_trained_say_so(tmp_path):
    """And tests that name no model."""
    mms_handler.init(tmp_path / "fruit")
    code, output = run_tests(tmp_path / "fruit", "-k", "json")
    assert code == 1
    assert "there is no model" in output
    assert "train it before (mms-handler train)" in output
    (tmp_path / "test_none.py").write_text(
        'pytest_plugins = ["mms_handler.pytest_plugin"]\ndef test(mms_model): ...\n'
    )
    code, output = run_tests(tmp_path, "test_none.py")
    assert "define a fixture mms_model_path" in output


def test_the_plug_in_is_not_registered():
    """A project that does not name it has no fixture of ours."""
    # An egg-info of an older build may lie beside the package.
    packages = [d for d in metadata.distributions() if d.metadata["Name"] == "mms_handler"]
    assert packages
    for package in packages:
        assert "pytest11" not in {point.group for point in package.entry_points}
