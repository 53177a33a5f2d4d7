"""transform.ray_pool: orders of events that no cluster has on request.

tests/cluster has a real one.  Ray's calls are those of threads here; its exceptions are its own.
"""

from __future__ import annotations

import threading
import time
from concurrent import futures

import pytest

from mms_handler.errors import LoadError, TransformError
from mms_handler.transform.part import Part, done
from mms_handler.transform.ray_pool import PARTS, Pool, RayWorker, brief

exceptions = pytest.importorskip("ray.exceptions")

DEADLINE_S = 30
LOST = "The actor died because its node has died."


class Method:
    """A method of an actor, which runs in a thread of the actor's own."""

    def __init__(self, threads, function):
        self.remote = lambda *arguments: threads.submit(function, *arguments)


class Actor:
    """Does with a part what the test says."""

    def __init__(self, number, process, load):
        threads = futures.ThreadPoolExecutor(1)
        self.number, self.closed, self.killed = number, False, False
        self.process = Method(threads, lambda part: process(self, part))
        self.load = Method(threads, lambda version: load(self))
        self.close = Method(threads, self._close)

    def _close(self):
        self.closed = True


class Calls:
    """What the pool uses of Ray."""

    exceptions = exceptions

    def __init__(self, process=None, load=lambda actor: None):
        self._process, self._load = process or self.output, load
        self.actors = []

    def start(self):
        self.actors.append(Actor(len(self.actors), self._process, self._load))
        return self.actors[-1]

    @staticmethod
    def output(actor, part):
        return done(part, 1, b"%d" % actor.number)

    @staticmethod
    def wait(refs, num_returns=1, timeout=None):
        ready = futures.wait(refs, timeout, futures.FIRST_COMPLETED if num_returns == 1 else
                             futures.ALL_COMPLETED).done  # fmt: skip
        return [ref for ref in refs if ref in ready], [ref for ref in refs if ref not in ready]

    @staticmethod
    def get(ref):
        return ref.result()

    @staticmethod
    def kill(actor):
        actor.killed = True


def lost(*_):
    raise exceptions.RayError(LOST)


def failed(cause):
    raise exceptions.RayTaskError("process", f"Traceback (most recent call last):\n{cause}", cause)


def part(number=0):
    return Part("rows.csv", number, 7, 0, b"1", "text/csv", "", 1, 8)


def workers(calls, count):
    pool = Pool(calls, calls.start, count)
    return pool, [RayWorker(pool) for _ in range(count * PARTS)]


def test_a_part_of_a_lost_actor_goes_to_another():
    """The lost one is replaced, and the new one gets parts, too."""
    calls = Calls()
    calls._process = lambda actor, part: lost() if actor.number == 0 else calls.output(actor, part)
    pool, (worker, _) = workers(calls, 1)
    assert worker.process(part()).output == b"1"
    pool.close()
    assert [actor.killed for actor in calls.actors] == [True, True]
    assert [actor.closed for actor in calls.actors] == [False, True]


def test_both_parts_of_a_lost_actor_go_to_one_more():
    """Two threads meet the loss; there is one new actor."""
    together = threading.Barrier(2)
    calls = Calls()

    def process(actor, part):
        if actor.number:
            return calls.output(actor, part)
        return lost()

    calls._process = process
    pool, pair = workers(calls, 1)

    def work(worker):
        together.wait(DEADLINE_S)
        return worker.process(part()).output

    with futures.ThreadPoolExecutor(2) as threads:
        assert set(threads.map(work, pair)) == {b"1"}
    pool.close()
    assert len(calls.actors) == 2


def test_an_actor_has_two_parts_at_most():
    """A third one waits until one is done."""
    go = threading.Event()
    calls = Calls()

    def process(actor, part):
        assert go.wait(DEADLINE_S)
        return calls.output(actor, part)

    calls._process = process
    pool, pair = workers(calls, 1)
    with futures.ThreadPoolExecutor(3) as threads:
        both = [threads.submit(worker.process, part(n)) for n, worker in enumerate(pair)]
        deadline = time.monotonic() + DEADLINE_S
        while not pool._ready or pool._ready[0].parts < PARTS:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        more = RayWorker(pool)
        third = threads.submit(more.process, part(2))
        more.close()
        with pytest.raises(TransformError, match="the job was stopped"):
            third.result(DEADLINE_S)
        go.set()
        assert [each.result(DEADLINE_S).number for each in both] == [0, 1]
    pool.close()


def test_a_part_that_actors_are_lost_with():
    pool, (worker, _) = workers(Calls(lost), 1)
    with pytest.raises(TransformError) as raised:
        worker.process(part())
    pool.close()
    assert str(raised.value).startswith("8 actors were lost with rows.csv, from record 7 on; ")
    assert LOST in str(raised.value)


@pytest.mark.parametrize("load", [lost, lambda actor: failed(LoadError("cannot load"))])
def test_no_actor_starts(load):
    """A model that does not load is not tried again."""
    calls = Calls(load=load)
    pool, (worker, _) = workers(calls, 1)
    with pytest.raises((TransformError, LoadError)) as raised:
        worker.process(part())
    pool.close()
    if load is lost:
        assert str(raised.value).startswith("no actor starts on the Ray cluster; of the last one, ")
        assert len(calls.actors) == 8
    else:
        assert str(raised.value) == "cannot load"
        assert len(calls.actors) == 1


def test_an_actor_that_cannot_be_made():
    calls = Calls()

    def start():
        raise ValueError("no such resource")

    pool = Pool(calls, start, 1)
    with pytest.raises(TransformError, match="no actor can be started on Ray: no such resource"):
        RayWorker(pool).process(part())
    pool.close()


def test_what_a_node_raises():
    """Its own errors are those of the job; others are named."""
    pool, (worker, _) = workers(Calls(lambda actor, part: failed(TransformError("it is over"))), 1)
    with pytest.raises(TransformError, match="^it is over$"):
        worker.process(part())
    pool.close()
    pool, (worker, _) = workers(Calls(lambda actor, part: failed(KeyError("x"))), 1)
    with pytest.raises(TransformError, match="^a node of the Ray cluster failed: 'x'$"):
        worker.process(part())
    pool.close()


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("a\n  b", "a b"),
        ("", "ValueError"),
        ("Gone.\nTraceback (most recent call last):\n  x\nKeyError: 'y'\n z", "KeyError: 'y' z"),
        ("x" * 301, "x" * 300 + "..."),
    ],
)  # fmt: skip
def test_exceptions_in_a_line(text, line):
    assert brief(ValueError(text)) == line
