"""files, formats, child: what is listed, written whole or not at all, and told apart."""

from __future__ import annotations

import io
import os
import sys
import tarfile
import zipfile

import pytest

from mms_handler.archive import child, files, formats
from mms_handler.errors import ArchiveError

# --- files -----------------------------------------------------------------------------------


@pytest.mark.parametrize("force", [False, True])
def test_a_file_that_is_replaced(tmp_path, force):
    """At once, when all of it is there; its folder is made."""
    target = tmp_path / "a" / "b" / "file"
    with files.replacing(target, force) as partial:
        assert partial.parent == target.parent
        partial.write_text("new")
        assert not target.exists()
    assert target.read_text() == "new"
    assert list(target.parent.iterdir()) == [target]


def test_a_file_that_exists(tmp_path):
    """Stays, unless it may be replaced and all goes well."""
    target = tmp_path / "file"
    target.write_text("old")

    def write_half(force):
        with files.replacing(target, force) as partial:
            partial.write_text("half")
            raise KeyError("mine")

    with pytest.raises(ArchiveError, match="file already exists; --force replaces it$"):
        write_half(False)
    with pytest.raises(KeyError, match="mine"):
        write_half(True)
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]
    files.check_free(tmp_path / "other", False)
    files.check_free(target, True)


def test_a_folders_files(tmp_path):
    """By their names, sorted; a folder that does not pass is not entered."""
    for name in ("b/z", "b/c/y", "a", ".git/config", "empty/"):
        path = tmp_path / name
        (path if name.endswith("/") else path.parent).mkdir(parents=True, exist_ok=True)
        if not name.endswith("/"):
            path.touch()
    listed = files.walk(tmp_path)
    assert list(listed) == [".git/config", "a", "b/c/y", "b/z"]
    assert listed["b/c/y"] == tmp_path / "b" / "c" / "y"
    assert list(files.walk(tmp_path, lambda path: path.name not in (".git", "z"))) == ["a", "b/c/y"]


def test_what_is_no_file(tmp_path):
    """Links, even to files, and pipes; unless they do not pass."""
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to(tmp_path / "file")
    with pytest.raises(ArchiveError, match="link is a link; replace it with the file itself$"):
        files.walk(tmp_path)
    (tmp_path / "link").unlink()
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "folder" / "pipe")
    with pytest.raises(ArchiveError, match="folder/pipe is neither a file nor a folder$"):
        files.walk(tmp_path)
    assert list(files.walk(tmp_path, lambda path: path.name != "pipe")) == ["file"]


def test_a_download(tmp_path):
    """The limit is the last byte that may come."""
    sizes = []
    files.save([b"abc", b"de"], tmp_path / "file", "s3://x", 5, sizes.append)
    assert (tmp_path / "file").read_bytes() == b"abcde"
    assert sizes == [3, 2]
    with pytest.raises(ArchiveError, match="^s3://x has more than 1,234 bytes$"):
        files.save([b"x" * 1_000, b"x" * 235], tmp_path / "file", "s3://x", 1_234, sizes.append)
    assert sizes[2:] == [1_000, -1_000]
    files.save([b"any"], tmp_path / "file", "s3://x")
    assert (tmp_path / "file").read_bytes() == b"any"


def test_a_download_that_fails(tmp_path):
    """What was counted is taken back."""

    def chunks():
        yield b"abc"
        raise OSError("gone")

    sizes = []
    with pytest.raises(OSError, match="gone"):
        files.save(chunks(), tmp_path / "file", "s3://x", progress=sizes.append)
    assert sizes == [3, -3]


# --- formats ---------------------------------------------------------------------------------


@pytest.fixture
def archives(tmp_path):
    """A zip without a suffix, and a tar.gz that says it is a zip."""
    with zipfile.ZipFile(tmp_path / "zipped", "w") as mar:
        mar.writestr("a", bytes(30))
    with tarfile.open(tmp_path / "tarred.mar", "w:gz") as tar:
        entry = tarfile.TarInfo("a")
        entry.size = 20
        tar.addfile(entry, io.BytesIO(bytes(20)))
    return tmp_path


def test_the_contents_decide(archives):
    assert formats.other_suffix(archives / "zipped") == ".tar.gz"
    assert formats.other_suffix(archives / "tarred.mar") == ".mar"
    (archives / "text.mar").write_text("text")
    for path in (archives / "text.mar", archives, archives / "gone"):
        with pytest.raises(ArchiveError, match=r"is neither a \.mar nor a model\.tar\.gz$"):
            formats.other_suffix(path)


def test_sizes(archives):
    """Of all files, unpacked."""
    assert formats.size(archives / "zipped") == 30
    assert formats.size(archives / "tarred.mar") == 20
    folder = archives / "folder" / "deeper"
    folder.mkdir(parents=True)
    (folder / "a").write_bytes(bytes(4))
    (folder.parent / "b").write_bytes(bytes(3))
    assert formats.size(folder.parent) == 7


# --- child -----------------------------------------------------------------------------------

PROGRAM = """\
#!{python} -S
import json, os, sys
print("to standard error")
words = sys.argv[1:]
report = words[4]
if words[-1] != "nothing":
    json.dump([words[:4], words[5:], os.getcwd(), sys.stdin.read()], open(report, "w"))
sys.exit(3)
"""


@pytest.fixture
def program(tmp_path, monkeypatch):
    """A program in Python's place, which reports how it was run."""
    path = tmp_path / "python"
    path.write_text(PROGRAM.format(python=sys.executable))
    path.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(path))


@pytest.mark.usefixtures("program")
def test_a_hidden_command(tmp_path, capfd):
    """Its report is returned; a person may read what it prints."""
    words, more, folder, read = child.run("inspect", tmp_path, "a", "b")
    assert words == ["-m", "mms_handler", "inspect", str(tmp_path)]
    assert (more, folder, read) == (["a", "b"], str(tmp_path), "")


@pytest.mark.usefixtures("program")
def test_a_command_without_a_report(tmp_path):
    assert child.run("inspect", tmp_path, "nothing") == {
        "error": "the process that loaded the model ended with 3"
    }
