"""Workers that send nonsense over the data plane: each harms only its own request.

The real worker is busy meanwhile, so a socket of this process gets the requests.
"""

from __future__ import annotations

import os
import random
import socket
import struct
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Iterator

import pytest
from running_mms import Serving, free_ports, wait_for, words_of

SCRIPT = """\
import time

def model_fn(model_dir):
    return None

def transform_fn(model, data, content_type, accept):
    time.sleep(float(data))
    return "slept", "text/csv"
"""

#: Seconds that the real worker is busy.
BUSY_S = 12

#: The reply to the only request of a batch; the worker takes one more then.
GOOD = struct.pack("<IHHIIIHHII", 16 + 12 + 2 + 2, 1, 1, 5, 6, 7, 0, 200, 2, 2) + b"OK" + b"hi"


@pytest.fixture(scope="module")
def serving(tmp_path_factory) -> Iterator[Serving]:
    """A server with one worker of the model ``slow``."""
    folder: Path = tmp_path_factory.mktemp("frames")
    (folder / "slow" / "code").mkdir(parents=True)
    (folder / "slow" / "code" / "inference.py").write_text(SCRIPT)
    with Serving(free_ports(), folder / "slow", "--workers", "1", log=folder / "log") as server:
        wait_for(lambda: server.ping() == 200, 60)
        yield server


@pytest.fixture
def busy(serving) -> Iterator[None]:
    """The real worker is busy, and answers in the end."""
    with ThreadPoolExecutor(1) as pool:
        start = time.monotonic()
        asked = pool.submit(ask, serving, BUSY_S)
        time.sleep(0.3)
        yield
        assert time.monotonic() - start < BUSY_S, "the requests may have got to the real worker"
        assert asked.result().body == b"slept"


def ask(serving: Serving, seconds: float = 0):
    return serving.ask("slow", str(seconds).encode(), content_type="text/csv")


def connected(serving: Serving) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(str(Path(serving.java().cwd()) / "tmp" / "plane"))
    connection.settimeout(10)
    return connection


def hello(serving: Serving, version=4, takes=1, port=None) -> bytes:
    """How a worker of the model says that it is there."""
    words = words_of(serving.of_model("slow")[0])
    own = int(words[words.index("--sock-name") + 1].rpartition(".")[2])
    return struct.pack("<IHHII", 12, version, takes, os.getpid(), own if port is None else port)


def is_closed(connection: socket.socket) -> bool:
    """Whether the gate has closed it; it sends nothing else."""
    try:
        return connection.recv(1) == b""
    except ConnectionResetError:
        return True


def logged(serving: Serving) -> list[str]:
    """What the gate says about this process's connections."""
    lines = serving.log.read_text().splitlines()
    parts = [line.partition(f"process {os.getpid()} sent ")[2] for line in lines]
    return [part.removesuffix("; its connection is closed") for part in parts if part]


def reply(index=0, status=200, head=2, body=2, takes=1, count=1, length=32) -> bytes:
    start = struct.pack("<IHHIII", length, count, takes, 0, 2**32 - 1, 0)
    return start + struct.pack("<HHII", index, status, head, body) + b"OKhi"


NONSENSE = {
    "no length": (struct.pack("<I", 0), "a frame of 0 bytes"),
    "a short length": (struct.pack("<I", 3), "a frame of 3 bytes"),
    "a negative length": (struct.pack("<i", -1), "a frame of 4294967295 bytes"),
    "a huge length": (struct.pack("<I", 1 << 30), f"a frame of {1 << 30} bytes"),
    "more replies than it has": (reply(count=9), "a frame that ends too early"),
    "a wrong index": (reply(index=1), "a frame that ends too early"),
    "the same index twice": (
        struct.pack("<IHHIII", 40, 2, 0, 0, 0, 0) + 2 * struct.pack("<HHII", 0, 200, 0, 0),
        "two replies to one request",
    ),
    "a status of another protocol": (reply(status=100), "the status 100"),
    "a status that is none": (reply(status=600), "the status 600"),
    "too long a head": (reply(head=3), "a frame whose lengths do not agree"),
    "too long a body": (reply(body=1 << 31), "a frame whose lengths do not agree"),
    "bytes that nothing has": (reply(body=1), "a frame whose lengths do not agree"),
    "no further request": (reply(takes=0), "that it takes 0 requests"),
    "a goodbye that takes requests": (
        struct.pack("<IHHIII", 16, 0, 1, 0, 0, 0),
        "that it takes 1 requests",
    ),
    "no times": (struct.pack("<IHH", 4, 0, 0), "a frame that ends too early"),
    "half of the times": (struct.pack("<IHHI", 8, 0, 0, 0), "a frame that ends too early"),
}


@pytest.mark.usefixtures("busy")
def test_nonsense_costs_its_own_request(serving):
    """The connection is closed, with a line in the log; the next worker is another one."""
    with ThreadPoolExecutor(1) as pool:
        for name, (frame, words) in NONSENSE.items():
            before = len(logged(serving))
            with connected(serving) as connection:
                connection.sendall(hello(serving))
                asked = pool.submit(ask, serving)
                assert connection.recv(4), name
                connection.sendall(frame)
                answer = asked.result()
                assert (answer.status, b"Worker died." in answer.body) == (500, True), name
            wait_for(lambda n=before: len(logged(serving)) > n, 10)
            assert logged(serving)[before:] == [words], name


@pytest.mark.usefixtures("busy")
def test_mutants_of_a_good_reply(serving):
    """Whatever comes of them: the request has one answer, and the server goes on."""
    dice = random.Random(16)
    statuses = []
    with ThreadPoolExecutor(1) as pool:
        for _ in range(60):
            frame = bytearray(GOOD)
            for _ in range(dice.choice([0, 1, 1, 2, 8])):
                frame[dice.randrange(len(frame))] = dice.randrange(256)
            frame = frame[: dice.choice([len(frame), len(frame), dice.randrange(len(frame))])]
            with connected(serving) as connection:
                connection.sendall(hello(serving))
                asked = pool.submit(ask, serving)
                assert connection.recv(4)
                connection.sendall(frame)
                connection.shutdown(socket.SHUT_WR)
                statuses.append(asked.result().status)
    assert set(statuses) >= {200, 500}
    assert all(200 <= status <= 599 for status in statuses)


@pytest.mark.usefixtures("busy")
def test_how_long_a_worker_waits_awake(serving):
    """Not at first; but 150 us where a single request follows its last answer at once."""
    awake = set()
    with ThreadPoolExecutor(2) as pool:
        for _ in range(5):  # another process may have got the processor in between
            with connected(serving) as connection, connection.makefile("rb") as stream:
                connection.sendall(hello(serving))
                asked = [pool.submit(ask, serving) for _ in range(2)]
                assert awake_us(stream) == 0
                time.sleep(0.2)  # the other one waits
                connection.sendall(GOOD)
                awake.add(awake_us(stream))
                connection.sendall(GOOD)
                assert [each.result().body for each in asked] == [b"hi", b"hi"]
    assert awake == {0} if os.cpu_count() == 1 else 150 in awake


def awake_us(stream) -> int:
    """Read a frame of one request; returns how long the worker may wait for the next one."""
    length, count, awake = struct.unpack("<IHH", stream.read(8))
    assert count == 1
    stream.read(length - 4)
    return awake


@pytest.mark.parametrize(
    ("sent", "words"),
    [
        ({"version": 2}, "version 2 of the protocol, for 1 requests"),
        ({"takes": 0}, "version 4 of the protocol, for 0 requests"),
        ({"port": 1}, "version 4 of the protocol, for no model"),
        (struct.pack("<I", 13), "a frame of 13 bytes"),
        (b"GET /ping HTTP/1.1\r\n\r\n", "a frame of 542393671 bytes"),
    ],
)
def test_a_worker_that_says_something_else(serving, sent, words):
    """It gets no request."""
    with connected(serving) as connection:
        connection.sendall(sent if isinstance(sent, bytes) else hello(serving, **sent))
        assert is_closed(connection)
    wait_for(lambda: any(line.endswith(words) for line in serving.log.read_text().split("; ")), 10)
    assert ask(serving).body == b"slept"
