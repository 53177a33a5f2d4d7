"""worker_files: what workers write for serve is read while it is new."""

from __future__ import annotations

import functools
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


def test_a_phase_of_loading(tmp_path):
    """With its age; a new load forgets it, and the old reason."""
    assert worker_files.read_load_phase(tmp_path) is None
    worker_files.forget_load(tmp_path)
    worker_files.write_load_phase(tmp_path, "model_fn")
    worker_files.write_load_error(tmp_path, "no weights")
    path = tmp_path / worker_files.LOAD_PHASE
    os.utime(path, (path.stat().st_mtime - 100,) * 2)
    phase, seconds = worker_files.read_load_phase(tmp_path)
    assert phase == "model_fn"
    assert 100 <= seconds < 160
    worker_files.forget_load(tmp_path)
    assert worker_files.read_load_phase(tmp_path) is None
    assert worker_files.read_load_error(tmp_path) == ""


def test_the_requests_of_a_worker(tmp_path):
    """They are read once, up to a zero; another worker's stay."""
    assert worker_files.take_requests(tmp_path, 7) == []
    (tmp_path / "MAR-INF").mkdir()
    worker_files.requests_path(tmp_path, 7).write_bytes(b"one\ntwo \xff\0three")
    worker_files.requests_path(tmp_path, 8).write_bytes(b"\0one")
    assert worker_files.take_requests(tmp_path, 7) == ["one", "two \ufffd"]
    assert worker_files.take_requests(tmp_path, 7) == []
    assert worker_files.take_requests(tmp_path, 8) == []


def test_what_a_request_has_taught(tmp_path):
    """One worker learns at a time, once from requests of each shape, and from few of them."""
    claim = functools.partial(worker_files.claim_learning, tmp_path, limit=2, within_s=60)
    assert worker_files.written_ns(tmp_path) == 0
    assert worker_files.read_learned(tmp_path) == {}
    assert claim("one")
    claimed = worker_files.written_ns(tmp_path)
    assert claimed > 0
    assert not claim("two")
    worker_files.write_learned(tmp_path, "one", "x" * 5_000)
    assert worker_files.written_ns(tmp_path) >= claimed
    assert not claim("one")
    assert claim("two")
    worker_files.write_learned(tmp_path, "two", "y")
    assert not claim("three")
    assert worker_files.read_learned(tmp_path) == {"one": "x" * 5_000, "two": "y"}


def test_a_worker_that_died_while_it_learned(tmp_path):
    """Does not keep others from it for ever."""
    claim = functools.partial(worker_files.claim_learning, tmp_path, limit=2, within_s=60)
    assert claim("one")
    path = tmp_path / "MAR-INF" / "learned-one"
    os.utime(path, (path.stat().st_mtime - 61,) * 2)
    assert not claim("one")
    assert claim("two")
    assert worker_files.read_learned(tmp_path) == {"one": "", "two": ""}


def test_a_folder_that_cannot_be_written(tmp_path):
    """Nothing is learned."""
    (tmp_path / "MAR-INF").write_text("a file")
    assert not worker_files.claim_learning(tmp_path, "one", limit=2, within_s=60)


def test_the_times_of_a_load(tmp_path):
    """A new load forgets them; what is no line of them tells nothing."""
    assert worker_files.read_load_times(tmp_path) == {}
    worker_files.write_load_times(tmp_path, {"mxnet": 1.25, "model_fn": 0.5})
    assert worker_files.read_load_times(tmp_path) == {"mxnet": 1.25, "model_fn": 0.5}
    (tmp_path / worker_files.LOAD_TIMES).write_text("mxnet\tlong\n")
    assert worker_files.read_load_times(tmp_path) == {}
    (tmp_path / worker_files.LOAD_TIMES).write_text('a"}\t1\n')
    assert worker_files.read_load_times(tmp_path) == {}
    worker_files.forget_load(tmp_path)
    assert not (tmp_path / worker_files.LOAD_TIMES).exists()
