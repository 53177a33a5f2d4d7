"""serve hands over several requests at once where they share a pass, and one by one elsewhere."""

from __future__ import annotations

import json
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Iterator

import pytest
from running_mms import Serving, free_ports

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
    """Rows of a forward while sixteen clients ask for one each; each gets the reply to its own."""
    before = len(serving.log.read_text())
    with ThreadPoolExecutor(16) as pool:
        bodies = [b"[[%d]]" % number for number in range(200)]
        answers = list(pool.map(lambda body: serving.ask(name, body).body, bodies))
    assert answers == [b"[[%d.0]]" % (2 * number) for number in range(200)]
    rows = re.findall(r"rows: (\d+)", serving.log.read_text()[before:])
    return max(map(int, rows))


@pytest.fixture(scope="module")
def serving(tmp_path_factory) -> Iterator[Serving]:
    """``shared`` and ``own``, one worker each, in batches of as many requests as they allow."""
    folder = tmp_path_factory.mktemp("batches")
    models = [model(folder, "shared", BLOCK), model(folder, "own", OWN_PREDICT)]
    flags = ("--model-store", folder, "--workers", "1")
    with Serving(free_ports(), *models, *flags, log=folder / "log") as serving:
        yield serving


def test_requests_of_a_default_predict_fn_come_together(serving):
    """As many as the model allows, of those that are there."""
    assert 1 < largest_batch(serving, "shared") <= 32


@pytest.mark.parametrize(
    ("flag", "limit"),
    [pytest.param("1", 1, id="never"), pytest.param("4", 4, id="up to a number")],
)
def test_no_more_requests_come_together_than_batch_size(ports, tmp_path, flag, limit):
    """Of those that are there."""
    path = model(tmp_path, "shared", BLOCK)
    flags = ("--workers", "1", "--batch-size", flag)
    with Serving(ports, path, *flags, log=tmp_path / "log") as serving:
        rows = largest_batch(serving, "shared")
        assert 1 < rows <= limit or rows == limit == 1


def test_a_script_that_ends_its_process_takes_no_other_request_with_it(serving):
    """A script's own predict_fn is handed one request at a time, however many wait."""
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda i: serving.ask("own", b"[[%d]]" % i), range(16)))
    statuses = [answer.status for answer in answers]
    assert statuses == [500 if number == 13 else 200 for number in range(16)]


def test_a_registration_may_choose_the_number(serving):
    """Over the management API, for one model of several."""
    model(serving.log.parent, "alone", BLOCK)
    options = {"url": "alone", "model_name": "alone", "batch_size": 1, "initial_workers": 1}
    body = json.dumps(options).encode()
    assert client.call("POST", f"{serving.management}/models", body).status == 200
    assert largest_batch(serving, "alone") == 1
    assert largest_batch(serving, "shared") > 1
