"""worker_files: what workers write for serve is read while it is new."""

from __future__ import annotations

import os

from mms_handler import worker_files


def test_a_reason_for_the_supervisor(tmp_path):
    """It is read for a minute; bytes and letters that no text has are no error."""
    assert worker_files.read_load_error(tmp_path) == ""
    worker_files.write_load_error(tmp_path, "one \ud800")
    worker_files.write_load_error(tmp_path, "ä" * 5_000)
    assert worker_files.read_load_error(tmp_path) == "ä" * 4_000
    path = tmp_path / worker_files.LOAD_ERROR
    assert [each.name for each in path.parent.iterdir()] == ["load-error"]
    path.write_bytes(b"\xff")
    assert worker_files.read_load_error(tmp_path) == "�"
    now = path.stat().st_mtime
    os.utime(path, (now, now - 50))
    assert worker_files.read_load_error(tmp_path) == "�"
    os.utime(path, (now, now - 61))
    assert worker_files.read_load_error(tmp_path) == ""
    assert worker_files.read_load_error(tmp_path, within_s=1_000) == "�"


def test_a_reason_that_cannot_be_written(tmp_path):
    """Is lost, and nothing else."""
    (tmp_path / "MAR-INF").write_text("a file")
    worker_files.write_load_error(tmp_path, "no weights")
    assert worker_files.read_load_error(tmp_path) == ""
