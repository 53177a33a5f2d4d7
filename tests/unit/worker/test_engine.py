"""engine: which twin is opened, which scripts need MXNet, and when a reply is the packed one."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import logging
import sys
from types import SimpleNamespace

import mxnet as mx
import numpy as np
import pytest
from tiny_models import dense

from mms_handler import models
from mms_handler.errors import BadInput
from mms_handler.manifest import MANIFEST, TWIN, Sample
from mms_handler.models.arrays import Arrays
from mms_handler.script.load import Script
from mms_handler.settings import Settings
from mms_handler.worker import engine
from mms_handler.worker.reply import Reply

JSON, NPY = "application/json", "application/x-npy"


@pytest.fixture(scope="module")
def made():
    """A twin's entry and its content."""
    module = dense()
    predictor = models.make_predictor(module, mx.cpu(), True)
    return models.make_twin(module, predictor, Arrays([np.ones((1, 2), np.float32)]))


@pytest.fixture
def folder(made, tmp_path):
    """Make a folder with a manifest, and with a twin that was so fast."""

    def build(gain=2.0, **model):
        entry, content = made
        digest = hashlib.sha256(content).hexdigest()
        (tmp_path / TWIN).parent.mkdir()
        (tmp_path / TWIN).write_bytes(content)
        twin = {**entry._asdict(), "sha256": digest, "gain": gain}
        manifest = {
            "model": {"modelName": "a", "handler": "mms_handler.service:handle"},
            "mms_handler": {"twin": twin},
            **model,
        }
        (tmp_path / MANIFEST).write_text(json.dumps(manifest))
        return tmp_path

    return build


# --- opening ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("gain", "settings", "gpu_id", "reason"),
    [
        (2, {}, None, ""),
        (1, {}, None, ""),
        (2, {"engine": "auto", "threads": 2}, None, ""),
        (0.99, {}, None, "its ONNX twin was 0.99 times as fast when it was packed"),
        (2, {"engine": "mxnet"}, None, "MMS_HANDLER_ENGINE=mxnet"),
        (2, {}, 0, "the model is on a GPU"),
    ],
    ids=["faster", "as fast", "with threads", "slower", "turned off", "on the first GPU"],
)
def test_a_twin_is_opened_unless_there_is_a_reason(folder, caplog, gain, settings, gpu_id, reason):
    """The log has the reason."""
    session = engine.open_twin(folder(gain), Settings(**settings), gpu_id)
    assert (session is None) is bool(reason)
    lines = [record.getMessage() for record in caplog.records]
    begin = "MXNet answers, not the model's ONNX twin: "
    assert lines == ([f"{begin}{reason}"] if reason else [])


@pytest.mark.parametrize("threads", [None, 0, 3])
def test_a_twin_computes_with_the_threads_of_the_worker(folder, threads):
    session = engine.open_twin(folder(), Settings(threads=threads), None)
    options = session._session.get_session_options()
    assert options.intra_op_num_threads == (threads or 0)


@pytest.mark.parametrize(
    ("model", "has"),
    [({}, True), ({"mms_handler": {}}, False), ({"model": {}}, False)],
    ids=["a twin", "none", "no valid manifest"],
)
def test_whether_a_model_has_a_twin(folder, caplog, model, has):
    """Nothing is said of a model that has none."""
    place = folder(**model)
    assert engine.has_twin(place) is has
    assert (engine.open_twin(place, Settings(), None) is not None) is has
    assert not caplog.records


def test_a_folder_without_a_manifest(tmp_path):
    assert not engine.has_twin(tmp_path)
    assert engine.open_twin(tmp_path, Settings(), None) is None


# --- without MXNet ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("files", "may"),
    [
        ({"inference.py": "import json"}, True),
        ({"inference.py": "import mxnet"}, False),
        ({"inference.py": "", "lib/a.py": "import mxnet as mx"}, False),
        ({"inference.py": "", "lib/a.txt": "mxnet"}, True),
        ({"inference.py": "", "lib/a.py": b"\xff"}, True),
        ({}, False),
    ],
    ids=["another import", "its import", "in a module", "in no script", "no text", "no file"],
)
def test_scripts_without_the_word(tmp_path, files, may):
    """A file that cannot be read may have it."""
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    assert engine.may_do_without_mxnet(tmp_path / "inference.py") is may


def test_a_model_without_a_script_needs_no_mxnet():
    assert engine.may_do_without_mxnet(None)


@pytest.mark.parametrize(
    ("hooks", "needs"),
    [
        ({}, False),
        ({"input_fn": lambda body, content_type: body}, False),
        ({"input_fn": lambda body, content_type, model: body}, True),
        ({"input_fn": lambda body, content_type, *, ctx: body}, True),
        ({"input_fn": lambda body, content_type, *, context: body}, False),
        ({"output_fn": lambda prediction, accept: prediction}, True),
        ({"predict_fn": lambda data, model: data}, True),
    ],
    ids=["none", "input_fn", "the model", "the device", "context", "output_fn", "predict_fn"],
)
def test_hooks_that_need_mxnet(monkeypatch, hooks, needs):
    """An output_fn gets an NDArray."""
    script = Script(hooks=hooks)
    assert engine.needs_mxnet(script)  # this process has imported it
    monkeypatch.delitem(sys.modules, "mxnet")
    assert engine.needs_mxnet(script) is needs


# --- the packed reply ------------------------------------------------------------------------


def npy(*values):
    out = io.BytesIO()
    np.save(out, np.array(values, np.float32))
    return out.getvalue()


def sample(body, content_type=JSON, status=200):
    reply = {"status": status, "content_type": content_type}
    if isinstance(body, bytes):
        reply["base64"] = base64.b64encode(body).decode()
    elif body is not None:
        reply["body"] = body
    return Sample("MAR-INF/sample.json", JSON, JSON, reply)


OTHER = "its reply to the sample differs by more than 0.01"


@pytest.mark.parametrize(
    ("packed", "reply", "reason"),
    [
        (sample("[[1, 100]]"), Reply(b"[[1.9, 100]]", JSON), ""),
        (sample("[[1, 100]]"), Reply(b"[[2.1, 100]]", JSON), OTHER),
        (sample("[[1, 100]]"), Reply(b"[1, 100]", JSON), OTHER),
        (sample("[[1], [2, 3]]"), Reply(b"[[1], [2, 3]]", JSON), ""),
        (sample("[[1], [2, 3]]"), Reply(b"[[1], [2, 9]]", JSON), OTHER),
        (sample("7"), Reply(b"7", JSON), ""),
        (sample("[[[1, 2]], [[3]]]"), Reply(b"[[[1, 2]], [[3.01]]]", JSON), ""),
        (sample("[[[1, 2]], [[3]]]"), Reply(b"[[[1, 2]], [[3], [4]]]", JSON), OTHER),
        (sample("[null]"), Reply(b"[null]", JSON), ""),
        (sample("[null]"), Reply(b"[1]", JSON), OTHER),
        (sample('{"a": 1}'), Reply(b'{"a": 1}', JSON), "the sample's reply cannot be compared: "),
        (sample(npy(1, 100), NPY), Reply(npy(1.5, 100), NPY), ""),
        (sample(npy(1, 100), NPY), Reply(npy(1, 110), NPY), OTHER),
        (sample("[1]"), Reply(b"[1]", "text/csv"), "it answers the sample (200, 'text/csv')"),
        (sample("[1]"), Reply(b"[1]", JSON, 400), f"it answers the sample (400, '{JSON}')"),
        (sample("[1]"), None, "it does not answer the sample"),
        (None, Reply(b"[1]", JSON), "no reply to a sample was packed whole"),
        (sample("[1]")._replace(reply=None), Reply(b"[1]", JSON), "no reply to a sample was"),
        (sample(None), Reply(b"[1]", JSON), "no reply to a sample was packed whole"),
        (sample('["x"]'), Reply(b'["x"]', JSON), "the sample's reply cannot be compared: "),
        (sample("[1]"), Reply(b"[1", JSON), "the sample's reply cannot be compared: "),
        (sample(b"x", NPY), Reply(npy(1), NPY), "the sample's reply cannot be compared: "),
        (sample("x", "a/b"), Reply(b"x", "a/b"), "the sample's reply cannot be compared: "),
    ],
)  # fmt: skip
def test_how_a_reply_differs_from_the_packed_one(packed, reply, reason):
    """By more than the tolerance, as a part of the largest value; in its shape, or its type."""
    text = engine.mismatch(packed, reply, 0.01)
    assert text.startswith(reason)
    assert bool(text) is bool(reason)


# --- beside MXNet ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("predictor", "expected"),
    [
        (None, "mxnet"),
        (SimpleNamespace(by_twin=False), "mxnet"),
        (SimpleNamespace(by_twin=True), "onnx"),
    ],
    ids=["a script's", "MXNet's", "the twin's"],
)
def test_the_engine_of_a_pipeline(predictor, expected):
    assert engine.of(SimpleNamespace(predictor=predictor)) == expected


class Pipeline:
    """As far as try_twin asks it."""

    def __init__(self, model, reason=""):
        self.model, self.reason, self.tried = model, reason, []
        self.predictor = self

    def read(self, request):
        if request == b"bad":
            raise BadInput("no rows")
        return request

    def try_twin(self, data, twin):
        self.tried.append((data, twin))
        return self.reason


OWN = "MXNet answers, not the model's ONNX twin: a function of the script loads or runs the model"


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({}, "the model's ONNX twin answers"),
        ({"reason": "it is slower"}, "MXNet answers, not the model's ONNX twin: it is slower"),
        ({"hooks": {"model_fn": None}}, OWN),
        ({"predictor": None}, OWN),
        ({"model": object()}, OWN),
        ({"sample": None}, "MXNet answers, not the model's ONNX twin: there is no sample"),
    ],
    ids=["used", "refused", "model_fn", "predict_fn", "no Module", "no sample"],
)
def test_a_twin_beside_mxnet(caplog, change, line):
    caplog.set_level(logging.INFO)
    pipeline = Pipeline(change.get("model", dense()), change.get("reason", ""))
    pipeline.predictor = change.get("predictor", pipeline.predictor)
    script = Script(hooks=change.get("hooks", {}))
    engine.try_twin(script, pipeline, change.get("sample", b"row"), "twin")
    assert [record.getMessage() for record in caplog.records] == [line]
    was_tried = not change or "reason" in change
    assert pipeline.tried == ([(b"row", "twin")] if was_tried else [])
