"""training.model_folder: what a run finds in the model's folder, and what it leaves there."""

from __future__ import annotations

import os

import pytest

from mms_handler.errors import TrainingError
from mms_handler.training import model_folder


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "model").mkdir()
    return tmp_path / "model"


def names(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


def train(folder, *files, fails=False):
    """A run that writes these files; what it saw in the folder."""
    model_folder.check(folder)
    with model_folder.emptied(folder):
        seen = names(folder)
        for name in files:
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_text(name)
        if fails:
            raise KeyError
    return seen


def test_each_run_begins_with_an_empty_folder(folder, tmp_path):
    """The files of the run before are gone, in folders too; only the last ones stay."""
    assert train(folder, "a.params", "code/a.py") == []
    assert train(folder, "b.params") == []
    assert names(folder) == ["b.params"]
    assert train(folder) == []
    assert names(folder) == []
    assert names(tmp_path) == [".model-files.json", "model"]


def test_a_run_that_fails_early_costs_no_model(folder):
    """One that had begun to save leaves what it wrote, and nothing else."""
    train(folder, "a.params", "code/a.py")
    with pytest.raises(KeyError):
        train(folder, fails=True)
    assert names(folder) == ["a.params", "code", "code/a.py"]
    with pytest.raises(KeyError):
        train(folder, "half.params", fails=True)
    assert names(folder) == ["half.params"]
    train(folder, "b.params")
    assert names(folder) == ["b.params"]


@pytest.mark.parametrize("name", ["notes.txt", "code/notes.txt", "a.params"])
def test_files_of_others_are_refused(folder, name):
    """Also one that took the place of a file of the last run; nothing is removed."""
    train(folder, "a.params", "code/a.py")
    (folder / name).write_text("somebody else's")
    before = names(folder)
    with pytest.raises(TrainingError) as error:
        train(folder)
    assert str(error.value) == (
        f"the model's folder {folder} has files that no training left there: {name}; move them "
        "away, choose another --model-dir, or let --force remove them"
    )
    assert names(folder) == before


def test_a_folder_without_a_record(folder, tmp_path):
    """The message has the first names; hidden files do not count, and stay."""
    for name in (*"gfedcba", ".gitignore"):
        (folder / name).write_text(name)
    (tmp_path / ".model-files.json").write_text("[1]")
    with pytest.raises(TrainingError, match=r"left there: a, b, c, d, e, \.\.\.; move"):
        model_folder.check(folder)
    with model_folder.emptied(folder):
        assert names(folder) == [".gitignore"]
    assert names(folder) == [".gitignore"]


def test_a_run_that_was_killed(folder, tmp_path):
    """The next run does not ask whose files it left: it may go on from a checkpoint by itself."""
    train(folder, "a.params")
    process = os.fork()
    if not process:
        with model_folder.emptied(folder):
            (folder / "half.params").touch()
            os._exit(9)
    os.waitpid(process, 0)
    assert names(tmp_path / ".model-earlier") == ["a.params"]
    assert names(folder) == ["half.params"]
    assert train(folder, "b.params") == []
    assert names(tmp_path) == [".model-files.json", "model", "model/b.params"]


def test_a_script_that_removes_the_folder(folder):
    train(folder, "a.params")
    with model_folder.emptied(folder):
        folder.rmdir()
    model_folder.check(folder)


def test_what_a_killed_run_had_put_aside_does_not_come_back(folder, tmp_path):
    """It was an earlier model's; nobody knows whether it is whole."""
    aside = model_folder._beside(folder, "earlier")
    aside.mkdir()
    (aside / "old.params").write_text("x")
    with pytest.raises(KeyError, match="^$"):
        train(folder, fails=True)
    assert names(folder) == []
    assert not aside.exists()
