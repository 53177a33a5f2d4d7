"""serve as a supervisor: readiness, drain, deaths, and what it refuses to go on with."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Iterator

import pytest
from running_mms import BIN, EXAMPLES, Serving, free_ports, mms_handler, wait_for

from mms_handler import archive, client
from mms_handler.errors import ServerError

RIGHT = b"[[4.9999918937683105]]"

SLOW = """\
import time

def model_fn(model_dir):
    return None

def transform_fn(model, data, content_type, accept):
    time.sleep(float(data))
    return data, "text/plain"
"""

DYING = """\
import os

def model_fn(model_dir):
    return None

def transform_fn(model, data, content_type, accept):
    if data == b"die":
        os._exit(3)
    return data, "text/plain"
"""

BROKEN = """\
def model_fn(model_dir):
    raise ValueError("the weights are gone")
"""


def model(folder: Path, name: str, script: str) -> Path:
    (folder / name / "code").mkdir(parents=True)
    (folder / name / "code" / "inference.py").write_text(script)
    return folder / name


@pytest.fixture(scope="module")
def linear(tmp_path_factory) -> Iterator[Serving]:
    """The linear example with one worker, for the tests that leave it able to answer."""
    log = tmp_path_factory.mktemp("linear") / "log"
    with Serving(free_ports(), EXAMPLES / "linear", "--workers", "1", log=log) as serving:
        yield serving


def text(words: float | str) -> dict:
    return {"body": str(words).encode(), "content_type": "text/plain", "accept": "text/plain"}


# --- the container's command ---


def test_serve_without_paths_is_a_container(ports, tmp_path):
    """The model of SageMaker's folder, by variables alone, on every address."""
    (tmp_path / "model").symlink_to(EXAMPLES / "linear")
    env = {
        **os.environ,
        "SAGEMAKER_BASE_DIR": str(tmp_path),
        "SAGEMAKER_MODEL_SERVER_WORKERS": "2",
        "SAGEMAKER_MAX_PAYLOAD_IN_MB": "12",
    }
    with Serving(ports, env=env, log=tmp_path / "log") as serving:
        assert serving.said == f"model is ready: http://0.0.0.0:{ports[0]}/predictions/model"
        assert len(serving.of_model("model")[1]) == 2
        url = f"http://127.0.0.2:{ports[0]}"  # not the loopback address that laptops listen on
        assert client.invoke(f"{url}/invocations", b"[[1,2]]").body == RIGHT
        assert client.call("GET", f"{url}/models").status == 404  # the management is not for all
        parameters = client.call("GET", f"{url}/execution-parameters").body
        assert b'"MaxPayloadInMB": 12' in parameters
        assert b'"MaxConcurrentTransforms": 2' in parameters
        ready = mms_handler("ready", env={**env, "SAGEMAKER_BIND_TO_PORT": str(ports[0])})
        assert (ready.returncode, ready.stdout) == (0, b"ready\n")
    assert mms_handler("ready", "--port", ports[0]).returncode == 1


def test_the_choice_of_workers_is_one_line(linear):
    """What was chosen, and for what."""
    lines = linear.log.read_text().splitlines()
    chosen = [line for line in lines if line.startswith("workers per model: 1, threads per ")]
    assert len(chosen) == 1


def test_a_model_that_cannot_load_ends_the_whole(ports, tmp_path):
    """With the reason; unless it shall go on, and then it does with the others."""
    broken = model(tmp_path, "broken", BROKEN)
    flags = ("--port", ports[0], "--management-port", ports[1])
    ended = mms_handler("serve", broken, EXAMPLES / "linear", *flags)
    assert ended.returncode == 1
    assert b"the weights are gone (code/inference.py, line 2)" in ended.stderr
    paths = (broken, EXAMPLES / "linear")
    with Serving(ports, *paths, "--keep-going", log=tmp_path / "log") as serving:
        assert serving.said.startswith("linear is ready: ")
        assert serving.ask("linear").body == RIGHT
        assert serving.ping() == 200
        assert "the weights are gone" in (tmp_path / "log").read_text()


def test_a_model_that_cannot_answer_its_sample_is_refused(ports, tmp_path):
    """It loads, and every request would fail."""
    script = BROKEN.replace(
        "model_fn(model_dir)", "transform_fn(model, data, content_type, accept)"
    )
    packed = model(tmp_path, "bad", "def model_fn(model_dir):\n    return 1\n\n" + script)
    (tmp_path / "request.csv").write_text("1,2\n")
    archive.pack(packed, tmp_path / "bad.mar", sample=tmp_path / "request.csv")
    flags = ("--port", ports[0], "--management-port", ports[1])
    ended = mms_handler("serve", tmp_path / "bad.mar", *flags)
    assert ended.returncode == 1
    assert b"bad cannot be served: it answers its own sample with 500" in ended.stderr


# --- drain ---


def test_sigterm_loses_no_request(ports, tmp_path):
    """Requests in flight are answered; new ones are refused, not dropped."""
    slow = model(tmp_path, "slow", SLOW)
    outcomes: list[object] = []

    def keep_asking(until: threading.Event) -> None:
        while not until.is_set():
            try:
                outcomes.append(serving.ask("slow", **text(0.05)).status)
            except ServerError as exc:
                outcomes.append(str(exc))
                return

    with Serving(ports, slow, "--workers", "2") as serving, ThreadPoolExecutor(9) as pool:
        until = threading.Event()
        for _ in range(8):
            pool.submit(keep_asking, until)
        wait_for(lambda: outcomes.count(200) > 20, 20)
        long = pool.submit(serving.ask, "slow", **text(2))
        time.sleep(0.5)  # it is with a worker by now
        serving.process.send_signal(signal.SIGTERM)
        assert (long.result().status, long.result().body) == (200, b"2")
        assert serving.process.wait(timeout=15) == 0
        until.set()
    assert wait_for(serving.gone, 5)
    lost = [one for one in outcomes if one not in (200, 503) and "refused" not in str(one)]
    assert lost == []


def test_a_second_sigterm_does_not_wait(ports, tmp_path):
    """Whoever asks twice is in a hurry."""
    slow = model(tmp_path, "slow", SLOW)
    with Serving(ports, slow, "--workers", "1") as serving, ThreadPoolExecutor(1) as pool:
        asked = pool.submit(serving.ask, "slow", **text(20))
        time.sleep(0.5)
        serving.process.send_signal(signal.SIGTERM)
        time.sleep(0.5)
        assert serving.process.poll() is None
        serving.process.send_signal(signal.SIGTERM)
        began = time.monotonic()
        serving.process.wait(timeout=10)
        assert time.monotonic() - began < 5
        assert asked.exception() or asked.result().status == 500  # it was not answered well
    assert wait_for(serving.gone, 5)


def test_the_drain_has_a_limit(ports, tmp_path):
    """A request that takes longer than that is given up."""
    slow = model(tmp_path, "slow", SLOW)
    flags = ("--workers", "1", "--drain-s", "1")
    with Serving(ports, slow, *flags) as serving, ThreadPoolExecutor(1) as pool:
        pool.submit(serving.ask, "slow", **text(30))
        time.sleep(0.5)
        serving.process.send_signal(signal.SIGTERM)
        serving.process.wait(timeout=10)
    assert wait_for(serving.gone, 5)


# --- deaths ---


def restarts(serving: Serving) -> int:
    """How often a worker of linear was started again, as /metrics says."""
    metrics = client.call("GET", f"{serving.inference}/metrics").body.decode()
    (count,) = re.findall(r'mms_handler_worker_restarts_total\{model="linear"\} (\d+)', metrics)
    return int(count)


def test_a_worker_that_is_killed_is_started_again(linear):
    """The others answer meanwhile, and /metrics tells of it."""
    before = restarts(linear)
    _, (worker,) = linear.of_model("linear")
    worker.kill()
    wait_for(lambda: linear.ask("linear").status == 200, 15)
    assert restarts(linear) == before + 1


def test_a_model_whose_listener_is_killed_is_registered_again(linear):
    """MMS would never start one again: the model would be there, and every request hang."""
    listener, workers = linear.of_model("linear")
    for one in (listener, *workers):
        one.kill()
    wait_for(lambda: _answers(linear), 30)


@pytest.mark.parametrize("keep_going", [False, True])
def test_a_model_that_cannot_be_registered_again(ports, tmp_path, keep_going):
    """It is the end of the whole, or of this model alone."""
    weights = tmp_path / "weights"
    weights.touch()
    fragile = model(tmp_path, "fragile", f"open({str(weights)!r}).close()\n{SLOW}")
    flags = ["--workers", "1", *(["--keep-going"] if keep_going else [])]
    served = (fragile, EXAMPLES / "linear")
    with Serving(ports, *served, *flags, log=tmp_path / "log") as serving:
        listener, workers = serving.of_model("fragile")
        weights.unlink()
        for one in (listener, *workers):
            one.kill()
        if keep_going:
            wait_for(lambda: serving.ask("fragile").status == 404, 30)
            assert serving.ask("linear").body == RIGHT
        else:
            assert serving.process.wait(timeout=30) == 1
        told = (tmp_path / "log").read_text()
        assert "fragile cannot be served: " in told
        assert "No such file or directory" in told


def _answers(serving: Serving) -> bool:
    try:
        return (
            client.invoke(f"{serving.inference}/predictions/linear", b"[[1,2]]", timeout_s=5).body
            == RIGHT
        )
    except ServerError:
        return False


def test_workers_that_die_again_and_again_end_the_whole(ports, tmp_path):
    """Two deaths are borne, the third is too many: someone has to look at this."""
    dying = model(tmp_path, "dying", DYING)
    flags = ("--workers", "1", "--restarts", "2")
    with Serving(ports, dying, *flags, log=tmp_path / "log") as serving:
        for _ in range(3):
            wait_for(lambda: serving.ask("dying", **text("live")).status == 200, 15)
            assert serving.ask("dying", **text("die")).status == 500
        assert serving.process.wait(timeout=20) == 1
        reason = "the workers of dying died more than 2 times in 60 s\n"
        assert reason in (tmp_path / "log").read_text()
    assert wait_for(serving.gone, 5)


def test_java_that_dies_takes_the_workers_with_it(ports, tmp_path):
    """And serve ends, with an exit code that says so."""
    with Serving(ports, EXAMPLES / "linear", "--workers", "1") as serving:
        serving.java().kill()
        assert serving.process.wait(timeout=15) == 1
        assert wait_for(serving.gone, 5)
        wait_for(lambda: not any(folder.exists() for folder in serving.folders), 5)


# --- what stands in the way ---


def test_a_store_that_is_not_there(ports, tmp_path):
    """It is said which."""
    ended = mms_handler("serve", tmp_path / "nothing.mar")
    assert ended.returncode == 2
    assert b"nothing.mar" in ended.stderr


def test_a_full_disk_for_the_log_stops_nothing(ports):
    """What cannot be printed is lost; requests are not."""
    with open("/dev/full", "wb") as full:
        process = subprocess.Popen(_serve(ports), stdout=full, stderr=full)
    try:
        url = f"http://127.0.0.1:{ports[0]}"
        wait_for(lambda: _status(f"{url}/ping") == 200, 30)
        assert client.invoke(f"{url}/predictions/linear", b"[[1,2]]").body == RIGHT
    finally:
        process.terminate()
        assert process.wait(timeout=20) == 0


def _serve(ports) -> list[str]:
    flags = ["--port", str(ports[0]), "--management-port", str(ports[1]), "--workers", "1"]
    return [str(BIN / "mms-handler"), "serve", str(EXAMPLES / "linear"), *flags]


def _status(url: str) -> int:
    try:
        return client.call("GET", url, timeout_s=2).status
    except ServerError:
        return 0


@pytest.mark.parametrize(
    ("variables", "told"),
    [
        pytest.param({"MMS_HANDLER_WORKRES": "2"}, "MMS_HANDLER_WORKRES", id="unknown"),
        pytest.param({"SAGEMAKER_BIND_TO_PORT": "http"}, "SAGEMAKER_BIND_TO_PORT", id="no port"),
        pytest.param(
            {"SAGEMAKER_MULTI_MODEL": "perhaps"}, "SAGEMAKER_MULTI_MODEL", id="no boolean"
        ),
    ],
)
def test_a_variable_that_means_nothing_is_named(variables, told):
    """Before anything is started, with the exit code of wrong usage."""
    ended = mms_handler("serve", EXAMPLES / "linear", env={**os.environ, **variables})
    assert ended.returncode == 2
    assert told in ended.stderr.decode()
