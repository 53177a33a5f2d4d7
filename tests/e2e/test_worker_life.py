"""A worker of a real MMS: its requests and replies, output, metrics, time limit and end.

The tests show each item of what MMS leaves to the handler.
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

TIMEOUT_S = 20  # MMS's limit for a request and for a load: time enough to import MXNet
WORKER_TIMEOUT_S = 3  # the limit that workers read from their environment
PATIENCE_S = 30  # limit of waiting for what has no time limit of its own
LAST_S = WORKER_TIMEOUT_S + 2  # then a worker is gone, whatever it runs

#: Functions of COMMANDED that do not return, and how soon a worker ends that has lost its front
#: end meanwhile.  Nothing but its time limit ends one that blocks the interpreter from the start.
ENDS = [("loop", 2), ("deadlock", 2), ("native", LAST_S)]

#: The body of a request is JSON: the name of the function to call, and its argument.
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
    """Block for ever, and hold the interpreter's lock."""
    return lock_twice(ctypes.PyDLL(None))

def deadlock(argument, context):
    """Block for ever, but let other threads run."""
    return lock_twice(ctypes.CDLL(None))

def lock_twice(libc):
    mutex = ctypes.create_string_buffer(64)
    return libc.pthread_mutex_lock(mutex) or libc.pthread_mutex_lock(mutex)

def fork(ending, context):
    child = os.fork()
    if child:
        if ending != "outlive":
            os.waitpid(child, 0)
        return child
    if ending == "outlive":
        time.sleep(60)
    if ending == "exit":
        sys.exit(3)
    if ending == "terminate":
        os.kill(os.getpid(), signal.SIGTERM)
    if ending == "os._exit":
        os._exit(0)

def pool(argument, context):
    from multiprocessing import Pool
    with Pool(2) as processes:
        return processes.map(abs, [-1, -2])

def break_reader(argument, context):
    """Write to the descriptor, not to sys.stdout: this line ends MMS's reader."""
    return os.write(1, b"[PID] nonsense\\n")

def use_alarm(seconds, context):
    def ring(number, frame):
        raise ValueError("the script's alarm")
    handler = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        time.sleep(2)
    except ValueError as exc:
        return str(exc)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, handler)

def print_lines(lines, context):
    for line in lines:
        print(line)
    return len(lines)

def print_everything(argument, context):
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
    metrics = context.metrics
    metrics.add_counter("a counter", 1)
    metrics.add_counter("a counter", 2)
    metrics.add_time("Time", 1e-07, unit="s", dimensions=[Dimension("Step", "read, write")])
    metrics.add_size("Size", 10**20, unit="GB", idx=0)
    metrics.add_percent("Percent", 12.5)
    metrics.add_metric("Rows", 3)
    metrics.add_metric("Rate", 4, unit="rows/s")
    metrics.add_error("Failures", 1)
    for value in (float("nan"), float("inf"), "many", None, [1]):
        metrics.add_metric("Odd", value)
    metrics.add_time("Time", 1, dimensions="Step")
    return "measured"
'''


def write(folder: Path, script: str, **files: str) -> Path:
    """Write a model_dir with a script and other modules."""
    (folder / "code").mkdir(parents=True)
    for name, text in {"inference": script, **files}.items():
        (folder / "code" / f"{name}.py").write_text(text)
    return folder


class FrontEnd(Front):
    """A front end that tests may kill, with the model ``commanded``."""

    folder: Path
    process: subprocess.Popen

    def send(self, name: str, argument: object = None, model: str = "commanded") -> client.Answer:
        """Have a worker call a function of COMMANDED, and return its answer."""
        url = f"{self.inference}/predictions/{model}"
        body = json.dumps([name, argument]).encode()
        return client.invoke(url, body, timeout_s=TIMEOUT_S + 5)

    def call(self, name: str, argument: object = None) -> object:
        """Have a worker call a function of COMMANDED, and return its value."""
        answer = self.send(name, argument)
        assert answer.status == 200, answer
        return json.loads(answer.body)

    def logged(self, text: str) -> list[str]:
        """Wait for a line of the log that contains ``text``, and return all such lines."""

        def lines() -> list[str]:
            return [line for line in self.log.read_text().splitlines() if text in line]

        return wait_for(lines, PATIENCE_S)

    def fifos(self) -> list[str]:
        return [path.name for path in (self.folder / "tmp").glob("*-std*")]

    def sockets(self) -> list[str]:
        return [path.name for path in (self.folder / "tmp").glob(".mms.sock.*")]

    def family(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children(recursive=True)

    def java(self) -> psutil.Process:
        return next(process for process in self.family() if process.name() == "java")

    def processes_of(self, name: str) -> tuple[psutil.Process, list[psutil.Process]]:
        """Return a model's listener and its workers."""
        children = self.java().children(recursive=True)
        processes = [process for process in children if name in process.cmdline()]
        (listener,) = (child for child in processes if child.ppid() == self.java().pid)
        return listener, [process for process in processes if process != listener]

    def add_copy(self, name: str, **parameters: object) -> None:
        """Register COMMANDED under another name.

        Its file differs, since MMS gives models with equal files one folder, which goes when the
        first of them is unregistered.
        """
        script = write(self.folder / name, f"{COMMANDED}\n# {name}\n")
        archive.pack(script, self.store / f"{name}.mar")
        assert self.add(name, **parameters).status == 200

    def worker_pid(self) -> int:
        """Wait for a worker that answers, and return its pid."""

        def pid() -> int | None:
            with contextlib.suppress(Exception):
                answer = self.send("pid")
                return int(answer.body) if answer.status == 200 else None

        return wait_for(pid, PATIENCE_S)


@contextlib.contextmanager
def running(folder: Path, path: str = "/usr/bin:/bin", **properties: object) -> Iterator[FrontEnd]:
    """Run MMS's own command, with the default properties and these additional ones."""
    ports = free_ports()
    (folder / "tmp").mkdir()
    settings = Settings(
        port=ports[0],
        management_port=ports[1],
        model_store=str(folder / "store"),
        timeout_s=TIMEOUT_S,
    )
    worker_settings = dataclasses.replace(settings, timeout_s=WORKER_TIMEOUT_S)
    lines = "".join(f"{key}={value}\n" for key, value in properties.items())
    (folder / "config.properties").write_text(server.config_properties(settings) + lines)
    env = {"PATH": path, "TEMP": str(folder / "tmp"), "TMPDIR": str(folder / "tmp")}
    env.update(server.java_variables(env), **worker_settings.variables())
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
        wait_for(lambda: client.listening(inference), PATIENCE_S)
        front_end = FrontEnd(inference, management, folder / "store", folder / "log")
        front_end.folder, front_end.process = folder, process
        yield front_end
    finally:
        end(process)


@pytest.fixture(scope="module")
def front_end(tmp_path_factory) -> Iterator[FrontEnd]:
    """A front end with one worker of COMMANDED, whose time limit is 3 seconds."""
    folder = tmp_path_factory.mktemp("commanded")
    archive.pack(write(folder / "commanded", COMMANDED), folder / "store" / "commanded.mar")
    with running(folder) as front_end:
        assert front_end.add("commanded").status == 200
        yield front_end


class Running(NamedTuple):
    """A request that is being answered: its future answer, and the pid of its worker."""

    answer: Future
    pid: int


@contextlib.contextmanager
def under_way(front_end: FrontEnd, name: str, argument: object = None, model: str = "commanded"):
    """Send a request, and run the ``with`` block when a worker has begun to answer it."""

    def pids() -> list[str]:
        return re.findall(rf"begins {name} (\d+)", front_end.log.read_text())

    earlier = len(pids())
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(front_end.send, name, argument, model)
        wait_for(lambda: len(pids()) > earlier, PATIENCE_S)
        yield Running(answer, int(pids()[-1]))


def wait_until_gone(pid: int, within_s: float = 2) -> None:
    """Fail unless the process ends in time; a zombie has ended."""

    def has_ended() -> bool:
        try:
            return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return True

    wait_for(has_ended, within_s)


# --- requests and replies: items 2 to 8 ---

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


def request(
    front_end: FrontEnd,
    function: str,
    body: bytes = b"",
    headers=(),
    method="POST",
    path="/predictions/odd",
):
    """Send a request with these headers and no others, and return its response."""
    netloc = urlsplit(front_end.inference).netloc
    connection = http.client.HTTPConnection(netloc, timeout=PATIENCE_S)
    with contextlib.closing(connection):
        connection.request(method, path, body, {"X-Do": function, **dict(headers)})
        response = connection.getresponse()
        return response.status, response.reason, response.headers, response.read()


@pytest.fixture(scope="module")
def odd(tmp_path_factory) -> Iterator[FrontEnd]:
    """A front end with the script ODD; some of its replies cannot be sent.

    MMS is configured to read bodies itself.  The tests must not cost the worker.
    """
    folder = tmp_path_factory.mktemp("odd")
    archive.pack(write(folder / "odd", ODD), folder / "store" / "odd.mar")
    with running(folder, decode_input_request="true") as front_end:
        assert front_end.add("odd").status == 200
        yield front_end
        assert front_end.log.read_text().count("model odd is loaded") == 1


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        pytest.param(b'{"a":', {"Content-Type": "application/json"}, id="half a JSON text"),
        pytest.param(b"", {"Content-Type": "application/json"}, id="an empty JSON body"),
        pytest.param(b"\xe9", {"Content-Type": "text/plain"}, id="not UTF-8"),
    ],
)
def test_a_body_that_mms_cannot_read(odd, body, headers):
    """MMS would lose the worker; the handler gets the body unchanged, whatever MMS's setting."""
    status, _, _, reply = request(odd, "echo", body, headers)
    expected = str(body) if headers["Content-Type"] == "text/plain" else body.decode()
    assert (status, json.loads(reply)[0]) == (200, expected)


@pytest.mark.parametrize(
    ("method", "path", "headers", "echo"),
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
            id="a query with headers' names",
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
def test_unusual_requests(odd, method, path, headers, echo):
    """A query's only parameter is the body; header names may have any case."""
    status, _, _, reply = request(odd, "echo", b"", headers, method, path)
    assert (status, json.loads(reply)) == (200, echo)


@pytest.mark.parametrize(
    ("function", "status", "reply"),
    [
        pytest.param(
            "numbers", 200, b'{"nan": null, "array": [[1.0, null]], "one": 1}', id="numbers"
        ),
        pytest.param("a_set", 500, b"", id="a set"),
        pytest.param("a_cycle", 500, b"", id="a list that contains itself"),
        pytest.param("half_a_letter", 500, b"", id="half of a surrogate pair"),
    ],
)
def test_unusual_return_values(odd, function, status, reply):
    """A value is sent, or it is an error of this request; the worker lives on."""
    actual_status, _, headers, body = request(odd, function)
    assert (actual_status, headers["content-type"]) == (status, "application/json")
    assert reply in (b"", body)


def test_headers_of_a_script(odd):
    """Valid ones are sent; none splits the reply, hangs the client or costs the worker."""
    status, phrase, headers, body = request(odd, "set_headers")
    assert (status, phrase, body) == (201, "Made??X-Split: 1", b"body")
    names = {name.lower() for name in headers if name.lower().startswith(("x-", "transfer"))}
    assert names == {"x-good", "x-request-id", "x-amzn-sagemaker-custom-attributes"}
    assert headers["Content-Length"] == "4"


def test_an_error_is_short(odd):
    """MMS closes a failed request's connection without waiting for the client to read."""
    status, _, _, body = request(odd, "a_long_error")
    assert status == 422
    assert 1_500 < len(body) < 4_000


# --- the end of workers: items 10 and 11 ---


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_an_idle_worker_that_is_killed(front_end, number):
    """It ends at once and leaves no files, and another worker answers."""
    killed = front_end.worker_pid()
    sockets = front_end.sockets()
    os.kill(killed, number)
    wait_until_gone(killed, 1)
    assert front_end.worker_pid() != killed
    assert (front_end.fifos(), front_end.sockets()) == ([], sockets)


@pytest.mark.parametrize("function", ["loop", "native", "deadlock"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_busy_worker_that_is_killed(front_end, number, function):
    """Whatever it runs, it ends at once; its client gets an error, and another worker answers."""
    killed = front_end.worker_pid()
    with under_way(front_end, function) as busy:
        os.kill(killed, number)
        wait_until_gone(killed, 1)
        assert busy.answer.result(2).status == 500
    assert front_end.worker_pid() != killed
    assert front_end.fifos() == []


def test_a_request_that_takes_too_long(front_end):
    """Its client gets an error before MMS would end the worker; the worker goes on."""
    worker = front_end.worker_pid()
    start_s = time.monotonic()
    answer = front_end.send("loop")
    assert 2.6 < time.monotonic() - start_s < TIMEOUT_S
    fault = json.loads(answer.body)
    assert (answer.status, fault["type"]) == (504, "TimedOut")
    assert fault["message"] == "the model did not answer within 2.7 s"
    (line,) = front_end.logged(f"request {fault['request_id']}: 504 TimedOut: ")[:1]
    assert "_Expired (code/inference.py, line " in line
    assert front_end.worker_pid() == worker


def test_a_batch_that_takes_too_long(front_end):
    """The first request is interrupted, the others are not started, and the worker goes on."""
    front_end.add_copy("batches", batch_size=3, max_batch_delay=2000)
    with ThreadPoolExecutor(3) as pool:
        answers = list(pool.map(lambda _: front_end.send("loop", model="batches"), range(3)))
    assert [answer.status for answer in answers] == [504, 504, 504]
    assert sorted(json.loads(answer.body)["message"] for answer in answers) == [
        "not started: its batch used up the limit of 2.7 s",
        "not started: its batch used up the limit of 2.7 s",
        "the model did not answer within 2.7 s",
    ]
    assert front_end.send("pid", model="batches").status == 200
    assert client.unregister(front_end.management, "batches").status == 200


def test_workers_that_cannot_keep_their_limit(front_end):
    """Blocked native code and a stopped process end soon after their time limit."""
    front_end.add_copy("stuck", initial_workers=3)
    with contextlib.ExitStack() as stack:
        stuck = [
            stack.enter_context(under_way(front_end, function, model="stuck"))
            for function in ("loop", "native", "deadlock")
        ]
        os.kill(stuck[0].pid, signal.SIGSTOP)
        answers = [worker.answer.result(LAST_S) for worker in stuck]
    assert [answer.status for answer in answers] == [500, 500, 500]
    for worker in stuck:
        wait_until_gone(worker.pid, 1)
    assert client.unregister(front_end.management, "stuck").status == 200


@pytest.mark.parametrize(("function", "within_s"), ENDS)
def test_a_model_that_is_unregistered_while_it_answers(front_end, function, within_s):
    """Its workers and its listener end."""
    model = f"leaving_{function}"
    front_end.add_copy(model)
    with under_way(front_end, function, model=model) as busy:
        listener = psutil.Process(busy.pid).ppid()
        assert client.unregister(front_end.management, model).status == 200
        wait_until_gone(busy.pid, within_s)
        wait_until_gone(listener)
        with contextlib.suppress(ServerError):  # MMS does not answer all such requests
            assert busy.answer.result().status == 500


@pytest.mark.parametrize("ending", ["exit", "return", "terminate", "os._exit"])
def test_the_end_of_a_scripts_child(front_end, ending):
    """The worker goes on, and the listener's socket stays."""
    worker, sockets = front_end.worker_pid(), front_end.sockets()
    front_end.call("fork", ending)
    assert (front_end.call("pid"), front_end.sockets()) == (worker, sockets)


def test_a_scripts_child_that_outlives_the_worker(front_end):
    """MMS still notices at once that the worker died."""
    worker = front_end.worker_pid()
    child = front_end.call("fork", "outlive")
    try:
        with under_way(front_end, "loop") as busy:
            os.kill(worker, signal.SIGKILL)
            assert busy.answer.result(2).status == 500
    finally:
        os.kill(child, signal.SIGKILL)


def test_multiprocessing_in_a_script(front_end):
    """A pool of processes works, and ends with its block."""
    worker = front_end.worker_pid()
    assert front_end.call("pool") == [1, 2]
    assert psutil.Process(worker).children() == []
    assert front_end.call("pid") == worker


def test_a_script_with_its_own_alarm(front_end):
    """Its alarm works; the log says once that there is no time limit; later requests have one."""
    assert [front_end.call("use_alarm", 0.1) for _ in range(2)] == ["the script's alarm"] * 2
    assert len(front_end.logged("the script uses SIGALRM")) == 1
    assert front_end.send("loop").status == 504


@pytest.mark.parametrize(("function", "within_s"), [(None, 2), *ENDS])
def test_nothing_outlives_the_front_end(tmp_path, function, within_s):
    """When Java is killed, its listeners and workers end within seconds, idle or busy."""
    archive.pack(write(tmp_path / "commanded", COMMANDED), tmp_path / "store" / "commanded.mar")
    with running(tmp_path) as other:
        assert other.add("commanded").status == 200
        listener, workers = other.processes_of("commanded")
        pids = [listener.pid, *(worker.pid for worker in workers)]
        with under_way(other, function) if function else contextlib.nullcontext():
            other.java().kill()
            for pid in pids:
                wait_until_gone(pid, within_s)


def test_a_listener_without_a_worker(tmp_path):
    """It ends with Java, even while no worker is there to watch it."""
    archive.pack(write(tmp_path / "commanded", COMMANDED), tmp_path / "store" / "commanded.mar")
    with running(tmp_path) as other:
        assert other.add("commanded").status == 200
        listener, (worker,) = other.processes_of("commanded")
        worker.kill()
        wait_until_gone(worker.pid)
        other.java().kill()
        wait_until_gone(listener.pid)


def test_a_listener_that_is_killed(tmp_path):
    """The worker goes on; MMS needs the listener only to start another worker."""
    archive.pack(write(tmp_path / "commanded", COMMANDED), tmp_path / "store" / "commanded.mar")
    with running(tmp_path) as other:
        assert other.add("commanded").status == 200
        listener, _ = other.processes_of("commanded")
        pid = other.call("pid")
        listener.kill()
        wait_until_gone(listener.pid)
        assert [other.call("pid") for _ in range(3)] == [pid] * 3
        other.java().kill()
        wait_until_gone(pid)


def test_a_worker_ends_without_errors(front_end):
    """MMS deletes every global of the handler's module (model_loader.py:156-163).

    Nothing in the worker fails because of that.
    """
    front_end.add_copy("quiet")
    pid = int(front_end.send("pid", model="quiet").body)
    log_length = len(front_end.log.read_text())
    assert client.unregister(front_end.management, "quiet").status == 200
    wait_until_gone(pid)
    lines = front_end.log.read_text()[log_length:].splitlines()
    assert [line for line in lines if "Error" in line and "Frontend" not in line] == []
    assert front_end.fifos() == []


# --- output: item 12 ---


def output_of(front_end: FrontEnd, request_id: str) -> list[str]:
    """Return a request's lines in MMS's log, without the beginning that MMS adds."""
    lines = front_end.logged(f"request {request_id}: ")
    return [line.partition(f" request {request_id}: ")[2] for line in lines]


def test_the_output_of_a_script(front_end):
    """Each line has its request's id, none is long or a command, and later output arrives."""
    answer = front_end.send("print_everything")
    assert json.loads(answer.body) == [False, 1, 2]
    front_end.call("print_lines", ["after"])
    identity = answer.headers["x-request-id"]
    wait_for(lambda: {"on stderr", "unfinished"} <= set(output_of(front_end, identity)), 10)
    lines = output_of(front_end, identity)  # stderr is another pipe, so its line may be anywhere
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
    assert front_end.logged(": after")


def test_each_line_of_a_traceback_has_the_requests_id(front_end):
    """The lines of several requests can be separated."""
    answer = front_end.send("nothing of this name")
    assert answer.status == 500
    identity, last = answer.headers["x-request-id"], "KeyError: 'nothing of this name'"
    wait_for(lambda: output_of(front_end, identity)[-1:] == [last], 10)
    lines = output_of(front_end, identity)
    assert lines[1].startswith("500 KeyError: 'nothing of this name' (code/inference.py, line ")
    assert lines[2] == "Traceback (most recent call last):"


def test_a_script_cannot_print_mms_commands(front_end):
    """Its lines are changed, even while it loads; MMS's own metrics get through."""
    front_end.call(
        "print_lines", ["[PID] 1", "[METRICS]Made.Count:1|#up:up", "MMS worker started."]
    )
    answer = front_end.send("print_lines", ["[PID] nonsense"])
    assert answer.status == 200
    assert front_end.logged(" [PID] printed while loading")
    model_metrics = front_end.folder / "logs" / "model_metrics.log"
    request_id = f"requestID:{answer.headers['x-request-id']}"
    wait_for(lambda: request_id in model_metrics.read_text(), PATIENCE_S)
    assert "Made" not in model_metrics.read_text()


def test_output_without_a_reader(front_end):
    """When MMS reads no more, a script can still print, and its requests are answered."""
    front_end.add_copy("deaf")
    assert front_end.send("break_reader", model="deaf").status == 200
    front_end.logged('NumberFormatException: For input string: "nonsense"')
    for _ in range(3):
        assert front_end.send("print_lines", ["unread"] * 100, model="deaf").body == b"100"
    assert client.unregister(front_end.management, "deaf").status == 200


def test_printing_is_fast(front_end):
    """Ten thousand lines take no longer than MMS needs to read them."""
    start_s = time.monotonic()
    assert front_end.call("print_lines", ["a line"] * 10_000) == 10_000
    assert time.monotonic() - start_s < 2.5


# --- metrics: item 13 ---


def test_the_metrics_of_a_script(front_end):
    """Each metric arrives with its name, value, unit, dimensions and request id."""
    answer = front_end.send("measure")
    request_id = answer.headers["x-request-id"]

    def metrics() -> list[str]:
        lines = (front_end.folder / "logs" / "model_metrics.log").read_text().splitlines()
        logged = [line.partition(" - ")[2] for line in lines if f"requestID:{request_id}" in line]
        return [line.partition("|#hostname")[0] for line in logged] if len(logged) >= 8 else []

    assert wait_for(metrics, PATIENCE_S) == [
        "a_counter.Count:3|#ModelName:commanded,Level:Model",
        "Time.Seconds:0.0000001|#Step:read_ write,ModelName:commanded,Level:Model",
        "Size.Gigabytes:100000000000000000000|#ModelName:commanded,Level:Model",
        "Percent.Percent:12.5|#ModelName:commanded,Level:Model",
        "Rows.unit:3|#ModelName:commanded,Level:Model",
        "Rate.rows_s:4|#ModelName:commanded,Level:Model",
        "Failures.unit:1|#Level:Error",
        *wait_for(metrics, PATIENCE_S)[7:],
    ]
    assert wait_for(metrics, PATIENCE_S)[7].startswith("PredictionTime.Milliseconds:")
    lines = output_of(front_end, request_id)
    assert len([line for line in lines if line.startswith("metric 'Odd' left out: ")]) == 5
    assert len([line for line in lines if line.startswith("metric 'Time' left out: ")]) == 1


# --- loading: items 9 and 17 ---


BROKEN = """
def model_fn(model_dir):
    raise ValueError("weights are gone")
"""


def test_preload_model(tmp_path):
    """Each worker loads its own model; a model that cannot be loaded is refused at once."""
    archive.pack(write(tmp_path / "commanded", COMMANDED), tmp_path / "store" / "commanded.mar")
    archive.pack(write(tmp_path / "broken", BROKEN), tmp_path / "store" / "broken.mar")
    with running(tmp_path, preload_model="true") as other:
        start_s = time.monotonic()
        assert other.add("broken").status == 500
        assert time.monotonic() - start_s < 60  # MMS's own time limit is 120 s
        assert other.logged("cannot load model broken: model_fn: ValueError: weights are gone")
        assert client.describe(other.management, "broken").status == 404
        assert other.add("commanded", initial_workers=2).status == 200
        listener, workers = other.processes_of("commanded")
        pids = [worker.pid for worker in workers]
        assert other.call("pid") in pids
        assert not [file for file in listener.memory_maps() if "mxnet" in file.path]
        for worker in workers:
            worker.kill()
        assert other.worker_pid() not in pids


def test_a_gpu_that_mxnet_does_not_have(tmp_path):
    """MMS counts GPUs that nvidia-smi lists; the load is refused, and the log says what to do."""
    archive.pack(write(tmp_path / "commanded", COMMANDED), tmp_path / "store" / "commanded.mar")
    nvidia_smi = tmp_path / "bin" / "nvidia-smi"
    nvidia_smi.parent.mkdir()
    nvidia_smi.write_text("#!/bin/sh\nprintf 'index\\n0\\n'\n")
    nvidia_smi.chmod(0o755)
    with running(tmp_path, path=f"{nvidia_smi.parent}:/usr/bin:/bin") as other:
        assert other.add("commanded").status == 500
        assert other.logged(
            "cannot load model commanded: mxnet: ModelError: MMS assigned GPU 0, but MXNet can use "
            "none; to serve on the CPU set number_of_gpu=0 in MMS's configuration"
        )


def test_a_file_that_is_not_an_archive(front_end):
    """MMS takes a .tar.gz for an empty model, and would report it as registered."""
    (front_end.store / "packed.tar.gz").write_bytes(b"\x1f\x8b" + b"no archive" * 10)
    url = "url=packed.tar.gz&model_name=packed&handler=mms_handler.service:handle"
    registration = f"{front_end.management}/models?{url}&initial_workers=1&synchronous=true"
    assert client.call("POST", registration).status == 500
    assert front_end.logged(
        "cannot load model packed: model_dir: ModelError: the folder is empty: "
    )


SHADOWED = """
import json, numpy, fractions

def model_fn(model_dir):
    return [json.__file__, numpy.__file__, fractions.__file__]

def predict_fn(data, model):
    if data.shape[0] == 3:
        raise ValueError(model)
    return model if data.shape[0] == 1 else data * 2
"""


def test_an_archive_with_files_named_like_libraries(front_end, tmp_path):
    """They replace no module that the package, MMS or the standard library imports."""
    names = "json logging numpy mms mms_handler mxnet sagemaker_inference fractions decimal"
    files = {name: "raise RuntimeError('shadowed')" for name in names.split()}
    archive.pack(write(tmp_path / "m", SHADOWED, **files), front_end.store / "shadowed.mar")
    assert front_end.add("shadowed").status == 200
    paths = json.loads(front_end.ask("shadowed", b"[[1, 2]]").body)
    assert not [path for path in paths if "/code/" in path]
    assert front_end.ask("shadowed", b"[[1], [2]]", accept="text/csv").body == b"2.0\r\n4.0\r\n"
    assert front_end.ask("shadowed", b"[[1,").status == 400
    assert front_end.ask("shadowed", b"[[1], [2], [3]]").status == 500
    assert client.unregister(front_end.management, "shadowed").status == 200
