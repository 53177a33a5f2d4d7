"""The management API beside a model that serve was started with."""

from __future__ import annotations

import json
import os
import shutil
import signal
from pathlib import Path
from typing import Iterator

import pytest
from running_mms import EXAMPLES, Serving, free_ports, wait_for

from mms_handler import client

RIGHT = (200, b"[[4.9999918937683105]]")
PROCESSING = (202, {"status": "Processing worker updates..."})

#: Loads when the file GO is there, or fails when it says so.
SLOW = """\
import time
from pathlib import Path

GO = Path({go!r})

def model_fn(model_dir):
    while not GO.exists():
        time.sleep(0.05)
    if GO.read_text():
        raise RuntimeError(GO.read_text())

def transform_fn(model, data, content_type, accept):
    return "slow", "text/plain"
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Has the model store, with the models ``slow`` and ``linear``, and the server's log."""
    folder = tmp_path_factory.mktemp("management")
    code = folder / "store" / "slow" / "code"
    code.mkdir(parents=True)
    (code / "inference.py").write_text(SLOW.format(go=str(folder / "go")))
    shutil.copytree(EXAMPLES / "linear", folder / "store" / "linear")
    return folder


def server(folder: Path, log: str) -> Serving:
    """A server of ``linear`` that may load what is in the model store."""
    words = (EXAMPLES / "linear", "--model-store", folder / "store", "--workers", "1")
    env = {**os.environ, "MMS_HANDLER_DRAIN_SECONDS": "100"}
    return Serving(free_ports(), *words, log=folder / log, env=env)


@pytest.fixture(scope="module")
def serving(folder) -> Iterator[Serving]:
    with server(folder, "log") as serving:
        yield serving


@pytest.fixture
def go(folder) -> Iterator[Path]:
    yield folder / "go"
    (folder / "go").unlink()


def manage(serving, method, path):
    answer = client.call(method, f"{serving.management}{path}", timeout_s=120)
    return answer.status, json.loads(answer.body)


def invocations(serving):
    answer = client.invoke(f"{serving.inference}/invocations", b"[[1,2]]")
    return answer.status, answer.body


def test_the_memory_of_each_worker(serving):
    """It is what the worker uses now, with its part of what it shares with the fork server.

    MMS's own figure is 0 for the first minute.
    """
    _, (worker,) = serving.of_model("linear")

    def is_described() -> bool:
        (described,) = manage(serving, "GET", "/models/linear")[1]["workers"]
        pss_bytes = worker.memory_full_info().pss
        return described["memoryUsage"] == pytest.approx(pss_bytes, rel=0.05)

    wait_for(is_described, 20)  # it is measured once a second
    assert worker.memory_full_info().pss < 0.7 * worker.memory_info().rss


def test_a_model_without_workers(serving):
    """Clients read how it gets some; then it answers.  /invocations keeps its meaning."""
    path = "/models?url=linear&model_name=idle&initial_workers=0"
    assert manage(serving, "POST", path) == (200, {"status": 'Model "idle" registered'})
    assert len(serving.java().children(recursive=True)) == 3  # those of the first model
    for url in ("predictions/idle", "models/idle/invoke", "idle/predict"):
        answer = client.invoke(f"{serving.inference}/{url}", b"[[1,2]]")
        assert (answer.status, json.loads(answer.body)["message"]) == (
            503,
            "the model has no workers; PUT /models/idle?min_worker=1 of the management API "
            "loads it",
        )
    assert client.invoke(f"{serving.inference}/predictions/none", b"").status == 404
    assert serving.ping() == 200
    assert invocations(serving) == RIGHT
    assert manage(serving, "PUT", "/models/idle") == (200, {"status": "Workers scaled"})
    assert serving.ask("idle")[::2] == RIGHT
    assert invocations(serving) == RIGHT
    assert manage(serving, "GET", "/models/idle")[1]["loadedAtStartup"] is False
    assert manage(serving, "GET", "/models/linear")[1]["loadedAtStartup"] is True
    assert manage(serving, "DELETE", "/models/idle")[0] == 200


def test_invocations_means_the_first_model(serving):
    """Also when it was away, and another one is there."""
    assert manage(serving, "POST", "/models?url=linear&model_name=other")[0] == 200
    try:
        assert manage(serving, "DELETE", "/models/linear")[0] == 200
        wait_for(lambda: invocations(serving)[0] == 400, 20)
        assert manage(serving, "POST", "/models?url=linear&initial_workers=0")[0] == 200
        wait_for(lambda: invocations(serving)[0] == 503, 20)
        assert manage(serving, "PUT", "/models/linear?max_worker=2")[0] == 200
        wait_for(lambda: invocations(serving) == RIGHT, 20)
        assert manage(serving, "GET", "/models/linear")[1]["loadedAtStartup"] is True
    finally:
        assert manage(serving, "DELETE", "/models/other")[0] == 200


def test_changes_that_are_not_waited_for(serving, go):
    """The model is loading until it is served; scaling it takes its time, too."""
    assert manage(serving, "POST", "/models?url=slow&synchronous=false") == PROCESSING
    status, description = manage(serving, "GET", "/models/slow")
    assert (status, description["status"], description["workers"]) == (200, "LOADING", [])
    wait_for(lambda: manage(serving, "GET", "/models/slow")[1]["phase"] == "model_fn", 60)
    assert manage(serving, "POST", "/models?url=slow")[0] == 409
    assert manage(serving, "DELETE", "/models/slow")[0] == 503
    go.touch()
    wait_for(lambda: "status" not in manage(serving, "GET", "/models/slow")[1], 60)
    assert serving.ask("slow").body == b"slow"
    go.unlink()
    assert manage(serving, "PUT", "/models/slow?min_worker=2&synchronous=false") == PROCESSING
    assert serving.ask("slow").body == b"slow"
    go.touch()
    wait_for(lambda: manage(serving, "GET", "/models/slow")[1]["minWorkers"] == 2, 60)
    assert manage(serving, "DELETE", "/models/slow")[0] == 200


def test_a_load_that_nobody_waits_for(serving, folder, go):
    """It fails: the model is gone, and the log has the reason."""
    go.write_text("no weights")
    assert manage(serving, "POST", "/models?url=slow&synchronous=false") == PROCESSING
    wait_for(lambda: manage(serving, "GET", "/models/slow")[0] == 404, 60)
    line = "registering slow failed: slow cannot be served: model_fn: RuntimeError: no weights"
    wait_for(lambda: line in (folder / "log").read_text(), 20)
    assert serving.ping() == 200


def test_the_end_does_not_wait_for_a_load(folder):
    """The drain may take 100 seconds, but nothing is in flight."""
    with server(folder, "end") as serving:
        assert manage(serving, "POST", "/models?url=slow&synchronous=false") == PROCESSING
        wait_for(lambda: len(serving.java().children(recursive=True)) == 5, 60)
        serving.process.send_signal(signal.SIGTERM)
        assert serving.process.wait(50) == 0
        assert serving.gone()
    assert "registering slow failed" not in (folder / "end").read_text()
