"""serve as a supervisor: readiness, drain, deaths, and what ends it."""

from __future__ import annotations

import contextlib
import json
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
from mms_handler.server import model_processes

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

STUCK = """\
import ctypes
import os
import signal

def model_fn(model_dir):
    return None

def transform_fn(model, data, content_type, accept):
    if data == b"block":  # for ever, with the interpreter's lock held
        mutex = ctypes.create_string_buffer(64)
        lock = ctypes.PyDLL(None).pthread_mutex_lock
        lock(mutex) or lock(mutex)
    if data == b"stop":
        os.kill(os.getpid(), signal.SIGSTOP)
    return data, "text/plain"
"""

BUSY = """\
import os
import time

def model_fn(model_dir):
    return None

def transform_fn(model, data, content_type, accept):
    pid = str(os.getpid())
    with open(data.decode(), "w") as file:
        file.write(pid)
    if data != b"/dev/null":
        time.sleep(4)
    return pid, "text/plain"
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


def _until_200(url: str) -> set[tuple[int, bool]]:
    """Ask a server that starts; the statuses, and whether ``Retry-After`` came with them."""
    answers = set()
    deadline_s = time.monotonic() + 60
    while (200, False) not in answers and time.monotonic() < deadline_s:
        with contextlib.suppress(ServerError):  # nobody listens yet
            answer = client.invoke(url, b"[[1,2]]", timeout_s=20)
            answers.add((answer.status, "retry-after" in answer.headers))
        time.sleep(0.02)
    return answers


# --- the container's command ---


def test_serve_without_paths_is_a_container(ports, tmp_path):
    """It serves the model of SageMaker's folder on every address, set by variables alone.

    Until then clients get 503 and are asked to try again: MMS answers 404, or 400.
    """
    (tmp_path / "model").symlink_to(EXAMPLES / "linear")
    env = {
        **os.environ,
        "SAGEMAKER_BASE_DIR": str(tmp_path),
        "SAGEMAKER_MODEL_SERVER_WORKERS": "2",
        "SAGEMAKER_MAX_PAYLOAD_IN_MB": "12",
    }
    with ThreadPoolExecutor(2) as pool:
        paths = ("/invocations", "/predictions/model")
        early = [pool.submit(_until_200, f"http://127.0.0.1:{ports[0]}{path}") for path in paths]
        serving = Serving(ports, env=env, log=tmp_path / "log")
    with serving:
        for answers in early:
            assert answers.result() == {(503, True), (200, False)}
        assert serving.first_line == f"model is ready: http://0.0.0.0:{ports[0]}/predictions/model"
        assert len(serving.of_model("model")[1]) == 2
        url = f"http://127.0.0.2:{ports[0]}"  # not the address that serve PATHS listens on
        assert client.invoke(f"{url}/invocations", b"[[1,2]]").body == RIGHT
        assert client.call("GET", f"{url}/models").status == 404  # the management API is not public
        parameters = client.call("GET", f"{url}/execution-parameters").body
        assert b'"MaxPayloadInMB": 12' in parameters
        assert b'"MaxConcurrentTransforms": 2' in parameters
        ready = mms_handler("ready", env={**env, "SAGEMAKER_BIND_TO_PORT": str(ports[0])})
        assert (ready.returncode, ready.stdout) == (0, b"ready\n")


def test_gpus_that_mxnet_cannot_use_are_left_alone(ports, tmp_path):
    """MMS would give each worker one, and no model could be loaded."""
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\nprintf 'index\\n0\\n'\n")
    program.chmod(0o755)
    env = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    words = (EXAMPLES / "linear", "--workers", "1")
    with Serving(ports, *words, env=env, log=tmp_path / "log") as serving:
        assert serving.ask("linear").body == RIGHT
    log = (tmp_path / "log").read_text()
    assert "the installed MXNet is built for CPUs, so this machine's GPUs are not used" in log
    assert mms_handler("ready", "--port", ports[0]).returncode == 1


def test_the_plan_is_one_line_of_the_log(linear):
    """It has the numbers of workers and threads."""
    lines = linear.log.read_text().splitlines()
    plans = [line for line in lines if "serve  workers per model: 1, threads per " in line]
    assert len(plans) == 1


def test_a_model_that_cannot_load_ends_serve(ports, tmp_path):
    """The reason is printed.  With --keep-going the other models are served."""
    broken = model(tmp_path, "broken", BROKEN)
    flags = ("--port", ports[0], "--management-port", ports[1])
    ended = mms_handler("serve", broken, EXAMPLES / "linear", *flags)
    assert ended.returncode == 1
    assert b"the weights are gone (code/inference.py, line 2)" in ended.stderr
    paths = (broken, EXAMPLES / "linear")
    with Serving(ports, *paths, "--keep-going", log=tmp_path / "log") as serving:
        assert serving.first_line.startswith("linear is ready: ")
        assert serving.ask("linear").body == RIGHT
        assert serving.ping() == 200
        assert "the weights are gone" in (tmp_path / "log").read_text()


def test_a_model_that_cannot_answer_its_sample_is_refused(ports, tmp_path):
    """It loads, but every request would fail."""
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
    """Requests in flight are answered; new ones get 503 and are not dropped."""
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
        time.sleep(0.5)  # until a worker has it
        serving.process.send_signal(signal.SIGTERM)
        assert (long.result().status, long.result().body) == (200, b"2")
        assert serving.process.wait(timeout=15) == 0
        until.set()
    assert wait_for(serving.gone, 5)
    errors = [outcome for outcome in outcomes if outcome not in (200, 503)]
    assert [error for error in errors if "refused" not in str(error)] == []


def test_a_second_sigterm_does_not_wait(ports, tmp_path):
    """The first one drains, the second one ends the server at once."""
    slow = model(tmp_path, "slow", SLOW)
    with Serving(ports, slow, "--workers", "1") as serving, ThreadPoolExecutor(1) as pool:
        request = pool.submit(serving.ask, "slow", **text(20))
        time.sleep(0.5)
        serving.process.send_signal(signal.SIGTERM)
        time.sleep(0.5)
        assert serving.process.poll() is None
        serving.process.send_signal(signal.SIGTERM)
        start = time.monotonic()
        serving.process.wait(timeout=10)
        assert time.monotonic() - start < 5
        assert request.exception() or request.result().status == 500  # not a real answer
    assert wait_for(serving.gone, 5)


def test_the_drain_has_a_limit(ports, tmp_path):
    """A request that takes longer is abandoned."""
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
    """How often a worker of linear was started again, from /metrics."""
    metrics = client.call("GET", f"{serving.inference}/metrics").body.decode()
    (count,) = re.findall(r'worker_restarts_total\{model="linear",version="1"\} (\d+)', metrics)
    return int(count)


def test_a_killed_worker_is_started_again(linear):
    """/metrics counts the restart."""
    count = restarts(linear)
    _, (worker,) = linear.of_model("linear")
    worker.kill()
    wait_for(lambda: linear.ask("linear").status == 200, 15)
    assert restarts(linear) == count + 1


def test_a_worker_that_is_stopped_is_replaced():
    """MMS would wait for it, when it is given a request, as long as one may take: 60 s."""
    with Serving(free_ports(), EXAMPLES / "linear", "--workers", "1") as serving:
        _, (worker,) = serving.of_model("linear")
        worker.suspend()
        start_s = time.monotonic()
        assert serving.ask("linear", timeout_s=90).status == 500
        assert time.monotonic() - start_s < 45
        wait_for(lambda: serving.ask("linear").body == RIGHT, 30)
        assert not model_processes.is_alive(worker)


def test_a_model_whose_listener_is_killed_is_registered_again(linear):
    """MMS starts no second listener: the model would stay, and every request would hang.

    /metrics counts the listener's death, by its signal.
    """
    listener, workers = linear.of_model("linear")
    listener.send_signal(signal.SIGABRT)
    for worker in workers:
        worker.kill()
    died = 'mms_handler_worker_deaths_total{model="linear",version="1",cause="SIGABRT"} 1\n'
    url = f"{linear.inference}/metrics"
    wait_for(lambda: died in client.call("GET", url).body.decode(), 30)
    wait_for(lambda: _answers(linear), 30)


def test_the_other_worker_answers_before_its_model_is_registered_again(ports, tmp_path):
    """Its connection would otherwise be closed in the middle of its request."""
    busy = model(tmp_path, "busy", BUSY)
    with Serving(ports, busy, "--workers", "2") as serving, ThreadPoolExecutor(1) as pool:
        listener, workers = serving.of_model("busy")
        answer = pool.submit(serving.ask, "busy", **text(tmp_path / "pid"))
        pid = wait_for(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text(), 20)
        listener.kill()
        next(worker for worker in workers if str(worker.pid) != pid).kill()
        assert answer.result().body == pid.encode()
        again = wait_for(lambda: _reply_of(serving), 40)
        assert again not in {str(worker.pid).encode() for worker in workers}


def _reply_of(serving: Serving) -> bytes:
    answer = serving.ask("busy", **text(os.devnull))
    return answer.body if answer.status == 200 else b""


@pytest.mark.parametrize("keep_going", [False, True])
def test_a_model_that_cannot_be_registered_again(ports, tmp_path, keep_going):
    """After another attempt it ends serve, or with --keep-going only this model."""
    weights = tmp_path / "weights"
    weights.touch()
    fragile = model(tmp_path, "fragile", f"open({str(weights)!r}).close()\n{SLOW}")
    flags = ["--workers", "1", "--restarts", "1", *(["--keep-going"] if keep_going else [])]
    served = (fragile, EXAMPLES / "linear")
    with Serving(ports, *served, *flags, log=tmp_path / "log") as serving:
        listener, workers = serving.of_model("fragile")
        weights.unlink()
        for process in (listener, *workers):
            process.kill()
        if keep_going:
            wait_for(lambda: serving.ask("fragile").status == 404, 30)
            assert serving.ask("linear").body == RIGHT
        else:
            assert serving.process.wait(timeout=30) == 1
        log = (tmp_path / "log").read_text()
        assert "fragile cannot be served: " in log
        assert "No such file or directory" in log
        assert log.count("; trying again in 1 s") == 1


def refusal(serving: Serving) -> tuple[int, str, str]:
    answer = serving.ask("fragile", **text(0))
    return answer.status, answer.headers["retry-after"], answer.message()


def test_a_model_that_can_be_registered_again_later(ports, tmp_path):
    """Until then clients get 503 with Retry-After, and other models are served."""
    weights = tmp_path / "weights"
    weights.touch()
    fragile = model(tmp_path, "fragile", f"open({str(weights)!r}).close()\n{SLOW}")
    flags = ("--workers", "1", "--restarts", "9")
    with Serving(ports, fragile, EXAMPLES / "linear", *flags, log=tmp_path / "log") as serving:
        listener, workers = serving.of_model("fragile")
        weights.rename(tmp_path / "away")
        for process in (listener, *workers):
            process.kill()
        wait_for(lambda: "; trying again in 1 s" in (tmp_path / "log").read_text(), 20)
        refused = (503, "2", "the model is being loaded; try again later")
        wait_for(lambda: refusal(serving) == refused, 20)  # during an attempt the words are MMS's
        url = f"{serving.management}/models"
        assert client.call("GET", f"{url}/fragile").status == 200
        assert client.call("PUT", f"{url}/fragile?min_worker=2").status == 503
        assert serving.ask("linear").body == RIGHT
        assert serving.ask("unknown").status == 404
        (tmp_path / "away").rename(weights)
        statuses: list[int] = []

        def answers() -> bool:
            statuses.append(serving.ask("fragile", **text(0)).status)
            return statuses[-1] == 200

        wait_for(answers, 30)
        assert set(statuses) <= {200, 503}
        assert serving.ping() == 200
        assert client.call("DELETE", f"{url}/fragile").status == 200
        assert serving.ask("fragile", **text(0)).status == 404


def _answers(serving: Serving) -> bool:
    try:
        return (
            client.invoke(f"{serving.inference}/predictions/linear", b"[[1,2]]", timeout_s=5).body
            == RIGHT
        )
    except ServerError:
        return False


def test_workers_that_die_again_and_again_end_serve(ports, tmp_path):
    """Two deaths are tolerated, the third is too many: a person has to look at it."""
    dying = model(tmp_path, "dying", DYING)
    flags = ("--workers", "1", "--restarts", "2")
    with Serving(ports, dying, *flags, log=tmp_path / "log") as serving:
        for _ in range(3):
            wait_for(lambda: serving.ask("dying", **text("live")).status == 200, 15)
            assert serving.ask("dying", **text("die")).status == 500
        assert serving.process.wait(timeout=20) == 1
        reason = "the workers of dying died more than 2 times in 60 s\n"
        lines = (tmp_path / "log").read_text()
        assert reason in lines
        died = re.findall(
            r" serve +(\w.* of dying .*); deaths of dying in the last minute: (.)", lines
        )
        numbers = [number for _, number in died]  # of a second death, if it was read late, 3
        assert numbers in (["1", "2", "3"], ["1", "3", "3"])
        request = r"[0-9a-f-]{36}"
        first = rf"worker \d+ of dying ended with exit code 3; it had request {request}"
        assert re.fullmatch(first, died[0][0])
    assert wait_for(serving.gone, 5)


def test_a_worker_that_cannot_keep_its_time_limit(ports, tmp_path):
    """MMS's limit is the last resort: its clients get 504, and another worker answers.

    That of a worker that has stopped gets 500 much earlier.
    """
    stuck = model(tmp_path, "stuck", STUCK)
    env = {**os.environ, "SAGEMAKER_MODEL_SERVER_TIMEOUT_SECONDS": "20"}
    log = tmp_path / "log"
    with Serving(ports, stuck, "--workers", "2", env=env, log=log) as serving:
        _, workers = serving.of_model("stuck")
        with ThreadPoolExecutor(2) as pool:
            blocked = pool.submit(serving.ask, "stuck", **text("block"))
            assert serving.ask("stuck", **text("stop")).status == 500
            answer = blocked.result()
        assert answer.status == 504
        fault = json.loads(answer.body)
        assert fault["type"] == "TimedOut"
        message = "the model did not answer within 20 s, and its worker was ended"
        assert fault["message"] == message
        wait_for(lambda: not any(map(model_processes.is_alive, workers)), 3)
        wait_for(lambda: serving.ask("stuck", **text("live")).body == b"live", 15)


def test_the_death_of_java_ends_serve_and_the_workers(ports, tmp_path):
    """The exit code is 1."""
    with Serving(ports, EXAMPLES / "linear", "--workers", "1") as serving:
        serving.java().kill()
        assert serving.process.wait(timeout=15) == 1
        assert wait_for(serving.gone, 5)
        wait_for(lambda: not any(folder.exists() for folder in serving.folders), 5)


# --- fewer workers ---


def test_fewer_workers_cost_no_request(ports, tmp_path):
    """Busy workers finish before they end; MMS alone would end the youngest, busy or not."""
    slow = model(tmp_path, "slow", SLOW)
    with Serving(ports, slow, "--workers", "3") as serving, ThreadPoolExecutor(3) as pool:
        models = f"{serving.management}/models/slow"
        requests = [pool.submit(serving.ask, "slow", **text(2)) for _ in range(3)]
        wait_for(lambda: _in_flight(serving) == 3, 5)
        assert client.call("PUT", f"{models}?min_worker=1").status == 200
        assert [request.result().status for request in requests] == [200, 200, 200]
        wait_for(lambda: len(serving.of_model("slow")[1]) == 1, 5)
        assert serving.ask("slow", **text(0)).status == 200
        # The same when the model goes.
        request = pool.submit(serving.ask, "slow", **text(2))
        wait_for(lambda: _in_flight(serving) == 1, 5)
        assert client.call("DELETE", models).status == 200
        assert request.result().status == 200
        assert serving.ask("slow", **text(0)).status == 404


def _in_flight(serving: Serving) -> int:
    metrics = client.call("GET", f"{serving.inference}/metrics").body.decode()
    (count,) = re.findall(r"mms_handler_in_flight (\d+)", metrics)
    return int(count)


# --- obstacles ---


def test_a_path_that_does_not_exist(ports, tmp_path):
    """The message has the path."""
    ended = mms_handler("serve", tmp_path / "nothing.mar")
    assert ended.returncode == 2
    assert b"nothing.mar" in ended.stderr


def test_a_full_disk_for_the_log(ports):
    """Lines that cannot be printed are lost; requests are still answered."""
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
    ("variables", "name"),
    [
        pytest.param({"MMS_HANDLER_WORKRES": "2"}, "MMS_HANDLER_WORKRES", id="unknown"),
        pytest.param({"SAGEMAKER_BIND_TO_PORT": "http"}, "SAGEMAKER_BIND_TO_PORT", id="not a port"),
        pytest.param(
            {"SAGEMAKER_MULTI_MODEL": "perhaps"}, "SAGEMAKER_MULTI_MODEL", id="not a boolean"
        ),
    ],
)
def test_an_invalid_variable_is_named(variables, name):
    """serve exits with 2, for wrong usage, before it starts anything."""
    ended = mms_handler("serve", EXAMPLES / "linear", env={**os.environ, **variables})
    assert ended.returncode == 2
    assert name in ended.stderr.decode()
