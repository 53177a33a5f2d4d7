"""registry: names and memory are claimed before anything starts, and free again after a failure.

A small HTTP server stands for MMS (conftest.py).
"""

from __future__ import annotations

import json
import logging
import threading
import time
import zipfile
from contextlib import contextmanager

import pytest
from local_mms import MB, check_free, serving, wait_until

from mms_handler.errors import (
    ArchiveError,
    NameTaken,
    NoSuchModel,
    OutOfResources,
    ServerError,
    Unavailable,
)
from mms_handler.manifest import MANIFEST
from mms_handler.server import mms_models
from mms_handler.server.registry import Mending
from mms_handler.server.sources import Source
from mms_handler.worker_files import LOAD_ERROR, write_load_error, write_load_phase


@contextmanager
def unchanged(models, tmp_path):
    """Check that names, memory and the store are the same after the block."""
    yield
    check_free(models, "broken")
    assert models.names() == []
    assert list((tmp_path / "store").iterdir()) == []
    with models.registry._memory.reserved("all", models.registry._memory.free_bytes()):
        pass


# --- registering ---


def test_a_name_can_be_taken_once(versions, source, mms):
    """By a model that is registered; the name is free again without it."""
    models = versions()
    models.register(source("one"), serving(2))
    assert (models.names(), models.registry.model("one").serving) == (["one"], serving(2))
    assert mms.calls == [("POST", "one", 2)]
    assert len(models.registry.processes("one")) == 3
    with pytest.raises(NameTaken, match="^Model one is already registered.$"):
        models.register(source("one"), serving())
    models.unregister("one")
    assert mms.calls[1:] == [("DELETE", "one", None)]
    assert (models.names(), mms.processes("one")) == ([], [])
    check_free(models, "one")
    with pytest.raises(NoSuchModel, match="^Model not found: one$"):
        models.unregister("one")
    with pytest.raises(ArchiveError, match="not a valid"):
        check_free(models, "one/two")


@pytest.mark.parametrize("method", ["POST", "DELETE"])
def test_a_name_is_taken_while_its_model_changes(versions, source, mms, method):
    """While it is being registered, and until the last of it is gone."""
    models, errors = versions(), []

    def check(call):
        if call[0] == method:
            with pytest.raises(NameTaken, match="^Model one is already") as caught:
                check_free(models, "one")
            errors.append(caught.value)

    mms.during = check
    models.register(source("one"), serving())
    models.unregister("one")
    assert len(errors) == 1


def test_a_model_that_is_being_registered(versions, source, mms, tmp_path):
    """It can be asked for, and nothing else; the list has only models that are served."""
    models, seen = versions(), []

    def look(call):
        if call[0] == "POST":
            seen.append(models.describe("one"))
            with pytest.raises(Unavailable, match="^one is being registered; try again when it is"):
                models.scale("one", 2)
            with pytest.raises(Unavailable, match="^one is being registered"):
                models.unregister("one")
            write_load_phase(tmp_path / "store" / "one", "model_fn")
            seen.extend([models.describe("one"), models.names()])

    mms.during = look
    models.register(source("one"), serving())
    url = source("one").url
    loading = {"modelName": "one", "modelUrl": url, "status": "LOADING", "workers": []}
    loading["modelVersion"] = "1"
    starting, model_fn, names = seen
    assert starting.pop("phaseSeconds") in range(60)
    assert model_fn.pop("phaseSeconds") in range(60)
    assert starting == {**loading, "phase": "starting"}
    assert model_fn == {**loading, "phase": "model_fn"}
    assert names == []


def test_the_reason_of_an_earlier_failure_is_forgotten(versions, source, mms, tmp_path):
    """When the model is loaded again: it could be told as that of another failure."""
    models, seen = versions(), []
    models.register(source("one"), serving(0))
    write_load_error(tmp_path / "store" / "one", "no weights")
    assert models.registry.load_error("one") == "no weights"
    mms.during = lambda call: seen.append(models.registry.load_error("one"))
    models.scale("one", 1)
    assert seen[0] == ""


def test_memory_is_claimed_before_anything_starts(versions, source, tmp_path, mms):
    """Two registrations at once do not both get the last megabytes; nothing was started."""
    models = versions(memory_mb=1_000)
    needs = 220 + 3 * 40
    with models.registry._memory.reserved("the first", 700 * MB):
        with pytest.raises(OutOfResources) as caught:
            models.register(source("big", 40 * MB), serving(2))
        message = str(caught.value)
    assert message.startswith(f"big needs about {needs} MB, but only 300 MB are free; ")
    assert mms.calls == []
    assert list((tmp_path / "store").iterdir()) == []
    models.register(source("big", 40 * MB), serving(2))
    assert models.names() == ["big"]
    assert mms.calls == [("POST", "big", 2)]


def test_a_first_worker_shows_what_the_others_need(versions, source, tmp_path, mms, used):
    """Where all might not fit; if they do not, nothing is left."""
    models = versions(memory_mb=1_000)
    models.register(source("big", 40 * MB), serving(4))
    assert mms.calls == [("POST", "big", 1), ("PUT", "big", 4)]
    assert models.registry.model("big").serving == serving(4)
    models.unregister("big")
    mms.during = lambda call: used.update(mb=150)  # of Java, the listener and a worker
    message = "^big with 3 more workers needs about 900 MB, but only 550 MB are free; "
    with unchanged(models, tmp_path), pytest.raises(OutOfResources, match=message):
        models.register(source("big", 40 * MB), serving(4))


@pytest.mark.parametrize(
    ("status", "error"), [(500, ServerError), (507, OutOfResources), (404, ServerError)]
)
def test_a_failed_load_is_rolled_back(versions, source, tmp_path, mms, status, error):
    """MMS keeps the name in some cases, so it is unregistered there; the reason is MMS's."""
    models = versions()
    mms.statuses["POST"] = status
    with unchanged(models, tmp_path):
        with pytest.raises(error, match="^broken cannot be served: because$"):
            models.register(source("broken"), serving())
        assert ("DELETE", "broken", None) in mms.calls
    del mms.statuses["POST"]
    models.register(source("broken"), serving())
    assert models.names() == ["broken"]


def test_a_failed_load_leaves_no_process(versions, source, mms):
    """MMS leaves some: the answer would come when the time for their end is over."""
    models, left = versions(), []

    def look(call):
        if call[0] == "POST":
            mms.start("broken", 1)
        if call[0] == "DELETE":
            left.extend(mms.processes("broken"))

    mms.during = look
    mms.statuses["POST"] = 507
    with pytest.raises(OutOfResources):
        models.register(source("broken"), serving())
    assert left == []


def test_a_worker_says_why_it_cannot_load(versions, source, tmp_path, mms):
    """Its reason is the answer's; MMS knows less."""
    models = versions()
    mms.statuses["POST"] = 500

    def write(call):
        if call[0] == "POST":
            path = tmp_path / "store" / "broken" / LOAD_ERROR
            path.parent.mkdir(exist_ok=True)
            path.write_text("model_fn: no weights")

    mms.during = write
    with pytest.raises(ServerError, match="^broken cannot be served: model_fn: no weights$"):
        models.register(source("broken"), serving())


def test_a_long_load_is_told(versions, source, tmp_path, mms, caplog, monkeypatch):
    """The log says what the workers are doing while MMS waits for them."""
    monkeypatch.setattr(mms_models, "_REPORT_S", 0.05)
    caplog.set_level(logging.INFO, "mms_handler.server.mms_models")

    def load(call):
        if call[0] == "POST":
            wait_until(lambda: "its workers are starting" in caplog.text)
            write_load_phase(tmp_path / "store" / "large", "model_fn")
            wait_until(lambda: "it has been in model_fn for 0 s" in caplog.text)

    mms.during = load
    versions().register(source("large"), serving())
    assert caplog.messages[0] == "large is loading, 0 s: its workers are starting"
    assert caplog.messages[-1] == "large is loading, 0 s: it has been in model_fn for 0 s"
    count = len(caplog.messages)
    time.sleep(0.2)
    assert len(caplog.messages) == count


def test_a_load_over_the_time_limit(versions, source, tmp_path, mms):
    """The error has the limit, its option and the phase; MMS knows less."""
    models = versions()
    mms.statuses["POST"] = 500

    def load(call):
        if call[0] == "POST":
            write_load_phase(tmp_path / "store" / "slow", "model_fn")
            time.sleep(1)

    mms.during = load
    words = r"^slow did not load within 1 s \(--timeout-s\): it has been in model_fn for 1 s$"
    with pytest.raises(ServerError, match=words):
        models.register(source("slow"), serving()._replace(timeout_s=1))


def packed(tmp_path, name: str, **files: str) -> Source:
    """An archive with a sample; ``files`` are entries that take the place of its own."""
    sample = {"name": "MAR-INF/sample.csv", "content_type": "text/csv", "accept": "text/csv"}
    handler = "mms_handler.service:handle"
    manifest = {"model": {"modelName": name, "handler": handler}, "mms_handler": {"sample": sample}}
    with zipfile.ZipFile(tmp_path / f"{name}.mar", "w") as mar:
        mar.writestr(MANIFEST, json.dumps(manifest))
        entries = {"MAR-INF/sample.csv": "1,2", "code/inference.py": "", **files}
        for entry, text in entries.items():
            mar.writestr(entry, text)
    return Source(name, tmp_path / f"{name}.mar", 0, "m.mar")


@pytest.mark.parametrize(
    ("handler", "asked", "size"),
    [
        ("mms_handler.service:handle", None, 32),
        ("service:handle", None, 1),
        ("mms_handler.service:handle", 4, 4),
        ("service:handle", 4, 4),
    ],
)
def test_the_largest_batch(versions, source, mms, handler, asked, size):
    """As asked, or what the handler is known to take."""
    models = versions()
    manifest = json.dumps({"model": {"modelName": "one", "handler": handler}})
    files = {MANIFEST: manifest, "service.py": ""}
    asking = serving(0)._replace(batch_size=asked)
    models.register(source("one", **files), asking)
    assert models.describe("one")["batchSize"] == size
    models.scale("one", 1)
    assert json.loads(mms.bodies[0])["batch_size"] == size


def test_a_model_answers_its_sample(versions, tmp_path, mms):
    """Before it counts as registered."""
    models = versions()
    mms.during = lambda call: check_free(models, "other")
    models.register(packed(tmp_path, "one"), serving())
    assert mms.calls == [("POST", "one", 1), ("INVOKE", "one", None)]
    assert mms.bodies[1] == b"1,2"
    assert models.registry.model("one").url == "m.mar"


@pytest.mark.parametrize("status", [400, 500])
def test_a_model_that_cannot_answer_its_sample(versions, tmp_path, mms, status):
    """It is not served."""
    models = versions()
    mms.statuses["INVOKE"] = status
    message = f"^broken cannot be served: it answers its own sample with {status}: because$"
    with unchanged(models, tmp_path), pytest.raises(ServerError, match=message):
        models.register(packed(tmp_path, "broken"), serving())
    assert mms.processes("broken") == []


def test_zeros_that_a_model_does_not_read(versions, tmp_path, mms):
    """convert made them for a model that it did not try: it is served."""
    models = versions()
    mms.statuses["INVOKE"] = 500
    shapes = '[{"name": "data", "shape": [10, 2]}]'
    zeros = {"MAR-INF/sample.csv": "[[0, 0]]", "model-shapes.json": shapes}
    models.register(packed(tmp_path, "old", **zeros), serving())
    assert models.registry.model("old").url == "m.mar"


def test_processes_that_end_right_after_the_load(versions, source, tmp_path, mms):
    """Nobody would fork another worker."""
    models = versions()
    mms.start = lambda name, workers: None
    with unchanged(models, tmp_path), pytest.raises(
        ServerError, match="^broken cannot be served: its processes ended right after the load$"
    ):
        models.register(source("broken"), serving())


# --- without workers ---


@pytest.fixture
def idle(versions, tmp_path, mms):
    """Models with ``one``, which has a sample and no workers."""
    models = versions()
    models.register(packed(tmp_path, "one"), serving(0))
    assert mms.calls == []
    assert (tmp_path / "store" / "one" / MANIFEST).exists()
    return models


def test_a_model_without_workers(idle, tmp_path, mms):
    """Nothing is loaded; the name is taken; it goes without a trace."""
    models = idle
    assert (models.names(), models.registry.processes("one")) == (["one"], [])
    assert mms.routes == ["one", "one 1 one IDLE 100"]
    with pytest.raises(NameTaken):
        check_free(models, "one")
    assert models.registry.describe("one") == {
        "modelName": "one",
        "modelUrl": "m.mar",
        "modelVersion": "1",
        "minWorkers": 0,
        "maxWorkers": 0,
        "batchSize": 4,
        "maxBatchDelay": 0,
        "workers": [],
    }
    models.scale("one", 0, 4)
    assert mms.calls == []
    models.unregister("one")
    assert (models.names(), mms.routes, list(tmp_path.glob("store/*"))) == ([], [""], [])


def test_a_model_gets_its_first_workers(idle, mms):
    """It answers its sample, as at a registration; then it is like any other."""
    models = idle
    models.scale("one", 2)
    assert mms.calls == [("POST", "one", 2), ("INVOKE", "one", None)]
    assert (len(models.registry.processes("one")), mms.routes[1]) == (3, "one 1 one READY 100")
    assert models.registry.model("one").serving == serving(2)
    models.scale("one", 1)
    assert mms.calls[2:] == [("PUT", "one", 1)]


@pytest.mark.parametrize("failing", ["POST", "INVOKE"])
def test_first_workers_that_cannot_load(idle, mms, failing):
    """The model is there without workers as before, and can be tried again."""
    models = idle
    mms.statuses[failing] = 500
    with pytest.raises(ServerError, match="^one cannot be served: .*because$"):
        models.scale("one", 2)
    assert (models.registry.processes("one"), mms.routes[1]) == ([], "one 1 one IDLE 100")
    assert models.registry.model("one").serving == serving(0)
    del mms.statuses[failing]
    models.scale("one", 1)
    assert (len(models.registry.processes("one")), mms.routes[1]) == (2, "one 1 one READY 100")


def test_first_workers_ask_for_memory(versions, source, mms):
    """As much as at a registration: judging by the files, and then by the first worker."""
    models = versions(memory_mb=1_000)
    models.register(source("big", 300 * MB), serving(0))
    with pytest.raises(OutOfResources, match="^big needs about 1120 MB, but only 1000 MB are "):
        models.scale("big", 3)
    assert mms.calls == []
    models.register(source("small", 40 * MB), serving(0))
    models.scale("small", 3)
    assert mms.calls == [("POST", "small", 1), ("PUT", "small", 3)]
    assert models.registry.model("small").serving == serving(3)


# --- asking ---


def test_a_description_has_the_url(versions, source, mms):
    """MMS's own would be the folder in the store; while a model is mended, MMS has none."""
    models = versions()
    models.register(source("one"), serving())
    url = source("one").url
    own = {"modelName": "one", "modelUrl": url, "modelVersion": "1", "maxBatchDelay": 0}
    assert models.registry.describe("one") == {**own, "workers": [1]}
    mms.statuses["GET"] = 404
    assert models.registry.describe("one") == {**own, "workers": []}
    with pytest.raises(NoSuchModel, match="^Model not found: two$"):
        models.describe("two")


# --- scaling ---


def test_scale(versions, source, mms):
    """Surplus workers finish their requests first."""
    models = versions()
    models.register(source("one"), serving(1))
    models.scale("one", 3)
    assert models.registry.model("one").serving == serving(3)
    models.scale("one", 1)
    assert models.registry.model("one").serving == serving(1)
    assert mms.calls[1:] == [("PUT", "one", 3), ("PUT", "one", 1)]


@pytest.mark.parametrize(
    ("had", "limits", "has"),
    [
        (1, (1, 4), 1),
        (3, (1, 4), 3),
        (5, (1, 4), 4),
        (1, (2, 4), 2),
        (3, (2, 2), 2),
        (2, (0, 4), 2),
    ],
)
def test_scale_within_limits(versions, source, mms, had, limits, has):
    """A model keeps its workers if their number is within the limits, else it gets the next one."""
    models = versions(memory_mb=2_000)
    models.register(source("one"), serving(had))
    models.scale("one", *limits)
    assert models.registry.model("one").serving == serving(has)
    assert mms.calls[-1] == ("PUT", "one", has)


def test_scale_asks_for_memory(versions, source, mms, used):
    """As much for each worker as those there are use; two of 200 MB, and none for fewer."""
    models = versions(memory_mb=1_000)
    models.register(source("one"), serving(2))
    used["mb"] = 100  # of Java, the listener and two workers, so 150 for each worker
    message = "^one with 5 more workers needs about 750 MB, but only 600 MB are free; "
    with pytest.raises(OutOfResources, match=message):
        models.scale("one", 7)
    assert models.registry.model("one").serving == serving(2)
    assert mms.calls[1:] == []
    models.scale("one", 6)
    assert models.registry.model("one").serving == serving(6)
    used["mb"] = 250
    models.scale("one", 5)
    with pytest.raises(OutOfResources, match="^one with 1 more worker needs about 150 MB"):
        models.scale("one", 6)


def test_workers_that_cannot_start(versions, source, mms):
    """The model goes on with those it had; the others finish their requests first."""
    models = versions()
    models.register(source("one"), serving(1))
    mms.statuses["PUT"] = 500
    with pytest.raises(ServerError, match="^could not start 3 workers for one: because$"):
        models.scale("one", 3)
    assert mms.calls[1:] == [("PUT", "one", 3), ("PUT", "one", 1)]
    assert models.registry.model("one").serving == serving(1)


def test_a_model_that_is_mended_is_not_scaled(versions, source, mms):
    """It would get its workers twice."""
    models = versions()
    models.register(source("one"), serving())
    models.registry.replace(
        "one", models.registry.model("one")._replace(mending=Mending(1, time.monotonic()))
    )
    with pytest.raises(Unavailable, match="^one is being loaded again after its processes ended$"):
        models.scale("one", 3)
    assert mms.calls[1:] == []


@pytest.mark.parametrize(
    ("used_mb", "workers"), [(0, 4), (80, 4), (100, 3), (150, 2), (180, 1), (500, 1)]
)
def test_scale_to_fit(versions, source, used, used_mb, workers):
    """A worker takes the memory of the first one, and 60 MB for its requests."""
    models = versions(memory_mb=1_000)
    models.register(source("one"), serving(1))
    used["mb"] = used_mb  # of Java, the listener and the worker, so twice for each worker
    models.registry.scale_to_fit("one", 4)
    assert models.registry.model("one").serving == serving(workers)


# --- several threads ---


def test_a_model_is_changed_by_one_thread_at_a_time(versions, source, mms):
    """The second one finds the model unregistered."""
    models, errors = versions(), []
    models.register(source("one"), serving())
    model = models.registry.model("one")

    def scale():
        try:
            models.scale("one", 3)
        except NoSuchModel as exc:
            errors.append(str(exc))

    thread = threading.Thread(target=scale)

    def check(call):
        if call[0] == "DELETE":
            thread.start()
            with models.registry.unchanged("one", model) as unchanged:
                assert not unchanged

    mms.during = check
    models.unregister("one")
    thread.join(30)
    assert errors == ["Model not found: one"]
    assert [call for call in mms.calls if call[0] == "PUT"] == []


@pytest.mark.parametrize("change", ["unload", "scale"])
def test_a_model_that_is_gone_when_it_may_be_changed(versions, source, mms, change):
    """Another thread was faster."""
    models = versions()
    models.register(source("one"), serving())
    registry = models.registry

    @contextmanager
    def awaited():
        del registry._models["one"]
        yield

    registry.replace("one", registry.model("one")._replace(change=awaited()))
    with pytest.raises(NoSuchModel, match="^Model not found: one$"):
        getattr(registry, change)("one", *([2] if change == "scale" else []))
    assert len(mms.calls) == 1


def test_a_model_that_was_changed(versions, source):
    """Who looked at it before does not change it."""
    models = versions()
    models.register(source("one"), serving())
    model = models.registry.model("one")
    with models.registry.unchanged("one", model) as unchanged:
        assert unchanged
        assert model.change.locked()
    assert not model.change.locked()
    models.scale("one", 2)
    with models.registry.unchanged("one", model) as unchanged:
        assert not unchanged
    assert not model.change.locked()
