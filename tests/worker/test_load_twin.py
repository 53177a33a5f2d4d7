"""trials, loading: an ONNX twin is made, packed, and answers in a worker, without MXNet if it can.

The tests' own process has imported MXNet.  So another one, which has not, forks itself for each
folder and tells what a worker does there.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys

import mxnet as mx
import numpy as np
import pytest

from mms_handler import archive, manifest, models
from mms_handler.archive.samples import from_file
from mms_handler.archive.twin import make_twin
from mms_handler.errors import ArchiveError
from mms_handler.manifest import MANIFEST, TWIN
from mms_handler.models.arrays import Arrays

#: Loads each folder in a process of its own, and writes what it did and answered as JSON.
HARNESS = """
import dataclasses, json, logging, os, sys
from pathlib import Path
from mms_handler import numpy_import
numpy_import.postpone()
from mms_handler.settings import Settings
from mms_handler.worker import engine, loading
from mms_handler.worker.request import request_without_mms
from mms_handler.worker.trials import context_of

class Lines(logging.Handler):
    def emit(self, record):
        lines.append(record.getMessage())

def report(folder, options):
    if options.pop("no_onnx", False):
        sys.modules["onnxruntime"] = None
    logging.getLogger("mms_handler").setLevel(logging.INFO)
    logging.getLogger("mms_handler").addHandler(Lines())
    bodies = options.pop("bodies")
    if options.pop("any_speed", False):
        from mms_handler.models.graphs import faster
        faster.GAIN = 0
    context = context_of(Path(folder))
    loaded = loading.load(context, Settings(threads=1, **options))
    had_mxnet = "mxnet" in sys.modules
    had_all_numpy = numpy_import.random() is not None
    answers = []
    for body in bodies:
        request = request_without_mms(context, body.encode(), "application/json", "", "r")
        (reply,) = loaded.pipeline.answer([request])
        answers.append(json.loads(reply.body) if hasattr(reply, "body") else str(reply.exc))
    return {
        "mxnet": had_mxnet, "mxnet_after": "mxnet" in sys.modules, "numpy": had_all_numpy,
        "answers": answers, "engine": engine.of(loaded.pipeline), "log": lines,
    }

lines = []
for folder, options in json.loads(sys.stdin.read()):
    assert "mxnet" not in sys.modules
    pid = os.fork()
    if not pid:
        os.chdir(folder)
        try:
            result = report(folder, options)
        except BaseException as exc:
            result = {"error": repr(exc)}
        Path(folder, "report").write_text(json.dumps(result))
        os._exit(0)
    os.waitpid(pid, 0)
"""

BODY = "[[0.5, -1, 2, 0.25]]"

INPUT = """
import json
import numpy as np

def input_fn(data, content_type):
    return np.array(json.loads(data), np.float64)
"""

OUTPUT = """
def output_fn(prediction, accept):
    return "[%d]" % prediction.argmax(axis=1).asscalar()
"""

#: Loads MXNet though no file has its name.
HIDDEN = (
    INPUT
    + """
import importlib
importlib.import_module("mx" + "net")
"""
)

SCRIPTS = {
    "input": INPUT,
    "onnx": "import onnxruntime\n" + INPUT,
    "model": INPUT.replace("content_type", "content_type, net"),
    "imports": "import mxnet\n" + INPUT,
    "hidden": HIDDEN,
    "output": OUTPUT,
    "own": "def predict_fn(data, net):\n    return data\n",
}


def net(seed, inputs=4):
    mx.random.seed(seed)
    x = mx.sym.FullyConnected(mx.sym.var("data"), num_hidden=3, name="fc")
    module = mx.mod.Module(mx.sym.softmax(mx.sym.relu(x), name="softmax"), label_names=None)
    module.bind([("data", (1, inputs))], for_training=False)
    module.init_params(mx.init.Normal(1))
    return module


def packed(folder):
    """Pack a model with its twin, and unpack it as ``serve`` does."""
    models.save(net(0), folder / "source")
    (folder / "sample.json").write_text(BODY)
    target = archive.pack(
        folder / "source", folder / "net0.mar", sample=folder / "sample.json",
        trial=archive.try_sample, twin_maker=archive.make_twin,
    )  # fmt: skip
    archive.unpack(target, folder / "net0")
    return folder / "net0"


def edit(folder, **changes):
    """Change the twin's entry in a manifest."""
    path = folder / MANIFEST
    text = json.loads(path.read_text())
    text["mms_handler"]["twin"].update(changes)
    path.write_text(json.dumps(text))


def environment(home):
    """This process's, with a home of its own, where ONNX Runtime may upload what it likes."""
    quiet = {"CI", "GITHUB_ACTIONS", "TF_BUILD", "ORT_DISABLE_TELEMETRY"}
    usual = {name: value for name, value in os.environ.items() if name not in quiet}
    return {**usual, "HOME": str(home)}


@pytest.fixture(scope="module")
def net0(tmp_path_factory):
    """An unpacked archive with a twin."""
    return packed(tmp_path_factory.mktemp("packed"))


@pytest.fixture(scope="module")
def reports(net0, tmp_path_factory):
    """What workers say of several folders, by their names."""
    top = tmp_path_factory.mktemp("folders")
    cases = {}

    def case(name, **options):
        folder = top / name
        shutil.copytree(net0, folder)
        edit(folder, gain=2)
        cases[name] = (folder, {"bodies": [BODY], **options})
        return folder

    case("plain", bodies=[BODY, "[[1, 2]]", "[]", "[[1, null, 2, 3]]"])
    case("off", engine="mxnet", bodies=[BODY, "[[1, 2]]", "[]", "[[1, null, 2, 3]]"])
    case("missing extra", no_onnx=True)
    edit(case("slower"), gain=0.5)
    content = bytearray((case("tampered") / TWIN).read_bytes())
    content[-3] ^= 1
    (top / "tampered" / TWIN).write_bytes(content)
    (case("gone") / TWIN).unlink()
    edit(case("not onnx"), sha256=hashlib.sha256(b"x").hexdigest())
    (top / "not onnx" / TWIN).write_bytes(b"x")
    for name, inputs in (("disagreeing", 4), ("failing", 5)):
        other, sample = net(1, inputs), Arrays([np.ones((1, inputs), np.float32)])
        _, content = models.make_twin(other, models.make_predictor(other, mx.cpu(), True), sample)
        edit(case(name), sha256=hashlib.sha256(content).hexdigest())
        (top / name / TWIN).write_bytes(content)
    path = case("long reply") / MANIFEST
    text = json.loads(path.read_text())
    reply = text["mms_handler"]["sample"]["reply"]
    reply["sha256"] = hashlib.sha256(reply.pop("body").encode()).hexdigest()
    path.write_text(json.dumps(text))
    for name, script in SCRIPTS.items():
        engine = "mxnet" if name == "onnx" else "auto"
        folder = case(name, any_speed=name != "input", engine=engine)  # any speed imports MXNet
        (folder / "code").mkdir()
        (folder / "code" / "inference.py").write_text(script)
    given = json.dumps([(str(folder), options) for folder, options in cases.values()])
    subprocess.run(
        [sys.executable, "-c", HARNESS], input=given, text=True, check=True, timeout=300,
        stderr=subprocess.DEVNULL, env=environment(top),
    )  # fmt: skip
    return {
        name: json.loads((folder / "report").read_text()) for name, (folder, _) in cases.items()
    }


def expected():
    """What the net gives, computed by NumPy."""
    weight, bias = (net(0).get_params()[0][f"fc_{name}"].asnumpy() for name in ("weight", "bias"))
    hidden = np.maximum(np.array([0.5, -1, 2, 0.25]) @ weight.T + bias, 0)
    return (np.exp(hidden) / np.exp(hidden).sum()).tolist()


def refused(report):
    """Why the twin is not used, as the log says; MXNet answers."""
    assert (report["mxnet"], report["engine"]) == (True, "mxnet")
    assert report["answers"][0][0] == pytest.approx(expected(), abs=1e-6)
    start = "MXNet answers, not the model's ONNX twin: "
    (line,) = [line for line in report["log"] if line.startswith(start)]
    return line[len(start) :]


def test_the_twin_answers_without_mxnet(reports):
    """MXNet is imported for NaN, which it treats in its own way; an error needs no MXNet."""
    plain, off = reports["plain"], reports["off"]
    assert (plain["mxnet"], plain["mxnet_after"], plain["engine"]) == (False, True, "onnx")
    assert (plain["numpy"], off["numpy"]) == (False, True)
    assert plain["log"] == [
        "the model's ONNX twin answers, without MXNet",
        "MXNet is imported for a request that the ONNX twin does not answer",
    ]
    assert plain["answers"][0][0] == pytest.approx(expected(), abs=1e-6)
    assert plain["answers"][1:3] == off["answers"][1:3]
    assert "the model takes (N, 4), the body has (1, 2)" in plain["answers"][1]
    assert plain["answers"][3] == off["answers"][3]


def test_a_setting_turns_it_off(reports):
    assert refused(reports["off"]) == "MMS_HANDLER_ENGINE=mxnet"


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("missing extra", "ONNX Runtime is not installed: pip install 'mms_handler[onnx]'"),
        ("slower", "its ONNX twin was 0.50 times as fast when it was packed"),
        ("tampered", "MAR-INF/twin.onnx was changed after packing: its hash differs"),
        ("gone", "MAR-INF/twin.onnx cannot be read: No such file or directory"),
        ("disagreeing", "its reply to the sample differs by more than 1e-05"),
        ("failing", "it fails for the sample"),
        ("long reply", "no reply to a sample was packed whole"),
        ("own", "a function of the script loads or runs the model"),
    ],
)
def test_a_twin_that_is_not_used(reports, name, reason):
    """The log says why."""
    if name == "own":
        reports[name]["answers"] = [[expected()]]
    assert refused(reports[name]) == reason


def test_a_file_that_is_no_model(reports):
    assert refused(reports["not onnx"]).startswith("ONNX Runtime does not take the twin: ")


def test_onnx_runtime_uploads_nothing(reports, tmp_path_factory):
    """Nor where a script alone imports it; it would keep an identifier in the home folder."""
    assert reports["onnx"]["answers"][0][0] == pytest.approx(expected(), abs=1e-6)
    assert not list(tmp_path_factory.getbasetemp().glob("folders*/.cache/**/*onnxruntime*"))


def test_an_input_fn_that_needs_no_mxnet(reports):
    report = reports["input"]
    assert (report["mxnet"], report["mxnet_after"], report["engine"]) == (False, False, "onnx")
    assert report["numpy"]
    assert report["answers"][0][0] == pytest.approx(expected(), abs=1e-6)


@pytest.mark.parametrize("name", ["model", "imports", "hidden", "output"])
def test_a_script_that_needs_mxnet(reports, name):
    """MXNet is imported, and the twin compared with it."""
    report = reports[name]
    assert (report["mxnet"], report["engine"]) == (True, "onnx")
    assert "the model's ONNX twin answers" in report["log"]
    answer = report["answers"][0]
    if name == "output":
        assert answer == [int(np.argmax(expected()))]
    else:
        assert answer[0] == pytest.approx(expected(), abs=1e-6)


# --- packing ---------------------------------------------------------------------------------


def test_what_is_packed(net0):
    """The entry says what was proved; check sends the sample to MXNet."""
    entry = manifest.read_folder(net0).twin
    content = (net0 / TWIN).read_bytes()
    assert entry._replace(difference=0, gain=0, max_rows=0, cases=0) == manifest.Twin(
        file=TWIN, sha256=hashlib.sha256(content).hexdigest(), inputs=["data"], shapes=[[4]],
        fixed=True, outputs=["softmax_output"], max_rows=0, cases=0, difference=0, tolerance=1e-5,
        gain=0,
    )  # fmt: skip
    assert 0 <= entry.difference <= 1e-5
    assert entry.gain > 0
    assert archive.check(net0).failure is None


def test_without_a_sample(net0):
    with pytest.raises(ArchiveError, match=r"--engine onnx needs a request .* add --sample FILE"):
        make_twin(net0, None)


def refusal(folder, symbol, script="", bound=True):
    """Why no twin of a model is packed."""
    module = mx.mod.Module(symbol, label_names=None)
    module.bind([("data", (1, 4))], for_training=False)
    module.init_params()
    models.save(module, folder / "net")
    if not bound:
        (folder / "net" / "model-shapes.json").unlink()
    if script:
        (folder / "net" / "code").mkdir()
        (folder / "net" / "code" / "inference.py").write_text(script)
    (folder / "sample.json").write_text("[[1, 2, 3, 4]]")
    with pytest.raises(ArchiveError) as caught:
        make_twin(folder / "net", from_file(folder / "sample.json"))
    return str(caught.value)


def test_a_model_whose_rows_depend_on_one_another(tmp_path):
    x = mx.sym.FullyConnected(mx.sym.var("data"), num_hidden=3)
    symbol = mx.sym.broadcast_sub(x, mx.sym.mean(x, axis=0, keepdims=True))
    text = refusal(tmp_path, symbol, bound=False)
    assert text == (
        "cannot make an ONNX twin of net: the rows of its batches depend on one another, or take "
        "no other number of rows"
    )


def test_a_script_with_its_own_predict_fn(tmp_path):
    text = refusal(tmp_path, mx.sym.relu(mx.sym.var("data")), SCRIPTS["own"])
    assert text == (
        "cannot make an ONNX twin of net: a twin replaces the default model_fn and predict_fn; the "
        "script has its own"
    )
