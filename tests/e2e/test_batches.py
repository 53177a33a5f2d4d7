"""serve hands over requests in batches if they can share a pass, and else one by one."""

from __future__ import annotations

import json
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Iterator

import pytest
from running_mms import Serving, free_ports, mms_handler, wait_for

from mms_handler import client

BLOCK = """\
import mxnet as mx

class Doubling(mx.gluon.Block):
    def forward(self, x):
        print("rows:", len(x), flush=True)
        return 2 * x

def model_fn(model_dir):
    return Doubling()
"""

OWN_PREDICT = f"""{BLOCK}
import os, time

def predict_fn(data, model):
    time.sleep(0.1)
    if data.asscalar() == 13:
        os._exit(1)
    return model(data)
"""


def model(folder: Path, name: str, script: str) -> Path:
    (folder / name / "code").mkdir(parents=True)
    (folder / name / "code" / "inference.py").write_text(script)
    return folder / name


def largest_batch(serving: Serving, name: str) -> int:
    """Return the most rows of a forward while sixteen clients send one row each.

    Each client gets the reply to its own request.
    """
    log_length = len(serving.log.read_text())
    with ThreadPoolExecutor(16) as pool:
        bodies = [b"[[%d]]" % number for number in range(200)]
        answers = list(pool.map(lambda body: serving.ask(name, body).body, bodies))
    assert answers == [b"[[%d.0]]" % (2 * number) for number in range(200)]

    def rows() -> list[int]:
        return [int(n) for n in re.findall(r"rows: (\d+)", serving.log.read_text()[log_length:])]

    wait_for(lambda: sum(rows()) >= 200, 30)  # MMS writes its log later
    return max(rows())


@pytest.fixture(scope="module")
def serving(tmp_path_factory) -> Iterator[Serving]:
    """The models ``shared`` and ``own``, with one worker each and the default batch size."""
    folder = tmp_path_factory.mktemp("batches")
    models = [model(folder, "shared", BLOCK), model(folder, "own", OWN_PREDICT)]
    flags = ("--model-store", folder, "--workers", "1")
    with Serving(free_ports(), *models, *flags, log=folder / "log") as serving:
        yield serving


def test_heavy_requests_come_one_by_one(tmp_path):
    """From the first on: the sample has shown what one costs."""
    spin = (
        "end = time.thread_time() + 0.02 * len(x)\n        while time.thread_time() < end: pass\n"
    )
    script = "import time\n" + BLOCK.replace("return 2 *", spin + "        return 2 *")
    folder, sample = model(tmp_path, "heavy", script), tmp_path / "sample.json"
    sample.write_text("[[1]]")
    store = ("--model-store", tmp_path)
    assert mms_handler("archive", folder, "--sample", sample, *store).returncode == 0
    archive, log = tmp_path / "heavy.mar", tmp_path / "log"
    with Serving(free_ports(), archive, *store, "--workers", "2", log=log) as serving:
        assert largest_batch(serving, "heavy") == 1


def test_the_default_predict_fn_gets_batches(serving):
    """A batch has as many of the waiting requests as the model allows."""
    assert 1 < largest_batch(serving, "shared") <= 32


@pytest.mark.parametrize(
    ("flag", "limit"),
    [pytest.param("1", 1, id="no batches"), pytest.param("4", 4, id="batches of up to 4")],
)
def test_no_batch_is_larger_than_batch_size(ports, tmp_path, flag, limit):
    """The option limits how many of the waiting requests share a batch."""
    path = model(tmp_path, "shared", BLOCK)
    flags = ("--workers", "1", "--batch-size", flag)
    with Serving(ports, path, *flags, log=tmp_path / "log") as serving:
        rows = largest_batch(serving, "shared")
        assert 1 < rows <= limit or rows == limit == 1


def test_a_script_that_ends_its_process_fails_only_its_own_request(serving):
    """A script's own predict_fn gets one request at a time, however many wait."""
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda number: serving.ask("own", b"[[%d]]" % number), range(16)))
    statuses = [answer.status for answer in answers]
    assert statuses == [500 if number == 13 else 200 for number in range(16)]


def test_a_registration_may_set_the_batch_size(serving):
    """A model that is registered over the management API has its own batch size."""
    model(serving.log.parent, "alone", BLOCK)
    options = {"url": "alone", "model_name": "alone", "batch_size": 1, "initial_workers": 1}
    body = json.dumps(options).encode()
    assert client.call("POST", f"{serving.management}/models", body).status == 200
    assert largest_batch(serving, "alone") == 1
    assert largest_batch(serving, "shared") > 1
