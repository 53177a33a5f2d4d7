"""watch: which files are watched, and which of them have changed."""

from __future__ import annotations

import os

import pytest

from mms_handler.dev import watch


def write(folder, name, text="x"):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    "name",
    [
        *("code/a.pyc", "code/__pycache__/a.txt", ".git/x", "code/.a.py.swp", "code/a.py~"),
        *("code/site-packages/x.py", "node_modules/x.js"),
    ],
)
def test_what_is_not_watched(tmp_path, name):
    """What editors, Python and installers write beside the files that are edited."""
    write(tmp_path, name)
    assert watch.snapshot([tmp_path]) == {}


def test_what_has_changed(tmp_path):
    """Files that are new, gone, longer or newer, by name; a path may be a file, or missing."""
    same = write(tmp_path, "same.py")
    path = write(tmp_path, "code/a.py")
    paths = [tmp_path / "code", same, tmp_path / "gone.mar"]
    states = [watch.snapshot(paths)]
    assert sorted(states[0]) == [str(path), str(same)]
    os.utime(path, ns=(1, 1))
    states.append(watch.snapshot(paths))
    path.write_text("longer")
    os.utime(path, ns=(1, 1))
    states.append(watch.snapshot(paths))
    write(tmp_path, "code/b.py")
    states.append(watch.snapshot(paths))
    path.unlink()
    states.append(watch.snapshot(paths))
    found = [watch.changed(before, after) for before, after in zip(states, states[1:])]
    assert found == [["a.py"], ["a.py"], ["b.py"], ["a.py"]]
