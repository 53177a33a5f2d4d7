"""twins: which models get an ONNX twin, and why others get none."""

from __future__ import annotations

import hashlib
import sys

import mxnet as mx
import pytest

from mms_handler import models
from mms_handler.manifest import TWIN
from mms_handler.worker import twins
from tests.unit.tiny_models import DATA, bind, dense

JSON = "application/json"


@pytest.fixture
def make(tmp_path, monkeypatch):
    """Make the twin of a Module, or of what a script makes; returns what ``make`` does."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setattr("sys.path", list(sys.path))

    def build(module=None, script="", body="[[1, 2]]", types=(JSON, JSON)):
        folder = tmp_path / "iris"
        if module is None:
            folder.mkdir()
        else:
            models.save(module, folder)
        if script:
            (folder / "code").mkdir()
            (folder / "code" / "inference.py").write_text(script)
        sample = tmp_path / "sample"
        sample.write_text(body)
        target = tmp_path / "twin.onnx"
        made = twins.make(folder, target, sample, types)
        assert target.is_file() is ("entry" in made)
        return made, target

    return build


def test_a_twin_is_written_with_its_hash(make):
    made, target = make(dense())
    entry = made["entry"]
    assert entry["file"] == TWIN
    assert entry["sha256"] == hashlib.sha256(target.read_bytes()).hexdigest()
    assert (entry["shapes"], entry["fixed"]) == ([[2]], True)


def test_an_input_fn_may_be_the_scripts(make):
    script = "import numpy as np\n\ndef input_fn(body, kind):\n    return np.ones((1, 2))\n"
    assert make(dense(), script)[0]["entry"]["shapes"] == [[2]]


OWN = "a twin replaces the default model_fn and predict_fn; the script has its own"
READ = "def input_fn(body, kind):\n"
BLOCK = "import mxnet as mx\n\ndef model_fn(folder):\n    net = mx.gluon.nn.Dense(1)\n"


@pytest.mark.parametrize(
    ("module", "script", "reason"),
    [
        (dense, "def predict_fn(data, net):\n    return data\n", OWN),
        (dense, "def transform_fn(net, data, kind, accept):\n    return b''\n", OWN),
        (None, f"{BLOCK}    net.initialize()\n    return net\n", OWN),
        (None, "", "the model does not load: "),
        (dense, f"{READ}    return 'text'\n", "input_fn does not return arrays"),
        (dense, f"{READ}    raise OSError('no')\n", "the sample cannot be read: "),
    ],
    ids=["predict_fn", "transform_fn", "model_fn", "no model", "text", "an error"],
)  # fmt: skip
def test_models_without_a_twin(make, module, script, reason):
    made, _ = make(module and module(), script)
    assert list(made) == ["error"]
    assert made["error"].startswith(reason)


def test_rows_that_depend_on_one_another_run_alone(make):
    """As a Module does that is bound to one row."""
    mean = mx.sym.mean(DATA, axis=0, keepdims=True)
    made, _ = make(bind(mx.sym.broadcast_sub(DATA, mean), ("data", (2, 2))), body="[[1, 2]]")
    assert made["entry"]["max_rows"] == 1


@pytest.mark.parametrize("body", ["[[1]]", "no"])
def test_a_sample_that_does_not_fit(make, body):
    made, _ = make(dense(), body=body)
    assert made["error"].startswith("the sample cannot be read: ")


def test_a_missing_extra_is_named(make, monkeypatch):
    def missing(*_):
        raise ModuleNotFoundError("No module named 'onnx'", name="onnx")

    monkeypatch.setattr(models, "make_twin", missing)
    made, _ = make(dense())
    assert made == {"error": "onnx is not installed: pip install 'mms_handler[onnx]'"}
