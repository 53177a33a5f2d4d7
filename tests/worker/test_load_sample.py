"""loading: the sample that was packed with a model is answered before the worker is ready."""

from __future__ import annotations

import pytest
from mms.context import Context

from mms_handler import archive
from mms_handler.settings import Settings
from mms_handler.worker import loading
from mms_handler.worker.request import Request

SCRIPT = """
import json
import mxnet as mx

batch_predict = True
asked = []

def model_fn(model_dir):
    net = mx.gluon.nn.Dense(2, in_units=2, use_bias=False)
    net.load_parameters(model_dir + "/net.params")
    return net

def predict_fn(array, block):
    asked.append(array.shape)
    return block(array)
"""


def load(folder, batch_size=1, **chosen):
    context = Context(folder.name, str(folder), None, batch_size, None, "")
    return loading.load(context, Settings(**chosen))


@pytest.fixture
def packed(model_dir, tmp_path):
    """A model_dir as an archive of it is unpacked, with a sample request."""

    def make(script, sample, name="sample.json"):
        (tmp_path / name).write_bytes(sample)
        archive.pack(model_dir(script), tmp_path / "m.mar", sample=tmp_path / name)
        archive.unpack(tmp_path / "m.mar", tmp_path / "m")
        return tmp_path / "m"

    return make


def shapes(loaded):
    (bound,) = [one for one in loaded.hooks if one.name == "predict_fn"]
    return bound.function.__globals__["asked"]


def test_the_sample_is_answered(packed):
    """Of the type that its name tells; batch_predict of the script is tried with it, and used."""
    loaded = load(packed(SCRIPT, b"1.5,2\n", "sample.csv"), batch_size=3)
    assert shapes(loaded) == [(1, 2)] * 3 + [(2, 2), (2, 2), (3, 2)]
    shapes(loaded).clear()
    asked = [Request(b"[[%d, 0]]" % row, "application/json", "", {}) for row in range(4)]
    found = [reply.body for reply in loaded.pipeline.answer(asked)]
    assert found == [b"[[0.0, 0.0]]", b"[[1.0, 3.0]]", b"[[2.0, 6.0]]", b"[[3.0, 9.0]]"]
    assert shapes(loaded) == [(4, 2)]


def test_without_a_sample_nothing_is_asked(model_dir, caplog):
    """And a script that says batch_predict is told that it cannot be tried."""
    loaded = load(model_dir(SCRIPT))
    assert shapes(loaded) == []
    assert caplog.messages == ["batch_predict: without a sample request it cannot be tried"]


def test_a_script_that_fails_with_the_sample_is_loaded(packed, caplog):
    """Even one that leaves: the line of the log has what was raised."""
    script = SCRIPT + "    raise SystemExit('gone')\n"
    script = script.replace("    return block(array)\n", "")
    loaded = load(packed(script, b"[[1, 2]]"))
    assert shapes(loaded) == [(1, 2)]
    (message,) = caplog.messages
    assert message == "the sample request fails, nothing is warmed up: SystemExit: gone"


BLOCK = """
import time
import mxnet as mx

asked = []

class Doubling(mx.gluon.Block):
    def forward(self, x):
        asked.append(len(x))
        time.sleep(TAKES_S)
        return 2 * x

def model_fn(model_dir):
    model = Doubling()
    model.asked = asked
    return model
"""


@pytest.mark.parametrize(
    ("takes_s", "supervised", "together"),
    [
        pytest.param(0, True, 32, id="as many as the gate hands over"),
        pytest.param(0, False, 4, id="as many as MMS hands over"),
        pytest.param(0.02, True, 1, id="long ones, which the gate hands over one by one"),
        pytest.param(0.02, False, 4, id="long ones, which MMS hands over together"),
    ],
)
def test_what_is_warmed_up(packed, takes_s, supervised, together):
    """Every number of requests that may come together, and none that may not."""
    script = BLOCK.replace("TAKES_S", str(takes_s))
    loaded = load(packed(script, b"[[1, 2]]"), batch_size=4, supervised=supervised)
    assert max(loaded.pipeline.model.asked) == together
