"""The benchmarks' stand-in for Java: real workers, which cannot tell."""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

import mxnet as mx
import pytest

from benchmarks import one_worker
from benchmarks.batches import OUR_HANDLER, SERVE_ENV
from benchmarks.one_worker import Handler
from benchmarks.processes import NotServing
from benchmarks.servers import NO_OP, no_op_model

SCRIPT = """\
from mxnet import gluon

class Double(gluon.Block):
    def forward(self, rows):
        return 2 * rows

def model_fn(model_dir):
    return Double()
"""

ZEROS = b"[[0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]]"


@pytest.fixture
def work():
    """A folder whose path is short enough for sockets."""
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


def test_requests_by_the_plane(work, tmp_path):
    """Each request of a batch has its own status and body, and takes processor time."""
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "inference.py").write_text(SCRIPT)
    handler = Handler("ours", Path(sys.executable), OUR_HANDLER, SERVE_ENV, joins=True)
    with one_worker.loaded(handler, tmp_path, work, 32) as worker:
        bodies = [b"[[1, 2]]", b"[[3]]", b"[[", b"[[4, 5], [6, 7]]"]
        good, other, bad, rows = worker.answer(one_worker.batch_of(worker, bodies, "json"))
        assert good == (200, b"[[2.0, 4.0]]")
        assert other == (200, b"[[6.0]]")
        assert bad[0] == 400
        assert rows == (200, b"[[8.0, 10.0], [12.0, 14.0]]")
        assert worker.cpu_us(one_worker.batch_of(worker, bodies[:1], "json"), 0.05) > 1
        with pytest.raises(RuntimeError, match="400"):
            worker.cpu_us(one_worker.batch_of(worker, bodies[2:3], "json"), 0.05)


def test_plain_batches_get_the_same_with_the_core_and_without(work, tmp_path):
    """Also a bad one among good ones, and one after the time limit of an idle worker."""
    net = mx.gluon.nn.Dense(2, in_units=3)
    net.initialize(mx.init.One())
    net.hybridize()
    net(mx.nd.ones((1, 3)))
    net.export(str(tmp_path / "model"))
    (tmp_path / "model-shapes.json").write_text('[{"name": "data", "shape": [1, 3]}]')
    sent = [
        [b"[[1, 2, 3]]"],
        [b"[[1, 2, 3]]", b"[[0.1, -0, 1e-3], [4, 5, 6]]"],
        [b"[[1, 2, 3]]", b"[[1, 2]]", b"[[NaN, 2, 3]]"],
    ]
    answers = []
    for core in ("auto", "off"):
        env = {**SERVE_ENV, "MMS_HANDLER_CORE": core, "SAGEMAKER_MODEL_SERVER_TIMEOUT_SECONDS": "2"}
        handler = Handler("ours", Path(sys.executable), OUR_HANDLER, env, joins=True)
        with one_worker.loaded(handler, tmp_path, work, 32) as worker:
            batches = [one_worker.batch_of(worker, bodies, "json") for bodies in sent]
            answers.append([worker.answer(batch) for batch in 3 * batches])
            time.sleep(4)
            answers[-1].append(worker.answer(batches[0]))
    assert answers[0] == answers[1]
    assert answers[0][0] == [(200, b"[[6.0, 6.0]]")]
    assert [status for status, _ in answers[0][2]] == [200, 400, 200]


def test_requests_by_mms(work):
    """MMS's reader takes a batch of three for a handler that is not ours."""
    handler = Handler("no-op", Path(sys.executable), NO_OP, {})
    with one_worker.loaded(handler, no_op_model(work), work, 32) as worker:
        batch = one_worker.batch_of(worker, [b"[[1, 2]]"] * 3, "json")
        assert worker.answer(batch) == [(200, ZEROS)] * 3
        assert worker.cpu_us(batch, 0.05) > 1


def test_a_load_that_fails_says_why(work, tmp_path):
    """A folder without a model is refused, with our words."""
    handler = Handler("ours", Path(sys.executable), OUR_HANDLER, SERVE_ENV, joins=True)
    with pytest.raises(NotServing, match="has neither"), one_worker.loaded(
        handler, tmp_path, work, 32
    ):
        pass
