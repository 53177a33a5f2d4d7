"""mending: which models are loaded again, when, and when one is given up."""

from __future__ import annotations

import pytest
from local_mms import check_free, serving, wait_until

from mms_handler.errors import ServerError, Unavailable
from mms_handler.server.mending import Mender
from mms_handler.server.watch import WorkerDeaths


@pytest.fixture
def clock(monkeypatch):
    """Stands still, unless a test moves it."""
    clock = {"s": 1_000.0}
    monkeypatch.setattr("time.monotonic", lambda: clock["s"])
    return clock


@pytest.fixture
def models(versions, source):
    """The model ``one``, with two workers."""
    models = versions()
    models.register(source("one"), serving(2))
    return models


def listener_of(mms, name):
    (listener,) = (each for each in mms.processes(name) if each.ppid() == mms.java.pid)
    return listener


def test_a_model_that_lost_its_processes(models, mms, deaths, tmp_path):
    """It is loaded again as it was; that counts as a death; clients get 503 meanwhile."""
    lost = []
    mender = Mender(models.registry, deaths, 3, lost.append)
    before = models.registry.model("one")
    mms.end("one")
    mender.mend()  # the first look at it
    assert mms.calls[1:] == [
        ("DELETE", "one", None),
        ("POST", "one", 2),
    ]
    after = models.registry.model("one")
    assert after == before._replace(listener=listener_of(mms, "one"))
    assert after.listener != before.listener
    assert len(models.registry.processes("one")) == 3
    assert lost == ["one"]
    assert mms.routes == ["one", "one 1 one READY 100"]
    assert deaths.above_limit() == []
    for _ in range(2):
        mms.end("one")
        assert mender.mend() == {}
    assert deaths.above_limit() == ["one"]


def test_the_gate_answers_503_meanwhile(models, mms, deaths):
    """It is told before MMS forgets the model."""
    told = {}
    mms.during = lambda call: told.update({call[0]: mms.routes[1]})
    mms.end("one")
    Mender(models.registry, deaths, 3).mend()
    loading = "one 1 one LOADING 100"
    assert told == {"DELETE": loading, "POST": loading}


def test_models_without_workers(models, mms, source, deaths):
    """They have nothing to lose."""
    models.register(source("two"), serving(0))
    del mms.calls[:]
    assert Mender(models.registry, deaths, 3).mend() == {}
    assert mms.calls == []


def test_models_that_are_well(models, mms, deaths):
    """MMS forks another worker from a listener; workers go on without one."""
    mender = Mender(models.registry, deaths, 3)
    assert mender.mend() == {}
    listener = listener_of(mms, "one")
    worker = next(each for each in mms.processes("one") if each != listener)
    worker.kill()
    worker.wait(30)
    assert mender.mend() == {}
    assert mms.calls[1:] == []
    assert deaths.above_limit() == []


def test_a_model_without_workers_but_with_a_listener(models, mms, deaths):
    """MMS starts others."""
    listener = listener_of(mms, "one")
    for worker in mms.processes("one"):
        if worker != listener:
            worker.kill()
            worker.wait(30)
    assert Mender(models.registry, deaths, 3).mend() == {}
    assert mms.calls[1:] == []


def test_a_listener_that_ends_alone(models, mms, deaths):
    """Its workers go on; only when one of them ends, too, the model is loaded again."""
    mender, listener = Mender(models.registry, deaths, 3), listener_of(mms, "one")
    listener.kill()
    listener.wait(30)
    assert mender.mend() == {}
    assert mms.calls[1:] == []
    worker = mms.processes("one")[0]
    worker.kill()
    wait_until(lambda: len(mms.processes("one")) == 1)
    assert mender.mend() == {}
    assert mms.calls[1:] == [
        ("DELETE", "one", None),
        ("POST", "one", 2),
    ]
    assert len(models.registry.processes("one")) == 3


def test_one_death_too_many(models, mms, deaths):
    """The model is not loaded again: the server ends, or unregisters it."""
    deaths.add("one", 2)
    mms.end("one")
    assert Mender(models.registry, deaths, 3).mend() == {}
    assert deaths.above_limit() == ["one"]
    assert mms.calls[1:] == []


def test_it_is_tried_again_later(models, mms, deaths, clock, tmp_path):
    """After 1, 2, 4, 8 and 8 seconds; these are no deaths of workers."""
    mender = Mender(models.registry, deaths, 6)
    mms.end("one")
    mms.statuses["POST"] = 500
    for delay_s in (1, 2, 4, 8, 8):
        mms.calls.clear()
        assert mender.mend() == {}
        assert ("POST", "one", 2) in mms.calls
        mms.calls.clear()
        clock["s"] += delay_s - 0.5
        assert mender.mend() == {}
        assert mms.calls == []
        clock["s"] += 0.5
    with pytest.raises(Unavailable, match="^one is being loaded again after its processes ended$"):
        models.scale("one", 3)
    assert mms.routes[1] == "one 1 one LOADING 100"
    assert deaths.above_limit() == []
    mms.statuses.clear()
    assert mender.mend() == {}
    assert models.registry.model("one").mending is None
    assert mms.routes[1] == "one 1 one READY 100"
    models.scale("one", 3)


def test_it_is_given_up(models, mms, deaths, clock):
    """With the reason of the last attempt; and again, if it is still there."""
    mender = Mender(models.registry, deaths, 1)
    mms.end("one")
    mms.statuses["POST"] = 500
    assert mender.mend() == {}
    clock["s"] += 1
    mms.message = "no memory"
    assert mender.mend() == {"one": "one cannot be served: no memory"}
    assert mender.mend() == {}
    clock["s"] += 2
    assert mender.mend() == {"one": "one cannot be served: no memory"}


def test_a_death_too_many(models, mms):
    """The model is given up for that, so it need not be loaded again first."""
    deaths = WorkerDeaths(0)
    mms.end("one")
    assert Mender(models.registry, deaths, 3).mend() == {}
    assert deaths.above_limit() == ["one"]
    assert mms.calls[1:] == []


def test_it_is_given_up_although_mms_does_not_answer(models, mms, deaths):
    """The model is gone here at least."""
    mender = Mender(models.registry, deaths, 0)
    mms.end("one")
    mms.url = "http://127.0.0.1:1"
    for each in (models, models.registry._mms):
        each._front_end = each._front_end._replace(management_url=mms.url)
    (reason,) = mender.mend().values()
    assert reason.startswith("no answer from http://127.0.0.1:1/")
    with pytest.raises(ServerError, match="^no answer from "):
        models.give_up("one")
    assert models.names() == []
    assert models.registry.models() == {}
    check_free(models, "one")


def test_a_model_that_is_being_changed(models, mms, deaths):
    """It is looked at next time."""
    mender = Mender(models.registry, deaths, 3)
    mms.end("one")
    with models.registry.model("one").change:
        assert mender.mend() == {}
    assert mms.calls[1:] == []
    assert mender.mend() == {}
    assert ("POST", "one", 2) in mms.calls[1:]


def test_a_new_registration_begins_anew(models, source, mms, deaths, clock):
    """What failed before it does not count."""
    mender = Mender(models.registry, deaths, 1)
    mms.end("one")
    mms.statuses["POST"] = 500
    assert mender.mend() == {}
    models.unregister("one")
    mms.statuses.clear()
    models.register(source("one"), serving(2))
    mms.end("one")
    mms.statuses["POST"] = 500
    assert mender.mend() == {}
    assert models.registry.model("one").mending == (1, clock["s"] + 1)
