"""The data plane: requests that go around MMS's queue."""

from __future__ import annotations

import http.client
import os
import re
import signal
import socket
import struct
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from running_mms import EXAMPLES, Serving, free_ports, wait_for

from mms_handler import client

#: Does what the body says, and answers with the worker's process id.
SCRIPT = """\
import ctypes, os, signal, time

def model_fn(model_dir):
    return None

def transform_fn(model, data, content_type, accept, context, headers):
    what, _, number = str(data).partition(" ")
    if what == "sleep":
        time.sleep(float(number))
    elif what == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    elif what == "hang":
        mutex = ctypes.create_string_buffer(64)
        ctypes.PyDLL(None).pthread_mutex_lock(mutex)
        ctypes.PyDLL(None).pthread_mutex_lock(mutex)
    elif what == "status":
        context.set_response_status(int(number), "Chosen")
    elif what == "long":
        return number * 5000, "text/csv"
    elif what == "headers":
        return str(sorted(headers.items())), "text/csv"
    elif what == "teapot":
        context.set_response_status(418, "I am a teapot")
        context.set_response_header(0, "X-Name", headers.get("x-name", ""))
    elif what == "touch":
        open(number, "w").close()
    return f"{os.getpid()} {data}", "text/csv"
"""

#: Seconds that a request may take.
TIMEOUT_S = 20

FORM = "multipart/form-data; boundary=b"


def served(folder: Path) -> Serving:
    """A server with two models; it is ready."""
    (folder / "doing" / "code").mkdir(parents=True)
    (folder / "doing" / "code" / "inference.py").write_text(SCRIPT)
    env = {**os.environ, "MMS_JOB_QUEUE_SIZE": "5"}
    options = ("--workers", "2", "--timeout-s", TIMEOUT_S, "--restarts", "100")
    paths = (folder / "doing", EXAMPLES / "linear")
    server = Serving(free_ports(), *paths, *options, env=env, log=folder / "log")
    wait_for(lambda: server.ping() == 200, 60)
    return server


@pytest.fixture(scope="module")
def serving(tmp_path_factory):
    with served(tmp_path_factory.mktemp("plane")) as server:
        yield server


def ask(serving: Serving, body: str, **how) -> client.Answer:
    return serving.ask("doing", body.encode(), content_type="text/csv", **how)


def statuses(answers) -> list[int]:
    return sorted(answer.status for answer in answers)


def at_once(serving: Serving, bodies: list[str]) -> list[client.Answer]:
    with ThreadPoolExecutor(len(bodies)) as pool:
        return list(pool.map(lambda body: ask(serving, body), bodies))


@pytest.mark.parametrize(
    ("path", "body", "headers"),
    [
        ("/predictions/linear", b"[[1, 2]]", {"Content-Type": "application/json"}),
        ("/predictions/linear", b"[[1, 2]", {"Content-Type": "application/json"}),
        ("/predictions/linear", b"1,2\n3,4", {"Content-Type": "text/csv", "Accept": "text/csv"}),
        ("/predictions/linear", b"", {}),
        ("/invocations?model_name=linear", b"[[1, 2]]", {}),
        ("/invocations?model_name=linear&body=%5B%5B1,2%5D%5D", b"", {}),
        ("/models/linear/invoke?a=1&b=2", b"", {}),
        (
            "/linear/predict",
            b"x=%5B%5B1,2%5D%5D",
            {"Content-Type": "application/x-www-form-urlencoded"},
        ),
        (
            "/predictions/linear",
            b"--b\r\nContent-Disposition: form-data; name=x; filename=x\r\n"
            b"Content-Type: text/csv\r\n\r\n1,2\r\n--b--\r\n",
            {"Content-Type": FORM},
        ),
        ("/predictions/doing", b"teapot", {"Content-Type": "text/csv", "X-Name": "M\xc3\xbcller"}),
        ("/predictions/none", b"[[1, 2]]", {}),
    ],
)
def test_the_same_answers_as_through_mms(serving, path, body, headers):
    """Status, phrase, headers and body, except for the request's id and the worker's."""
    answers = []
    for connection in (gate(serving), behind_the_gate(serving)):
        connection.request("POST", path, body, headers)
        answer = connection.getresponse()
        text = re.sub(rb"^\d+ |[0-9a-f-]{36}", b"", answer.read())
        kept = {name.lower(): value for name, value in answer.getheaders()}
        assert len(kept.pop("x-request-id")) == 36
        kept.pop("x-model-version", None)  # the gate adds it
        answers.append((answer.status, answer.reason, kept, text))
        connection.close()
    assert answers[0] == answers[1]


def gate(serving: Serving) -> http.client.HTTPConnection:
    return http.client.HTTPConnection(serving.inference.rpartition("/")[2], timeout=30)


def behind_the_gate(serving: Serving) -> http.client.HTTPConnection:
    """A connection to MMS's own inference address, whose requests go through MMS's queue."""
    connection = http.client.HTTPConnection("localhost")
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.connect(str(private_folder(serving) / "inference"))
    return connection


def private_folder(serving: Serving) -> Path:
    return Path(serving.java().cwd())


def test_the_clients_id_is_the_requests(serving):
    connection = gate(serving)
    connection.request("POST", "/predictions/linear", b"[[", {"X-Request-Id": "mine 1"})
    answer = connection.getresponse()
    assert answer.getheader("x-request-id") == "mine 1"
    assert b'"request_id": "mine 1"' in answer.read()
    connection.close()


def test_a_dead_worker_harms_only_its_own_request(serving):
    answers = at_once(serving, ["die", "sleep 1", "sleep 0"])
    assert [answer.status for answer in answers] == [500, 200, 200]
    assert b'"message": "Worker died."' in answers[0].body
    wait_for(lambda: value(serving, "worker_restarts_total") == 1, 20)


def test_a_worker_that_hangs_is_replaced(serving):
    """It runs native code that holds the interpreter's lock; the other worker goes on."""
    with ThreadPoolExecutor(1) as pool:
        start = time.monotonic()
        hanging = pool.submit(ask, serving, "hang")
        time.sleep(0.5)
        assert ask(serving, "quick").status == 200
        assert hanging.result().status == 504
    assert b"and its worker was ended" in hanging.result().body
    assert time.monotonic() - start < TIMEOUT_S + 3
    assert statuses(at_once(serving, ["sleep 1", "sleep 1"])) == [200, 200]


def test_the_queue_is_bounded(serving):
    """Two requests run, five wait."""
    wait_for(lambda: value(serving, "workers", 'state="alive"') == 2, 30)
    answers = at_once(serving, ["sleep 0.7"] * 12)
    assert statuses(answers) == [200] * 7 + [503] * 5
    refused = [answer for answer in answers if answer.status == 503]
    assert {answer.headers["retry-after"] for answer in refused} == {"1"}
    line = r"requests refused because the queue was full: \d; the last one: for model doing"
    wait_for(lambda: re.search(line, serving.log.read_text()), 10)


def post(serving: Serving, body: str) -> socket.socket:
    """A connection on which a request was sent."""
    host, _, port = serving.inference.rpartition("/")[2].partition(":")
    connection = socket.create_connection((host, int(port)), timeout=20)
    send(connection, body)
    return connection


def send(connection: socket.socket, body: str) -> None:
    head = "POST /predictions/doing HTTP/1.1\r\nHost: localhost\r\nContent-Type: text/csv\r\n"
    connection.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n{body}".encode())


def test_pipelined_requests_are_answered_in_order(serving):
    seconds = ["0.3", "0.1", "0", "0.2"]
    with post(serving, f"sleep {seconds[0]}") as connection:
        for number in seconds[1:]:
            send(connection, f"sleep {number}")
        answers = b""
        while answers.count(b" sleep ") < len(seconds):
            answers += connection.recv(65536)
    assert re.findall(rb" sleep ([\d.]+)", answers) == [number.encode() for number in seconds]


def test_a_request_is_the_same_however_it_comes(serving):
    """In one piece, which netty's decoder does not see, and divided at any place."""
    body = b"headers"
    head = (
        b"POST /predictions/doing?a=1 HTTP/1.1\r\nhOST: localhost\r\nX-Empty:\r\n"
        b"X-Two: a\r\nx-two:b \r\nX-Latin:\t\xe9 x\r\nContent-Type: text/csv\r\n"
        b"Content-Length: 7\r\nX-Request-Id: mine\r\nConnection: close\r\n\r\n"
    )
    sent = head + body
    answers = [exchanged(serving, [sent])]
    assert "('x-latin', 'é x')".encode() in answers[0]
    for place in (1, 20, len(head) - 1, len(head), len(sent) - 1):
        answers.append(exchanged(serving, [sent[:place], sent[place:]]))
    assert set(answers) == {answers[0]}


def test_an_answer_to_head_has_no_body(serving):
    """Neither before nor behind an answer that has one."""
    post = b"POST /predictions/doing HTTP/1.1\r\nHost: localhost\r\nContent-Type: text/csv\r\n"
    post += b"Content-Length: 9\r\n\r\nsleep 0.3"
    ping = b"HEAD /ping HTTP/1.1\r\nHost: localhost\r\n"
    divided = [ping, b"\r\n"]  # netty's decoder gets it, and not the others
    last = ping + b"Connection: close\r\n\r\n"
    pieces = [ping + b"\r\n", post, *divided, post, last]
    answers = exchanged(serving, pieces)
    bodies = [each.partition(b"\r\n\r\n")[2] for each in answers.split(b"HTTP/1.1 200 OK")[1:]]
    assert [re.sub(rb"^\d+ ", b"", body) for body in bodies] == [
        b"",
        b"sleep 0.3",
        b"",
        b"sleep 0.3",
        b"",
    ]


@pytest.mark.parametrize("status", [204, 205, 304])
def test_what_has_no_body_gets_none(serving, status):
    """What follows on the connection is the next answer, short or too long to be copied."""
    connection = gate(serving)
    for sent, length in ((f"status {status}", 0), ("long 12", 10_000), ("quick", None)):
        connection.request("POST", "/predictions/doing", sent, {"Content-Type": "text/csv"})
        answer = connection.getresponse()
        assert answer.status == (200 if length != 0 else status)
        assert answer.reason == ("OK" if length != 0 else "Chosen")
        body = answer.read()
        assert length is None or len(body) == length
    assert re.fullmatch(rb"\d+ quick", body)
    connection.close()


def exchanged(serving: Serving, pieces: list[bytes]) -> bytes:
    """All that the gate sends until it closes; the pieces reach it one by one."""
    connection = gate(serving)
    connection.connect()
    for piece in pieces:
        connection.sock.sendall(piece)
        time.sleep(0.05)
    with connection.sock.makefile("rb") as received:
        answers = received.read()
    connection.close()
    return answers


def test_nobody_computes_for_a_client_that_is_gone(serving, tmp_path):
    """One that has reset its connection.  Who has closed his own side may still read the answer."""
    wait_for(lambda: value(serving, "workers", 'state="alive"') == 2, 30)
    with ThreadPoolExecutor(2) as pool:
        busy = [pool.submit(ask, serving, "sleep 1.5") for _ in range(2)]
        wait_for(lambda: value(serving, "in_flight", "") == 2, 10)
        gone = post(serving, f"touch {tmp_path}/gone")
        half = post(serving, f"touch {tmp_path}/half")
        wait_for(lambda: value(serving, "queue_length") == 2, 1)
        gone.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        gone.close()
        half.shutdown(socket.SHUT_WR)
        assert [each.result().status for each in busy] == [200, 200]
        assert half.recv(12) == b"HTTP/1.1 200"
        half.close()
    assert ask(serving, "quick").status == 200
    assert [path.name for path in tmp_path.iterdir()] == ["half"]


def test_answers_for_clients_that_are_gone_are_dropped(serving):
    """Nothing is left of them, and the log is quiet."""
    logged = len(serving.log.read_text())
    for linger in ((0, 0), (1, 0)):
        connection = post(serving, "sleep 0.3")
        wait_for(lambda: value(serving, "in_flight", "") == 1, 10)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", *linger))
        connection.close()
        wait_for(lambda: value(serving, "in_flight", "") == 0, 10)
    assert ask(serving, "sleep 0.3").status == 200
    assert "Exception" not in serving.log.read_text()[logged:]


def test_bodies_that_wait_have_a_limit(tmp_path):
    """A quarter of Java's memory for buffers: 16 MB of 64."""
    (tmp_path / "slow" / "code").mkdir(parents=True)
    script = SCRIPT.replace('return f"{os.getpid()} {data}"', 'return "done"')
    (tmp_path / "slow" / "code" / "inference.py").write_text(script)
    options = ("--workers", "1", "--heap-mb", "64", "--max-body-bytes", "4000000")
    with Serving(free_ports(), tmp_path / "slow", *options, log=tmp_path / "log") as serving:
        with ThreadPoolExecutor(8) as pool:
            first = pool.submit(serving.ask, "slow", b"sleep 3", content_type="text/csv")
            time.sleep(0.5)
            body = b"sleep 0".ljust(3_900_000)
            asked = [
                pool.submit(serving.ask, "slow", body, content_type="text/csv") for _ in range(7)
            ]
            assert first.result().status == 200
            answers = [each.result() for each in asked]
        assert statuses(answers) == [200] * 4 + [503] * 3
        refused = [answer for answer in answers if answer.status == 503]
        assert {answer.headers["retry-after"] for answer in refused} == {"1"}
        assert serving.ask("slow", body, content_type="text/csv").status == 200


def test_scaling_loses_no_request(serving):
    """Neither that of serve, which lets workers retire, nor MMS's own, which ends busy ones."""
    mms = f"unix:{private_folder(serving) / 'management'}:"
    with ThreadPoolExecutor(5) as pool:
        asked = [pool.submit(ask, serving, "sleep 0.1") for _ in range(5)]
        for workers in (1, 2, 1, 2):
            asked += [pool.submit(ask, serving, "sleep 0.1") for _ in range(5)]
            url = mms if workers == 1 else serving.management
            query = f"min_worker={workers}&max_worker={workers}&synchronous=true"
            assert client.call("PUT", f"{url}/models/doing?{query}", None).status == 200
        assert {each.result().status for each in asked} == {200}


def test_a_drain_answers_what_was_accepted(tmp_path):
    with served(tmp_path) as serving, ThreadPoolExecutor(4) as pool:
        asked = [pool.submit(ask, serving, "sleep 1") for _ in range(4)]
        wait_for(lambda: value(serving, "in_flight", "") == 4, 10)
        serving.process.send_signal(signal.SIGTERM)
        assert [each.result().status for each in asked] == [200] * 4
        assert serving.process.wait(30) == 0
        wait_for(serving.gone, 10)


def value(serving: Serving, name: str, label: str = 'model="doing"') -> float:
    """The value of a metric of the model ``doing``, or of the server if there is no label."""
    text = client.call("GET", f"{serving.inference}/metrics").body.decode()
    lines = [line for line in text.splitlines() if re.match(rf"mms_handler_{name}[{{ ]", line)]
    (line,) = (each for each in lines if label in each and ('model="doing"' in each or not label))
    return float(line.split()[-1])
