"""trials, archive, loading: an int8 graph is made from requests, packed, and tried by a worker."""

from __future__ import annotations

import io
import json
import logging
import os
import re
import shutil
import zipfile

import numpy as np
import pytest
from mms.context import Context

from mms_handler import archive
from mms_handler.archive.quantize import Int8Graph
from mms_handler.errors import ArchiveError
from mms_handler.manifest import INT8, QUANTIZED_KEYS, Quantized
from mms_handler.models.graphs import faster
from mms_handler.models.graphs.in_place import GraphForward
from mms_handler.settings import Settings
from mms_handler.worker import loading, trials
from mms_handler.worker.request import Request

#: MXNet's own, of ``SymbolBlock.imports``.
pytestmark = pytest.mark.filterwarnings("ignore:.*Cannot decide type:UserWarning")

LOAD = """
from mxnet import gluon

def model_fn(model_dir):
    net = f"{model_dir}/net"
    return gluon.SymbolBlock.imports(f"{net}-symbol.json", ["data"], f"{net}-0000.params")
"""

PYTHON = """
import mxnet as mx

class Python(mx.gluon.Block):
    def forward(self, array):
        return array

def model_fn(model_dir):
    return Python()
"""

TANH = """
import mxnet as mx

def model_fn(model_dir):
    return mx.gluon.nn.Activation("tanh")
"""

LISTS = (
    LOAD
    + """
import mxnet as mx

def model_fn(model_dir):
    net = mx.mod.Module(mx.sym.flatten(mx.sym.var("data")), label_names=None)
    net.bind([("data", (1, 3, 12, 12))], for_training=False)
    net.init_params()
    return net

def input_fn(data, content_type):
    return {"data": [data]}
"""
)

TWO = """
import mxnet as mx

calls = []

def model_fn(model_dir):
    return mx.gluon.nn.Flatten(), mx.gluon.nn.Flatten()

def predict_fn(data, model):
    calls.append(data)
    return model[len(calls) % 2](data)
"""

OWN = """
def model_fn(model_dir):
    return 2

def transform_fn(model, data, content_type, accept):
    return "2", accept
"""

PICKY = (
    LOAD
    + """
def input_fn(data, content_type):
    raise ValueError("photos of cats, please")
"""
)


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    """Quantizing sets this variable; it is gone afterwards."""
    monkeypatch.setenv("MXNET_DISABLE_MKLDNN_FUSE_CONV_SUM", "1")


def model(folder, stripes, script):
    shutil.copytree(stripes.folder, folder)
    (folder / "code").mkdir()
    (folder / "code" / "inference.py").write_text(script)
    return folder


def test_a_graph_of_a_folder_of_photos(tmp_path, stripes):
    """Convolutions, sums and the last layer compute in int8, and still recognize the stripes."""
    folder = model(tmp_path / "m", stripes, LOAD)
    result = trials.quantize(
        folder, archive.calibration_requests(stripes.write(tmp_path / "photos"))
    )
    assert result["operators"] == result["of"] >= 9
    assert (result["inputs"], result["rows"], result["top"], result["part"]) == (12, 4, 4, 1)
    assert 1e-5 < result["mean"] < result["most"] < 0.2
    kinds = {node["op"] for node in json.loads(result["symbol"])["nodes"]}
    assert "_sg_mkldnn_conv" in kinds
    assert "Convolution" not in kinds


@pytest.mark.parametrize(
    ("script", "message"),
    [
        pytest.param(
            "import no_such_library",
            "the model does not load: script: ModuleNotFoundError: No module named "
            "'no_such_library' (code/inference.py, line 1)",
            id="does not load",
        ),
        pytest.param(
            PICKY,
            "00.npy gets 400: input_fn refused the body: photos of cats, please",
            id="input_fn refuses",
        ),
        pytest.param(PYTHON, "00.npy runs no graphs that could be recorded", id="Python"),
        pytest.param(OWN, "00.npy runs no graphs that could be recorded", id="no Block"),
        pytest.param(
            LISTS, "00.npy: input_fn does not return arrays; int8 needs arrays", id="no arrays"
        ),
        pytest.param(
            LISTS.replace('{"data": [data]}', "[[1.0]]"),
            "00.npy: input_fn does not return arrays; int8 needs arrays",
            id="a list of lists",
        ),
        pytest.param(
            TWO, "the calibration requests run different Blocks; int8 needs one", id="two Blocks"
        ),
        pytest.param(
            TANH, "MXNet quantizes none of the graph's operators: Activation", id="nothing"
        ),
    ],
)
def test_models_without_an_int8_graph(tmp_path, stripes, script, message):
    """The reason names the file, or the line of the script."""
    folder = model(tmp_path / "m", stripes, script)
    bodies = archive.calibration_requests(stripes.write(tmp_path / "photos", 2))
    assert trials.quantize(folder, bodies)["error"].startswith(message)


def test_a_fused_sum_is_not_quantized(tmp_path, monkeypatch):
    """MXNet's int8 convolution with a sum is off by 5 %; it reads this when it is imported."""
    monkeypatch.delenv("MXNET_DISABLE_MKLDNN_FUSE_CONV_SUM")
    assert "the folder does not exist" in trials.quantize(tmp_path / "none", [])["error"]
    assert os.environ["MXNET_DISABLE_MKLDNN_FUSE_CONV_SUM"] == "1"


# --- in an archive ---


@pytest.fixture(scope="module")
def packed(tmp_path_factory, stripes):
    """The archive of the ResNet, with its int8 graph."""
    folder = tmp_path_factory.mktemp("packed")
    photos = archive.calibration_requests(stripes.write(folder / "photos"))
    return archive.pack(
        model(folder / "m", stripes, LOAD),
        folder / "m.mar",
        sample=photos[0].path,
        quantizer=lambda unpacked: archive.quantize(unpacked, photos),
    )


def load(folder, **fields):
    context = Context(folder.name, str(folder), None, 1, None, "")
    return loading.load(context, Settings(**fields)).pipeline


def runs_int8(block):
    """Whether a Block's forward was replaced by its int8 graph."""
    forward = block.forward
    return isinstance(forward, GraphForward) and forward.checked.name == "int8 graph of the Block"


def answered(pipeline, photo):
    """The prediction that a request with ``photo`` is answered with."""
    out = io.BytesIO()
    np.save(out, photo)
    (reply,) = pipeline.answer(
        [Request(out.getvalue(), "application/x-npy", "application/x-npy", {})]
    )
    return np.load(io.BytesIO(reply.body))


def test_the_manifest_has_its_record(packed):
    """With the measured differences; weights are not packed twice."""
    record = archive.verify(packed).quantized
    assert (record.type, record.symbol) == ("int8", "MAR-INF/int8-symbol.json")
    assert (record.requests, record.rows, record.same_top) == (12, 4, 4)
    assert (
        record.max_difference < 0.05
    )  # 0.1 where sums are fused with the convolutions before them
    with zipfile.ZipFile(packed) as mar:
        params = [name for name in mar.namelist() if name.endswith(".params")]
    assert params == ["net-0000.params"]


def test_a_worker_runs_it(packed, tmp_path, stripes, monkeypatch, caplog):
    """New photos are recognized as by the float graph, with other numbers."""
    monkeypatch.setattr(faster, "GAIN", 0)
    caplog.set_level(logging.INFO)
    archive.unpack(packed, tmp_path / "m")
    pipeline = load(tmp_path / "m")
    assert runs_int8(pipeline.model)
    (line,) = [line for line in caplog.messages if line.startswith("int8 graph of the Block: ")]
    assert " times as fast (" in line
    photos, kinds = stripes.photos(40, 77)
    prediction, expected = answered(pipeline, photos), stripes.scores(photos)
    assert 1e-5 < np.abs(prediction - expected).max() / np.abs(expected).max() < 0.1
    assert (prediction.argmax(axis=1) == kinds).mean() > 0.9


def test_a_worker_runs_that_of_a_module(model_dir, tmp_path, monkeypatch, caplog):
    """A Module of the default save, without a script: [1.5, 2] gives 10 + 1.5 + 4, 20 + 4.5 + 8."""
    monkeypatch.setattr(faster, "GAIN", 0)
    caplog.set_level(logging.INFO)
    folder, rows = model_dir(), tmp_path / "rows"
    rows.mkdir()
    for index in range(3):
        (rows / f"{index}.csv").write_text(f"{index},3\n{3 - index},-1\n")
    result = trials.quantize(folder, archive.calibration_requests(rows))
    assert (result["operators"], result["rows"], result["top"]) == (1, 2, 2)
    record = Quantized("int8", INT8, *(result[name] for name in QUANTIZED_KEYS[2:]))
    (tmp_path / "sample.csv").write_text("1,2\n")
    archive.pack(
        folder,
        tmp_path / "m.mar",
        sample=tmp_path / "sample.csv",
        quantizer=lambda unpacked: Int8Graph(record, result["symbol"].encode(), ""),
    )
    archive.unpack(tmp_path / "m.mar", tmp_path / "m")
    pipeline = load(tmp_path / "m")
    assert any(line.startswith("int8 graph of the Module: ") for line in caplog.messages)
    (reply,) = pipeline.answer([Request(b"1.5,2\n1,1\n", "text/csv", "application/json", {})])
    prediction = np.array(json.loads(reply.body))
    expected = np.array([[15.5, 32.5], [13, 27]])
    assert 1e-5 < np.abs(prediction - expected).max() < 1


@pytest.mark.parametrize("optimized", ["float", "off"])
def test_a_worker_that_must_not_use_it(packed, tmp_path, stripes, monkeypatch, optimized):
    """The setting optimize=float or off leaves the float graph."""
    monkeypatch.setattr(faster, "GAIN", 0)
    archive.unpack(packed, tmp_path / "m")
    pipeline = load(tmp_path / "m", optimize=optimized)
    photos, _ = stripes.photos(2, 77)
    expected = stripes.scores(photos)
    assert np.allclose(answered(pipeline, photos), expected, rtol=1e-4, atol=1e-4)


def test_a_worker_whose_model_is_another(packed, tmp_path, stripes, monkeypatch, caplog):
    """If the script loads other weights, the int8 graph is not near and not used."""
    monkeypatch.setattr(faster, "GAIN", 0)
    caplog.set_level(logging.INFO)
    archive.unpack(packed, tmp_path / "m")
    script = LOAD + "    net.collect_params()\n"
    script = script.replace("    return gluon", "    net = gluon").replace(
        "    net.collect_params()\n",
        "    [p.set_data(p.data() * 30) for name, p in net.collect_params().items() "
        "if name.endswith('dense0_bias') or name.endswith('conv0_weight')]\n    return net\n",
    )
    (tmp_path / "m" / "code" / "inference.py").write_text(script)
    pipeline = load(tmp_path / "m")
    assert not runs_int8(pipeline.model)
    assert "int8 graph of the Block: gives other values" in caplog.messages


def test_a_graph_that_does_not_agree(packed, tmp_path, stripes):
    """It is not packed unless less agreement is asked for; the message has the numbers."""
    archive.unpack(packed, tmp_path / "m")
    folder = stripes.write(tmp_path / "photos")
    for path in sorted(folder.iterdir()):
        if int(path.stem) % 3 != 2:  # those that give the ranges
            np.save(path, np.load(path) / 10_000)
    with pytest.raises(ArchiveError) as caught:
        archive.quantize(tmp_path / "m", archive.calibration_requests(folder))
    assert re.fullmatch(
        "the int8 graph of m does not agree with the model: top-1 agrees on [0-3] of 4 rows, "
        r"differences \d+\.\d% mean, \d+\.\d% at most, of the largest value; "
        r"at least 95% must agree \(--min-agreement\)",
        str(caught.value),
    )


# --- the folder of requests ---


def test_a_folder_of_requests(tmp_path):
    """In the order of their names, each with the type of its suffix."""
    for name in ("b.csv", "a.NPY", "c.json", "d.jsonl", ".hidden"):
        (tmp_path / name).write_text("1")
    requests = archive.calibration_requests(tmp_path)
    assert [(request.path.name, request.content_type) for request in requests] == [
        ("a.NPY", "application/x-npy"),
        ("b.csv", "text/csv"),
        ("c.json", "application/json"),
        ("d.jsonl", "application/jsonlines"),
    ]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda folder: None, "has no files; each file is a request to calibrate with"),
        (lambda folder: (folder / "a").mkdir(), "/a is not a file; a calibration folder may only"),
        (lambda folder: (folder / "a.tif").touch(), "/a.tif: unknown suffix; known are .csv"),
    ],
    ids=["empty", "a folder in it", "an unknown suffix"],
)
def test_a_folder_with_other_things(tmp_path, make, message):
    """The message names the file."""
    make(tmp_path)
    with pytest.raises(ArchiveError) as caught:
        archive.calibration_requests(tmp_path)
    assert message in str(caught.value)


def test_one_type_for_all(tmp_path):
    """A content type replaces what the suffixes tell."""
    (tmp_path / "a.tif").touch()
    ((_, kind),) = archive.calibration_requests(tmp_path, "image/png")
    assert kind == "image/png"
