"""serve hands over several requests at once where they share a pass, and one by one elsewhere."""

from __future__ import annotations

import json
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from running_mms import Serving

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


def most_rows(serving: Serving, name: str, log: Path) -> int:
    """Of one forward, while sixteen clients ask for a row each; each gets its own."""
    before = len(log.read_text())
    with ThreadPoolExecutor(16) as pool:
        bodies = [b"[[%d]]" % number for number in range(200)]
        answers = list(pool.map(lambda body: serving.ask(name, body).body, bodies))
    assert answers == [b"[[%d.0]]" % (2 * number) for number in range(200)]
    rows = re.findall(r"rows: (\d+)", log.read_text()[before:])
    return max(map(int, rows))


@pytest.mark.parametrize(
    ("flags", "most"),
    [
        pytest.param((), 32, id="as the model allows"),
        pytest.param(("--batch-size", "1"), 1, id="never"),
        pytest.param(("--batch-size", "4"), 4, id="up to a number"),
    ],
)
def test_requests_of_a_default_predict_fn_come_together(ports, tmp_path, flags, most):
    """As many as may, of those that are there."""
    log = tmp_path / "log"
    path = model(tmp_path, "shared", BLOCK)
    with Serving(ports, path, "--workers", "1", *flags, log=log) as serving:
        found = most_rows(serving, "shared", log)
        assert 1 < found <= most or found == most == 1


def test_a_script_that_ends_its_process_takes_no_other_request_with_it(ports, tmp_path):
    """A script's own predict_fn is handed one request at a time, however many wait."""
    path = model(tmp_path, "own", OWN_PREDICT)
    with Serving(ports, path, "--workers", "1", log=tmp_path / "log") as serving:
        with ThreadPoolExecutor(16) as pool:
            answers = list(pool.map(lambda i: serving.ask("own", b"[[%d]]" % i), range(16)))
        statuses = [answer.status for answer in answers]
        assert statuses == [500 if number == 13 else 200 for number in range(16)]


def test_a_registration_may_choose_the_number(ports, tmp_path):
    """Over the management API, for one model of several."""
    log = tmp_path / "log"
    models = [model(tmp_path, name, BLOCK) for name in ("shared", "alone")]
    flags = ("--model-store", tmp_path, "--workers", "1")
    with Serving(ports, models[0], *flags, log=log) as serving:
        wanted = {"url": "alone", "model_name": "alone", "batch_size": 1, "initial_workers": 1}
        body = json.dumps(wanted).encode()
        assert client.call("POST", f"{serving.management}/models", body).status == 200
        assert most_rows(serving, "alone", log) == 1
        assert most_rows(serving, "shared", log) > 1
