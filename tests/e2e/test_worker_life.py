"""A worker of a real MMS: what it prints and measures, how long it takes, and how it ends.

The items of what MMS leaves to the handler, each with what is seen when it is there.
"""

from __future__ import annotations

import contextlib
import dataclasses
import http.client
import json
import os
import re
import signal
import subprocess
import time
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Iterator, NamedTuple
from urllib.parse import urlsplit

import psutil
import pytest
from running_mms import BIN, Front, end, free_ports, wait_for

from mms_handler import archive, client, server
from mms_handler.errors import ServerError
from mms_handler.settings import Settings

TIMEOUT_S = 20  # MMS's, for a request and for loading a model: time enough to import MXNet
OURS_S = 3  # what workers are told

#: Its body, a JSON text, says what it is to do: the name of a function, and an argument.
COMMANDED = '''
import ctypes, json, os, signal, sys, time

def model_fn(model_dir):
    print("[PID] printed while loading")
    return None

def transform_fn(model, data, content_type, accept, context):
    name, argument = json.loads(data)
    print("begins", name, os.getpid())
    return json.dumps(globals()[name](argument, context)), "application/json"

def pid(argument, context):
    return os.getpid()

def sleep(seconds, context):
    time.sleep(seconds)
    return seconds

def loop(argument, context):
    while True:
        try:
            argument = not argument
        except Exception:
            pass

def native(argument, context):
    """Never returns, and holds the interpreter's lock."""
    return lock_twice(ctypes.PyDLL(None))

def deadlock(argument, context):
    """Never returns, and other threads run."""
    return lock_twice(ctypes.CDLL(None))

def lock_twice(libc):
    mutex = ctypes.create_string_buffer(64)
    return libc.pthread_mutex_lock(mutex) or libc.pthread_mutex_lock(mutex)

def fork(what, context):
    child = os.fork()
    if child:
        if what != "outlive":
            os.waitpid(child, 0)
        return child
    if what == "outlive":
        time.sleep(60)
    if what == "exit":
        sys.exit(3)
    if what == "terminate":
        os.kill(os.getpid(), signal.SIGTERM)
    if what == "os._exit":
        os._exit(0)

def pool(argument, context):
    from multiprocessing import Pool
    with Pool(2) as two:
        return two.map(abs, [-1, -2])

def deafen(argument, context):
    """Past sys.stdout: MMS's reader fails at such a line and leaves."""
    return os.write(1, b"[PID] nonsense\\n")

def own_alarm(seconds, context):
    def ring(number, frame):
        raise ValueError("the script's own")
    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        time.sleep(2)
    except ValueError as exc:
        return str(exc)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)

def say(lines, context):
    for line in lines:
        print(line)
    return len(lines)

def shout(what, context):
    import logging
    print("x" * 1_000_000)
    print("y" * 20_000, end="")
    sys.stdout.flush()
    print("\\ud800 caf\\u00e9")
    print("one\\rtwo\\u2028[PID] three")
    print("on stderr", file=sys.stderr)
    sys.stdout.buffer.write(b"[METRICS]in bytes\\n")
    sys.stdout.buffer.flush()
    logging.getLogger("a.library").warning("logged\\n[PID] of two lines")
    print("unfinished", end="")
    return [sys.stdout.isatty(), sys.stdout.fileno(), sys.stderr.fileno()]

def measure(argument, context):
    from mms.metrics.dimension import Dimension
    of = context.metrics
    of.add_counter("a counter", 1)
    of.add_counter("a counter", 2)
    of.add_time("Time", 1e-07, unit="s", dimensions=[Dimension("Step", "read, write")])
    of.add_size("Size", 10**20, unit="GB", idx=0)
    of.add_percent("Percent", 12.5)
    of.add_metric("Rows", 3)
    of.add_metric("Rate", 4, unit="rows/s")
    of.add_error("Failures", 1)
    for odd in (float("nan"), float("inf"), "many", None, [1]):
        of.add_metric("Odd", odd)
    of.add_time("Time", 1, dimensions="Step")
    return "measured"
'''


def write(folder: Path, script: str, **files: str) -> Path:
    """A model_dir with this code."""
    (folder / "code").mkdir(parents=True)
    for name, text in {"inference": script, **files}.items():
        (folder / "code" / f"{name}.py").write_text(text)
    return folder


class Life(Front):
    """A front end of our own, which may be killed."""

    folder: Path
    process: subprocess.Popen

    def tell(self, name: str, argument: object = None, model: str = "commanded") -> client.Answer:
        url = f"{self.inference}/predictions/{model}"
        body = json.dumps([name, argument]).encode()
        return client.invoke(url, body, timeout_s=TIMEOUT_S + 5)

    def told(self, name: str, argument: object = None) -> object:
        answer = self.tell(name, argument)
        assert answer.status == 200, answer
        return json.loads(answer.body)

    def logged(self, words: str, within_s: float = 5) -> list[str]:
        """The lines of the log that have ``words``; there is one, sooner or later."""

        def found() -> list[str]:
            return [line for line in self.log.read_text().splitlines() if words in line]

        return wait_for(found, within_s)

    def fifos(self) -> list[str]:
        return [path.name for path in (self.folder / "tmp").glob("*-std*")]

    def sockets(self) -> list[str]:
        return [path.name for path in (self.folder / "tmp").glob(".mms.sock.*")]

    def family(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children(recursive=True)

    def java(self) -> psutil.Process:
        return next(one for one in self.family() if one.name() == "java")

    def of_model(self, name: str) -> tuple[psutil.Process, list[psutil.Process]]:
        """A model's listener and its workers."""
        family = [one for one in self.java().children(recursive=True) if name in one.cmdline()]
        (listener,) = (one for one in family if one.ppid() == self.java().pid)
        return listener, [one for one in family if one != listener]

    def another(self, name: str, **how: object) -> None:
        """Register one more; models of equal files share a folder, which goes with the first."""
        script = write(self.folder / name, f"{COMMANDED}\n# {name}\n")
        archive.pack(script, self.store / f"{name}.mar")
        assert self.add(name, **how).status == 200

    def back(self) -> int:
        """The pid of the worker, as soon as there is one that answers."""

        def pid() -> int | None:
            with contextlib.suppress(Exception):
                answer = self.tell("pid")
                return int(answer.body) if answer.status == 200 else None

        return wait_for(pid, 20)


@contextlib.contextmanager
def living(folder: Path, path: str = "/usr/bin:/bin", **lines: object) -> Iterator[Life]:
    """MMS's own command, with our properties and these ``lines`` more."""
    ports = free_ports()
    (folder / "tmp").mkdir()
    chosen = Settings(
        port=ports[0],
        management_port=ports[1],
        model_store=str(folder / "store"),
        timeout_s=TIMEOUT_S,
    )
    told = dataclasses.replace(chosen, timeout_s=OURS_S)
    more = "".join(f"{key}={value}\n" for key, value in lines.items())
    (folder / "config.properties").write_text(server.config_properties(chosen) + more)
    env = {"PATH": path, "TEMP": str(folder / "tmp"), "TMPDIR": str(folder / "tmp")}
    env.update(server.java_variables(env), **told.variables())
    config = ("--mms-config", "config.properties")
    with open(folder / "log", "wb") as log:
        process = subprocess.Popen(
            [BIN / "multi-model-server", "--start", "--foreground", *config],
            cwd=folder,
            env=env,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        inference, management = (f"http://127.0.0.1:{port}" for port in ports)
        wait_for(lambda: client.listening(inference), 30)
        life = Life(inference, management, folder / "store", folder / "log")
        life.folder, life.process = folder, process
        yield life
    finally:
        end(process)


@pytest.fixture(scope="module")
def life(tmp_path_factory) -> Iterator[Life]:
    """One worker that does what it is told, within 3 seconds."""
    folder = tmp_path_factory.mktemp("life")
    archive.pack(write(folder / "commanded", COMMANDED), folder / "store" / "commanded.mar")
    with living(folder) as life:
        assert life.add("commanded").status == 200
        yield life


class Running(NamedTuple):
    """A request that is being answered: its answer to come, and the worker that has begun it."""

    answer: Future
    pid: int


@contextlib.contextmanager
def asked(life: Life, name: str, argument: object = None, model: str = "commanded"):
    """A request that a worker has begun with."""

    def begun() -> list[str]:
        return re.findall(rf"begins {name} (\d+)", life.log.read_text())

    before = len(begun())
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(life.tell, name, argument, model)
        wait_for(lambda: len(begun()) > before, 5)
        yield Running(answer, int(begun()[-1]))


def gone(pid: int, within_s: float = 2) -> None:
    """Fails unless the process ends in time; a dead one that is not reaped yet has ended."""

    def ended() -> bool:
        try:
            return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return True

    wait_for(ended, within_s)


# --- what it takes and gives: items 2 to 8 ---

ODD = """
import json
import numpy as np
from mms.service import PredictionException

def model_fn(model_dir):
    return None

def transform_fn(model, data, content_type, accept, context, headers):
    return globals()[headers["x-do"]](data, context, headers)

def echo(data, context, headers):
    return [str(data), content(headers), headers.get("x-a"), headers.get("accept")]

def content(headers):
    return headers.get("content-type")

def numbers(data, context, headers):
    return {"nan": float("nan"), "array": np.array([[1, np.inf]], "float32"), "one": np.int64(1)}

def a_set(data, context, headers):
    return {1, 2}

def a_cycle(data, context, headers):
    cycle = []
    cycle.append(cycle)
    return cycle

def half_a_letter(data, context, headers):
    return "\\ud800"

def set_headers(data, context, headers):
    context.set_response_status(201, "Made\\r\\nX-Split: 1")
    for name, value in {
        "X-Good": "yes", "X-Split": "a\\r\\nX-More: 1", "X-Letter": "caf\\u00e9", "X-Number": 5,
        "X Name": "a", "Transfer-Encoding": "chunked", "Content-Length": "1",
        "X-Amzn-SageMaker-Custom-Attributes": "trace=1",
    }.items():
        context.set_response_header(0, name, value)
    return "body", "text/plain"

def a_long_error(data, context, headers):
    raise PredictionException("e" * 1_000_000, 422)
"""


def ask(life: Life, do: str, body: bytes = b"", headers=(), method="POST", path="/predictions/odd"):
    """The response to a request with these headers and no others."""
    connection = http.client.HTTPConnection(urlsplit(life.inference).netloc, timeout=10)
    with contextlib.closing(connection):
        connection.request(method, path, body, {"X-Do": do, **dict(headers)})
        response = connection.getresponse()
        return response.status, response.reason, response.headers, response.read()


@pytest.fixture(scope="module")
def odd(tmp_path_factory) -> Iterator[Life]:
    """A front end that would read bodies itself, and a script that gives what cannot be sent."""
    folder = tmp_path_factory.mktemp("odd")
    archive.pack(write(folder / "odd", ODD), folder / "store" / "odd.mar")
    with living(folder, decode_input_request="true") as life:
        assert life.add("odd").status == 200
        yield life
        assert life.log.read_text().count("model odd is loaded") == 1  # the same worker still


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        pytest.param(b'{"a":', {"Content-Type": "application/json"}, id="half of a JSON text"),
        pytest.param(b"", {"Content-Type": "application/json"}, id="nothing, as JSON"),
        pytest.param(b"\xe9", {"Content-Type": "text/plain"}, id="no UTF-8"),
    ],
)
def test_a_body_that_mms_cannot_read(odd, body, headers):
    """MMS would lose the worker; the handler gets it as it came, whatever MMS was told."""
    status, _, _, reply = ask(odd, "echo", body, headers)
    wanted = str(body) if headers["Content-Type"] == "text/plain" else body.decode()
    assert (status, json.loads(reply)[0]) == (200, wanted)


@pytest.mark.parametrize(
    ("method", "path", "headers", "told"),
    [
        pytest.param("GET", "/predictions/odd", {}, ["", None, None, None], id="GET"),
        pytest.param(
            "GET", "/invocations?model_name=odd&data=5", {}, ["5", None, None, None], id="a query"
        ),
        pytest.param(
            "POST",
            "/models/odd/invoke?accept=image/png&x-a=1",
            {},
            ["", None, None, None],
            id="a query of headers",
        ),
        pytest.param(
            "POST",
            "/predictions/odd",
            {"x-A": "caf\u00e9".encode(), "ACCEPT": "text/html;q=0.5, application/json"},
            ["", None, "caf\u00e9", "text/html;q=0.5, application/json"],
            id="headers in any case, in UTF-8",
        ),
    ],
)
def test_a_request_that_is_unusual(odd, method, path, headers, told):
    """Its one part is the body; headers are headers, in whatever case."""
    status, _, _, reply = ask(odd, "echo", b"", headers, method, path)
    assert (status, json.loads(reply)) == (200, told)


@pytest.mark.parametrize(
    ("do", "status", "reply"),
    [
        pytest.param(
            "numbers", 200, b'{"nan": null, "array": [[1.0, null]], "one": 1}', id="numbers"
        ),
        pytest.param("a_set", 500, b"", id="a set"),
        pytest.param("a_cycle", 500, b"", id="a list of itself"),
        pytest.param("half_a_letter", 500, b"", id="half a letter"),
    ],
)
def test_what_a_script_returns(odd, do, status, reply):
    """It becomes bytes in the worker, which is there afterwards, or it is this request's fault."""
    got = ask(odd, do)
    assert (got[0], got[2]["content-type"]) == (status, "application/json")
    assert reply in (b"", got[3])


def test_the_headers_that_a_script_sets(odd):
    """Those that can be sent are; none splits the reply, hangs the client or costs the worker."""
    status, phrase, headers, body = ask(odd, "set_headers")
    assert (status, phrase, body) == (201, "Made??X-Split: 1", b"body")
    own = {name.lower() for name in headers if name.lower().startswith(("x-", "transfer"))}
    assert own == {"x-good", "x-request-id", "x-amzn-sagemaker-custom-attributes"}
    assert headers["Content-Length"] == "4"


def test_an_error_is_short(odd):
    """MMS closes the connection of a failed request without waiting for its reader."""
    status, _, _, body = ask(odd, "a_long_error")
    assert status == 422
    assert 1_500 < len(body) < 4_000


# --- how it ends: items 10 and 11 ---


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_an_idle_worker_that_is_killed(life, number):
    """It ends at once, leaves nothing behind, and another one answers."""
    before = life.back()
    sockets = life.sockets()
    os.kill(before, number)
    gone(before, 1)
    assert life.back() != before
    assert (life.fifos(), life.sockets()) == ([], sockets)


@pytest.mark.parametrize("doing", ["loop", "native", "deadlock"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_busy_worker_that_is_killed(life, number, doing):
    """Whatever it runs it ends at once; its client is told, and another one answers."""
    before = life.back()
    with asked(life, doing) as running:
        os.kill(before, number)
        gone(before, 1)
        assert running.answer.result(2).status == 500
    assert life.back() != before
    assert life.fifos() == []


def test_a_request_that_takes_too_long(life):
    """It is told so, before MMS would have ended the worker; the same worker goes on."""
    before = life.back()
    started = time.monotonic()
    answer = life.tell("loop")
    assert 2.6 < time.monotonic() - started < TIMEOUT_S
    told = json.loads(answer.body)
    assert (answer.status, told["type"]) == (504, "TimedOut")
    assert told["message"] == "the model did not answer within 2.7 s"
    (line,) = life.logged(f"request {told['request_id']}: 504 TimedOut: ")[:1]
    assert "_Expired (code/inference.py, line " in line
    assert life.back() == before


def test_the_others_of_a_batch_that_takes_too_long(life):
    """The first is interrupted, those behind it are not started, and the worker goes on."""
    life.another("batches", batch_size=3, max_batch_delay=2000)
    with ThreadPoolExecutor(3) as pool:
        answers = list(pool.map(lambda _: life.tell("loop", model="batches"), range(3)))
    assert [one.status for one in answers] == [504, 504, 504]
    assert sorted(json.loads(one.body)["message"] for one in answers) == [
        "not started: its batch took all of its 2.7 s",
        "not started: its batch took all of its 2.7 s",
        "the model did not answer within 2.7 s",
    ]
    assert life.tell("pid", model="batches").status == 200
    assert client.unregister(life.management, "batches").status == 200


def test_workers_that_mms_gives_up(life):
    """Native code that does not return, and a process that is stopped: gone in that moment."""
    life.another("stuck", initial_workers=3)
    with contextlib.ExitStack() as stack:
        loop, *native = (
            stack.enter_context(asked(life, doing, model="stuck"))
            for doing in ("loop", "native", "deadlock")
        )
        os.kill(loop.pid, signal.SIGSTOP)
        answers = [one.answer.result(TIMEOUT_S + 5) for one in (loop, *native)]
    assert [one.status for one in answers] == [500, 500, 500]
    for one in (loop, *native):
        gone(one.pid, 1)
    assert client.unregister(life.management, "stuck").status == 200


def test_a_model_that_is_unregistered_while_it_answers(life):
    """Neither its workers nor its listener stay."""
    life.another("leaving")
    with asked(life, "native", model="leaving") as running:
        listener = psutil.Process(running.pid).ppid()
        assert client.unregister(life.management, "leaving").status == 200
        gone(running.pid)
        gone(listener)
        with contextlib.suppress(ServerError):  # MMS forgets some of those that are being answered
            assert running.answer.result().status == 500


@pytest.mark.parametrize("what", ["exit", "return", "terminate", "os._exit"])
def test_a_child_of_the_script_that_ends(life, what):
    """The worker does not notice; the listener's socket stays."""
    before, sockets = life.back(), life.sockets()
    life.told("fork", what)
    assert (life.told("pid"), life.sockets()) == (before, sockets)


def test_a_child_of_the_script_that_stays(life):
    """It does not hide from MMS that the worker died."""
    before = life.back()
    child = life.told("fork", "outlive")
    try:
        with asked(life, "loop") as running:
            os.kill(before, signal.SIGKILL)
            assert running.answer.result(2).status == 500
    finally:
        os.kill(child, signal.SIGKILL)


def test_multiprocessing_in_a_script(life):
    """A pool of processes works, and ends with its block."""
    before = life.back()
    assert life.told("pool") == [1, 2]
    assert psutil.Process(before).children() == []
    assert life.told("pid") == before


def test_a_script_with_an_alarm_of_its_own(life):
    """It rings; the log says, once, that there is no time limit; afterwards there is one."""
    assert [life.told("own_alarm", 0.1) for _ in range(2)] == ["the script's own"] * 2
    assert len(life.logged("the script uses SIGALRM")) == 1
    assert life.tell("loop").status == 504


@pytest.mark.parametrize("doing", [None, "loop", "native", "deadlock"])
def test_nothing_outlives_the_front_end(life, tmp_path, doing):
    """When Java is killed its listeners and workers, idle or busy, are gone within seconds."""
    archive.pack(write(tmp_path / "commanded", COMMANDED), tmp_path / "store" / "commanded.mar")
    with living(tmp_path) as other:
        assert other.add("commanded").status == 200
        listener, workers = other.of_model("commanded")
        pids = [listener.pid, *(one.pid for one in workers)]
        with asked(other, doing) if doing else contextlib.nullcontext():
            other.java().kill()
            for pid in pids:
                gone(pid)


def test_a_listener_without_a_worker(tmp_path):
    """It ends with Java even while there is no worker that could care for it."""
    archive.pack(write(tmp_path / "commanded", COMMANDED), tmp_path / "store" / "commanded.mar")
    with living(tmp_path) as other:
        assert other.add("commanded").status == 200
        listener, (worker,) = other.of_model("commanded")
        worker.kill()
        gone(worker.pid)
        other.java().kill()
        gone(listener.pid)


def test_the_listener_that_is_killed(tmp_path):
    """The worker answers on; MMS needs the listener only to start another one."""
    archive.pack(write(tmp_path / "commanded", COMMANDED), tmp_path / "store" / "commanded.mar")
    with living(tmp_path) as other:
        assert other.add("commanded").status == 200
        listener, _ = other.of_model("commanded")
        pid = other.told("pid")
        listener.kill()
        gone(listener.pid)
        assert [other.told("pid") for _ in range(3)] == [pid] * 3
        other.java().kill()
        gone(pid)


def test_a_worker_ends_as_mms_wants_it(life):
    """MMS deletes every global of the handler's module (model_loader.py:156-163): nothing minds."""
    life.another("quiet")
    pid = int(life.tell("pid", model="quiet").body)
    before = len(life.log.read_text())
    assert client.unregister(life.management, "quiet").status == 200
    gone(pid)
    said = life.log.read_text()[before:]
    assert [line for line in said.splitlines() if "Error" in line and "Frontend" not in line] == []
    assert life.fifos() == []


# --- what it prints: item 12 ---


def printed(life: Life, request_id: str) -> list[str]:
    """What MMS's log has of a request, without MMS's own decoration."""
    lines = life.logged(f"request {request_id}: ")
    return [line.partition(f" request {request_id}: ")[2] for line in lines]


def test_what_a_script_prints(life):
    """Each line has its request's id, none is long or a command, and the worker prints on."""
    answer = life.tell("shout")
    assert json.loads(answer.body) == [False, 1, 2]
    life.told("say", ["after"])
    identity = answer.headers["x-request-id"]
    wait_for(lambda: {"on stderr", "unfinished"} <= set(printed(life, identity)), 10)
    lines = printed(life, identity)  # stderr is another pipe: where it stands is by chance
    assert [line for line in lines if line != "on stderr"][1:] == [
        "x" * 8_000 + " [and 992000 bytes more]",
        "y" * 8_000 + " [and 12012 bytes more]",
        "one",
        "two",
        "[PID] three",
        "[METRICS]in bytes",
        "logged",
        "[PID] of two lines",
        "unfinished",
    ]
    assert life.logged(": after")


def test_a_bugs_traceback_has_its_id_in_each_line(life):
    """A log of several requests can be told apart."""
    answer = life.tell("nothing of this name")
    assert answer.status == 500
    identity, last = answer.headers["x-request-id"], "KeyError: 'nothing of this name'"
    wait_for(lambda: printed(life, identity)[-1:] == [last], 10)
    lines = printed(life, identity)
    assert lines[1].startswith("500 KeyError: 'nothing of this name' (code/inference.py, line ")
    assert lines[2] == "Traceback (most recent call last):"


def test_what_mms_reads_of_a_worker(life):
    """A script cannot say it, not while loading either; MMS's own metrics get through."""
    life.told("say", ["[PID] 1", "[METRICS]Made.Count:1|#up:up", "MMS worker started."])
    answer = life.tell("say", ["[PID] nonsense"])
    assert answer.status == 200
    assert life.logged(" [PID] printed while loading")
    model_metrics = life.folder / "logs" / "model_metrics.log"
    asked = f"requestID:{answer.headers['x-request-id']}"
    wait_for(lambda: asked in model_metrics.read_text(), 5)
    assert "Made" not in model_metrics.read_text()


def test_printing_to_nobody(life):
    """MMS reads no more; the script prints on, and is answered."""
    life.another("deaf")
    assert life.tell("deafen", model="deaf").status == 200
    life.logged('NumberFormatException: For input string: "nonsense"')
    for _ in range(3):
        assert life.tell("say", ["to nobody"] * 100, model="deaf").body == b"100"
    assert client.unregister(life.management, "deaf").status == 200


def test_printing_is_quick(life):
    """Ten thousand lines, and a line of a megabyte, take no more than MMS takes to read them."""
    started = time.monotonic()
    assert life.told("say", ["a line"] * 10_000) == 10_000
    assert time.monotonic() - started < 2.5


# --- what it measures: item 13 ---


def test_what_a_script_measures(life):
    """Each metric arrives with its name, value, unit, dimensions, and its request's id."""
    answer = life.tell("measure")
    request_id = answer.headers["x-request-id"]

    def arrived() -> list[str]:
        lines = (life.folder / "logs" / "model_metrics.log").read_text().splitlines()
        mine = [line.partition(" - ")[2] for line in lines if f"requestID:{request_id}" in line]
        return [line.partition("|#hostname")[0] for line in mine] if len(mine) >= 8 else []

    assert wait_for(arrived, 5) == [
        "a_counter.Count:3|#ModelName:commanded,Level:Model",
        "Time.Seconds:0.0000001|#Step:read_ write,ModelName:commanded,Level:Model",
        "Size.Gigabytes:100000000000000000000|#ModelName:commanded,Level:Model",
        "Percent.Percent:12.5|#ModelName:commanded,Level:Model",
        "Rows.unit:3|#ModelName:commanded,Level:Model",
        "Rate.rows_s:4|#ModelName:commanded,Level:Model",
        "Failures.unit:1|#Level:Error",
        *wait_for(arrived, 5)[7:],
    ]
    assert wait_for(arrived, 5)[7].startswith("PredictionTime.Milliseconds:")
    left_out = printed(life, request_id)
    assert len([line for line in left_out if line.startswith("metric 'Odd' left out: ")]) == 5
    assert len([line for line in left_out if line.startswith("metric 'Time' left out: ")]) == 1


# --- how it is loaded: items 9 and 17 ---


BROKEN = """
def model_fn(model_dir):
    raise ValueError("weights are gone")
"""


def test_preload_model(tmp_path):
    """Each worker loads its own model; one that cannot be loaded is refused at once."""
    archive.pack(write(tmp_path / "commanded", COMMANDED), tmp_path / "store" / "commanded.mar")
    archive.pack(write(tmp_path / "broken", BROKEN), tmp_path / "store" / "broken.mar")
    with living(tmp_path, preload_model="true") as other:
        started = time.monotonic()
        assert other.add("broken").status == 500
        assert time.monotonic() - started < 15
        assert other.logged("cannot load model broken: model_fn: ValueError: weights are gone")
        assert client.describe(other.management, "broken").status == 404
        assert other.add("commanded", initial_workers=2).status == 200
        listener, workers = other.of_model("commanded")
        assert other.told("pid") in [one.pid for one in workers]
        assert not [m for m in listener.memory_maps() if "mxnet" in m.path]
        for one in workers:
            one.kill()
        assert other.back() not in [one.pid for one in workers]


def test_a_gpu_that_mxnet_does_not_have(tmp_path):
    """MMS counts what nvidia-smi lists; the model is refused, and told what to do."""
    archive.pack(write(tmp_path / "commanded", COMMANDED), tmp_path / "store" / "commanded.mar")
    lister = tmp_path / "bin" / "nvidia-smi"
    lister.parent.mkdir()
    lister.write_text("#!/bin/sh\nprintf 'index\\n0\\n'\n")
    lister.chmod(0o755)
    with living(tmp_path, path=f"{lister.parent}:/usr/bin:/bin") as other:
        assert other.add("commanded").status == 500
        assert other.logged(
            "cannot load model commanded: mxnet: ModelError: MMS gave GPU 0, but MXNet can use "
            "none; to serve on the CPU set number_of_gpu=0 in MMS's configuration"
        )


def test_an_archive_that_is_none(life):
    """MMS takes a .tar.gz for an empty model, and would say it is registered."""
    (life.store / "packed.tar.gz").write_bytes(b"\x1f\x8b" + b"no archive" * 10)
    url = "url=packed.tar.gz&model_name=packed&handler=mms_handler.service:handle"
    registering = f"{life.management}/models?{url}&initial_workers=1&synchronous=true"
    assert client.call("POST", registering).status == 500
    assert life.logged("cannot load model packed: model_dir: ModelError: it is empty; ")


SHADOWED = """
import json, numpy, fractions

def model_fn(model_dir):
    return [json.__file__, numpy.__file__, fractions.__file__]

def predict_fn(data, model):
    if data.shape[0] == 3:
        raise ValueError(model)
    return model if data.shape[0] == 1 else data * 2
"""


def test_an_archive_with_files_named_like_libraries(life, tmp_path):
    """They replace nothing of ours, of MMS's, or of the standard library that either needs."""
    names = "json logging numpy mms mms_handler mxnet sagemaker_inference fractions decimal"
    files = {name: "raise RuntimeError('shadowed')" for name in names.split()}
    archive.pack(write(tmp_path / "m", SHADOWED, **files), life.store / "shadowed.mar")
    assert life.add("shadowed").status == 200
    found = json.loads(life.ask("shadowed", b"[[1, 2]]").body)
    assert not [path for path in found if "/code/" in path]
    assert life.ask("shadowed", b"[[1], [2]]", accept="text/csv").body == b"2.0\r\n4.0\r\n"
    assert life.ask("shadowed", b"[[1,").status == 400
    assert life.ask("shadowed", b"[[1], [2], [3]]").status == 500
    assert client.unregister(life.management, "shadowed").status == 200
