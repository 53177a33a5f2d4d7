"""archive.retuning: an archive gets tuned settings, and stays what it was in all else."""

from __future__ import annotations

import zipfile

import pytest

from mms_handler import archive
from mms_handler.errors import ArchiveError
from mms_handler.manifest import MANIFEST, Tuned

TUNED = Tuned(2, workers=1, core="off")


@pytest.fixture
def mar(tmp_path):
    folder = tmp_path / "iris"
    (folder / "code").mkdir(parents=True)
    (folder / "code" / "inference.py").write_text("def model_fn(model_dir): return 1\n")
    (folder / "net.params").write_bytes(bytes(range(256)) * 500)
    return archive.pack(folder, tmp_path / "iris.mar")


def entries(path):
    with zipfile.ZipFile(path) as opened:
        return {
            info.filename: (opened.read(info), info.compress_type, info.date_time)
            for info in opened.infolist()
        }


def test_only_the_manifest_changes(mar):
    before = entries(mar)
    archive.write_tuned(mar, TUNED, mar)
    after = entries(mar)
    assert before.pop(MANIFEST) != after.pop(MANIFEST)
    assert before == after
    assert archive.verify(mar).tuned == TUNED


def test_another_archive_is_written(mar, tmp_path):
    """It replaces none unless it may."""
    bytes_before = mar.read_bytes()
    target = tmp_path / "store" / "fast.mar"
    archive.write_tuned(mar, TUNED, target)
    assert mar.read_bytes() == bytes_before
    assert archive.manifest_of(target).tuned == TUNED
    with pytest.raises(ArchiveError, match="already exists; --force replaces it"):
        archive.write_tuned(mar, Tuned(2), target)
    archive.write_tuned(mar, Tuned(2), target, force=True)
    assert archive.manifest_of(target).tuned == Tuned(2)
