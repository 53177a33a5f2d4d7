"""calibration, archive, loading: an int8 graph is made of requests, packed, and then tried."""

from __future__ import annotations

import io
import json
import logging
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
    """What making a graph sets is gone afterwards."""
    monkeypatch.setenv("MXNET_DISABLE_MKLDNN_FUSE_CONV_SUM", "1")


def model(folder, stripes, script):
    shutil.copytree(stripes.folder, folder)
    (folder / "code").mkdir()
    (folder / "code" / "inference.py").write_text(script)
    return folder


def test_a_graph_of_a_folder_of_photos(tmp_path, stripes):
    """Convolutions, sums and the last layer are in eight bits, and tell the stripes as before."""
    folder = model(tmp_path / "m", stripes, LOAD)
    found = trials.quantize(
        folder, archive.calibration_requests(stripes.write(tmp_path / "photos"))
    )
    assert found["operators"] == found["of"] >= 9
    assert (found["inputs"], found["rows"], found["top"], found["part"]) == (12, 4, 4, 1)
    assert 1e-5 < found["mean"] < found["most"] < 0.2
    kinds = {node["op"] for node in json.loads(found["symbol"])["nodes"]}
    assert "_sg_mkldnn_conv" in kinds
    assert "Convolution" not in kinds


@pytest.mark.parametrize(
    ("script", "said"),
    [
        pytest.param(
            "import no_such_library",
            "it would not load: script: ModuleNotFoundError: No module named 'no_such_library' "
            "(code/inference.py, line 1)",
            id="does not load",
        ),
        pytest.param(
            PICKY,
            "00.npy is answered 400: input_fn refused the body: photos of cats, please",
            id="input_fn refuses",
        ),
        pytest.param(PYTHON, "00.npy runs no graphs of the model that could be seen", id="Python"),
        pytest.param(OWN, "00.npy runs no graphs of the model that could be seen", id="no Block"),
        pytest.param(
            TANH, "MXNet quantizes none of the graph's operators: Activation", id="nothing"
        ),
    ],
)
def test_what_has_no_graph_in_eight_bits(tmp_path, stripes, script, said):
    """The reason names the file, or the line of the script."""
    folder = model(tmp_path / "m", stripes, script)
    bodies = archive.calibration_requests(stripes.write(tmp_path / "photos", 1))
    assert trials.quantize(folder, bodies)["error"].startswith(said)


# --- in an archive ---


@pytest.fixture(scope="module")
def packed(tmp_path_factory, stripes):
    """The archive of the ResNet, its int8 graph in it."""
    folder = tmp_path_factory.mktemp("packed")
    photos = archive.calibration_requests(stripes.write(folder / "photos"))
    return archive.pack(
        model(folder / "m", stripes, LOAD),
        folder / "m.mar",
        sample=photos[0].path,
        quantizer=lambda unpacked: archive.quantize(unpacked, photos),
    )


def load(folder, **chosen):
    context = Context(folder.name, str(folder), None, 1, None, "")
    return loading.load(context, Settings(**chosen)).pipeline


def runs_int8(block):
    """Whether a Block's forward was replaced by its int8 graph."""
    forward = block.forward
    return isinstance(forward, GraphForward) and forward.checked.name == "int8 graph of the Block"


def answered(pipeline, photo):
    out = io.BytesIO()
    np.save(out, photo)
    (reply,) = pipeline.answer(
        [Request(out.getvalue(), "application/x-npy", "application/x-npy", {})]
    )
    return np.load(io.BytesIO(reply.body))


def test_the_manifest_tells_of_it(packed):
    """With how it did; weights are not packed twice."""
    told = archive.verify(packed).quantized
    assert (told.type, told.symbol) == ("int8", "MAR-INF/int8-symbol.json")
    assert (told.requests, told.rows, told.same_top) == (12, 4, 4)
    assert told.max_difference < 0.05  # 0.1 where sums are fused with the convolutions before them
    with zipfile.ZipFile(packed) as mar:
        params = [name for name in mar.namelist() if name.endswith(".params")]
    assert params == ["net-0000.params"]


def test_a_worker_runs_it(packed, tmp_path, stripes, monkeypatch, caplog):
    """Other photos than those it was made of are told as before, by other numbers."""
    monkeypatch.setattr(faster, "GAIN", 0)
    caplog.set_level(logging.INFO)
    archive.unpack(packed, tmp_path / "m")
    pipeline = load(tmp_path / "m")
    assert runs_int8(pipeline.model)
    (line,) = [one for one in caplog.messages if one.startswith("int8 graph of the Block: ")]
    assert " times as fast (" in line
    photos, kinds = stripes.photos(40, 77)
    found, wanted = answered(pipeline, photos), stripes.scores(photos)
    assert 1e-5 < np.abs(found - wanted).max() / np.abs(wanted).max() < 0.1
    assert (found.argmax(axis=1) == kinds).mean() > 0.9


def test_a_worker_runs_a_modules(model_dir, tmp_path, monkeypatch, caplog):
    """That of the default save, without a script: [1.5, 2] is 10 + 1.5 + 4 and 20 + 4.5 + 8."""
    monkeypatch.setattr(faster, "GAIN", 0)
    caplog.set_level(logging.INFO)
    folder, rows = model_dir(), tmp_path / "rows"
    rows.mkdir()
    for place in range(3):
        (rows / f"{place}.csv").write_text(f"{place},3\n{3 - place},-1\n")
    found = trials.quantize(folder, archive.calibration_requests(rows))
    assert (found["operators"], found["rows"], found["top"]) == (1, 2, 2)
    told = Quantized("int8", INT8, *(found[name] for name in QUANTIZED_KEYS[2:]))
    (tmp_path / "sample.csv").write_text("1,2\n")
    archive.pack(
        folder,
        tmp_path / "m.mar",
        sample=tmp_path / "sample.csv",
        quantizer=lambda unpacked: Int8Graph(told, found["symbol"].encode(), ""),
    )
    archive.unpack(tmp_path / "m.mar", tmp_path / "m")
    pipeline = load(tmp_path / "m")
    assert any(one.startswith("int8 graph of the Module: ") for one in caplog.messages)
    (reply,) = pipeline.answer([Request(b"1.5,2\n1,1\n", "text/csv", "application/json", {})])
    given = np.array(json.loads(reply.body))
    wanted = np.array([[15.5, 32.5], [13, 27]])
    assert 1e-5 < np.abs(given - wanted).max() < 1


@pytest.mark.parametrize("optimized", ["float", "off"])
def test_a_worker_that_is_to_leave_it_alone(packed, tmp_path, stripes, monkeypatch, optimized):
    """It computes in floats."""
    monkeypatch.setattr(faster, "GAIN", 0)
    archive.unpack(packed, tmp_path / "m")
    pipeline = load(tmp_path / "m", optimize=optimized)
    photos, _ = stripes.photos(2, 77)
    wanted = stripes.scores(photos)
    assert np.allclose(answered(pipeline, photos), wanted, rtol=1e-4, atol=1e-4)


def test_a_worker_whose_model_is_another(packed, tmp_path, stripes, monkeypatch, caplog):
    """Where the script loads other weights, the graph is not near, and not used."""
    monkeypatch.setattr(faster, "GAIN", 0)
    caplog.set_level(logging.INFO)
    archive.unpack(packed, tmp_path / "m")
    other = LOAD + "    net.collect_params()\n"
    other = other.replace("    return gluon", "    net = gluon").replace(
        "    net.collect_params()\n",
        "    [one.set_data(one.data() * 30) for name, one in net.collect_params().items() "
        "if name.endswith('dense0_bias') or name.endswith('conv0_weight')]\n    return net\n",
    )
    (tmp_path / "m" / "code" / "inference.py").write_text(other)
    pipeline = load(tmp_path / "m")
    assert not runs_int8(pipeline.model)
    assert "int8 graph of the Block: gives other values" in caplog.messages


def test_a_graph_that_does_not_agree(packed, tmp_path, stripes):
    """It is not packed, unless less is wanted; the numbers are said."""
    archive.unpack(packed, tmp_path / "m")
    folder = stripes.write(tmp_path / "photos")
    for path in sorted(folder.iterdir()):
        if int(path.stem) % 3 != 2:  # those that say what values come
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
    """In the order of their names, each of the type that its suffix tells."""
    for name in ("b.csv", "a.NPY", "c.json", "d.jsonl", ".hidden"):
        (tmp_path / name).write_text("1")
    assert [
        (one.path.name, one.content_type) for one in archive.calibration_requests(tmp_path)
    ] == [
        ("a.NPY", "application/x-npy"),
        ("b.csv", "text/csv"),
        ("c.json", "application/json"),
        ("d.jsonl", "application/jsonlines"),
    ]


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda folder: None, "has no files; each file is a request to calibrate with"),
        (lambda folder: (folder / "a").mkdir(), "/a is not a file; a calibration folder may only"),
        (lambda folder: (folder / "a.tif").touch(), "/a.tif: unknown suffix; known are .csv"),
    ],
    ids=["empty", "a folder in it", "an unknown suffix"],
)
def test_a_folder_that_is_not_of_requests(tmp_path, make, said):
    """The file is named; a content type that is given says what all are."""
    make(tmp_path)
    with pytest.raises(ArchiveError) as caught:
        archive.calibration_requests(tmp_path)
    assert said in str(caught.value)


def test_one_type_for_all(tmp_path):
    """Whatever their suffixes."""
    (tmp_path / "a.tif").touch()
    ((_, kind),) = archive.calibration_requests(tmp_path, "image/png")
    assert kind == "image/png"
