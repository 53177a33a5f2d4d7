"""exporting: models of every kind become ONNX with the names that /v2 has, or arrays."""

from __future__ import annotations

import hashlib
import json
import re

import mxnet as mx
import numpy as np
import onnx
import onnxruntime
import pytest

from mms_handler import archive, models
from mms_handler.archive import packed_reply
from mms_handler.archive.samples import Tried
from mms_handler.archive.twin import OnnxTwin
from mms_handler.export import export_onnx
from mms_handler.worker import exporting

#: MXNet's own, of ``SymbolBlock.imports``.
pytestmark = pytest.mark.filterwarnings("ignore:.*Cannot decide type:UserWarning")


@pytest.fixture
def export(tmp_path):
    """Export a model_dir with a JSON request; returns the report and what ONNX Runtime answers."""

    def run(folder, request, *arrays, content_type="application/json", tolerance=1e-5):
        body, target = tmp_path / "request", tmp_path / "model.onnx"
        body.write_text(request if isinstance(request, str) else json.dumps(request))
        report = exporting.export_onnx(folder, target, body, content_type, tolerance)
        if "error" in report:
            assert not target.exists()
            return report, None
        onnx.checker.check_model(str(target))
        session = onnxruntime.InferenceSession(
            target.read_bytes(), providers=["CPUExecutionProvider"]
        )
        feeds = {
            each.name: np.array(array, np.float32)
            for each, array in zip(session.get_inputs(), arrays)
        }
        outputs = session.run(None, feeds)
        return report, {e.name: a.tolist() for e, a in zip(session.get_outputs(), outputs)}

    return run


def names(report):
    return [each["name"] for each in (*report["inputs"], *report["outputs"])]


def test_a_default_module(model_dir, export):
    report, answers = export(model_dir(), [[1, 2]], [[1, 2], [0, 0], [2, 1]])
    assert answers == {"fc_output": [[15, 31], [10, 20], [14, 30]]}
    assert report["inputs"] == [{"name": "data", "shape": ["N", 2], "type": "float32"}]
    assert report["outputs"] == [{"name": "fc_output", "shape": ["N", 2], "type": "float32"}]
    assert report["rows"] is True
    (difference,) = report["differences"]
    assert difference["output"] == "fc_output"
    assert difference["largest"] <= 1e-6
    assert report["cases"][0] == "the sample"
    assert report["functions"] == []


def test_a_module_with_a_training_head_and_any_prefix(tmp_path, export):
    """Saved by save_checkpoint, without shapes: the sample's are taken."""
    folder = tmp_path / "model"
    folder.mkdir()
    scores = mx.sym.FullyConnected(mx.sym.var("data"), num_hidden=3, name="fc")
    module = mx.mod.Module(mx.sym.SoftmaxOutput(scores, name="softmax"))
    module.bind([("data", (2, 4))], [("softmax_label", (2,))])
    module.init_params(mx.init.One())
    module.save_checkpoint(str(folder / "irises"), 7)
    report, answers = export(folder, [[1, 2, 3, 4]], [[1, 2, 3, 4]])
    assert names(report) == ["data", "softmax_output"]
    assert answers["softmax_output"] == [pytest.approx([1 / 3] * 3)]


def test_an_exported_hybrid_block(tmp_path, export):
    folder = tmp_path / "model"
    folder.mkdir()
    net = mx.gluon.nn.HybridSequential()
    net.add(mx.gluon.nn.Embedding(9, 4), mx.gluon.rnn.GRU(5, layout="NTC"), mx.gluon.nn.LayerNorm())
    net.initialize(mx.init.Xavier())
    net.hybridize()
    tokens = mx.nd.array([[1, 2, 3], [4, 5, 8]])
    expected = net(tokens).asnumpy()
    net.export(str(folder / "words"))
    report, answers = export(folder, [[1, 2, 3], [4, 5, 8]], tokens.asnumpy())
    assert report["inputs"] == [{"name": "data", "shape": ["N", 3], "type": "float32"}]
    (output,) = answers.values()
    assert np.abs(np.array(output) - expected).max() < 1e-6


def test_a_module_with_several_inputs(tmp_path, export):
    folder = tmp_path / "model"
    folder.mkdir()
    symbol = mx.sym.concat(mx.sym.var("left"), mx.sym.var("right") * 2, dim=1, name="both")
    symbol.save(str(folder / "model-symbol.json"))
    mx.nd.save(str(folder / "model-0000.params"), {})
    shapes = [{"name": "right", "shape": [1, 1]}, {"name": "left", "shape": [1, 2]}]
    (folder / "model-shapes.json").write_text(json.dumps(shapes))
    request = {"left": [[1, 2]], "right": [[3]]}
    report, answers = export(folder, request, [[3], [4]], [[1, 2], [5, 6]])
    assert names(report) == ["right", "left", "both_output"]
    assert answers == {"both_output": [[1, 2, 6], [5, 6, 8]]}


BLOCK = """
import mxnet as mx

def model_fn(model_dir):
    net = mx.gluon.nn.Dense(2, in_units=2, use_bias=False)
    net.load_parameters(f"{model_dir}/net.params")
    return net
"""

OWN = (
    BLOCK
    + """
import json

def input_fn(body, content_type):
    return mx.nd.array(json.loads(body)["flowers"]) * 10

def predict_fn(array, net):
    return net(array).argmax(axis=1)

def output_fn(prediction, accept):
    return ["none", "rose"][int(prediction[0].asscalar())]
"""
)

LISTS = """
import mxnet as mx

class Two(mx.gluon.HybridBlock):
    def hybrid_forward(self, F, left, right):
        return left + right, [left - right, left * right]

def model_fn(model_dir):
    return Two()
"""


def test_a_script_that_returns_a_block(model_dir, export):
    report, answers = export(model_dir(BLOCK), [[1, 2]], [[1, 2], [3, 4]])
    assert answers == {"output": [[5, 11], [11, 25]]}
    assert report["inputs"][0]["name"] == "x"
    assert report["functions"] == []


def test_the_functions_around_a_block_are_not_exported_and_named(model_dir, export):
    report, answers = export(model_dir(OWN), {"flowers": [[1, 2]]}, [[1, 2]])
    assert answers == {"output": [[5, 11]]}
    assert report["functions"] == ["input_fn", "predict_fn", "output_fn"]


def test_a_block_with_lists_in_lists(model_dir, export):
    request = {"left": [[5, 7]], "right": [[3, 4]]}
    report, answers = export(model_dir(LISTS), request, [[5, 7]], [[3, 4]])
    assert names(report) == ["left", "right", "output_0", "output_1", "output_2"]
    assert answers == {"output_0": [[8, 11]], "output_1": [[2, 3]], "output_2": [[15, 28]]}


BROKEN = (
    BLOCK
    + """
def predict_fn(array, net):
    return {}["flowers"]
"""
)

TEXTS = """
def model_fn(model_dir):
    return {}

def transform_fn(model, data, content_type, accept):
    return "1", "*/*"
"""

LAMBDA = """
import mxnet as mx

def model_fn(model_dir):
    return mx.gluon.nn.HybridLambda("%s")
"""


@pytest.mark.parametrize(
    ("script", "request_", "reason"),
    [
        ("def model_fn(model_dir): 1 / 0", [[1, 2]], "does not load: model_fn: ZeroDivisionError"),
        (None, [[1, 2, 3]], r"request gets 400: .*the model takes \(N, 2\), the body has \(1, 3\)"),
        (BROKEN, [[1, 2]], r"request gets 500: KeyError: 'flowers' \(code/inference.py, line 10\)"),
        (TEXTS, [[1, 2]], "runs no graphs that could be recorded; ONNX needs exactly one"),
        (LAMBDA % "erfinv", [[0.1]], r"operator erfinv \(\w+\) cannot be converted to ONNX"),
    ],
    ids=["load", "shape", "script", "transform", "operator"],
)
def test_what_cannot_be_exported_says_why(script, request_, reason, model_dir, export):
    report, _ = export(model_dir(script), request_)
    assert re.search(reason, report["error"])


def test_a_model_that_disagrees_is_not_written(model_dir, export):
    request = [[place / 7 for place in range(100)]]
    report, _ = export(model_dir(LAMBDA % "tanh"), request, tolerance=1e-30)
    assert "the ONNX model does not agree with MXNet: for the sample the" in report["error"]


def test_from_an_archive_with_a_twin_the_model_is_exported(tmp_path):
    """In a process without MXNet, a twin that is said to be faster would stand for the model."""
    symbol = mx.sym.FullyConnected(mx.sym.var("data"), num_hidden=2, name="fc")
    module = mx.mod.Module(symbol, label_names=None)
    module.bind([("data", (1, 2))], for_training=False)
    module.init_params(mx.init.One())
    models.save(module, tmp_path / "source")
    (tmp_path / "row.json").write_text("[[1, 2]]")

    def make_twin(folder, request):
        arrays = models.Arrays([np.array([[1, 2]], np.float32)])
        predictor = models.make_predictor(module, mx.cpu(), True)
        entry, content = models.make_twin(module, predictor, arrays)
        digest = hashlib.sha256(content).hexdigest()
        return OnnxTwin(entry._replace(sha256=digest, gain=9), content, "")

    def answered(folder, request):
        reply = packed_reply.encode(200, "application/json", b"[[3.0, 3.0]]")
        return Tried(request._replace(entry=request.entry._replace(reply=reply)))

    mar = archive.pack(
        tmp_path / "source", tmp_path / "sum.mar", sample=tmp_path / "row.json",
        trial=answered, twin_maker=make_twin,
    )  # fmt: skip
    report = export_onnx(mar).report
    assert names(report) == ["data", "fc_output"]
    assert len(report["cases"]) == 13


# --- weights ---


def weights(folder, tmp_path):
    report = exporting.export_npz(folder, tmp_path / "weights")
    if "error" in report:
        return report, None
    with np.load(tmp_path / "weights", allow_pickle=False) as file:
        return report, {name: file[name].tolist() for name in file}


def test_the_weights_of_a_module(model_dir, tmp_path):
    report, arrays = weights(model_dir(), tmp_path)
    assert arrays == {"fc_weight": [[1, 2], [3, 4]], "fc_bias": [10, 20]}
    assert report["arrays"][0] == {"name": "fc_weight", "shape": [2, 2], "type": "float32"}


def test_the_weights_of_a_block_have_the_names_of_save_parameters(model_dir, tmp_path):
    report, arrays = weights(model_dir(OWN), tmp_path)
    assert arrays == {"weight": [[1, 2], [3, 4]]}
    assert report["functions"] == ["input_fn", "predict_fn", "output_fn"]


def test_what_has_no_weights_is_refused(model_dir, tmp_path):
    report, _ = weights(model_dir(TEXTS), tmp_path)
    assert report["error"] == (
        "model_fn returns a dict; only a Module or a Block has weights that can be exported"
    )


def test_weights_without_values_are_refused(tmp_path, model_dir):
    script = "import mxnet as mx\ndef model_fn(model_dir):\n    net = mx.gluon.nn.Dense(2)\n"
    report, _ = weights(model_dir(script + "    net.initialize()\n    return net"), tmp_path)
    assert report["error"].startswith("the parameter weight has no values yet: ")
