"""Whose turn it is: the idle worker that was busy most recently gets the next request."""

from __future__ import annotations

import random
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from running_mms import Serving, free_ports

from mms_handler import client

#: Sleeps for the seconds in the body, and answers with the worker's process id.
SCRIPT = """\
import os, time

def model_fn(model_dir):
    return None

def transform_fn(model, data, content_type, accept):
    time.sleep(float(data))
    return str(os.getpid()), "text/plain"
"""


@pytest.fixture(scope="module")
def serving(tmp_path_factory):
    folder: Path = tmp_path_factory.mktemp("queue")
    (folder / "waiting" / "code").mkdir(parents=True)
    (folder / "waiting" / "code" / "inference.py").write_text(SCRIPT)
    with Serving(free_ports(), folder / "waiting", "--workers", "2", log=folder / "log") as server:
        yield server


def ask_later(serving: Serving, seconds: float = 0) -> bytes:
    """Like ``ask``, but first let MMS notice that the last request's worker is idle."""
    time.sleep(0.03)
    return ask(serving, seconds)


def ask(serving: Serving, seconds: float) -> bytes:
    answer = serving.ask("waiting", str(seconds).encode())
    assert answer.status == 200
    return answer.body


def ask_at_once(serving: Serving, seconds: list[float]) -> list[bytes]:
    with ThreadPoolExecutor(16) as pool:
        return list(pool.map(lambda sleep_s: ask(serving, sleep_s), seconds))


def scale(serving: Serving, workers: int) -> None:
    url = f"{serving.management}/models/waiting?min_worker={workers}&synchronous=true"
    assert client.call("PUT", url, None).status == 200


def test_one_client_always_gets_one_worker(serving):
    """The other worker stays idle."""
    assert len({ask_later(serving) for _ in range(50)}) == 1


def test_two_clients_get_two_workers(serving):
    """The second request does not wait for the first worker."""
    assert len(set(ask_at_once(serving, [0.5, 0.5]))) == 2


def test_the_most_recently_busy_worker_is_next(serving):
    """The worker with the slower request gets the next one."""
    with ThreadPoolExecutor(2) as pool:
        slow = pool.submit(ask, serving, 1.5)
        time.sleep(0.5)  # until its worker has it
        quick = {ask(serving, 0) for _ in range(3)}
        assert slow.result() not in quick
    assert ask_later(serving) == slow.result()


def test_no_request_waits_while_a_worker_is_idle(serving):
    """All requests are answered, even while workers are added and removed."""
    dice = random.Random(0)
    waits = [dice.choice([0, 0, 0, 0.001, 0.02]) for _ in range(1_500)]
    with ThreadPoolExecutor(1) as pool:
        scaled = pool.submit(scale, serving, 4)
        assert len(ask_at_once(serving, waits)) == 1_500
        scaled.result()
    assert len(set(ask_at_once(serving, [0.3] * 4))) == 4
    scale(serving, 1)
    assert len(set(ask_at_once(serving, [0] * 20))) == 1
