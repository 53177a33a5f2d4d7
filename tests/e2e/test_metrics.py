"""/metrics while models load, answer, die, are scaled and go: each page follows the rules."""

from __future__ import annotations

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Iterator

import pytest
from prometheus_lint import PREFIX, checked
from running_mms import Serving, free_ports, wait_for

from mms_handler import client

SCRIPT = """\
import json, os, signal, time

def model_fn(model_dir):
    time.sleep(0.2)
    return None

def transform_fn(model, data, content_type, accept, context):
    told = json.loads(data)
    time.sleep(told.get("seconds", 0))
    for method, *arguments in told.get("metrics", ()):
        getattr(context.metrics, method)(*arguments)
    if "signal" in told:
        os.kill(os.getpid(), told["signal"])
    if "exit" in told:
        os._exit(told["exit"])
    context.set_response_status(told.get("status", 200))
    return "x" * told.get("bytes", 1), "text/plain"
"""


def page(serving: Serving) -> dict[str, dict[tuple, float]]:
    answer = client.call("GET", f"{serving.inference}/metrics")
    assert (answer.status, answer.content_type) == (
        200,
        "text/plain; version=0.0.4; charset=utf-8",
    )
    return checked(answer.body.decode())


def value(serving: Serving, family: str, **labels: str) -> float:
    """A sample's value; 0 if there is none."""
    samples = page(serving).get(PREFIX + family, {})
    return samples.get(tuple(sorted(labels.items())), 0)


def script(folder: Path, name: str) -> Path:
    (folder / name / "code").mkdir(parents=True)
    (folder / name / "code" / "inference.py").write_text(SCRIPT)
    return folder / name


def ask(serving: Serving, name: str = "m", **told: object) -> client.Answer:
    return serving.ask(name, json.dumps(told).encode(), content_type="application/json")


@pytest.fixture(scope="module")
def serving(tmp_path_factory) -> Iterator[Serving]:
    """A server with two workers of one model; its pages are checked all the time."""
    folder = tmp_path_factory.mktemp("metrics")
    done, faults = threading.Event(), []

    def keep_checking() -> None:
        while not done.wait(0.05):
            try:
                page(server)
            except Exception as exc:
                faults.append(exc)
                return

    with Serving(free_ports(), script(folder, "m"), "--workers", "2") as server:
        wait_for(lambda: server.ping() == 200, 60)
        thread = threading.Thread(target=keep_checking)
        thread.start()
        try:
            yield server
        finally:
            done.set()
            thread.join()
    assert faults == []


M = {"model": "m", "version": "1"}


def test_requests_and_bytes(serving):
    """By status; the times of all, and the bytes of bodies."""
    before = {
        status: value(serving, "requests_total", **M, status=status) for status in ("200", "418")
    }
    sent = value(serving, "request_bytes_total", **M), value(serving, "response_bytes_total", **M)
    bodies = [json.dumps({"bytes": 1000}), json.dumps({"status": 418})]
    for body in bodies:
        serving.ask("m", body.encode(), content_type="application/json")
    for status, count in before.items():
        assert value(serving, "requests_total", **M, status=status) == count + 1
        assert value(serving, "request_seconds_count", **M, status=status) == count + 1
    assert value(serving, "request_bytes_total", **M) - sent[0] == sum(map(len, bodies))
    assert value(serving, "response_bytes_total", **M) - sent[1] == 1001


def test_where_the_time_goes(serving):
    """A request of 0.3 s is predicted for so long; one that waits has that in the queue."""
    names = ("request_queue", "request_decode", "request_predict", "request_encode", "worker_busy")

    def times() -> dict[str, float]:
        read = page(serving)
        labels = tuple(sorted(M.items()))
        suffixes = ("_seconds_total" if n == "worker_busy" else "_seconds_sum" for n in names)
        return {n: read[PREFIX + n + s][labels] for n, s in zip(names, suffixes)}

    old = times()
    with ThreadPoolExecutor(4) as pool:
        asked = [pool.submit(ask, serving, seconds=0.3) for _ in range(4)]
        wait_for(lambda: value(serving, "queue_length", **M) == 2, 5)
        assert value(serving, "requests_in_flight", **M) == 4
        assert [each.result().status for each in asked] == [200] * 4
    took = {name: new_s - old[name] for name, new_s in times().items()}
    assert 1.2 <= took["request_predict"] < 1.5
    assert 0.5 <= took["request_queue"] < 1
    assert took["request_decode"] < 0.1
    assert took["request_encode"] < 0.1
    assert 1.2 <= took["worker_busy"] < 1.5
    assert value(serving, "batch_size_bucket", **M, le="1") == value(
        serving, "batch_size_count", **M
    )


def test_workers_memory_and_java(serving):
    """Each worker has its memory; part of it is shared."""
    for state, count in {"alive": 2, "loading": 0, "wanted": 2}.items():
        assert value(serving, "workers", **M, state=state) == count
    for worker in "01":
        resident = value(serving, "worker_resident_memory_bytes", **M, worker=worker)
        proportional = value(serving, "worker_proportional_memory_bytes", **M, worker=worker)
        assert 2e7 < proportional < resident
    assert 1e6 < value(serving, "jvm_heap_used_bytes") <= value(serving, "jvm_heap_max_bytes")
    assert value(serving, "jvm_buffers_max_bytes") > value(serving, "jvm_buffers_used_bytes") > 0
    assert 10 < value(serving, "open_fds") < value(serving, "max_fds")


def test_the_phases_of_a_load(serving):
    """The script's model_fn takes 0.2 s.  The supervisor tells them soon after the start."""
    wait_for(lambda: value(serving, "model_load_seconds", **M, phase="model_fn"), 30)
    assert 0.2 <= value(serving, "model_load_seconds", **M, phase="model_fn") < 1
    assert value(serving, "model_load_seconds", **M, phase="mxnet") > 0.1


@pytest.mark.parametrize(
    ("told", "cause"),
    [({"signal": 9}, "SIGKILL"), ({"signal": 6}, "SIGABRT"), ({"exit": 3}, "exit")],
)
def test_deaths(serving, told, cause):
    """By a few causes; and the workers start again."""
    before = value(serving, "worker_deaths_total", **M, cause=cause)
    restarts = value(serving, "worker_restarts_total", **M)
    assert ask(serving, **told).status == 500
    wait_for(lambda: value(serving, "worker_deaths_total", **M, cause=cause) == before + 1, 10)
    assert value(serving, "worker_restarts_total", **M) == restarts + 1
    wait_for(lambda: value(serving, "workers", **M, state="alive") == 2, 20)


def test_metrics_of_scripts(serving):
    """All of MMS's methods, in base units, added up over requests."""
    metrics = [
        ["add_counter", "Rows", 3],
        ["add_time", "Lookup", 12.5],
        ["add_size", "Cache", 2],
        ["add_percent", "Hits", 50],
        ["add_metric", "Heat", 7],
        ["add_metric", "Heat", 1, None, "Kelvin"],
        ["add_error", "Odd", 1],
    ]
    for _ in range(2):
        assert ask(serving, metrics=metrics).status == 200
    wait_for(lambda: value(serving, "script_errors_total", **M, name="Odd") == 2, 5)
    assert value(serving, "script_events_total", **M, name="Rows") == 6
    assert value(serving, "script_time_seconds_sum", **M, name="Lookup") == 0.025
    assert value(serving, "script_time_seconds_count", **M, name="Lookup") == 2
    assert value(serving, "script_size_bytes_sum", **M, name="Cache") == 4e6
    assert value(serving, "script_share_ratio_sum", **M, name="Hits") == 1
    assert value(serving, "script_value_sum", **M, name="Heat", unit="unit") == 14
    assert value(serving, "script_value_sum", **M, name="Heat", unit="Kelvin") == 2


def test_hostile_metrics_of_scripts(serving):
    """Nothing breaks the page: odd names are changed, what falls or is no number is left out."""
    odd = 'a"} 1\n# TYPE b counter\nmms_handler_workers{x="\\'
    ask(serving, metrics=[["add_counter", odd, 1], ["add_metric", "Odd", 1, None, odd]])
    ask(serving, metrics=[["add_counter", "Falls", -5], ["add_time", "Huge", 1e308]])
    ask(serving, metrics=[["add_time", "Huge", 1e308], ["add_counter", "n" * 200, 1]])
    left_out = "script_values_left_out_total"
    wait_for(lambda: value(serving, left_out, **M) >= 2, 5)
    many = [["add_counter", f"many{number}", 1] for number in range(150)]
    ask(serving, metrics=many)
    wait_for(lambda: value(serving, left_out, **M) > 50, 5)
    samples = page(serving)
    names = {
        (family, dict(labels)["name"], dict(labels).get("unit"))
        for family, each in samples.items()
        if family.startswith(f"{PREFIX}script_") and not family.endswith("_count")
        for labels in each
        if "name" in dict(labels)
    }
    assert 50 < len(names) <= 100


def test_clients_make_no_series(serving):
    """Models that there are not have none; a script's statuses have few."""
    for number in range(30):
        assert serving.ask(f"absent{number}").status == 404
        ask(serving, status=400 + number)
    samples = page(serving)[f"{PREFIX}requests_total"]
    assert {dict(labels)["model"] for labels in samples} == {"m", ""}
    of_model = [labels for labels in samples if dict(labels)["model"] == "m"]
    assert 20 < len(of_model) <= 25
    assert value(serving, "requests_total", **M, status="other") > 0


def test_one_family_of_the_page(serving):
    """As serve itself asks."""
    url = f"{serving.inference}/metrics?name[]=mms_handler_connections"
    lines = client.call("GET", url).body.decode().splitlines()
    assert [line.split(" ")[:3] for line in lines[:2]] == [
        ["#", "HELP", "mms_handler_connections"],
        ["#", "TYPE", "mms_handler_connections"],
    ]
    assert len(lines) == 3


def test_models_that_come_and_go(tmp_path):
    """Many models: each version has series of its own, and none when it is gone."""
    words = ("--multi-model", "--model-store", tmp_path)
    with Serving(free_ports(), *words, log=tmp_path / "log") as server:
        wait_for(lambda: server.ping() == 200, 60)
        for name in ("a", "b"):
            url = f"{server.management}/models?url={script(tmp_path, name)}&model_name={name}"
            assert client.call("POST", url, timeout_s=60).status == 200, name
            page(server)
            assert ask(server, name).status == 200
        for name in ("a", "b"):
            version = {"model": name, "version": "1"}
            assert value(server, "requests_total", **version, status="200") >= 1
        assert (
            client.call("PUT", f"{server.management}/models/a?min_worker=2&synchronous=true").status
            == 200
        )
        assert value(server, "workers", model="a", version="1", state="wanted") == 2
        assert client.call("DELETE", f"{server.management}/models/a").status == 200
        wait_for(lambda: "a" not in models(server), 10)
        assert models(server) == {"b"}


def models(server: Serving) -> set[str]:
    samples = [labels for each in page(server).values() for labels in each]
    return {dict(labels)["model"] for labels in samples if "model" in dict(labels)}
