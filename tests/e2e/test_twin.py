"""An archive with an ONNX twin in a real server: its workers answer from it, without MXNet."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Iterator

import numpy as np
import psutil
import pytest
from running_mms import Serving, free_ports, mms_handler, wait_for

from mms_handler.manifest import MANIFEST, TWIN
from mms_handler.names import FORK_SERVER

#: Saves a model as the default save does, and prints what it gives for ones.
TRAIN = """
import sys
from pathlib import Path
import mxnet as mx
from mms_handler import models

mx.random.seed(3)
x = mx.sym.FullyConnected(mx.sym.var("data"), num_hidden=64, name="a")
x = mx.sym.softmax(mx.sym.FullyConnected(mx.sym.relu(x), num_hidden=3, name="b"))
module = mx.mod.Module(x, label_names=None)
module.bind([("data", (1, 8))], for_training=False)
module.init_params(mx.init.Normal(1))
models.save(module, Path(sys.argv[1]))
print(module.predict(mx.io.NDArrayIter(mx.nd.ones((1, 8)), batch_size=1)).asnumpy().tolist())
"""

#: Where one of these is set, ONNX Runtime uploads nothing, whatever this package does.
QUIET = {"CI", "GITHUB_ACTIONS", "TF_BUILD", "ORT_DISABLE_TELEMETRY"}

ONES = b"[[1, 1, 1, 1, 1, 1, 1, 1]]"


def rewritten(source: Path, target: Path, change) -> Path:
    """An archive with other entries, by name; the manifest has no hashes of them."""
    with zipfile.ZipFile(source) as old:
        entries = {name: old.read(name) for name in old.namelist()}
    manifest = json.loads(entries[MANIFEST])
    del manifest["mms_handler"]["files"]
    change(entries, manifest["mms_handler"]["twin"])
    entries[MANIFEST] = json.dumps(manifest).encode()
    with zipfile.ZipFile(target, "w") as new:
        for name, content in entries.items():
            new.writestr(name, content)
    return target


def environment(folder: Path) -> dict[str, str]:
    """This process's, with a home of its own, where ONNX Runtime may upload what it likes."""
    usual = {name: value for name, value in os.environ.items() if name not in QUIET}
    return {**usual, "HOME": str(folder / "home")}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Has an archive, which the command has packed, another whose twin was changed, and a log."""
    folder = tmp_path_factory.mktemp("twin")
    command = [sys.executable, "-c", TRAIN, str(folder / "net")]
    trained = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    (folder / "expected.json").write_text(trained.stdout.splitlines()[-1])
    (folder / "ones.json").write_bytes(ONES)
    options = ("--engine", "onnx", "--model-store", folder, "--sample", folder / "ones.json")
    packed = mms_handler("archive", folder / "net", *options, env=environment(folder))
    assert packed.returncode == 0, packed.stderr
    first, second = packed.stdout.decode().splitlines()
    assert re.fullmatch(
        r"onnx: agrees for \d+ inputs, differences \S+ at most of the largest value; \d+\.\d\d "
        r"times as fast as MXNet",
        first,
    )
    assert second.startswith(f"{folder / 'net.mar'}  ")

    def use(_, twin):
        twin["gain"] = 2  # a busy machine may have found another one

    def tamper(entries, twin):
        use(entries, twin)
        entries[TWIN] = entries[TWIN][:-1] + bytes([entries[TWIN][-1] ^ 1])

    rewritten(folder / "net.mar", folder / "same.mar", use)
    rewritten(folder / "net.mar", folder / "tampered.mar", tamper)
    return folder


@pytest.fixture(scope="module")
def serving(folder) -> Iterator[Serving]:
    """Serves both archives, with two workers each."""
    paths = [folder / "same.mar", folder / "tampered.mar"]
    options = {"env": environment(folder), "log": folder / "log"}
    with Serving(free_ports(), *paths, "--workers", "2", **options) as serving:
        yield serving


def libraries(serving: Serving, model: str) -> list[tuple[bool, bool]]:
    """Whether each worker has MXNet in its memory, and whether ONNX Runtime."""
    _, workers = serving.of_model(model)
    maps = [Path(f"/proc/{worker.pid}/maps").read_text() for worker in workers]
    return [("libmxnet" in text, "onnxruntime" in text) for text in maps]


def answers_as_mxnet(serving: Serving, folder: Path, model: str) -> None:
    expected = json.loads((folder / "expected.json").read_text())
    for body, accept in ((ONES, "application/json"), (ONES.strip(b"[]"), "text/csv")):
        kind = "application/json" if accept != "text/csv" else "text/csv"
        for _ in range(6):  # the first ones are not for the compiled lane
            answer = serving.ask(model, body, content_type=kind, accept=accept)
            assert (answer.status, answer.content_type) == (200, accept)
            text = answer.body.decode().strip()
            rows = json.loads(text) if accept != "text/csv" else [list(map(float, text.split(",")))]
            assert rows[0] == pytest.approx(expected[0], rel=1e-5)


def described(serving: Serving, model: str) -> str:
    place = ("--management-port", serving.management.rpartition(":")[2])
    text = mms_handler("models", "describe", model, *place).stdout.decode()
    return " ".join(re.search(r"^engine .*$", text, re.M)[0].split())


def test_workers_answer_without_mxnet(serving, folder):
    """The log says what answers, and ``models describe``."""
    assert libraries(serving, "same") == [(False, True)] * 2
    answers_as_mxnet(serving, folder, "same")
    assert libraries(serving, "same") == [(False, True)] * 2
    assert described(serving, "same") == "engine onnx"
    log = (folder / "log").read_text()
    assert len(re.findall(r" same/\d+ +the model's ONNX twin answers, without MXNet\n", log)) == 1


def test_they_have_little_memory(serving):
    """Parts of NumPy that no request needs are not imported."""
    _, workers = serving.of_model("same")
    for worker in workers:
        assert "numpy/random/mtrand" not in Path(f"/proc/{worker.pid}/maps").read_text()
        assert worker.memory_info().rss < 70e6  # with MXNet 120 MB, and once 78


def test_they_are_forked(serving, folder):
    """From a process that has opened the twin, and has one thread."""
    _, workers = serving.of_model("same")
    (server,) = {worker.ppid() for worker in workers}
    server = psutil.Process(server)
    assert (server.name(), server.num_threads()) == (FORK_SERVER, 1)
    assert not re.search(r" same/\d+ +workers load the model each", (folder / "log").read_text())


def test_onnx_runtime_uploads_nothing(serving, folder):
    """It would keep what it uploads in the home folder: here, of packing and of workers."""
    assert not list((folder / "home").rglob("*onnxruntime*"))


def test_workers_answer_many_requests_as_mxnet(serving):
    """At once, of several rows each; every worker has some of them."""
    rows = np.random.RandomState(5).normal(0, 3, (40, 3, 8))
    bodies = [json.dumps(each.tolist()).encode() for each in rows]
    expected = [json.loads(serving.ask("tampered", body).body) for body in bodies]
    _, workers = serving.of_model("same")
    before = [worker.num_ctx_switches().voluntary for worker in workers]
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda body: serving.ask("same", body), bodies * 10))
    assert {answer.status for answer in answers} == {200}
    values = np.array([json.loads(answer.body) for answer in answers])
    np.testing.assert_allclose(values, expected * 10, rtol=0, atol=1e-5)
    for worker, count in zip(workers, before):
        assert worker.num_ctx_switches().voluntary > count + 10


def test_an_error_is_mxnets_and_needs_none(serving):
    answer = serving.ask("same", b"[[1, 2]]")
    assert (answer.status, answer.content_type) == (400, "application/json")
    assert json.loads(answer.body)["message"].startswith(
        "the model takes (N, 8), the body has (1, 2)"
    )
    assert libraries(serving, "same") == [(False, True)] * 2


def test_a_worker_that_ends_is_replaced_by_one_without_mxnet(serving, folder):
    _, (worker, _) = serving.of_model("same")
    worker.kill()
    wait_for(lambda: _others(serving, worker.pid), 40)
    wait_for(lambda: libraries(serving, "same") == [(False, True)] * 2, 40)
    answers_as_mxnet(serving, folder, "same")


def _others(serving: Serving, pid: int) -> bool:
    _, workers = serving.of_model("same")
    return len(workers) == 2 and pid not in [worker.pid for worker in workers]


def test_numbers_that_are_not_finite_are_mxnets(serving):
    """A forked worker imports MXNet for them, and goes on answering by the twin."""
    bodies = [f"[[1, 1, 1, {value}, 1, 1, 1, 1]]".encode() for value in ("null", "1e300", "-1e38")]
    for body in bodies:
        pair = [serving.ask(model, body) for model in ("same", "tampered")]
        assert pair[0].status == pair[1].status
        if pair[0].status == 200:
            values = [np.array(json.loads(answer.body), float) for answer in pair]
            np.testing.assert_allclose(*values, rtol=0, atol=1e-5)
    assert (True, True) in libraries(serving, "same")


def test_a_twin_that_was_changed_is_not_used(serving, folder):
    answers_as_mxnet(serving, folder, "tampered")
    assert libraries(serving, "tampered") == [(True, False)] * 2
    assert described(serving, "tampered") == "engine mxnet"
    line = (
        "MXNet answers, not the model's ONNX twin: MAR-INF/twin.onnx was changed after packing: "
        "its hash differs\n"
    )
    assert line in (folder / "log").read_text()


def test_a_setting_turns_it_off(folder, tmp_path):
    env = {**os.environ, "MMS_HANDLER_ENGINE": "mxnet"}
    options = {"env": env, "log": tmp_path / "log"}
    with Serving(free_ports(), folder / "same.mar", "--workers", "1", **options) as serving:
        answers_as_mxnet(serving, folder, "same")
        assert libraries(serving, "same") == [(True, False)]
        assert described(serving, "same") == "engine mxnet"
    line = "MXNet answers, not the model's ONNX twin: MMS_HANDLER_ENGINE=mxnet\n"
    assert line in (tmp_path / "log").read_text()


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (["--engine", "tensorrt"], 2, "'tensorrt' is not 'onnx'."),
        (
            ["--engine", "onnx", "--quantize", "int8", "--calibration", "."],
            2,
            "--quantize int8 and --engine onnx exclude each other",
        ),
    ],
)
def test_options_that_mean_nothing(folder, tmp_path, options, code, message):
    process = mms_handler("archive", folder / "net", "--model-store", tmp_path, *options)
    assert (process.returncode, message in process.stderr.decode()) == (code, True)
    assert not any(tmp_path.iterdir())
