"""current_requests: what serve reads of a worker that died."""

from __future__ import annotations

import os

from mms_handler import worker_files
from mms_handler.worker.mms.current_requests import CurrentRequests


def current(folder):
    (folder / "MAR-INF").mkdir(exist_ok=True)
    return CurrentRequests(worker_files.requests_path(folder, 7))


def test_the_ids_of_a_batch(tmp_path):
    """The latest one's, whatever came before; they are read once."""
    requests = current(tmp_path)
    requests.set(["a-long-id", "another-long-id"])
    requests.set(["b, d", "c"])
    assert worker_files.take_requests(tmp_path, 7) == ["b, d", "c"]
    assert worker_files.take_requests(tmp_path, 7) == []


def test_an_idle_worker(tmp_path):
    requests = current(tmp_path)
    requests.set(["a"])
    requests.clear()
    assert worker_files.take_requests(tmp_path, 7) == []


def test_they_outlive_the_process(tmp_path):
    requests = current(tmp_path)
    process = os.fork()
    if not process:
        requests.set(["a"])
        os.kill(os.getpid(), 9)
    os.waitpid(process, 0)
    assert worker_files.take_requests(tmp_path, 7) == ["a"]


def test_more_than_there_is_room_for(tmp_path):
    """The first ones remain."""
    current(tmp_path).set(str(number) for number in range(9_000))
    ids = worker_files.take_requests(tmp_path, 7)
    assert ids[:500] == list(map(str, range(500)))
    assert len("\n".join(ids)) == 4_095


def test_a_file_that_cannot_be_made(tmp_path):
    """The worker goes on."""
    for path in (None, tmp_path / "gone" / "requests"):
        requests = CurrentRequests(path)
        requests.set(["a"])
        requests.clear()
