"""versions: which versions a model has, which of them answers, and what the gate is told.

The stand-in of local_mms.py is in MMS's place.
"""

from __future__ import annotations

import re
import threading

import pytest
from local_mms import check_free, serving, wait_until

from mms_handler.errors import (
    BadInput,
    Conflict,
    NameTaken,
    NoSuchModel,
    OutOfResources,
    ServerError,
    Unavailable,
)
from mms_handler.server import versions as module
from mms_handler.server.mending import Mender
from mms_handler.server.registry import Mending
from mms_handler.server.traffic import Traffic


@pytest.fixture
def models(versions, source):
    """The model ``one`` with its first version."""
    models = versions()
    models.register(source("one"), serving())
    return models


@pytest.fixture
def replace(models, source):
    """Load another version of ``one``."""

    def replace(**how) -> str:
        with models.reserved("one", "u", replace=True):
            return models.load(source("one"), serving(), **how)

    return replace


def states(models) -> dict[str, tuple[str, int]]:
    """State and percentage of each version of ``one``."""
    return {
        each["modelVersion"]: (each["state"], each["share"])
        for each in models.describe("one")["versions"]
    }


# --- replacing ---


def test_another_version(models, replace, mms):
    """It is loaded and served; the first one is kept, and goes with the next."""
    assert mms.routes == ["one", "one 1 one READY 100"]
    assert replace() == "2"
    assert mms.routes == ["one", "one 1 one READY 0", "one 2 one~2 READY 100"]
    assert states(models) == {"1": ("kept", 0), "2": ("served", 100)}
    assert [each["minWorkers"] for each in models.describe("one")["versions"]] == [1, 1]
    assert models.find("one") == models.find("one", "2") == "one~2"
    assert models.find("one", "1") == "one"
    assert replace() == "3"
    assert mms.routes == ["one", "one 2 one~2 READY 0", "one 3 one~3 READY 100"]
    assert mms.processes("one") == []
    with pytest.raises(NoSuchModel, match="^Model not found: one/1$"):
        models.describe("one", "1")
    assert models.describe("one", "2")["modelVersion"] == "2"
    assert "versions" not in models.describe("one", "2")
    assert [(each["modelName"], each["modelVersion"]) for each in models.list()] == [("one", "3")]
    assert models.names() == ["one"]


def test_what_the_log_calls_a_version(models, replace):
    """The model alone, unless it has several versions."""
    assert models.state().title("one") == "one"
    replace()
    assert (models.state().title("one"), models.state().title("one~2")) == (
        "one version 1",
        "one version 2",
    )


def test_the_old_one_is_drained(models, replace, mms):
    """It gets no request any more, and what it had is answered, before the call ends."""
    mms.in_flight = {"one": 2}
    thread = threading.Thread(target=replace)
    thread.start()
    wait_until(lambda: "one 2 one~2 READY 100" in mms.routes)
    thread.join(0.1)
    assert thread.is_alive()
    mms.in_flight = {"one": 0}
    thread.join(30)
    assert not thread.is_alive()


def test_a_drain_has_an_end(models, source, mms, caplog, monkeypatch):
    """A request may hang; the version is kept, so nobody loses anything."""
    monkeypatch.setattr(module, "_LOOK_S", 0.001)
    models.registry.replace(
        "one", models.registry.model("one")._replace(serving=serving()._replace(timeout_s=0))
    )
    mms.in_flight = {"one": 1}
    with models.reserved("one", "u", replace=True):
        models.load(source("one"), serving())
    assert caplog.messages == ["one has requests after 0 s"]
    assert states(models) == {"1": ("kept", 0), "2": ("served", 100)}


@pytest.mark.parametrize("failing", ["POST", "ROUTES"])
def test_a_version_that_cannot_be_loaded(models, replace, mms, failing):
    """Nothing has changed."""

    def fail(call):
        mms.statuses[failing] = 500

    mms.during = fail
    with pytest.raises(ServerError, match="because$"):
        replace()
    mms.during = lambda call: None
    mms.statuses.clear()
    assert states(models) == {"1": ("served", 100)}
    assert mms.processes("one~2") == []
    assert replace() == "2"


def test_a_version_that_has_no_place(models, source, mms, used, tmp_path):
    """Memory is asked for beside what there is."""
    used["mb"] = 900 // 3
    with models.reserved("one", "u", replace=True), pytest.raises(
        OutOfResources, match="^one version 2 needs about 220 MB, but only 100 MB are free"
    ):
        models.load(source("one"), serving())
    assert states(models) == {"1": ("served", 100)}
    assert [path.name for path in (tmp_path / "store").iterdir()] == ["one"]


def test_names_of_versions(models, replace, source):
    """Given, or the manifest's, or the next number; each once."""
    assert replace(version="7") == "7"
    with pytest.raises(Conflict, match="^one has a version 7: give the new one another name with "):
        replace(version="7")
    assert replace() == "8"
    with models.reserved("one", "u", replace=True):
        assert models.load(source("one")._replace(version="a.b"), serving()) == "a.b"
    assert models.find("one") == "one~a.b"
    assert replace() == "9"
    models.unregister("one")
    models.register(source("one")._replace(version="1.0"), serving())
    assert models.find("one") == models.find("one", "1.0") == "one"
    assert replace() == "2"
    models.unload("one", "1.0")
    assert replace() == "3"


def test_a_name_without_a_model(models, source):
    """To replace what is not there is to register it."""
    with models.reserved("two", "u", replace=True):
        assert models.load(source("two"), serving(), share=10) == "1"
    assert models.find("two", "1") == "two"
    with pytest.raises(NameTaken, match="^Model two is already registered.$"):
        check_free(models, "two")


def test_one_change_at_a_time(models, replace, mms):
    """A second one is refused; to unregister the model waits."""
    ended = []

    def unregister():
        models.unregister("one")
        ended.append(models.names())

    thread = threading.Thread(target=unregister)

    def meanwhile(call):
        if call[:2] == ("POST", "one~2"):
            for change in (
                replace,
                lambda: models.serve("one", "1"),
                lambda: models.share("one", "1", 10),
                lambda: models.roll_back("one"),
                lambda: models.unregister("one", wait=False),
                lambda: models.give_up("one"),
            ):
                with pytest.raises(Conflict, match="^one is being changed; try again when that is"):
                    change()
            described = models.describe("one")["versions"][1]
            assert isinstance(described.pop("phaseSeconds"), int)
            loading = {"modelVersion": "2", "state": "loading", "share": 0, "modelUrl": "u"}
            assert described == {**loading, "status": "LOADING", "phase": "starting"}
            assert re.fullmatch(r"one is loading, \d+ s: starting for \d+ s", models.loading())
            assert mms.routes[1:] == ["one 1 one READY 100", "one 2 one~2 NEW 0"]
            thread.start()
            thread.join(0.1)
            assert thread.is_alive()

    mms.during = meanwhile
    replace()
    thread.join(30)
    assert ended == [[]]
    assert (mms.processes("one"), mms.processes("one~2"), mms.routes) == ([], [], [""])
    assert models.registry.models() == {}
    assert models.loading() == ""


# --- shares ---


def test_a_share(models, replace, mms):
    """The new version gets a part of the requests; then all, or none."""
    assert replace(share=10) == "2"
    assert mms.routes[1:] == ["one 1 one READY 90", "one 2 one~2 READY 10"]
    assert states(models) == {"1": ("served", 90), "2": ("shared", 10)}
    models.share("one", "2", 25)
    assert states(models) == {"1": ("served", 75), "2": ("shared", 25)}
    with pytest.raises(Conflict, match="^the served version gets what others leave"):
        models.share("one", "1", 10)
    with pytest.raises(NoSuchModel, match="^Model not found: one/9$"):
        models.share("one", "9", 10)
    with pytest.raises(BadInput, match="^share: 80 is too much; others have 25$"):
        replace(share=80)
    models.share("one", "2", 0)
    assert states(models) == {"1": ("served", 100), "2": ("kept", 0)}
    models.serve("one", "2")
    assert states(models) == {"1": ("kept", 0), "2": ("served", 100)}


def test_a_share_of_nothing(models, replace):
    """The version is only there."""
    replace(share=0)
    assert states(models) == {"1": ("served", 100), "2": ("kept", 0)}


def test_all_traffic_ends_other_shares(models, replace, mms):
    """Versions without a share, that were not served before, are unloaded."""
    replace(share=10)
    replace(share=20)
    assert states(models) == {"1": ("served", 70), "2": ("shared", 10), "3": ("shared", 20)}
    models.serve("one", "3")
    assert states(models) == {"1": ("kept", 0), "3": ("served", 100)}
    assert mms.processes("one~2") == []


def test_a_shared_version_that_is_mended(models, replace, mms, deaths):
    """The served one gets its requests meanwhile."""
    replace(share=10)
    seen = []
    mms.during = lambda call: seen.append(mms.routes[1:]) if call[0] == "POST" else None
    mms.end("one~2")
    assert Mender(models.registry, deaths, 3).mend() == {}
    assert seen == [["one 1 one READY 100", "one 2 one~2 LOADING 0"]]
    assert mms.routes[1:] == ["one 1 one READY 90", "one 2 one~2 READY 10"]


# --- going back ---


def test_back_and_forth(models, replace, mms):
    """The version that was served before is; nothing is loaded for that."""
    with pytest.raises(Conflict, match="^one has no version that was served before; to end a sh"):
        models.roll_back("one")
    replace()
    del mms.calls[:]
    assert models.roll_back("one") == "1"
    assert mms.routes[1:] == ["one 1 one READY 100", "one 2 one~2 READY 0"]
    assert models.roll_back("one") == "2"
    models.serve("one", "2")
    assert states(models) == {"1": ("kept", 0), "2": ("served", 100)}
    assert mms.calls == [("GET", "one~2", None)]
    with pytest.raises(NoSuchModel, match="^Model not found: two$"):
        models.roll_back("two")


def test_a_version_that_cannot_answer(models, replace, source):
    """It is not served."""
    replace()
    old = models.registry.model("one")
    models.registry.replace("one", old._replace(mending=Mending(1, 0)))
    with pytest.raises(Unavailable, match="^version 1 of one is being loaded again$"):
        models.roll_back("one")
    models.registry.replace("one", old._replace(listener=None))
    with pytest.raises(Conflict, match="^version 1 of one has no workers: scale it first$"):
        models.serve("one", "1")
    assert states(models)["2"] == ("served", 100)


# --- unloading ---


def test_one_version_is_unloaded(models, replace, mms):
    """Not the served one, as long as there are others."""
    replace()
    with pytest.raises(Conflict, match="^version 2 of one is served: serve another one first, or "):
        models.unload("one", "2")
    models.unload("one", "1")
    assert mms.routes[1:] == ["one 2 one~2 READY 100"]
    with pytest.raises(Conflict, match="no version that was served before"):
        models.roll_back("one")
    models.unload("one", "2")
    assert (models.names(), models.registry.models()) == ([], {})


def test_a_version_is_unloaded_when_its_requests_are_answered(models, replace, mms):
    """It gets no new ones first."""
    replace()
    mms.in_flight = {"one": 1}
    removed = []
    mms.during = lambda call: removed.append((call[0], dict(mms.in_flight)))
    thread = threading.Thread(target=models.unload, args=("one", "1"))
    thread.start()
    wait_until(lambda: mms.routes[1:] == ["one 2 one~2 READY 100"])
    with pytest.raises(NoSuchModel):
        models.describe("one", "1")
    thread.join(0.1)
    assert thread.is_alive()
    assert len(mms.processes("one")) == 2
    mms.in_flight = {}
    thread.join(30)
    assert removed == [("DELETE", {})]
    assert mms.processes("one") == []


def test_what_is_given_up(models, replace, mms):
    """A version alone, without waiting for its requests; the served one with its model."""
    replace(share=10)
    mms.in_flight = {"one~2": 1}
    models.give_up("one~2")
    assert states(models) == {"1": ("served", 100)}
    replace()
    models.give_up("one~3")
    assert (models.names(), models.registry.models()) == ([], {})
    with pytest.raises(NoSuchModel, match="^Model not found: one version 3$"):
        models.give_up("one~3")


def test_versions_are_scaled(models, replace, mms):
    """The served one, or another."""
    replace()
    models.scale("one", 2)
    models.scale("one", 3, version="1")
    numbers = {name: model.serving.workers for name, model in models.registry.models().items()}
    assert numbers == {"one": 3, "one~2": 2}
    assert models.serving("one") == serving(2)
    assert models.serving("two") is None


# --- the gate ---


def test_models_that_are_expected(versions, source, mms):
    """Clients wait for them; /invocations means the only one, whatever comes later."""
    models, seen = versions(expected=["one"]), []
    mms.during = lambda call: seen.append(mms.routes) if call[0] == "POST" else None
    models.register(source("one"), serving())
    models.register(source("two"), serving())
    one, two = "one 1 one READY 100", "two 1 two READY 100"
    assert seen == [["one", "one  one LOADING 100"], ["one", one, "two 1 two NEW 100"]]
    assert mms.routes == ["one", one, two]
    models.unregister("one")
    assert mms.routes == ["", two]


def test_invocations_of_the_only_model(versions, source, mms):
    """If none was expected, it is the one that there is."""
    models = versions()
    models.register(source("one"), serving())
    assert mms.routes[0] == "one"
    models.register(source("two"), serving())
    assert mms.routes[0] == ""
    models.unregister("one")
    assert mms.routes[0] == "two"


def test_a_server_for_many_models(versions, source, mms):
    """/invocations must always name one."""
    models = versions(multi_model=True, expected=["one"])
    models.register(source("one"), serving())
    assert mms.routes == ["", "one 1 one READY 100"]


def test_a_gate_that_does_not_answer(models, source, mms):
    """A change of the traffic fails then; what only became ready is told with the next change."""
    mms.statuses["ROUTES"] = 500
    models.registry.replace("one", models.registry.model("one"))
    with pytest.raises(ServerError, match="^the gate does not take its routes: because$"):
        models.serve("one", "1")
    mms.statuses.clear()
    models.serve("one", "1")


def test_a_first_load_that_fails(versions, source, mms):
    """The gate forgets it."""
    models = versions(expected=["one"])
    mms.statuses["POST"] = 500
    with pytest.raises(ServerError):
        models.register(source("one"), serving())
    assert mms.routes == [""]
    assert models.names() == []


# --- traffic ---


def test_traffic_without_a_version():
    """What it had goes to the served one."""
    traffic = Traffic("b", "a", {"c": 10, "d": 5})
    assert traffic.without("c") == Traffic("b", "a", {"d": 5})
    assert traffic.without("a") == Traffic("b", None, {"c": 10, "d": 5})
    assert [traffic.state(each) for each in "abcde"] == [
        *("kept", "served", "shared", "shared", "kept")
    ]
    assert [traffic.is_needed(each) for each in "abcde"] == [True] * 4 + [False]
