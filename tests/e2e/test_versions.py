"""Versions of a model: swapped, shared and rolled back while clients send requests."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Iterator, NamedTuple

import pytest
from running_mms import Serving, free_ports, wait_for

from mms_handler import client

# Answers with its number, the name that it knows, the length of the body and its process id.  The
# number is read when the model is loaded, which waits for the file "go" if the number is "slow".  A
# handler that does without MXNet loads faster.
HANDLER = """\
import os, time
from pathlib import Path

number = None

def handle(data, context):
    global number
    if data is None:
        number = (Path(context.system_properties["model_dir"]) / "number").read_text()
        while number == "slow" and not Path({go!r}).exists():
            time.sleep(0.02)
        if number == "broken":
            raise RuntimeError("no weights")
        return None
    body = data[0]["body"]
    words = bytes(body).split() if isinstance(body, bytearray) else []
    if words[:1] == [b"sleep"]:
        time.sleep(float(words[1]))
    return [f"{{number}} {{context.model_name}} {{len(body)}} {{os.getpid()}}"]
"""

SCRIPT = """\
def model_fn(model_dir):
    return "scripted"

def transform_fn(model, data, content_type, accept, context=None):
    if data == b"fail":
        raise ValueError(context.model_name)
    return f"{model} {context.model_name}", "text/plain"
"""

BINARY = "application/octet-stream"
BIG = b"b" * 2**20


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Has the model store: models with the handler, and one with the script."""
    folder = tmp_path_factory.mktemp("versions")
    for number in ("one", "two", "three", "slow", "broken"):
        path = folder / "store" / number
        (path / "MAR-INF").mkdir(parents=True)
        manifest = {"model": {"modelName": number, "handler": "service:handle"}}
        (path / "MAR-INF" / "MANIFEST.json").write_text(json.dumps(manifest))
        (path / "service.py").write_text(HANDLER.format(go=str(folder / "go")))
        (path / "number").write_text(number)
    (folder / "store" / "scripted" / "code").mkdir(parents=True)
    (folder / "store" / "scripted" / "code" / "inference.py").write_text(SCRIPT)
    return folder


class Server(NamedTuple):
    """A server of models that the tests register, with its two addresses."""

    serving: Serving

    def manage(self, method: str, path: str, **fields: object) -> tuple[int, dict]:
        url = f"{self.serving.management}/models{path}"
        body = json.dumps(fields).encode() if fields else None
        answer = client.call(method, url, body, timeout_s=120)
        return answer.status, json.loads(answer.body)

    def load(self, name: str, number: str, **fields: object) -> tuple[int, dict]:
        return self.manage("POST", "", url=number, model_name=name, **fields)

    def swap(self, name: str, number: str, **fields: object) -> tuple[int, dict]:
        return self.load(name, number, replace=True, **fields)

    def ask(self, path: str, body: bytes = b"", method: str = "POST") -> client.Answer:
        headers = {"Content-Type": BINARY}
        return client.call(method, f"{self.serving.inference}/{path}", body, headers)

    def answered(self, path: str, body: bytes = b"") -> tuple[str, str]:
        """The version that answered, by the header and by the script."""
        answer = self.ask(path, body)
        assert answer.status == 200, answer
        return answer.headers["x-model-version"], answer.body.decode().split()[0]

    def states(self, name: str) -> dict[str, tuple[str, int]]:
        status, description = self.manage("GET", f"/{name}")
        assert status == 200
        return {
            each["modelVersion"]: (each["state"], each["share"]) for each in description["versions"]
        }

    def pids(self, path: str, asked: int = 1) -> set[int]:
        return {int(self.ask(path).body.split()[3]) for _ in range(asked)}


@pytest.fixture(scope="module")
def server(folder) -> Iterator[Server]:
    """It was started with the model ``one``, and does not end when a model is lost."""
    words = (folder / "store" / "one", "--model-store", folder / "store", "--workers", "1")
    env = {**os.environ, "MMS_HANDLER_MAX_RESTARTS": "1"}
    with Serving(free_ports(), *words, env=env, log=folder / "log") as serving:
        yield Server(serving)


@pytest.fixture
def name(server, request) -> Iterator[str]:
    """A name for the test's own model, which is unregistered afterwards."""
    name = request.node.name.replace("[", "-").rstrip("]")
    yield name
    server.manage("DELETE", f"/{name}")


# --- under load ---


class Load:
    """Four clients that send requests one after another, and remember what was answered."""

    def __init__(self, server: Server, name: str) -> None:
        self._server, self._name = server, name
        self._end = threading.Event()
        self.answers: list[tuple[float, int, str, str]] = []  # begin, status, version, text

    def __enter__(self) -> Load:
        self._pool = ThreadPoolExecutor(4)
        json_body, text = b"[[1, 2]]", "application/json"
        self._clients = [
            self._pool.submit(self._keep_alive, json_body, text),
            self._pool.submit(self._keep_alive, BIG, BINARY),
            self._pool.submit(self._connect, json_body, text),
            self._pool.submit(self._connect, BIG, BINARY),
        ]
        return self

    def __exit__(self, *exc: object) -> None:
        self._end.set()
        self._pool.shutdown()

    def _note(self, begin: float, status: int, version: str | None, text: bytes) -> None:
        self.answers.append((begin, status, version or "", text.decode().split()[0]))

    def _keep_alive(self, body: bytes, content_type: str) -> None:
        host, port = self._server.serving.inference[len("http://") :].split(":")
        with contextlib.closing(http.client.HTTPConnection(host, int(port), timeout=60)) as there:
            while not self._end.is_set():
                begin = time.monotonic()
                path, headers = f"/predictions/{self._name}", {"Content-Type": content_type}
                there.request("POST", path, body, headers)
                reply = there.getresponse()
                text = reply.read()
                self._note(begin, reply.status, reply.headers["X-Model-Version"], text)

    def _connect(self, body: bytes, content_type: str) -> None:
        url = f"{self._server.serving.inference}/models/{self._name}/invoke"
        while not self._end.is_set():
            begin = time.monotonic()
            answer = client.invoke(url, body, content_type)
            self._note(begin, answer.status, answer.headers.get("x-model-version"), answer.body)

    def settle(self, answers: int = 40) -> None:
        """Wait for more answers; a client that has failed says so."""
        wanted = len(self.answers) + answers
        wait_for(lambda: len(self.answers) >= wanted or any(c.done() for c in self._clients), 60)
        for each in self._clients:
            assert not each.done(), each.exception()


def test_no_request_fails(server, name):
    """Swap, share, promotion, rollback and another swap, while four clients send requests.

    Each reply is from the version that it names, and whoever asks after a change gets what the
    change says.
    """
    numbers = {"1": "one", "2": "two", "3": "three", "4": "one"}
    assert server.load(name, "one", initial_workers=2)[0] == 200
    changes = [
        (lambda: server.swap(name, "two"), {"2"}),
        (lambda: server.swap(name, "three", share=10), {"2", "3"}),
        (lambda: server.manage("PUT", f"/{name}/3/set-default"), {"3"}),
        (lambda: server.manage("POST", f"/{name}/rollback"), {"2"}),
        (lambda: server.swap(name, "one"), {"4"}),
    ]
    with Load(server, name) as load:
        load.settle()
        for change, versions in changes:
            status, reply = change()
            changed = time.monotonic()
            assert status == 200, reply
            load.settle()
            after = {answer[2] for answer in load.answers if answer[0] > changed}
            assert after == versions
    assert {status for _, status, _, _ in load.answers} == {200}
    assert {(version, text) for _, _, version, text in load.answers} == set(numbers.items())
    assert server.states(name) == {"2": ("kept", 0), "4": ("served", 100)}


def test_a_share_is_exact(server, name):
    """Of ten requests one, of a hundred ten."""
    assert server.load(name, "one")[0] == 200
    assert server.swap(name, "two", share=10) == (
        200,
        {"status": f'Model "{name}" registered', "modelVersion": "2"},
    )
    answered = [server.answered(f"predictions/{name}") for _ in range(30)]
    assert [answered[at : at + 10].count(("2", "two")) for at in (0, 10, 20)] == [1, 1, 1]
    assert answered.count(("1", "one")) == 27
    assert server.states(name) == {"1": ("served", 90), "2": ("shared", 10)}


# --- paths and names ---


def test_every_path(server, name):
    """Leads to the version that is served, or to the one that it names."""
    assert server.load(name, "one", version="first")[0] == 200
    assert server.swap(name, "two", version="2.0-b")[0] == 200
    encoded = name.replace("t", "%74", 1)
    for path in (
        f"predictions/{name}",
        f"predictions/{encoded}",
        f"predictions/{name}/2.0-b",
        f"predictions/{name}/2%2e0-b",
        f"models/{name}/invoke",
        f"{name}/predict",
        f"invocations?model_name={name}",
        f"invocations?a=b&model_name={encoded}",
    ):
        assert server.answered(path) == ("2.0-b", "two"), path
    assert server.answered(f"predictions/{name}/first") == ("first", "one")
    assert server.answered("invocations") == ("1", "one")
    assert server.answered("predictions/one/1") == ("1", "one")
    for path, missing in (
        (f"predictions/{name}/3", f"{name}/3"),
        (f"predictions/{name}~2.0-b", f"{name}~2.0-b"),
        (f"predictions/{name}%7E2.0-b", f"{name}~2.0-b"),
        ("predictions/nobody", "nobody"),
    ):
        answer = server.ask(path)
        assert (answer.status, answer.message()) == (404, f"Model not found: {missing}")
        assert "x-model-version" not in answer.headers
        assert "x-request-id" in answer.headers


def test_no_name_of_mms_is_seen(server, name):
    """Not by the script, and in no answer, metric or description."""
    assert server.load(name, "one")[0] == 200
    assert server.swap(name, "two")[0] == 200
    assert server.ask(f"predictions/{name}").body.decode().split()[1] == name
    assert server.swap(name, "scripted")[0] == 200
    assert server.ask(f"predictions/{name}").body.decode() == f"scripted {name}"
    failed = server.ask(f"predictions/{name}", b"fail")
    described = server.ask(f"predictions/{name}", method="OPTIONS")
    assert (failed.status, failed.headers["x-model-version"]) == (500, "3")
    assert (described.status, name in described.body.decode()) == (200, True)
    metrics = client.call("GET", f"{server.serving.inference}/metrics").body.decode()
    managed = [
        server.manage("GET", ""),
        server.manage("GET", f"/{name}"),
        server.manage("GET", f"/{name}/3"),
        server.swap(name, "broken"),
        server.swap(name, "one", version="3"),
        server.manage("PUT", f"/{name}/3?min_worker=900000"),
        server.manage("DELETE", f"/{name}/3"),
    ]
    assert [status for status, _ in managed] == [200, 200, 200, 500, 409, 507, 409]
    for text in (failed.body, described.body, metrics.encode(), json.dumps(managed).encode()):
        assert b"~" not in text
    requests = 'mms_handler_requests_total{model="%s",version="%s",status="%d"} %d\n'
    assert requests % (name, "2", 200, 1) in metrics
    assert requests % (name, "3", 200, 1) in metrics
    assert requests % (name, "3", 500, 1) in metrics
    assert f'mms_handler_workers{{model="{name}",version="2",state="alive"}} 1\n' in metrics
    assert f'mms_handler_workers{{model="{name}",version="3",state="alive"}} 1\n' in metrics


def test_tensors_name_the_version_that_answers(server, name):
    """Also the first one, which has the model's own name in MMS."""
    assert server.load(name, "scripted", version="first")[0] == 200
    assert server.swap(name, "scripted", version="2.0-b")[0] == 200
    body = {"inputs": [{"name": "x", "shape": [1], "datatype": "FP32", "data": [1]}]}
    for path, expected in (
        ("", "2.0-b"),
        ("/versions/2.0-b", "2.0-b"),
        ("/versions/first", "first"),
    ):
        answer = server.ask(f"v2/models/{name}{path}/infer", json.dumps(body).encode())
        assert (answer.status, answer.headers["x-model-version"]) == (200, expected)
        reply = json.loads(answer.body)
        assert (reply["model_name"], reply["model_version"]) == (name, expected)


# --- what fails ---


def test_a_version_that_cannot_be_loaded(server, name, folder):
    """All is as it was."""
    assert server.load(name, "one")[0] == 200
    status, reply = server.swap(name, "broken")
    assert status == 500
    assert reply["message"].startswith(f"{name} version 2 cannot be served: ")
    assert "no weights" in reply["message"]
    assert server.states(name) == {"1": ("served", 100)}
    assert server.load(name, "two")[0] == 409
    assert server.answered(f"predictions/{name}") == ("1", "one")
    assert server.ask(f"predictions/{name}/2").status == 404
    assert server.swap(name, "two") == (
        200,
        {"status": f'Model "{name}" registered', "modelVersion": "2"},
    )


def test_while_a_version_is_loading(server, name, folder):
    """A second swap is refused; the model can be described, and answers; unregistering waits."""
    assert server.load(name, "one")[0] == 200
    (folder / "go").unlink(missing_ok=True)
    with ThreadPoolExecutor(2) as pool:
        slow = pool.submit(server.swap, name, "slow")
        wait_for(lambda: len(server.states(name)) == 2, 30)
        try:
            assert server.states(name) == {"1": ("served", 100), "2": ("loading", 0)}
            assert server.swap(name, "two")[0] == 409
            assert server.answered(f"predictions/{name}") == ("1", "one")
            # The gate learns of a version a moment after the management API.
            wait_for(lambda: server.ask(f"predictions/{name}/2").status == 503, 30)
            assert server.ask(f"predictions/{name}/2").headers["retry-after"] == "2"
            gone = pool.submit(server.manage, "DELETE", f"/{name}")
            time.sleep(0.3)
            assert not gone.done()
        finally:
            (folder / "go").touch()
        assert slow.result(60)[0] == 200
        assert gone.result(60)[0] == 200
    assert server.ask(f"predictions/{name}").status == 404
    assert server.manage("GET", f"/{name}")[0] == 404


def test_a_model_without_workers(server, name):
    """A swap gives it a version that has some; to the first one there is no way back yet."""
    assert server.load(name, "one", initial_workers=0)[0] == 200
    idle = server.ask(f"predictions/{name}")
    assert (idle.status, f"PUT /models/{name}?min_worker=1" in idle.message()) == (503, True)
    assert server.swap(name, "two")[0] == 400
    assert server.swap(name, "two", initial_workers=1)[0] == 200
    assert server.answered(f"predictions/{name}") == ("2", "two")
    idle = server.ask(f"predictions/{name}/1")
    assert (idle.status, f"PUT /models/{name}/1?min_worker=1" in idle.message()) == (503, True)
    assert server.manage("POST", f"/{name}/rollback")[0] == 409
    assert server.manage("PUT", f"/{name}/1?min_worker=1")[0] == 200
    assert server.manage("POST", f"/{name}/rollback") == (
        200,
        {"status": f'Version "1" of model "{name}" is served'},
    )
    assert server.answered(f"predictions/{name}") == ("1", "one")


def test_a_version_that_is_not_served_dies(server, name, folder):
    """It is loaded again; if it dies too often it is dropped, and the server goes on."""
    assert server.load(name, "one")[0] == 200
    assert server.swap(name, "two")[0] == 200
    (pid,) = server.pids(f"predictions/{name}/1")
    os.kill(pid, signal.SIGKILL)
    wait_for(lambda: server.ask(f"predictions/{name}/1").status == 200, 60)
    assert server.pids(f"predictions/{name}/1") != {pid}
    assert server.answered(f"predictions/{name}") == ("2", "two")
    (pid,) = server.pids(f"predictions/{name}/1")
    os.kill(pid, signal.SIGKILL)
    wait_for(lambda: server.states(name) == {"2": ("served", 100)}, 60)
    assert server.ask(f"predictions/{name}/1").status == 404
    assert server.answered(f"predictions/{name}") == ("2", "two")
    assert server.serving.process.poll() is None
    died = f"the workers of {name} version 1 died more than 1 times in 60 s"
    wait_for(lambda: f"{died}; it is unregistered" in (folder / "log").read_text(), 10)


def test_a_version_is_unloaded_when_its_requests_are_answered(server, name):
    """Those that wait for its worker, too."""
    assert server.load(name, "one")[0] == 200
    assert server.swap(name, "two")[0] == 200
    with ThreadPoolExecutor(3) as pool:
        path = f"predictions/{name}/1"
        answers = [pool.submit(server.ask, path, b"sleep 0.7") for _ in range(3)]
        time.sleep(0.3)
        assert server.manage("DELETE", f"/{name}/1")[0] == 200
        assert [answer.result(30).status for answer in answers] == [200, 200, 200]
    assert server.states(name) == {"2": ("served", 100)}


def test_a_swap_that_is_not_waited_for(server, name):
    """The answer comes at once."""
    assert server.load(name, "one")[0] == 200
    assert server.swap(name, "two", synchronous=False)[0] == 202
    wait_for(lambda: server.answered(f"predictions/{name}") == ("2", "two"), 60)
