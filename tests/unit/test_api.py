"""api: what ``import mms_handler`` gives, with real models in this process."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import mxnet as mx
import numpy as np
import pytest

import mms_handler
from mms_handler import archive
from mms_handler.codecs import compiled
from mms_handler.errors import (
    ArchiveError,
    BadInput,
    LoadError,
    NotAcceptable,
    ScriptError,
    SettingsError,
    TrainingError,
)

SCRIPT = """
import json
import os
import mxnet as mx

def model_fn(model_dir):
    net = mx.gluon.nn.Dense(2, in_units=2, use_bias=False)
    net.load_parameters("net.params")  # from the working directory
    return net

def input_fn(body, content_type):
    if "bad" in body:
        raise ValueError("a bad body")
    return mx.nd.array(json.loads(body))

def predict_fn(data, model, context):
    if data.shape[0] == 3:
        raise KeyError("three rows")
    context.set_response_header(0, "X-Rows", str(data.shape[0]))
    return model(data) * 2

def output_fn(prediction, accept):
    return json.dumps(prediction.asnumpy().tolist()), "application/json; own=1"
"""


@pytest.fixture
def model(model_dir):
    return mms_handler.load(model_dir(SCRIPT))


def test_importing_the_package_imports_nothing_else():
    """Seen in a fresh process: no module of ours, no mxnet, no numpy."""
    code = (
        "import sys; import mms_handler; print(sorted(name for name in sys.modules "
        "if name.startswith('mms_handler.') or name in ('mxnet', 'numpy')))"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "[]\n"


def test_every_public_name_can_be_had():
    assert set(mms_handler.__all__) <= set(dir(mms_handler))
    for name in mms_handler.__all__:
        assert getattr(mms_handler, name).__doc__, name
    with pytest.raises(AttributeError, match="^module 'mms_handler' has no attribute 'commands'$"):
        mms_handler.commands  # noqa: B018  # a module of api, which is not public
    with pytest.raises(AttributeError, match="no attribute 'unload'"):
        mms_handler.unload  # noqa: B018


def test_a_model_without_a_script_answers(model_dir):
    """A Module with weight [[1, 2], [3, 4]] and bias [10, 20], by the defaults."""
    reply = mms_handler.load(model_dir()).answer(b"1,2\n0,0\n", "text/csv", "application/json")
    assert (reply.status, reply.content_type) == (200, "application/json")
    assert json.loads(reply.body) == [[15.0, 31.0], [10.0, 20.0]]


def test_an_answer_is_what_a_client_gets(model):
    """Status, the headers that the script sets, and the body; text is sent as UTF-8."""
    reply = model.answer("[[1, 2]]")
    assert reply == (
        200,
        {"x-rows": "1", "content-type": "application/json; own=1"},
        b"[[10.0, 22.0]]",
    )


@pytest.mark.parametrize(
    ("request_", "status", "type_", "message"),
    [
        pytest.param(["bad"], 400, "BadInput", "input_fn refused the body: a bad body", id="body"),
        pytest.param(
            ["[[1, 2], [1, 2], [1, 2]]"],
            500,
            "KeyError",
            "the model failed with KeyError; see the server's log",
            id="a bug of the script",
        ),
    ],
)
def test_a_request_that_fails_gets_its_fault(model, request_, status, type_, message):
    """And the next request is answered."""
    reply = model.answer(*request_)
    assert (reply.status, reply.content_type) == (status, "application/json")
    fault = json.loads(reply.body)
    assert (fault["code"], fault["type"], fault["message"]) == (status, type_, message)
    assert model.answer("[[1, 2]]").status == 200


def test_a_failure_can_be_raised_instead(model):
    """And told as in the server's log: a client's without a traceback."""
    with pytest.raises(KeyError, match="three rows") as raised:
        model.answer("[[1, 2], [1, 2], [1, 2]]", raises=True)
    status, reason, traceback = model.failure(raised.value)
    assert (status, reason) == (500, "KeyError: 'three rows' (code/inference.py, line 18)")
    assert traceback.splitlines()[1].endswith('code/inference.py", line 18, in predict_fn')
    assert model.failure(BadInput("no")) == (400, "no", "")


def test_a_body_that_the_script_cannot_read(model_dir):
    """The client's fault, or a bug: the author sees the exception and its line."""
    source = "def input_fn(body, content_type):\n    return {}['a name']\n"
    model = mms_handler.load(model_dir(source))
    with pytest.raises(BadInput) as raised:
        model.answer("[[1, 2]]", raises=True)
    assert model.failure(raised.value) == (
        400,
        "input_fn cannot read the body: KeyError; from KeyError: 'a name' (code/inference.py, "
        "line 2)",
        "",
    )


def test_times_and_functions(model):
    """Of each phase of loading, and of each step of the latest request."""
    assert {"mxnet", "script", "model_fn", "functions"} <= set(model.load_s)
    model.answer("[[1, 2]]")
    assert list(model.answer_s) == ["input_fn", "predict_fn", "output_fn"]
    model.answer("bad")
    assert list(model.answer_s) == ["input_fn"]
    assert model.functions == {"input_fn": False, "predict_fn": False, "output_fn": False}


def test_the_sample_and_the_schema(model_dir, tmp_path):
    """The packed one, or zeros in the shapes that the default save wrote, or none."""
    folder = model_dir()
    loaded = mms_handler.load(folder)
    assert loaded.sample == (b"[[0, 0]]", "application/json", "*/*")
    assert [str(tensor) for tensor in loaded.schema.inputs] == ["data (N, 2) FP32"]
    (tmp_path / "row.csv").write_text("1,2")
    archive.pack(folder, tmp_path / "packed.mar", sample=tmp_path / "row.csv", accept="text/csv")
    assert mms_handler.load(tmp_path / "packed.mar").sample == (b"1,2", "text/csv", "text/csv")
    (tmp_path / "model-shapes.json").unlink()
    assert mms_handler.load(folder).sample is None


def test_a_script_is_used_where_it_lies(model_dir, tmp_path_factory, caplog):
    """Instead of the model's own; the log has its place and its lines."""
    folder = model_dir("raise ValueError('not this one')")
    script = tmp_path_factory.mktemp("project") / "mine.py"
    script.write_text(SCRIPT)
    model = mms_handler.load(folder, script=script)
    assert model.answer("[[1, 2], [1, 2], [1, 2]]").status == 500
    assert "KeyError: 'three rows' (mine.py, line 18)" in caplog.messages[-1]
    assert f'File "{script}", line 18, in predict_fn' in caplog.messages[-1]
    assert "mms_handler/" not in caplog.messages[-1]


def test_the_steps_can_be_called_alone(model):
    """Each gives what the script's function returns."""
    data = model.input_fn("[[1, 2]]")
    assert data.asnumpy().tolist() == [[1, 2]]
    prediction = model.predict_fn(data)
    assert prediction.asnumpy().tolist() == [[10, 22]]
    assert model.output_fn(prediction) == ("[[10.0, 22.0]]", "application/json; own=1")
    with pytest.raises(BadInput, match="a bad body"):
        model.input_fn("bad")


def test_the_default_steps_can_be_called_alone(model_dir):
    """What goes between them are arrays."""
    model = mms_handler.load(model_dir())
    data = model.input_fn(b"1,2\n", "text/csv")
    assert np.array_equal(data, [[[1, 2]]])
    prediction = model.predict_fn(data)
    assert np.array_equal(prediction, [[15, 31]])
    assert model.output_fn(prediction, "text/csv") == (b"15.0,31.0\r\n", "text/csv")
    with pytest.raises(NotAcceptable, match="^cannot write 'image/png', only application/json"):
        model.output_fn(prediction, "image/png")


def test_a_transform_fn_has_no_steps(model_dir):
    """It says which function takes the request."""
    model = mms_handler.load(
        model_dir("def model_fn(d): return 1\ndef transform_fn(m, data, c, a): return data, 'a/b'")
    )
    assert model.answer(b"x", "text/plain") == (200, {"content-type": "a/b"}, b"x")
    for step in (model.input_fn, model.predict_fn, model.output_fn):
        with pytest.raises(
            ScriptError, match="alone: the script.s transform_fn takes the request; call answer"
        ):
            step("x")


def test_headers_and_the_model_are_the_scripts(model_dir):
    """A header goes to the script; what model_fn returned is the attribute."""
    model = mms_handler.load(
        model_dir(
            "def model_fn(model_dir): return {'a': 1}\n"
            "def transform_fn(model, data, content_type, accept, headers):\n"
            "    return headers['x-who'] + content_type + accept, 'text/plain'\n"
        )
    )
    assert model.model == {"a": 1}
    reply = model.answer(b"", "a/b", "c/d", headers={"X-Who": "me "})
    assert reply.body == b"me a/bc/d"


def test_an_archive_is_loaded(model_dir, tmp_path):
    """It is unpacked for as long as the model lives."""
    archive.pack(model_dir(), tmp_path / "packed.mar")
    model = mms_handler.load(tmp_path / "packed.mar")
    unpacked = Path(model._folder)
    assert json.loads(model.answer("[[1, 2]]").body) == [[15.0, 31.0]]
    assert unpacked.is_dir()
    del model
    assert not unpacked.exists()


def test_a_model_tar_gz_is_loaded(model_dir, tmp_path):
    """Its mistakes have its name."""
    archive.pack_tar(model_dir(SCRIPT), tmp_path / "model.tar.gz")
    model = mms_handler.load(tmp_path / "model.tar.gz")
    assert model.answer("[[1, 2]]").body == b"[[10.0, 22.0]]"
    with pytest.raises(KeyError) as raised:
        model.answer("[[1, 2], [1, 2], [1, 2]]", raises=True)
    assert f'"{tmp_path}/model.tar.gz/code/inference.py"' in model.failure(raised.value)[2]


def test_an_archive_with_a_handler_of_its_own_is_refused(model_dir, tmp_path_factory):
    """The default functions would answer something else than the server; a script is used."""
    folder = model_dir()
    (folder / "service.py").write_text("def handle(batch, context): return batch and ['own']")
    (folder / "MAR-INF").mkdir()
    model = {"modelName": "own", "handler": "service"}
    (folder / "MAR-INF" / "MANIFEST.json").write_text(json.dumps({"model": model}))
    with pytest.raises(LoadError, match="handler of its own, service, which only a server runs"):
        mms_handler.load(folder)
    script = tmp_path_factory.mktemp("project") / "mine.py"
    script.write_text(SCRIPT)
    assert mms_handler.load(folder, script=script).answer("[[1, 2]]").status == 200


def test_the_working_directory_is_the_callers(model, tmp_path):
    """The script's folder is it only while the script runs."""
    here = Path.cwd()
    model.answer("[[1, 2]]")
    assert Path.cwd() == here != tmp_path


def test_what_does_not_load_says_why(model_dir, tmp_path):
    """The phase, the exception and the script's line; or what is not there; or not an archive."""
    with pytest.raises(LoadError, match=r"model_fn: ValueError: no .code/inference.py, line 2"):
        mms_handler.load(model_dir("def model_fn(model_dir):\n    raise ValueError('no')\n"))
    with pytest.raises(LoadError, match=r"nowhere does not exist; pass a folder or a \.mar"):
        mms_handler.load(tmp_path / "nowhere")
    (tmp_path / "text.mar").write_text("no zip")
    with pytest.raises(ArchiveError, match=r"^text\.mar cannot be unpacked: "):
        mms_handler.load(tmp_path / "text.mar")


@pytest.mark.parametrize("hook", ["model_fn", "predict_fn"])
def test_a_breakpoint_stops_in_the_script_and_quitting_ends(model_dir, tmp_path, hook):
    """Under ``python -m pdb``: the value is shown, and nothing runs after ``q``."""
    script = """
def model_fn(model_dir):
    here = "model_fn"
    BREAK_IN_model_fn
    return 1

def predict_fn(data, model):
    here = "predict_fn"
    BREAK_IN_predict_fn
    return data
"""
    model_dir(re.sub("BREAK_IN_.*", "pass", script.replace(f"BREAK_IN_{hook}", "breakpoint()")))
    program = tmp_path / "program.py"
    program.write_text(
        f"import mms_handler\nmodel = mms_handler.load({str(tmp_path)!r})\n"
        "model.answer('[[1, 2]]')\nprint('not', 'reached')\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "pdb", "-c", "c", str(program)],
        input="p 'stopped in ' + here\nq\nq\n",
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
    )
    assert f"stopped in {hook}" in done.stdout
    assert "not reached" not in done.stdout


def test_a_gpu_that_is_not_there_is_named(model_dir):
    if mx.context.num_gpus() if mx.runtime.Features().is_enabled("CUDA") else 0:
        pytest.skip("this machine has one")
    with pytest.raises(LoadError, match="GPU 0"):
        mms_handler.load(model_dir(), gpu_id=0)


# --- check -----------------------------------------------------------------------------------


def test_a_model_is_checked(model_dir, tmp_path):
    """In another process; what it prints about the engine is not shown."""
    (tmp_path / "row.csv").write_text("1,2")
    report = mms_handler.check(model_dir(), sample=tmp_path / "row.csv")
    assert report.failure is None
    assert dict(report.details)["reply"] == "200 application/json: [[15.0, 31.0]]"
    assert [question.holds for question in report.questions] == [True, True]


def test_a_script_that_trains_is_checked_alone(tmp_path):
    """How it would be trained is a detail; what is missing is the failure, with both next steps."""
    path = tmp_path / "script.py"
    path.write_text(TRAIN)
    report = mms_handler.check(path)
    assert dict(report.details)["train"].startswith("legacy mode: script.py defines train()")
    assert report.failure == (
        f"{path} is a script without a model; to check it with one: mms-handler check MODEL_DIR "
        f"--script {path}; to train one: mms-handler train --entry-point {path}"
    )


# --- pack and train --------------------------------------------------------------------------


def test_a_model_is_packed_after_it_answered(model_dir, tmp_path, caplog):
    """The archive has the sample with its reply, and the sample is answered when it is loaded.

    The script sets a header of its reply: the sample has a context of MMS's, like any request.
    """
    (tmp_path / "row.csv").write_text("1,2\n")
    folder = model_dir(SCRIPT.replace("json.loads(body)", "[[float(x) for x in body.split(',')]]"))
    target = tmp_path / "packed.mar"
    packed = mms_handler.pack(folder, target, sample=tmp_path / "row.csv")
    assert packed == target
    entry = archive.verify(target)
    assert (entry.name, entry.sample.content_type, entry.sample.reply["status"]) == (
        "packed",
        "text/csv",
        200,
    )
    with pytest.raises(ArchiveError, match="exists"):
        mms_handler.pack(folder, target)
    mms_handler.pack(folder, target, sample=tmp_path / "row.csv", force=True)
    model = mms_handler.load(target)
    assert not [message for message in caplog.messages if "sample" in message]
    assert model.answer("1,2", "text/csv").headers["x-rows"] == "1"


def test_a_model_that_does_not_load_is_not_packed(model_dir, tmp_path):
    with pytest.raises(ArchiveError, match="weights are gone"):
        mms_handler.pack(
            model_dir("def model_fn(model_dir): raise ValueError('weights are gone')"),
            tmp_path / "packed.mar",
        )
    assert not (tmp_path / "packed.mar").exists()


TRAIN = """
import json, os
import mxnet as mx

def train(hyperparameters, channel_input_dirs, output_data_dir):
    with open(os.path.join(output_data_dir, "seen.json"), "w") as file:
        json.dump([hyperparameters, sorted(os.listdir(channel_input_dirs["train"]))], file)
    net = mx.gluon.nn.Dense(1, in_units=2)
    net.initialize(mx.init.One())
    net.hybridize()
    net(mx.nd.ones((1, 2)))
    return net
"""


def test_a_script_is_trained_and_its_model_answers(tmp_path):
    """The default save writes what train returned; load reads it."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "rows.csv").touch()
    (tmp_path / "script.py").write_text(TRAIN)
    folder = mms_handler.train(
        str(tmp_path / "script.py"),
        channels={"train": tmp_path / "data"},
        hyperparameters={"epochs": 3},
        base_dir=tmp_path / "base",
    )
    assert folder == tmp_path / "base" / "model"
    seen = json.loads((tmp_path / "base" / "output" / "data" / "seen.json").read_text())
    assert seen == [{"epochs": 3}, ["rows.csv"]]
    assert json.loads(mms_handler.load(folder).answer("[[3, 4]]").body) == [[7.0]]


def test_the_metrics_of_a_training(tmp_path):
    """In the files that are asked for; what is wrong with them is known before anything runs."""
    script = tmp_path / "script.py"
    script.write_text("for n in range(3): print(f'epoch {n}: loss {1 / (n + 1)}')\n")
    definitions = tmp_path / "definitions.json"
    definitions.write_text('[{"Name": "train:loss", "Regex": "loss (\\\\S+)"}]')
    files = {"metrics": tmp_path / "metrics.jsonl", "plot": tmp_path / "curve.png"}
    for more in ({}, {"metric_definitions": definitions}):
        mms_handler.train(str(script), base_dir=tmp_path / "base", **files, **more)
        entries = [json.loads(line) for line in files["metrics"].read_text().splitlines()]
        assert [entry["value"] for entry in entries] == [1, 1 / 2, 1 / 3]
        assert {entry["name"] for entry in entries} == {"train:loss" if more else "loss"}
        assert files["plot"].read_bytes().startswith(b"\x89PNG")
    with pytest.raises(TrainingError, match=r"^algo-1: reading the job: --plot draws \.svg and"):
        mms_handler.train(str(script), base_dir=tmp_path / "base", plot="curve.pdf")


def test_a_training_that_fails_raises(tmp_path):
    """The exception has the script's; the failure file has it too."""
    (tmp_path / "script.py").write_text("def train():\n    raise ValueError('no data')\n")
    with pytest.raises(TrainingError, match=r"ValueError: no data .script.py, line 2"):
        mms_handler.train(str(tmp_path / "script.py"), base_dir=tmp_path / "base")
    assert "no data" in (tmp_path / "base" / "output" / "failure").read_text()


def test_training_is_for_the_main_thread(tmp_path):
    """Another thread is told so before anything is run."""
    with ThreadPoolExecutor(1) as pool:
        training = pool.submit(mms_handler.train, "script.py", base_dir=tmp_path)
        with pytest.raises(TrainingError, match="main thread"):
            training.result()
    assert list(tmp_path.iterdir()) == []


def test_wrong_settings_are_named(monkeypatch):
    """A variable with an invalid value; seen before anything is started."""
    monkeypatch.setenv("SAGEMAKER_BIND_TO_PORT", "http")
    with pytest.raises(SettingsError, match="SAGEMAKER_BIND_TO_PORT"), mms_handler.serve():
        pass


def test_a_public_server_that_loads_models_needs_a_token(tmp_path, monkeypatch):
    """Everyone could load code otherwise."""
    monkeypatch.setenv("SAGEMAKER_MULTI_MODEL", "true")
    public = mms_handler.serve(tmp_path, host="0.0.0.0")
    with pytest.raises(SettingsError, match="everyone who reaches 0.0.0.0:8080"), public:
        pass


def test_the_compiled_core_is_used_unless_it_is_off(model_dir, monkeypatch):
    """Loading a model decides for its process."""
    installed = compiled.core
    monkeypatch.setattr(compiled, "core", object())
    monkeypatch.setenv("MMS_HANDLER_CORE", "off")
    folder = model_dir()
    assert mms_handler.load(folder).answer("[[1, 2]]").status == 200
    assert compiled.core is None
    monkeypatch.delenv("MMS_HANDLER_CORE")
    mms_handler.load(folder)
    assert compiled.core is installed
