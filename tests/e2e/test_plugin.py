"""The plug-in under MMS's own command: its three endpoints, the gate and the drain."""

from __future__ import annotations

import contextlib
import http.client
import http.server
import json
import re
import signal
import socket
import threading
import time
from typing import Callable, Iterator

import psutil
import pytest
from plugin_mms import LIMIT, QUIET_LOG, TEXT, Running, connected, raw, request, running
from running_mms import free_ports, wait_for

from mms_handler import client

# --- under MMS's own command, without a gate -------------------------------------------------


def test_ping_follows_the_state_of_a_model(tmp_path):
    """503 while it loads, 200 after, 200 while a worker is restarted, 503 if none can start."""
    with running(tmp_path, models="sleeper=sleeper.mar") as mms:
        (tmp_path / "ready").unlink()
        assert wait_for(lambda: (state := mms.ping())[0] and state, 30) == (503, "Loading")
        (tmp_path / "ready").touch()
        wait_for(lambda: mms.ping() == (200, "Healthy"), 30)

        (tmp_path / "broken").touch()
        psutil.Process(int(mms.ask(0).body)).kill()
        assert wait_for(lambda: (state := mms.ping()) != (200, "Healthy") and state, 10) == (
            200,
            "Partial Healthy",
        )
        assert wait_for(lambda: (state := mms.ping())[0] != 200 and state, 40) == (503, "Unhealthy")

        (tmp_path / "broken").unlink()
        wait_for(lambda: mms.ping() == (200, "Healthy"), 60)
        assert mms.ask(0).status == 200
        assert mms.metrics()['worker_restarts_total{model="sleeper"}'] >= 1
        assert mms.metrics()['requests_total{model="sleeper",status="200"}'] == 2
        access_log = (tmp_path / "logs" / "access_log.log").read_text()
        assert access_log.count('"POST /predictions/sleeper HTTP/1.1" 200') == 2


def test_ping_waits_for_a_model_that_mms_gave_up(tmp_path):
    """MMS logs that an archive is missing and goes on; /ping stays 503."""
    with running(tmp_path, models="missing=missing.mar") as mms:
        wait_for(lambda: "Model server started." in mms.log(), 30)
        assert mms.ping() == (503, "Loading")


@pytest.mark.parametrize(
    ("properties", "answer"),
    [
        pytest.param({}, (200, "Healthy"), id="no model is expected"),
        pytest.param({"multi_model": "true"}, (200, "Healthy"), id="models come later"),
        pytest.param({"expected_models": 1}, (503, "Loading"), id="one model is expected"),
        pytest.param({"ready_file": "absent"}, (503, "Loading"), id="models are not confirmed"),
    ],
)
def test_ping_without_models(tmp_path, properties, answer):
    """A server without models is healthy, unless the supervisor expects one."""
    with running(tmp_path, **properties) as mms:
        wait_for(lambda: "Model server started." in mms.log(), 30)
        assert mms.ping() == answer


# --- the gate --------------------------------------------------------------------------------


class Supervisor(http.server.BaseHTTPRequestHandler):
    """Answers with the request that it got, status 207 and a type of its own."""

    def do_GET(self) -> None:
        length = int(self.headers.get("Content-Length", 0))
        request = [self.command, self.path, self.headers.get("Content-Type")]
        body = json.dumps([*request, self.rfile.read(length).decode()]).encode()
        self.send_response(404 if self.path.endswith("/absent") else 207)
        self.send_header("Content-Type", "application/vnd.supervisor+json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_PUT = do_DELETE = do_GET

    def log_message(self, *_: object) -> None:
        """Print nothing."""


@pytest.fixture(scope="module")
def supervisor() -> Iterator[http.server.HTTPServer]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Supervisor) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture(scope="module")
def gated(tmp_path_factory, supervisor) -> Iterator[Running]:
    """A gate before a sleeper with two workers; /ping is 503 until the supervisor confirms them."""
    folder = tmp_path_factory.mktemp("gated")
    confirmed = folder / "confirmed"
    properties = {"ready_file": confirmed, "admin_port": supervisor.server_port}
    words = ("--log-config", str(QUIET_LOG))
    with running(folder, *words, gate=free_ports()[0], **properties) as mms:
        assert wait_for(lambda: (state := mms.ping())[0] and state, 30) == (503, "Loading")
        wait_for(lambda: mms.ping(mms.inference)[0], 30)
        assert mms.register(workers=2).status == 200
        assert mms.ping() == (503, "Loading")
        confirmed.touch()
        assert mms.ping() == (200, "Healthy")
        yield mms


def change(mms: Running, action: Callable[[], object]) -> dict[str, float]:
    """How much ``action`` changes the counts of requests; unchanged ones are left out."""
    old = mms.metrics()
    action()
    new = mms.metrics().items()
    counts = {name: value for name, value in new if name.startswith("requests_total")}
    return {n: v - old.get(n, 0) for n, v in counts.items() if v != old.get(n, 0)}


def test_the_gate_answers_as_mms_does(gated):
    """The reply is that of MMS's own address, with a request id of its own."""
    answers = [gated.ask(0), gated.ask(0, gated.inference)]
    assert [(answer.status, answer.content_type) for answer in answers] == [(200, "text/plain")] * 2
    assert len({answer.headers["x-request-id"] for answer in answers}) == 2


def test_execution_parameters(gated):
    """Two workers, the limit for a body in whole megabytes; only GET is allowed."""
    answer = gated.get("/execution-parameters")
    assert (answer.status, answer.content_type) == (200, "application/json")
    assert json.loads(answer.body) == {
        "MaxConcurrentTransforms": 2,
        "BatchStrategy": "MULTI_RECORD",
        "MaxPayloadInMB": 2,
    }
    for method in ("POST", "PUT", "DELETE"):
        refusal = client.call(method, f"{gated.gate}/execution-parameters")
        assert (refusal.status, refusal.headers["allow"]) == (405, "GET")


def test_a_model_that_is_registered_later(gated):
    """The server is healthy while it loads; with two models /invocations has to name one."""
    (gated.folder / "ready").unlink()
    try:
        assert gated.register("later", synchronous="false").status == 202
        assert gated.metrics()['workers{model="later",state="wanted"}'] == 1
        assert gated.metrics()['workers{model="later",state="alive"}'] == 0
        assert gated.ping() == (200, "Healthy")
        assert client.call("POST", f"{gated.gate}/invocations", b"0", TEXT).status == 400
    finally:
        (gated.folder / "ready").touch()
        wait_for(lambda: gated.metrics()['workers{model="later",state="alive"}'] == 1, 30)
        client.call("DELETE", f"{gated.management}/models/later")
    wait_for(lambda: 'workers{model="later",state="wanted"}' not in gated.metrics(), 10)
    assert client.call("POST", f"{gated.gate}/invocations", b"0", TEXT).status == 200


def test_head_is_get_without_a_body(gated):
    """Health checkers send HEAD."""
    answer = client.call("HEAD", f"{gated.gate}/ping")
    assert (answer.status, answer.body) == (200, b"")


def test_every_invocation_is_counted_by_model_and_status(gated):
    """Each path that MMS treats as an invocation counts, and no other; so does too long a body."""

    def post(path: str, body: bytes = b"0") -> int:
        return client.call("POST", gated.gate + path, body, TEXT).status

    def requests() -> None:
        assert [
            post("/predictions/sleeper"),
            post("/models/sleeper/invoke"),
            post("/invocations?model_name=sleeper"),
            post("/sleeper/predict"),
            post("/predictions/sleeper", b"not a number"),
            post("/predictions/sleeper", b"0" * (LIMIT + 1)),
            post("/predictions/unknown"),
            post("/predictions/%22%7D%20bad%0Aname"),
            post("/invocations"),
            post("/invocations?model_name=%zz"),
            post("/nothing"),
            gated.get("/ping").status,
        ] == [200, 200, 200, 200, 500, 413, 404, 404, 200, 400, 404, 200]

    assert change(gated, requests) == {
        'requests_total{model="sleeper",status="200"}': 5,
        'requests_total{model="sleeper",status="413"}': 1,
        'requests_total{model="sleeper",status="500"}': 1,
        'requests_total{model="",status="404"}': 2,
        'requests_total{model="",status="400"}': 1,
    }


def test_metrics_of_time_queue_and_workers(gated):
    """A request of 0.3 s is in the bucket of 0.5 s; meanwhile others wait in the queue."""
    old = gated.metrics()
    with in_flight(gated, 0.3, times=4):
        wait_for(
            lambda: (
                (m := gated.metrics())['queue_length{model="sleeper"}'] == 2 and m["in_flight"] == 4
            ),
            10,
        )
    new = gated.metrics()
    assert new["in_flight"] == new['queue_length{model="sleeper"}'] == 0
    assert new['workers{model="sleeper",state="alive"}'] == 2
    assert new['workers{model="sleeper",state="wanted"}'] == 2
    assert new['worker_restarts_total{model="sleeper"}'] == 0
    for kind in ("resident", "proportional"):
        assert new[f'worker_{kind}_memory_bytes{{model="sleeper",worker="1"}}'] > 2e7
    label = 'request_seconds_%s{model="sleeper",status="200"%s}'
    for name, difference in (
        (label % ("bucket", ',le="0.25"'), 0),
        (label % ("bucket", ',le="+Inf"'), 4),
        (label % ("count", ""), 4),
    ):
        assert new[name] - old.get(name, 0) == difference
    total_s = new[label % ("sum", "")] - old.get(label % ("sum", ""), 0)
    assert 4 * 0.3 <= total_s < 4 * 2


def test_the_format_of_metrics(gated):
    """It is Prometheus's text format 0.0.4, even for the strangest name that MMS allows."""
    assert gated.register("a%22b%5Cc", workers=0).status == 200
    try:
        answer = gated.get("/metrics")
    finally:
        client.call("DELETE", f"{gated.management}/models/a%22b%5Cc")
    assert answer.content_type == "text/plain; version=0.0.4; charset=utf-8"
    text = answer.body.decode()
    assert 'mms_handler_workers{model="a\\"b\\\\c",state="wanted"} 0\n' in text
    label = r'[a-z]+="([^"\\\n]|\\["\\n])*"'
    sample = re.compile(rf"mms_handler_[a-z_]+(\{{{label}(,{label})*\}})? [0-9.E+-]+")
    comment = re.compile(r"# (HELP mms_handler_[a-z_]+ .+|TYPE mms_handler_[a-z_]+ [a-z]+)")
    for line in text.splitlines():
        assert (comment if line.startswith("#") else sample).fullmatch(line), line


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        pytest.param("GET", "/models?limit=2&next_page_token=1", None, id="list"),
        pytest.param("POST", "/models", '{"model_name": "a", "url": "b"}', id="load"),
        pytest.param("GET", "/models/a%20b", None, id="describe"),
        pytest.param("PUT", "/models/a?min_worker=2", None, id="scale"),
        pytest.param("DELETE", "/models/a", None, id="unload"),
    ],
)
def test_management_requests_go_to_the_supervisor(gated, method, path, body):
    """It gets method, path, query, type and body, and its status, type and body come back."""
    headers = {"Content-Type": "application/json"} if body else {}
    answer = client.call(method, gated.gate + path, body and body.encode(), headers)
    assert (answer.status, answer.content_type) == (207, "application/vnd.supervisor+json")
    content_type = "application/json" if body else None
    assert json.loads(answer.body) == [method, path, content_type, body or ""]


def test_the_supervisors_errors_are_passed_on(gated):
    """They keep their bodies."""
    answer = gated.get("/models/absent")
    assert (answer.status, json.loads(answer.body)[1]) == (404, "/models/absent")


def test_answers_come_in_the_order_of_their_requests(gated):
    """There are two workers, and the second request is faster than the first."""
    unknown = request("0").replace(b"sleeper", b"unknown")
    received = raw(gated, request("0.4") + unknown, b"ModelNotFoundException")
    assert re.findall(rb"HTTP/1.1 (\d+)", received) == [b"200", b"404"]


def test_a_client_can_have_its_connection_closed(gated):
    """MMS itself keeps it open."""
    received = raw(gated, request("0", "Connection: close"), b"no such end")
    assert b"HTTP/1.1 200 OK" in received
    assert b"connection: close" in received


def test_clients_that_hang_up_are_not_in_flight(gated):
    """They may hang up in the middle of a request, while it runs, or with more requests sent."""
    logged = len(gated.log())
    for sent in (request("0.2"), request("0.2")[:-1], request("0.2") * 3) * 3:
        with connected(gated) as connection:
            connection.sendall(sent)
    wait_for(lambda: gated.metrics()["in_flight"] == 0, 10)
    wait_for(lambda: gated.metrics()['queue_length{model="sleeper"}'] == 0, 20)
    assert gated.ask(0).status == 200
    assert "Exception" not in gated.log()[logged:]


@pytest.mark.parametrize(
    "target",
    [
        "/predictions/%",
        "/predictions/sleeper%2",
        "/predictions/%zz",
        "/%",
        "/ping?a=%",
        "/invocations?model_name=%g0",
        "/models/%/invoke",
        "/sleeper%/predict",
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS", "PATCH"])
def test_a_path_that_cannot_be_decoded_is_a_bad_request(gated, method, target):
    """It gets 400, and the log has no traceback."""
    logged = len(gated.log())
    answer = client.call(method, gated.gate + target)
    assert (answer.status, json.loads(answer.body)["code"]) == (400, 400)
    assert "two hexadecimal digits" in json.loads(answer.body)["message"]
    assert "Exception" not in gated.log()[logged:]


@pytest.mark.parametrize(
    ("method", "target", "status", "allow"),
    [
        ("OPTIONS", "*", 200, "GET, HEAD, POST, PUT, DELETE, OPTIONS"),
        ("OPTIONS", "/ping", 200, "GET, HEAD, OPTIONS"),
        ("OPTIONS", "/metrics", 200, "GET, HEAD, OPTIONS"),
        ("OPTIONS", "/execution-parameters", 200, "GET, HEAD, OPTIONS"),
        ("PATCH", "/ping", 405, "GET, HEAD, OPTIONS"),
        ("TRACE", "/ping", 405, "GET, HEAD, OPTIONS"),
        ("NONSENSE", "/ping", 405, "GET, HEAD, OPTIONS"),
        ("OPTIONS", "/", 200, ""),
        ("OPTIONS", "/predictions/sleeper", 200, ""),
        ("OPTIONS", "/predictions/unknown", 404, ""),
        ("OPTIONS", "/nothing", 404, ""),
        ("GET", "/", 405, ""),
        ("GET", "//", 405, ""),
        ("GET", "/?a", 405, ""),
        ("GET", "http://localhost/ping", 404, ""),
        ("GET", "/%2F", 405, ""),
        ("GET", "/;a", 404, ""),
        ("GET", "/%00", 404, ""),
        ("CONNECT", "/predictions/unknown", 405, "GET, HEAD, POST, PUT, DELETE, OPTIONS"),
        ("TRACE", "/predictions/sleeper", 405, "GET, HEAD, POST, PUT, DELETE, OPTIONS"),
        ("QUERY", "/predictions/sleeper", 405, "GET, HEAD, POST, PUT, DELETE, OPTIONS"),
    ],
)
def test_unusual_methods_and_paths_are_answered(gated, method, target, status, allow):
    """None is 500, and the connection is good for another request if the answer is."""
    logged = len(gated.log())
    words = f"{method} {target} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n".encode()
    received = raw(gated, words + request("0", "Connection: close"), b"no such end")
    assert re.findall(rb"HTTP/1.1 (\d+)", received)[0] == str(status).encode()
    assert (f"allow: {allow}\r\n" if allow else "").encode() in received
    if status == 200:
        assert len(re.findall(rb"HTTP/1.1 200", received)) == 2
    assert "Exception" not in gated.log()[logged:]


@pytest.mark.parametrize("together", [True, False], ids=["at once", "in two steps"])
def test_a_client_that_will_send_no_more_gets_its_answers(gated, together):
    """It may end its side of the connection before it reads; then the server ends the other."""
    with connected(gated) as connection:
        connection.sendall(request("0.3") + request("0"))
        if not together:
            time.sleep(0.1)
        connection.shutdown(socket.SHUT_WR)
        received = b"".join(iter(lambda: connection.recv(65_536), b""))
    assert re.findall(rb"HTTP/1.1 (\d+)", received) == [b"200", b"200"]


@pytest.mark.parametrize("sent", [b"", b"GET /pi", request("0")[:-1]])
def test_a_client_that_ends_without_a_whole_request_is_let_go(gated, sent):
    """The server closes at once, too."""
    with connected(gated) as connection:
        connection.sendall(sent)
        connection.shutdown(socket.SHUT_WR)
        connection.settimeout(3)
        assert connection.recv(65_536) == b""


def test_a_gate_whose_port_is_in_use_ends_mms(tmp_path):
    """It prints a line with the port."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with running(tmp_path, gate=port) as mms:
            wait_for(lambda: mms.process.poll() is not None, 30)
            reason = f"port {port} of 127.0.0.1 cannot be used: Address already in use\n"
            assert reason in mms.log()


# --- the drain -------------------------------------------------------------------------------


@contextlib.contextmanager
def in_flight(mms: Running, seconds: float, times: int) -> Iterator[list[client.Answer]]:
    """Send requests at once; the list has their answers after the block."""
    answers: list[client.Answer] = []
    threads = [
        threading.Thread(target=lambda: answers.append(mms.ask(seconds))) for _ in range(times)
    ]
    for thread in threads:
        thread.start()
    yield answers
    for thread in threads:
        thread.join(60)
    assert len(answers) == times


class Client(threading.Thread):
    """Sends requests until one gets 503; keeps its connection, or opens one for each request."""

    def __init__(self, mms: Running, *, keeps: bool) -> None:
        super().__init__(daemon=True)
        self._host, self._keeps = mms.gate[len("http://") :], keeps
        self.statuses: list[int] = []
        self.closes: list[bool] = []
        self.lost: list[str] = []

    def run(self) -> None:
        connection = http.client.HTTPConnection(self._host, timeout=30)
        with contextlib.suppress(ConnectionRefusedError), contextlib.closing(connection):
            while 503 not in self.statuses:
                self._send(connection)
                if not self._keeps or self.closes[-1]:
                    connection.close()

    def _send(self, connection: http.client.HTTPConnection) -> None:
        if connection.sock is None:
            connection.connect()
        try:
            connection.request("POST", "/predictions/sleeper", "0.05", TEXT)
            answer = connection.getresponse()
            answer.read()
        except (OSError, http.client.HTTPException) as exc:
            self.lost.append(repr(exc))
            self.statuses.append(503)  # ends this client
            return
        self.statuses.append(answer.status)
        self.closes.append(answer.headers["Connection"] == "close")


def test_no_request_is_lost_when_the_jvm_is_told_to_end(tmp_path):
    """Requests in flight get their replies; new ones, and one that is too slow, get 503."""
    words = ("--log-config", str(QUIET_LOG))
    with running(tmp_path, *words, gate=free_ports()[0], expected_models=1, drain_s=4) as mms:
        wait_for(lambda: mms.ping(mms.inference)[0], 30)
        assert mms.get("/models").status == 404
        assert mms.register(workers=3).status == 200
        clients = [Client(mms, keeps=bool(i % 2)) for i in range(8)]
        for sender in clients:
            sender.start()
        with in_flight(mms, 2, times=1) as slow, in_flight(mms, 60, times=1) as too_slow:
            wait_for(lambda: all(len(sender.statuses) > 2 for sender in clients), 30)
            wait_for(lambda: mms.metrics()["in_flight"] >= 2, 10)
            start, java = time.monotonic(), mms.java()
            java.send_signal(signal.SIGTERM)
            wait_for(lambda: any(503 in sender.statuses for sender in clients), 3)
            java.wait(20)
            assert 4 < time.monotonic() - start < 8
        for sender in clients:
            sender.join(20)
            assert sender.lost == []
            assert set(sender.statuses) <= {200, 503}
            assert sender.closes[-1]
        assert [answer.status for answer in slow] == [200]
        assert [answer.status for answer in too_slow] == [503]
