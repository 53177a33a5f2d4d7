"""Batches are safe: no reply costs the worker, whatever its size and its headers."""

from __future__ import annotations

import http.client
import random
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from running_mms import Front, end, free_ports, start_mms, wait_for

from mms_handler import archive, client

SCRIPT = """\
def model_fn(model_dir):
    return None

def transform_fn(model, data, content_type, accept, context):
    size, headers = (int(word) for word in data.decode().split(","))
    for number in range(headers):
        context.set_response_header(0, f"X-Number-{number}", "v" * (7 * number + 1))
    return (b"0123456789" * (size // 10 + 1))[:size], "application/octet-stream"
"""

PATTERN = b"0123456789" * 500_000


def expected(size: int, headers: int) -> tuple[int, bytes, list[str | None], str]:
    values = ["v" * (7 * number + 1) for number in range(headers)]
    return 200, PATTERN[:size], [*values], "application/octet-stream"


class Client:
    """A client that keeps its connections open, as in production."""

    def __init__(self, port: int) -> None:
        self._port, self._idle = port, []

    def gets_its_reply(self, size: int, headers: int) -> bool:
        """Send a request, and return whether it gets exactly its own reply."""
        content_type = {"Content-Type": "application/octet-stream"}
        try:
            connection = self._idle.pop()
        except IndexError:
            connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=30)
        body = b"%d,%d" % (size, headers)
        connection.request("POST", "/predictions/burst", body, content_type)
        answer = connection.getresponse()
        reply = answer.read()
        self._idle.append(connection)
        values = [answer.headers.get(f"X-Number-{number}") for number in range(headers)]
        answered = answer.status, reply, values, answer.headers["Content-Type"]
        return answered == expected(size, headers)

    def close(self) -> None:
        for connection in self._idle:
            connection.close()


@pytest.fixture
def front(tmp_path: Path):
    """MMS with one worker, and batches of up to 16."""
    (tmp_path / "model" / "code").mkdir(parents=True)
    (tmp_path / "model" / "code" / "inference.py").write_text(SCRIPT)
    archive.pack(tmp_path / "model", tmp_path / "store" / "burst.mar")
    ports = free_ports()
    process = start_mms("multi-model-server", tmp_path, ports)
    inference, management = (f"http://127.0.0.1:{port}" for port in ports)
    try:
        wait_for(lambda: client.listening(inference), 30)
        front = Front(inference, management, tmp_path / "store", tmp_path / "log")
        assert front.add("burst", batch_size=16, max_batch_delay=2).status == 200
        yield front
    finally:
        end(process)


def random_reply(generator: random.Random) -> tuple[int, int]:
    """Return a size of 10 bytes to 5 MB, mostly a small one, and a number of headers."""
    exponent = generator.uniform(0, 5.7 if generator.random() < 0.02 else 3.3)
    return min(int(10 * 10**exponent), 5_000_000), generator.choice([0, 0, 1, 3, 10])


def test_ten_thousand_replies_in_bursts(front):
    """There is no error, no restart and no stall.

    MMS's own reader would lose the worker at about one reply in 200.
    """
    generator, count = random.Random(2026), 0
    burst_client = Client(int(front.inference.rpartition(":")[2]))
    with ThreadPoolExecutor(32) as pool:
        while count < 10_000:
            burst = [random_reply(generator) for _ in range(generator.randint(1, 32))]
            checks = [pool.submit(burst_client.gets_its_reply, *reply) for reply in burst]
            wrong = [reply for reply, check in zip(burst, checks) if not check.result(timeout=30)]
            assert wrong == []
            count += len(burst)
    burst_client.close()
    assert front.log.read_text().count("model burst is loaded") == 1
