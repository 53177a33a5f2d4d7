"""loading: a worker answers the packed sample before it is ready."""

from __future__ import annotations

import os

import pytest
from mms.context import Context

from mms_handler import archive, manifest
from mms_handler.script import requirements
from mms_handler.settings import Settings
from mms_handler.worker import load_phases, loading, sample, service, trials
from mms_handler.worker.packed import packed_int8
from mms_handler.worker.request import Request

SCRIPT = """
import json
import mxnet as mx

batch_predict = True
shapes = []

def model_fn(model_dir):
    net = mx.gluon.nn.Dense(2, in_units=2, use_bias=False)
    net.load_parameters(model_dir + "/net.params")
    return net

def predict_fn(array, block):
    shapes.append(array.shape)
    return block(array)
"""


def load(folder, batch_size=1, **settings):
    context = Context(folder.name, str(folder), None, batch_size, None, "")
    return loading.load(context, Settings(**settings))


@pytest.fixture(autouse=True)
def unlimited_warm_up(monkeypatch):
    """Give the warm-up all the time that it needs, whatever else the machine does."""
    monkeypatch.setattr(sample, "WARM_UP_S", 60)
    monkeypatch.setattr(sample, "HEAVY_S", 60)


@pytest.fixture
def packed(model_dir, tmp_path):
    """Build a model_dir that was packed with a sample request and unpacked again."""

    def build(script, body, name="sample.json"):
        (tmp_path / name).write_bytes(body)
        archive.pack(model_dir(script), tmp_path / "m.mar", sample=tmp_path / name)
        archive.unpack(tmp_path / "m.mar", tmp_path / "m")
        return tmp_path / "m"

    return build


def shapes(loaded):
    """Return the list of shapes that the script's predict_fn was called with."""
    (predict_fn,) = [hook for hook in loaded.hooks if hook.name == "predict_fn"]
    return predict_fn.function.__globals__["shapes"]


def test_the_sample_is_answered(packed):
    """Its file name gives its type.  It proves the script's batch_predict, which is then used."""
    loaded = load(packed(SCRIPT, b"1.5,2\n", "sample.csv"), batch_size=3)
    assert shapes(loaded) == [(1, 2)] * 3 + [(2, 2), (2, 2), (3, 2)]
    shapes(loaded).clear()
    requests = [Request(b"[[%d, 0]]" % row, "application/json", "", {}) for row in range(4)]
    bodies = [reply.body for reply in loaded.pipeline.answer(requests)]
    assert bodies == [b"[[0.0, 0.0]]", b"[[1.0, 3.0]]", b"[[2.0, 6.0]]", b"[[3.0, 9.0]]"]
    assert shapes(loaded) == [(4, 2)]


def test_without_a_sample_nothing_is_answered(model_dir, caplog):
    """The log says that the script's batch_predict cannot be tried."""
    loaded = load(model_dir(SCRIPT))
    assert shapes(loaded) == []
    assert caplog.messages == [
        "batch_predict has no effect: without a packed sample request it cannot be tried"
    ]


TRANSFORM = "def transform_fn(model, data, content_type, accept):\n    return data\n"


@pytest.mark.parametrize(
    ("script", "settings", "takes"),
    [
        pytest.param(TRANSFORM, {}, 1, id="a script that cannot batch"),
        pytest.param(TRANSFORM, {"batch_size": 2}, 2, id="set by a person"),
        pytest.param(SCRIPT, {}, 32, id="a script that can batch"),
    ],
)
def test_how_many_requests_a_worker_takes(packed, script, settings, takes):
    """As many as may share a forward, or as a person has said."""
    worker = service.Service(loading.load)
    worker._settings = Settings(**settings)
    worker._pipeline = load(packed(script, b"1.5,2\n", "sample.csv")).pipeline
    assert worker._takes() == takes


def test_a_script_that_fails_with_the_sample_is_loaded(packed, caplog):
    """A script that exits is loaded too; the log names the exception."""
    script = SCRIPT + "    raise SystemExit('gone')\n"
    script = script.replace("    return block(array)\n", "")
    loaded = load(packed(script, b"[[1, 2]]"))
    assert shapes(loaded) == [(1, 2)]
    (message,) = caplog.messages
    assert message == "the sample request fails, so nothing is warmed up: SystemExit: gone"


BLOCK = """
import time
import mxnet as mx

passes = []

class Doubling(mx.gluon.Block):
    def forward(self, x):
        passes.append(len(x))
        time.sleep(TAKES_S)
        return 2 * x

def model_fn(model_dir):
    model = Doubling()
    model.passes = passes
    return model
"""


@pytest.mark.parametrize(
    ("takes_s", "largest_batch"),
    [
        pytest.param(0, 4, id="quick requests"),
        pytest.param(0.02, 1, id="slow requests, which a worker takes one by one"),
    ],
)
def test_every_batch_size_is_warmed_up(packed, monkeypatch, takes_s, largest_batch):
    """Batches of every size that may come are answered, and no larger ones."""
    if takes_s:
        monkeypatch.setattr(sample, "HEAVY_S", takes_s / 2)
    script = BLOCK.replace("TAKES_S", str(takes_s))
    loaded = load(packed(script, b"[[1, 2]]"), batch_size=4)
    assert max(loaded.pipeline.model.passes) == largest_batch


SPINNING = BLOCK.replace(
    "time.sleep(TAKES_S)",
    "end = time.thread_time() + 0.02\n        while time.thread_time() < end: pass",
)
OWN = SPINNING + "\ndef predict_fn(data, model):\n    return model(data)\n"


@pytest.mark.parametrize("script", [SPINNING, OWN], ids=["the default predict_fn", "its own"])
def test_the_sample_shows_what_a_request_costs(packed, script):
    """In processor time."""
    assert 0.02 <= load(packed(script, b"[[1, 2]]")).request_s < 0.2


def test_what_a_request_costs_is_not_known(packed):
    """The sample fails."""
    assert load(packed(SPINNING, b"x")).request_s is None


@pytest.mark.parametrize(
    ("settings", "faster"),
    [
        ({}, True),
        ({"optimize": "float"}, True),
        ({"optimize": "off"}, False),
        ({"supervised": True, "batch_size": 7}, True),
    ],
)
def test_what_is_tried(model_dir, monkeypatch, settings, faster):
    """Batches have up to the size of the registration, of which MMS tells the worker."""
    calls = []

    def prepare(*arguments, **options):
        calls.append((*arguments[1:], options))
        return sample.Prepared()

    monkeypatch.setattr(sample, "prepare", prepare)
    folder = model_dir(SCRIPT)
    loading.load(Context("m", str(folder), None, 5, None, ""), Settings(**settings))
    assert calls == [(None, 5, {"faster": faster, "int8": None})]


@pytest.mark.parametrize("shared", [False, True])
def test_where_requirements_are_installed(model_dir, monkeypatch, tmp_path, shared):
    """A folder that is set is shared with others, and so is not checked as the user's own is."""
    calls = []
    monkeypatch.setattr(
        requirements, "paths", lambda *arguments, **options: calls.append(options) or []
    )
    folder = model_dir(SCRIPT)
    settings = Settings(cache_dir=str(tmp_path / "cache") if shared else None)
    loading.load(Context("m", str(folder), None, 1, None, ""), settings)
    assert calls == [{"shared": shared}]


def test_the_packed_int8_graph(tmp_path):
    """As the manifest says it is; without one there is none."""
    assert packed_int8(tmp_path) is None
    (tmp_path / "MAR-INF").mkdir()
    path = tmp_path / manifest.MANIFEST
    path.write_bytes(manifest.encode("m", None))
    assert packed_int8(tmp_path) is None
    quantized = manifest.Quantized("int8", manifest.INT8, 1, 2, 3, 4, 4, 0.25, 0.5)
    path.write_bytes(manifest.encode("m", None, quantized=quantized))
    assert packed_int8(tmp_path) == (tmp_path / manifest.INT8, 0.5)


def test_the_context_of_a_model_that_no_server_loads(tmp_path):
    """One request at a time; its manifest, if it has one."""
    context = trials.context_of(tmp_path)
    assert (context.model_name, context.system_properties["model_dir"]) == (
        tmp_path.name,
        str(tmp_path),
    )
    assert (context.manifest, context.system_properties["batch_size"]) == (None, 1)
    (tmp_path / "MAR-INF").mkdir()
    (tmp_path / manifest.MANIFEST).write_text('{"model": {"a": 1}}')
    context = trials.context_of(tmp_path, 3)
    assert context.manifest == {"model": {"a": 1}}
    assert context.system_properties["gpu_id"] == 3


def test_what_mxnet_reads_when_it_is_imported(model_dir, monkeypatch):
    """Its engine without threads, unless there is a GPU or a person has chosen another one."""
    names = ("MXNET_ENGINE_TYPE", "MXNET_SUBGRAPH_VERBOSE")
    folder = model_dir(SCRIPT)

    def started(gpu_id=None, **variables):
        for name in names:
            monkeypatch.setenv(name, "x")  # so that it is as before, afterwards
            monkeypatch.delenv(name)
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        context = Context("m", str(folder), None, 1, gpu_id, "")
        monkeypatch.setattr(loading, "visible_gpu", lambda gpu_id, gpus: None)
        loading.start_mxnet(load_phases.Worker(folder, context, Settings(), gpu_id, {}, []))
        return tuple(os.environ.get(name) for name in names)

    assert started() == ("NaiveEngine", "0")
    assert started(gpu_id=0) == (None, "0")
    chosen = {"MXNET_ENGINE_TYPE": "ThreadedEngine", "MXNET_SUBGRAPH_VERBOSE": "1"}
    assert started(**chosen) == ("ThreadedEngine", "1")
