"""mending: which models are loaded again, when, and when one is given up."""

from __future__ import annotations

import pytest
from local_mms import check_free, serving, wait_until

from mms_handler.errors import NoSuchModel, Unavailable
from mms_handler.server.mending import Mender
from mms_handler.server.mms_models import ALL_WORKERS
from mms_handler.server.watch import WorkerDeaths


@pytest.fixture
def clock(monkeypatch):
    """Stands still, unless a test moves it."""
    clock = {"s": 1_000.0}
    monkeypatch.setattr("time.monotonic", lambda: clock["s"])
    return clock


@pytest.fixture
def models(registry, source):
    """The model ``one``, with two workers."""
    models = registry()
    models.register(source("one"), serving(2))
    return models


def listener_of(mms, name):
    (listener,) = (each for each in mms.processes(name) if each.ppid() == mms.java.pid)
    return listener


def test_a_model_that_lost_its_processes(models, mms, deaths, tmp_path):
    """It is loaded again as it was; that counts as a death; clients get 503 meanwhile."""
    mender, before = Mender(models, deaths, 3), models.model("one")
    mms.end("one")
    mender.mend()  # the first look at it
    assert mms.calls[1:] == [
        ("RETIRE", "one", ALL_WORKERS),
        ("DELETE", "one", None),
        ("POST", "one", 2),
    ]
    after = models.model("one")
    assert after == before._replace(listener=listener_of(mms, "one"))
    assert after.listener != before.listener
    assert len(models.processes("one")) == 3
    assert list((tmp_path / "loading").iterdir()) == []
    assert deaths.above_limit() == []
    for _ in range(2):
        mms.end("one")
        assert mender.mend() == {}
    assert deaths.above_limit() == ["one"]


def test_the_gate_answers_503_meanwhile(models, mms, deaths, tmp_path):
    """A file tells it, from before MMS forgets the model."""
    there = {}
    mms.during = lambda call: there.update({call[0]: (tmp_path / "loading" / "one").exists()})
    mms.end("one")
    Mender(models, deaths, 3).mend()
    assert there == {"RETIRE": True, "DELETE": True, "POST": True}


def test_a_full_disk_does_not_stop_it(models, mms, deaths, tmp_path):
    """Clients get MMS's 404 then, until the model is back."""
    (tmp_path / "loading").rmdir()
    mms.end("one")
    assert Mender(models, deaths, 3).mend() == {}
    assert len(models.processes("one")) == 3


def test_models_without_workers(models, mms, source, deaths):
    """They have nothing to lose."""
    models.register(source("two"), serving(0))
    del mms.calls[:]
    assert Mender(models, deaths, 3).mend() == {}
    assert mms.calls == []


def test_models_that_are_well(models, mms, deaths):
    """MMS forks another worker from a listener; workers go on without one."""
    mender = Mender(models, deaths, 3)
    assert mender.mend() == {}
    listener = listener_of(mms, "one")
    worker = next(each for each in mms.processes("one") if each != listener)
    worker.kill()
    worker.wait(30)
    assert mender.mend() == {}
    assert mms.calls[1:] == []
    assert deaths.above_limit() == []


def test_a_listener_that_ends_alone(models, mms, deaths):
    """Its workers go on; only when one of them ends, too, the model is loaded again."""
    mender, listener = Mender(models, deaths, 3), listener_of(mms, "one")
    listener.kill()
    listener.wait(30)
    assert mender.mend() == {}
    assert mms.calls[1:] == []
    worker = mms.processes("one")[0]
    worker.kill()
    wait_until(lambda: len(mms.processes("one")) == 1)
    assert mender.mend() == {}
    assert mms.calls[1:] == [
        ("RETIRE", "one", ALL_WORKERS),
        ("DELETE", "one", None),
        ("POST", "one", 2),
    ]
    assert len(models.processes("one")) == 3


def test_one_death_too_many(models, mms, deaths):
    """The model is not loaded again: the server ends, or unregisters it."""
    deaths.add("one", 2)
    mms.end("one")
    assert Mender(models, deaths, 3).mend() == {}
    assert deaths.above_limit() == ["one"]
    assert mms.calls[1:] == []


def test_it_is_tried_again_later(models, mms, deaths, clock, tmp_path):
    """After 1, 2, 4, 8 and 8 seconds; these are no deaths of workers."""
    mender = Mender(models, deaths, 6)
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
    assert (tmp_path / "loading" / "one").exists()
    assert deaths.above_limit() == []
    mms.statuses.clear()
    assert mender.mend() == {}
    assert models.model("one").mending is None
    assert list((tmp_path / "loading").iterdir()) == []
    models.scale("one", 3)


def test_it_is_given_up(models, mms, deaths, clock, tmp_path):
    """Unregistered, with the reason of the last attempt, and nothing of it is left."""
    mender = Mender(models, deaths, 1)
    mms.end("one")
    mms.statuses["POST"] = 500
    assert mender.mend() == {}
    clock["s"] += 1
    mms.message = "no memory"
    assert mender.mend() == {"one": "one cannot be served: no memory"}
    with pytest.raises(NoSuchModel, match="^Model not found: one$"):
        models.model("one")
    check_free(models, "one")
    assert list((tmp_path / "loading").iterdir()) == []
    assert list((tmp_path / "store").iterdir()) == []
    assert mender.mend() == {}


def test_a_death_too_many(models, mms):
    """The model is given up for that, so it need not be loaded again first."""
    deaths = WorkerDeaths(0)
    mms.end("one")
    assert Mender(models, deaths, 3).mend() == {}
    assert deaths.above_limit() == ["one"]
    assert mms.calls[1:] == []


def test_it_is_given_up_although_mms_does_not_answer(models, mms, deaths):
    """The model is gone here at least."""
    mender = Mender(models, deaths, 0)
    mms.end("one")
    mms.url = "http://127.0.0.1:1"
    models._mms._front_end = models._mms._front_end._replace(management_url=mms.url)
    (reason,) = mender.mend().values()
    assert reason.startswith("no answer from http://127.0.0.1:1/")
    assert models.names() == []
    check_free(models, "one")


def test_a_model_that_is_being_changed(models, mms, deaths):
    """It is looked at next time."""
    mender = Mender(models, deaths, 3)
    mms.end("one")
    with models.model("one").change:
        assert mender.mend() == {}
    assert mms.calls[1:] == []
    assert mender.mend() == {}
    assert ("POST", "one", 2) in mms.calls[1:]


def test_a_new_registration_begins_anew(models, source, mms, deaths, clock):
    """What failed before it does not count."""
    mender = Mender(models, deaths, 1)
    mms.end("one")
    mms.statuses["POST"] = 500
    assert mender.mend() == {}
    models.unregister("one")
    mms.statuses.clear()
    models.register(source("one"), serving(2))
    mms.end("one")
    mms.statuses["POST"] = 500
    assert mender.mend() == {}
    assert models.model("one").mending == (1, clock["s"] + 1)
