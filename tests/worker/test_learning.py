"""learning: what a request that succeeded teaches the workers of a model without a sample."""

from __future__ import annotations

import io
import json
import os
import signal
import time

import mxnet as mx
import numpy as np
import pytest
from mms.context import Context

from mms_handler import worker_files
from mms_handler.models.graphs import faster
from mms_handler.models.graphs.in_place import GraphForward
from mms_handler.settings import Settings
from mms_handler.worker import learning, loading
from mms_handler.worker.request import Request

#: A net whose parameters a script makes, always the same.
SCRIPT = """
import mxnet as mx

calls = []

def model_fn(model_dir):
    mx.random.seed(0)
    net = mx.gluon.nn.HybridSequential()
    net.add(mx.gluon.nn.Conv2D(8, 3), mx.gluon.nn.BatchNorm(), mx.gluon.nn.GlobalAvgPool2D())
    net.add(mx.gluon.nn.Dense(3))
    net.initialize(mx.init.Xavier())
    net(mx.nd.zeros((1, 3, 8, 8)))
    return net
"""

OWN_PREDICTION = """
def predict_fn(array, net):
    calls.append(array.shape)
    return net(array)
"""

NPY = "application/x-npy"


@pytest.fixture(autouse=True)
def any_speed(monkeypatch):
    """A graph that agrees is used, however fast it is: a test must not depend on times."""
    monkeypatch.setattr(faster, "GAIN", 0)
    monkeypatch.setattr(faster, "SLOW_S", 60)


@pytest.fixture
def folder(tmp_path):
    """Build a model_dir with a script."""

    def build(script=SCRIPT):
        (tmp_path / "code").mkdir()
        (tmp_path / "code" / "inference.py").write_text(script)
        return tmp_path

    return build


def load(folder, batch_size=8, **settings):
    context = Context(folder.name, str(folder), None, batch_size, None, "")
    return loading.load(context, Settings(supervised=True, **settings))


def photos(*shape) -> Request:
    out = io.BytesIO()
    np.save(out, np.random.RandomState(1).rand(*shape).astype(np.float32))
    return Request(out.getvalue(), NPY, NPY, {})


def values(replies):
    return [np.load(io.BytesIO(reply.body)) for reply in replies]


def learn(taught: learning.Learning) -> None:
    """Go on until the trial that a worker has started has ended, and it has looked at it."""
    taught.go_on()
    end = time.monotonic() + 60
    while taught._trial:
        assert time.monotonic() < end
        time.sleep(0.01)
        taught.go_on()


def forward(loaded):
    return vars(loaded.pipeline.model).get("forward")


def learned(folder) -> list[dict]:
    return [json.loads(text) for text in worker_files.read_learned(folder).values()]


def test_a_request_teaches_all_workers(folder, caplog):
    """This one, one that runs already, and one that starts later; the values stay the same."""
    place = folder()
    first, other = load(place), load(place)
    caplog.set_level("INFO", "mms_handler.worker.learning")
    caplog.clear()
    request = photos(2, 3, 8, 8)
    (before,) = values(first.learning.answer([request]))
    assert forward(first) is None
    learn(first.learning)
    other.learning.go_on()
    later = load(place)
    later.learning.go_on()
    for loaded in (first, other, later):
        assert loaded.learning.is_over
        assert isinstance(forward(loaded), GraphForward)
        assert forward(loaded).checked.agreed([mx.nd.zeros((1, 3, 8, 8))])
        (after,) = values(loaded.pipeline.answer([request]))
        np.testing.assert_allclose(before, after, 1e-3, 1e-5)
    (found,) = learned(place)
    ((block, shapes, dtypes, fused, max_rows, gain),) = found["graphs"]
    assert (block, shapes, dtypes, fused) == (0, [[2, 3, 8, 8]], ["float32"], True)
    assert max_rows == forward(other).executors.max_rows == forward(later).executors.max_rows > 1
    assert found["rows"] == [[2, 3, 8, 8]]
    assert found["together"] is True
    first_line, *lines = [record.getMessage() for record in caplog.records]
    assert first_line == (
        "no sample was packed: faster ways are tried with a request that succeeded"
    )
    how = f"learned from a request; predictions are {gain:.1f} times as fast"
    assert lines == [f"no sample was packed: {how}"] * 3


def test_nothing_of_a_client_is_kept(folder):
    """Only shapes are, in the folder with what serve's workers write."""
    place = folder()
    loaded = load(place)
    files = set(place.rglob("*"))
    loaded.learning.answer([photos(1, 3, 8, 8)])
    learn(loaded.learning)
    (new,) = set(place.rglob("*")) - files
    assert new.parent == place / "MAR-INF"
    assert new.name.startswith("learned-")
    assert new.stat().st_size < 300


def test_no_function_of_the_script_is_called_twice(folder):
    """A script's own predict_fn runs the graph from then on, as with a sample."""
    loaded = load(folder(SCRIPT + OWN_PREDICTION))
    (predict_fn,) = [hook for hook in loaded.hooks if hook.name == "predict_fn"]
    request = photos(1, 3, 8, 8)
    loaded.learning.answer([request])
    learn(loaded.learning)
    assert isinstance(forward(loaded), GraphForward)
    assert predict_fn.function.__globals__["calls"] == [(1, 3, 8, 8)]


@pytest.mark.parametrize(
    "settings", [{"optimize": "off"}, {"supervised": False}], ids=["switched off", "plain MMS"]
)
def test_where_nothing_is_learned(folder, settings):
    context = Context("m", str(folder()), None, 1, None, "")
    assert loading.load(context, Settings(**{"supervised": True, **settings})).learning is None


def test_a_model_that_can_learn_nothing(folder):
    """One that is only the script's: its workers look no further."""
    script = "def model_fn(model_dir):\n    return 1\n\ndef transform_fn(*a):\n    return b''\n"
    assert load(folder(script)).learning.is_over


def test_requests_that_fail_teach_nothing(folder):
    place = folder()
    loaded = load(place)
    loaded.learning.answer([photos(1, 4, 8, 8), photos(1, 3, 8, 8)])
    learn(loaded.learning)
    assert learned(place) == []
    assert not loaded.learning.is_over


@pytest.mark.parametrize("ends", [signal.SIGKILL, 3])
def test_a_trial_that_ends_its_process_is_not_repeated(folder, monkeypatch, caplog, ends):
    """Not with requests of the same shapes, and with those of others a few times only."""
    place = folder()
    loaded = load(place)
    caplog.clear()
    worker = os.getpid()

    def end(*_, **__):
        assert os.getpid() != worker
        os._exit(ends) if ends == 3 else os.kill(os.getpid(), ends)

    monkeypatch.setattr(learning.sample, "try_faster", end)
    sides = [8, 8, 9, 8, 10, 11, 12, 8]
    for side in sides:
        (reply,) = values(loaded.learning.answer([photos(1, 3, side, side)]))
        assert reply.shape == (1, 3)
        learn(loaded.learning)
    assert learned(place) == [{}, {}, {}]
    assert loaded.learning.is_over
    assert forward(loaded) is None
    how = "exit code 3" if ends == 3 else "SIGKILL"
    warnings = [each.getMessage() for each in caplog.records if each.levelname == "WARNING"]
    assert (
        warnings
        == [
            "nothing is learned from a request: the process that tried ended before it was done "
            f"({how})"
        ]
        * 3
    )


def test_a_trial_that_fails_is_not_repeated(folder, monkeypatch, caplog):
    place = folder()
    loaded = load(place)

    def fail(*_, **__):
        raise RuntimeError("no")

    monkeypatch.setattr(learning.sample, "try_faster", fail)
    for _ in range(3):
        loaded.learning.answer([photos(1, 3, 8, 8)])
        learn(loaded.learning)
    assert learned(place) == [{}]


def test_a_trial_that_hangs_is_ended(folder, monkeypatch):
    """Its worker goes on meanwhile."""
    place = folder()
    loaded = load(place)
    monkeypatch.setattr(learning, "LIMIT_S", 1)
    monkeypatch.setattr(learning.sample, "try_faster", lambda *_, **__: time.sleep(1000))
    loaded.learning.answer([photos(1, 3, 8, 8)])
    loaded.learning.go_on()
    (reply,) = values(loaded.learning.answer([photos(1, 3, 8, 8)]))
    assert reply.shape == (1, 3)
    learn(loaded.learning)
    assert learned(place) == [{}]


def test_what_another_model_learned_is_not_used(folder, caplog):
    """A file that fits no longer costs a line of the log, and no request."""
    place = folder()
    loaded = load(place)
    text = json.dumps({"graphs": [[0, [[1, 5, 8, 8]], ["float32"], True, 1, 2.0]], "unfused": 0})
    worker_files.write_learned(place, "a", text)
    loaded.learning.go_on()
    assert forward(loaded) is None
    assert "what was learned has no use: " in caplog.text
    (reply,) = values(loaded.learning.answer([photos(1, 3, 8, 8)]))
    assert reply.shape == (1, 3)


def save(tmp_path, module) -> None:
    bound = module()
    bound.symbol.save(str(tmp_path / "model-symbol.json"))
    arguments, _ = bound.get_params()
    mx.nd.save(str(tmp_path / "model-0000.params"), {f"arg:{n}": v for n, v in arguments.items()})


def test_requests_that_may_share_a_pass(tmp_path, module):
    """A Module's are tried by the fork, and not when requests first come together."""
    save(tmp_path, module)
    loaded = load(tmp_path)
    assert loaded.pipeline.passes.shared is None
    first = [Request(b"[[1, 2]]", "application/json", "", {})] * 3
    assert [reply.body for reply in loaded.learning.answer(first)] == [b"[[15.0, 31.0]]"] * 3
    assert loaded.pipeline.passes._proven == {}
    learn(loaded.learning)
    assert loaded.learning.is_over
    (found,) = learned(tmp_path)
    assert (found["rows"], found["together"]) == ([[1, 2]], True)
    assert list(loaded.pipeline.passes._proven.values()) == [True]
    requests = [Request(b"[[%d, 2]]" % n, "application/json", "", {}) for n in (1, 2, 3)]
    bodies = [reply.body for reply in loaded.pipeline.answer(requests)]
    assert bodies == [b"[[15.0, 31.0]]", b"[[16.0, 34.0]]", b"[[17.0, 37.0]]"]


def test_sharing_is_not_tried_where_no_requests_come_together(tmp_path, module):
    save(tmp_path, module)
    loaded = load(tmp_path, batch_size=1)
    request = Request(b"[[1, 2]]", "application/json", "", {})
    assert [reply.body for reply in loaded.learning.answer([request])] == [b"[[15.0, 31.0]]"]
    learn(loaded.learning)
    assert "together" not in learned(tmp_path)[0]
