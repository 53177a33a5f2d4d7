"""Batches are safe: replies of any size, with and without headers, never cost the worker."""

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
    sent = ["v" * (7 * number + 1) for number in range(headers)]
    return 200, PATTERN[:size], [*sent], "application/octet-stream"


class Client:
    """Keeps its connections, as a client in production does."""

    def __init__(self, port: int) -> None:
        self._port, self._idle = port, []

    def ask(self, size: int, headers: int) -> bool:
        """Whether a request got exactly its own reply."""
        kind = {"Content-Type": "application/octet-stream"}
        try:
            connection = self._idle.pop()
        except IndexError:
            connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=30)
        connection.request("POST", "/predictions/burst", b"%d,%d" % (size, headers), kind)
        answer = connection.getresponse()
        body = answer.read()
        self._idle.append(connection)
        names = [answer.headers.get(f"X-Number-{number}") for number in range(headers)]
        found = answer.status, body, names, answer.headers["Content-Type"]
        return found == expected(size, headers)

    def close(self) -> None:
        for connection in self._idle:
            connection.close()


@pytest.fixture
def front(tmp_path: Path):
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


def some(dice: random.Random) -> tuple[int, int]:
    """A reply of 10 bytes to 5 MB, most of them small, and how many headers it has."""
    largest = 5.7 if dice.random() < 0.02 else 3.3
    return min(int(10 * 10 ** dice.uniform(0, largest)), 5_000_000), dice.choice([0, 0, 1, 3, 10])


def test_ten_thousand_replies_in_bursts(front):
    """No error, no restart, no stall: MMS's reader loses the worker of about one reply in 200."""
    dice, asked = random.Random(2026), 0
    sender = Client(int(front.inference.rpartition(":")[2]))
    with ThreadPoolExecutor(32) as pool:
        while asked < 10_000:
            burst = [some(dice) for _ in range(dice.randint(1, 32))]
            replies = [pool.submit(sender.ask, *one) for one in burst]
            wrong = [one for one, reply in zip(burst, replies) if not reply.result(timeout=30)]
            assert wrong == []
            asked += len(burst)
    sender.close()
    assert front.log.read_text().count("model burst is loaded") == 1
