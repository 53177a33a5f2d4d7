"""Workers get parts as they become free; what fails ends all of them."""

from __future__ import annotations

import threading
import time

import pytest

from mms_handler.errors import TransformError
from mms_handler.transform.executor import processed


class Doubling:
    """Doubles numbers, which stand for parts."""

    made: list[Doubling] = []

    def __init__(self):
        self.closed = threading.Event()
        self.made.append(self)

    def process(self, number):
        return 2 * number

    def close(self):
        self.closed.set()


@pytest.fixture(autouse=True)
def made():
    Doubling.made = []
    return Doubling.made


@pytest.mark.parametrize("workers", [1, 3])
def test_all_parts_are_processed(workers, made):
    assert sorted(processed(iter(range(50)), [Doubling] * workers)) == list(range(0, 100, 2))
    assert len(made) == workers
    assert all(worker.closed.is_set() for worker in made)


def test_parts_are_cut_one_ahead_and_no_more():
    cut, taken = [], threading.Event()

    def parts():
        for number in range(50):
            cut.append(number)
            yield number

    class Waiting(Doubling):
        def process(self, number):
            assert taken.wait(30)
            return super().process(number)

    results = processed(parts(), [Waiting])
    thread = threading.Thread(target=lambda: list(results))
    thread.start()
    while len(cut) < 3:  # one is processed, one is ahead, and one cannot be put
        taken.wait(0.01)
    taken.wait(0.3)
    assert cut == [0, 1, 2]
    taken.set()
    thread.join(30)
    assert len(cut) == 50


def test_a_worker_that_fails_ends_the_job(made):
    class Failing(Doubling):
        def process(self, number):
            raise TransformError("the server is gone")

    with pytest.raises(TransformError, match="the server is gone"):
        list(processed(iter(range(50)), [Doubling, Failing]))
    assert all(worker.closed.is_set() for worker in made)


def test_a_worker_that_cannot_be_made_ends_the_job():
    def make():
        raise TransformError("it does not load")

    with pytest.raises(TransformError, match="it does not load"):
        list(processed(iter(range(50)), [make]))


def test_parts_that_cannot_be_cut_end_the_job():
    def parts():
        yield 1
        raise OSError("the disk is full")

    with pytest.raises(OSError, match="the disk is full"):
        list(processed(parts(), [Doubling, Doubling]))


def test_a_worker_that_is_busy_is_closed_when_the_job_is_stopped(made):
    class Busy(Doubling):
        def process(self, number):
            if number:
                assert self.closed.wait(30)
                raise TransformError("the job was stopped")
            return 0

    results = processed(iter(range(50)), [Busy])
    assert next(results) == 0
    results.close()
    assert all(worker.closed.is_set() for worker in made)


def test_ctrl_c_while_threads_are_started_ends_those_that_run(made, monkeypatch):
    class Waiting(Doubling):
        def process(self, number):
            assert self.closed.wait(30)
            return number

    class Interrupted(threading.Thread):
        count = 0

        def start(self):
            Interrupted.count += 1
            if Interrupted.count == 3:  # after the one that cuts, and a worker's
                while not made:
                    time.sleep(0.01)
                raise KeyboardInterrupt
            super().start()

    parts = (number for number in range(50))
    monkeypatch.setattr(threading, "Thread", Interrupted)
    with pytest.raises(KeyboardInterrupt):
        next(processed(parts, [Waiting] * 3))
    (worker,) = made
    assert worker.closed.is_set()
    parts.close()  # no thread runs it
