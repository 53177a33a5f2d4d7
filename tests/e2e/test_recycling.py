"""``--max-requests`` and ``--max-worker-mb``: workers are replaced, and no request is lost."""

from __future__ import annotations

import re
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from running_mms import Serving, free_ports, wait_for

from mms_handler import client

ECHO = """
import os, time

def model_fn(model_dir):
    return []

def transform_fn(kept, body, content_type, accept):
    name, megabytes, seconds = body.split(",")
    kept.append(bytearray(b"x") * (int(megabytes) * 2**20))
    time.sleep(float(seconds))
    return f"{name} {os.getpid()}", "text/plain"
"""


@pytest.fixture
def echo(tmp_path):
    """A model whose replies have the request's name and the worker's process id."""
    (tmp_path / "echo" / "code").mkdir(parents=True)
    (tmp_path / "echo" / "code" / "inference.py").write_text(ECHO)
    return tmp_path / "echo"


def ask(serving: Serving, name: str, megabytes: int = 0, seconds: float = 0) -> tuple[str, str]:
    """The name that came back, and the worker's id."""
    body = f"{name},{megabytes},{seconds}".encode()
    answer = serving.ask("echo", body, content_type="text/csv", accept="text/plain")
    assert answer.status == 200, answer
    echoed, worker = answer.body.decode().split()
    return echoed, worker


def counts(serving: Serving) -> tuple[int, int]:
    """How many workers were recycled, and how many were started again for another reason."""
    metrics = client.call("GET", f"{serving.inference}/metrics").body.decode()
    pattern = r'mms_handler_worker_%s_total\{model="echo",version="1"\} (-?\d+)'
    recycled, restarted = (
        re.findall(pattern % kind, metrics)[0] for kind in ("recycles", "restarts")
    )
    return int(recycled), int(restarted)


def test_under_load_every_request_is_answered(echo):
    """Four clients at a time, and a server that a single death would end."""
    flags = ("--workers", "2", "--max-requests", "15", "--restarts", "0")
    with Serving(free_ports(), echo, *flags) as serving, ThreadPoolExecutor(4) as pool:
        enough = threading.Event()

        def send(client_number: int) -> set[str]:
            workers, number = set(), 0
            while not enough.is_set():
                name = f"{client_number}-{number}"
                echoed, worker = ask(serving, name, seconds=0.01)
                assert echoed == name
                workers.add(worker)
                number += 1
            return workers

        results = [pool.submit(send, number) for number in range(4)]
        try:
            wait_for(lambda: counts(serving)[0] >= 4 or any(r.done() for r in results), 120)
        finally:
            enough.set()
        workers = set().union(*(result.result() for result in results))
        assert len(workers) >= 5
        assert counts(serving)[1] == 0
        assert serving.process.poll() is None


def test_requests_of_a_single_worker_wait_for_its_successor(echo):
    """Also one that comes at the moment at which it ends."""
    flags = ("--workers", "1", "--max-requests", "1", "--restarts", "0")
    with Serving(free_ports(), echo, *flags) as serving:
        first = ask(serving, "first")[1]
        wait_for(lambda: ask(serving, "next")[1] != first, 60)
        assert counts(serving)[1] == 0


def test_a_busy_worker_finishes(echo, tmp_path):
    """It was due long before its reply.  Its end is one line of the log, without a traceback."""
    flags = ("--workers", "1", "--max-requests", "1", "--restarts", "0")
    with Serving(free_ports(), echo, *flags, log=tmp_path / "log") as serving:
        echoed, first = ask(serving, "slow", seconds=1)
        assert echoed == "slow"
        wait_for(lambda: counts(serving)[0] == 1, 60)
        log = (tmp_path / "log").read_text()
        assert log.count("a worker of echo is recycled: it took 1 requests") == 1
        assert "Traceback" not in log
        assert "died" not in log
        assert ask(serving, "next")[1] != first


def test_what_workers_share_is_not_their_growth(echo):
    """A model of 400 MB, which both have from the process that forked them, is none's own."""
    script = echo / "code" / "inference.py"
    script.write_text(ECHO.replace("return []", "return [bytearray(b'x') * (400 * 2**20)]"))
    flags = ("--workers", "2", "--max-worker-mb", "300", "--restarts", "0")
    with Serving(free_ports(), echo, *flags) as serving:
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda n: ask(serving, str(n), seconds=0.1), range(8)))
        time.sleep(2)  # the plug-in looks four times a second
        assert counts(serving) == (0, 0)
        assert ask(serving, "large", megabytes=320)[0] == "large"
        wait_for(lambda: counts(serving) == (1, 0), 60)


def test_a_worker_that_has_grown_is_replaced(echo):
    """And one that has not stays."""
    flags = ("--workers", "1", "--max-worker-mb", "600", "--restarts", "0")
    with Serving(free_ports(), echo, *flags) as serving:
        first = ask(serving, "small")[1]
        assert [ask(serving, "small")[1] for _ in range(5)] == [first] * 5
        assert counts(serving) == (0, 0)
        assert ask(serving, "large", megabytes=600)[1] == first
        wait_for(lambda: counts(serving) == (1, 0), 60)
        assert ask(serving, "small")[1] != first
