"""The faults.  Each is a function of the server; what it returns, if anything, is a complaint."""

from __future__ import annotations

import contextlib
import io
import json
import os
import random
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
import zlib
from pathlib import Path
from typing import Callable, NamedTuple

import psutil

from tests.chaos.serving import Server, limited

#: Seconds for which faults that last do last.
LASTS_S = 3


class Scene(NamedTuple):
    """Where a fault happens.

    Fields:
        held: what is closed only after the server has recovered.
    """

    server: Server
    held: contextlib.ExitStack


class Fault(NamedTuple):
    """A fault.

    Fields:
        section: faults of one section share a server.
        ends_server: it is the server's own death, after which a new one is started.
        uses_hostile: the hostile model is registered before it, and answers after it.
    """

    name: str
    section: str
    cause: Callable[[Scene], str | None]
    ends_server: bool = False
    uses_hostile: bool = False


FAULTS: list[Fault] = []


def fault(
    name: str, section: str, **more: bool
) -> Callable[[Callable[[Scene], str | None]], Callable[[Scene], str | None]]:
    def note(cause: Callable[[Scene], str | None]) -> Callable[[Scene], str | None]:
        FAULTS.append(Fault(name, section, cause, **more))
        return cause

    return note


@fault("no fault", "clients")
def _nothing(scene: Scene) -> None:
    time.sleep(LASTS_S)


# --- clients ---

_TARGET = (
    b"POST /predictions/good HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
)
_REQUEST = _TARGET + b"Content-Length: 7\r\n\r\n[[1,2]]"


@fault("100 clients hang up after the request", "clients")
def _hang_up(scene: Scene) -> None:
    for _ in range(100):
        with scene.server.connect() as connection:
            connection.sendall(_REQUEST)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


@fault("100 clients hang up within the request", "clients")
def _hang_up_early(scene: Scene) -> None:
    for number in range(100):
        with scene.server.connect() as connection:
            connection.sendall(_REQUEST[: 1 + number])


def _trickle(scene: Scene, text: bytes, count: int) -> None:
    """Send ``text`` over ``count`` connections, a byte every 0.1 s, until the server recovered."""
    connections = [scene.held.enter_context(scene.server.connect()) for _ in range(count)]
    ended = threading.Event()

    def send() -> None:
        for position in range(len(text)):
            for connection in connections:
                with contextlib.suppress(OSError):
                    connection.send(text[position : position + 1])
            if ended.wait(0.1):
                return

    thread = threading.Thread(target=send, daemon=True)
    thread.start()
    scene.held.callback(ended.set)
    time.sleep(LASTS_S)


@fault("100 clients send a slow head", "clients")
def _slow_head(scene: Scene) -> None:
    _trickle(scene, b"POST /predictions/good HTTP/1.1\r\nX: " + b"x" * 1000, 100)


@fault("100 clients send a slow body", "clients")
def _slow_body(scene: Scene) -> None:
    _trickle(scene, _TARGET + b"Content-Length: 100000\r\n\r\n" + b"[" * 1000, 100)


@fault("20 clients do not read", "clients")
def _slow_readers(scene: Scene) -> None:
    head = b"POST /predictions/good HTTP/1.1\r\nHost: localhost\r\nContent-Type: text/csv\r\n"
    body = b"1,2\n" * 50_000
    for _ in range(20):
        connection = scene.held.enter_context(scene.server.connect())
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.sendall(head + b"Content-Length: %d\r\n\r\n" % len(body) + body)
    time.sleep(LASTS_S)


@fault("300 idle clients", "clients")
def _idle(scene: Scene) -> None:
    for _ in range(300):
        scene.held.enter_context(scene.server.connect())
    time.sleep(LASTS_S)


@fault("clients close their half of the connection", "clients")
def _half_close(scene: Scene) -> str | None:
    for _ in range(5):
        with scene.server.connect() as connection:
            connection.sendall(_REQUEST)
            connection.shutdown(socket.SHUT_WR)
            with contextlib.suppress(OSError):
                if connection.recv(100).startswith(b"HTTP/1.1 200"):
                    continue
        return "a client that closed its half got no answer"
    return None


@fault("500 requests at once on a connection", "clients")
def _pipelined(scene: Scene) -> None:
    connection = scene.held.enter_context(scene.server.connect())
    connection.sendall(_REQUEST * 500)
    time.sleep(LASTS_S)


@fault("oversized bodies, heads and addresses", "clients")
def _oversized(scene: Scene) -> None:
    for text in (
        _TARGET + b"Content-Length: 8000000\r\n\r\n" + b"0" * 8_000_000,
        _TARGET + b"Content-Length: 99999999999\r\n\r\n" + b"0" * 1_000_000,
        _TARGET + b"X: " + b"x" * 1_000_000 + b"\r\n\r\n",
        _TARGET + b"".join(b"X-%d: x\r\n" % number for number in range(50_000)) + b"\r\n",
        b"POST /" + b"x" * 1_000_000 + b" HTTP/1.1\r\n\r\n",
        _TARGET + b"Transfer-Encoding: chunked\r\n\r\n" + b"fffff\r\n" + b"0" * 1_048_575,
    ):
        scene.server.exchange(text, timeout_s=1)


@fault("malformed requests", "clients")
def _malformed(scene: Scene) -> None:
    noise = random.Random(7)
    texts = [bytes(noise.randrange(256) for _ in range(500)) for _ in range(20)]
    for length in (b"-1", b"x", b"1, 2", b"99999999999999999999"):
        texts.append(_TARGET + b"Content-Length: " + length + b"\r\n\r\n[[1,2]]")
    texts += [
        b"GET\r\n\r\n",
        b"\0\0\0\0\r\n\r\n",
        b"POST /predictions/% HTTP/1.1\r\nContent-Length: 2\r\n\r\n[]",
        b"OPTIONS * HTTP/1.1\r\n\r\n",
        b"POST /predictions/good HTTP/9.9\r\n\r\n",
        _TARGET + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n[]\r\n0\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    ]
    for body in (b"{", b"[[1,", b"\xff\xfe", b"", b"[" * 10_000, b'{"a":' * 5_000, b"[1e999]"):
        texts.append(_TARGET + b"Content-Length: %d\r\n\r\n" % len(body) + body)
    for text in texts:
        scene.server.exchange(text, timeout_s=0.3)


@fault("requests with two meanings", "clients")
def _ambiguous(scene: Scene) -> str | None:
    hidden = b"GET /ping HTTP/1.1\r\nHost: localhost\r\n\r\n"
    chunked = b"Transfer-Encoding: chunked\r\n"
    chunk, end = b"7\r\n[[1,2]]\r\n", b"0\r\n\r\n"
    accepted = []
    for name, text in {
        "a bare LF after a chunk's size": chunked + b"\r\n7\n[[1,2]]\r\n" + end,
        "CRLF in a quoted extension": chunked + b'\r\n7;a="\r\n0\r\n\r\n' + hidden + b'"\r\n',
        "an unknown coding": b"Transfer-Encoding: chunked, xchunked\r\n\r\n" + chunk + end,
        "identity": b"Transfer-Encoding: identity\r\nContent-Length: 7\r\n\r\n[[1,2]]",
        "both lengths": chunked + b"Content-Length: 7\r\n\r\n" + chunk + end,
        "two lengths": b"Content-Length: 7\r\nContent-Length: 8\r\n\r\n[[1,2]]x",
        "a blank before the colon": b"Content-Length : 7\r\n\r\n[[1,2]]",
    }.items():
        answers = scene.server.exchange(_TARGET + text, timeout_s=1).count(b"HTTP/1.1 200")
        if answers:
            accepted.append(name)
    return f"accepted: {', '.join(accepted)}" if accepted else None


def _at_once(server: Server, count: int, body: bytes, content_type: str) -> None:
    """Send a request ``count`` times at once, and wait for the answers for at most 20 s."""
    arguments = ("/predictions/good", body, content_type, 20)
    threads = [
        threading.Thread(target=server.post, args=arguments, daemon=True) for _ in range(count)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)


@fault("3 forms of 6 MB with 3 million fields", "costly bodies")
def _form(scene: Scene) -> None:
    _at_once(scene.server, 3, b"a&" * 3_200_000, "application/x-www-form-urlencoded")


@fault("3 multipart bodies with 40,000 parts", "costly bodies")
def _multipart(scene: Scene) -> None:
    part = b'--b\r\nContent-Disposition: form-data; name="%d"\r\n\r\nx\r\n'
    body = b"".join(part % number for number in range(40_000)) + b"--b--\r\n"
    _at_once(scene.server, 3, body, "multipart/form-data; boundary=b")


@fault("3 JSON objects of 400,000 names", "costly bodies")
def _names(scene: Scene) -> None:
    body = json.dumps({f"{number:x}": 1 for number in range(400_000)}).encode()
    _at_once(scene.server, 3, body, "application/json")


@fault("3 PNG of a few kB with 64 megapixels", "costly bodies")
def _pixels(scene: Scene) -> None:
    _at_once(scene.server, 3, _png(8000), "image/png")


def _png(side: int) -> bytes:
    """A black square."""

    def part(kind: bytes, data: bytes) -> bytes:
        length = struct.pack(">I", len(data))
        return length + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = zlib.compress(bytes(side * (side // 8 + 1)), 9)
    head = part(b"IHDR", struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + part(b"IDAT", rows) + part(b"IEND", b"")


@fault("3 NPZ of a few hundred kB with 200 MB", "costly bodies")
def _zeros(scene: Scene) -> None:
    import numpy as np

    file = io.BytesIO()
    np.savez_compressed(file, np.zeros((25_000_000, 2), np.float32))
    _at_once(scene.server, 3, file.getvalue(), "application/x-npz")


@fault("20 bodies of 6 MB at once", "costly bodies")
def _large(scene: Scene) -> None:
    _at_once(scene.server, 20, b"1,2\n" * 1_500_000, "text/csv")


# --- look-alikes in the log ---


@fault("20 refused bodies that look like lines of the log", "log")
def _looks_alike(scene: Scene) -> None:
    for text in ("cannot load model good: x", "model good is loaded") * 10:
        scene.server.post("/predictions/good", text.encode(), "text/csv")


@fault("a script prints lines of the server", "log", uses_hostile=True)
def _prints(scene: Scene) -> None:
    command(scene, "print_lines_of_the_server")


# --- kill and stop ---


def _worker(scene: Scene) -> psutil.Process:
    return scene.server.of_model("good")[1][0]


@fault("a worker is killed", "processes")
def _kill_worker(scene: Scene) -> None:
    _worker(scene).kill()


@fault("a worker is stopped", "processes")
def _stop_worker(scene: Scene) -> None:
    _worker(scene).suspend()


@fault("a worker gets SIGTERM", "processes")
def _terminate_worker(scene: Scene) -> None:
    _worker(scene).terminate()


@fault("a worker gets SIGSEGV", "processes")
def _crash_worker(scene: Scene) -> None:
    _worker(scene).send_signal(signal.SIGSEGV)


@fault("both workers are killed", "more processes")
def _kill_workers(scene: Scene) -> None:
    for worker in scene.server.of_model("good")[1]:
        worker.kill()


@fault("the listener is killed", "more processes")
def _kill_listener(scene: Scene) -> None:
    listener, _ = scene.server.of_model("good")
    assert listener
    listener.kill()


# --- the fork server ---


@fault("the fork server is killed", "fork server")
def _kill_fork_server(scene: Scene) -> None:
    scene.server.fork_server().kill()


@fault("the fork server and a worker are killed", "dead fork server")
def _kill_fork_server_and_worker(scene: Scene) -> None:
    _, workers = scene.server.of_model("good")
    scene.server.fork_server().kill()
    workers[0].kill()


@fault("the fork server is stopped while a worker dies", "stopped fork server")
def _stop_fork_server(scene: Scene) -> None:
    _, workers = scene.server.of_model("good")
    scene.server.fork_server().suspend()
    workers[0].kill()


@fault("the fork server is killed while it forks a worker", "dying fork server")
def _kill_forking_server(scene: Scene) -> str | None:
    server = scene.server.fork_server()
    fork = _next_fork(server, _worker(scene).kill)
    server.kill()
    return None if fork else "nothing was forked"


@fault("a worker and the next two are killed, these before they say hello", "dying forks")
def _kill_new_workers(scene: Scene) -> str | None:
    server, kill = scene.server.fork_server(), _worker(scene).kill
    for _ in range(2):  # with the first, fewer than end the server
        fork = _next_fork(server, kill)
        if fork is None:
            return "nothing was forked"
        kill = fork.kill
    kill()
    return None


def _next_fork(server: psutil.Process, kill: Callable[[], None]) -> psutil.Process | None:
    """The first process that a fork server forks after ``kill``, a few milliseconds old."""
    children = Path(f"/proc/{server.pid}/task/{server.pid}/children")
    before = set(children.read_text().split())
    kill()
    deadline_s = time.monotonic() + 10
    while time.monotonic() < deadline_s:
        for pid in set(children.read_text().split()) - before:
            return psutil.Process(int(pid))
    return None


@fault("the listener and a worker are killed", "listener")
def _kill_listener_and_worker(scene: Scene) -> None:
    listener, workers = scene.server.of_model("good")
    assert listener
    listener.kill()
    workers[0].kill()


@fault("the listener is stopped while a worker dies", "stopped listener")
def _stop_listener(scene: Scene) -> None:
    listener, workers = scene.server.of_model("good")
    assert listener
    listener.suspend()
    workers[0].kill()
    time.sleep(LASTS_S)
    listener.resume()


@fault("Java is stopped for 3 s", "stopped server")
def _stop_java(scene: Scene) -> None:
    java = scene.server.java()
    java.suspend()
    time.sleep(LASTS_S)
    java.resume()


@fault("serve is stopped for 3 s", "stopped server")
def _stop_serve(scene: Scene) -> None:
    serve = psutil.Process(scene.server.process.pid)
    serve.suspend()
    time.sleep(LASTS_S)
    serve.resume()


def _ends(scene: Scene, code: int) -> str | None:
    """Wait for the server's end."""
    try:
        actual = scene.server.process.wait(40)
    except subprocess.TimeoutExpired:
        return "serve did not end"
    return None if actual == code else f"serve ended with exit code {actual} instead of {code}"


@fault("Java is killed", "stopped server", ends_server=True)
def _kill_java(scene: Scene) -> str | None:
    scene.server.java().kill()
    return _ends(scene, 1)


@fault("Java gets SIGTERM", "stopped server", ends_server=True)
def _terminate_java(scene: Scene) -> str | None:
    scene.server.java().terminate()
    return _ends(scene, 1)


@fault("serve is killed", "stopped server", ends_server=True)
def _kill_serve(scene: Scene) -> str | None:
    scene.server.process.kill()
    complaint = _ends(scene, -signal.SIGKILL)
    psutil.wait_procs(scene.server.alive(), 5)
    return complaint


@fault("serve gets SIGTERM", "stopped server", ends_server=True)
def _terminate_serve(scene: Scene) -> str | None:
    scene.server.process.terminate()
    return _ends(scene, 0)


@fault("serve gets SIGTERM while 50 requests are half sent", "stopped server", ends_server=True)
def _terminate_with_halves(scene: Scene) -> str | None:
    for _ in range(50):
        connection = scene.held.enter_context(scene.server.connect())
        connection.sendall(_REQUEST[:-3])
    return _terminate_serve(scene)


# --- scripts ---


def command(scene: Scene, name: str, timeout_s: float = 12) -> int:
    """Let the hostile script do something; returns the status."""
    return scene.server.post("/predictions/hostile", name.encode(), "text/csv", timeout_s)


def _script(name: str, title: str, times: int = 1) -> None:
    @fault(title, f"script {len(FAULTS) // 8}", uses_hostile=True)
    def cause(scene: Scene) -> None:
        for _ in range(times):
            command(scene, name)


for _name, _title in {
    "segfault": "a script segfaults",
    "abort": "a script aborts",
    "_exit": "a script calls os._exit",
    "exit": "a script calls sys.exit",
    "interrupt_itself": "a script raises KeyboardInterrupt",
    "stop_itself": "a script stops its process",
    "kill_its_parent": "a script kills the process that forked it",
    "fork_and_return": "a script forks, and both return",
    "fork_sleepers": "a script leaves 20 children",
    "start_threads": "a script leaves 100 threads",
    "flood_stdout": "a script prints 100,000 lines",
    "flood_one_line": "a script prints a line of 20 MB",
    "write_to_descriptors": "a script writes commands of MMS",
    "allocate_everything": "a script asks for too much memory",
    "sleep": "a script sleeps for ever",
    "spin": "a script spins for ever",
    "spin_and_catch": "a script spins and catches everything",
    "block_in_native_code": "native code does not return",
    "close_descriptors": "a script closes its descriptors",
    "close_streams": "a script closes its streams",
    "clear_environment": "a script clears its environment",
    "change_signals": "a script ignores and blocks all signals",
    "change_folder": "a script changes its folder and sys.path",
}.items():
    _script(_name, _title)

_script("leak", "a script leaks 150 MB, four times", times=4)


# --- management ---


@fault("a model is registered and removed, 3 times", "management")
def _register_and_remove(scene: Scene) -> str | None:
    statuses = []
    for _ in range(3):
        statuses.append(scene.server.manage("POST", "/models", _HOSTILE))
        statuses.append(scene.server.manage("DELETE", "/models/hostile"))
    return None if set(statuses) == {200} else f"answers: {statuses}"


_HOSTILE = {"model_name": "hostile", "url": "hostile", "initial_workers": 1}


@fault("a model is removed while it has requests", "management", uses_hostile=True)
def _remove_busy(scene: Scene) -> None:
    def ask() -> None:
        command(scene, "sleep")

    threads = [threading.Thread(target=ask, daemon=True) for _ in range(5)]
    for thread in threads:
        thread.start()
    time.sleep(0.3)
    scene.server.manage("DELETE", "/models/hostile")
    for thread in threads:
        thread.join(15)


@fault("the good model is scaled: 1, 3, 2", "management")
def _scale(scene: Scene) -> str | None:
    counts = (1, 3, 2)
    paths = [f"/models/good?min_worker={count}" for count in counts]
    statuses = [scene.server.manage("PUT", path) for path in paths]
    return None if set(statuses) == {200} else f"answers: {statuses}"


@fault("registrations that fail", "management")
def _refused(scene: Scene) -> str | None:
    bad: list[object] = [
        {"model_name": "good", "url": "hostile"},
        {"model_name": "hostile", "url": "nothing"},
        {"model_name": "hostile", "url": "../../etc"},
        {"model_name": "x" * 300, "url": "hostile"},
        {"model_name": "hostile", "url": "hostile", "initial_workers": 10_000},
        [],
        None,
    ]
    statuses = [scene.server.manage("POST", "/models", fields) for fields in bad]
    return None if all(400 <= s < 500 or s == 507 for s in statuses) else f"answers: {statuses}"


# --- what a machine runs out of ---


def _with_management(scene: Scene) -> None:
    """Try to register a model, as the shortage may hit there."""
    scene.server.manage("POST", "/models", _HOSTILE)
    scene.server.manage("DELETE", "/models/hostile")


@fault("the disk is full: no file can grow", "resources")
def _disk_full(scene: Scene) -> None:
    scene.server.note_family()
    with limited(scene.server.alive(), psutil.RLIMIT_FSIZE, 0):
        _with_management(scene)
        time.sleep(LASTS_S)


@fault("Java's descriptors are taken by idle clients", "descriptors")
def _descriptors_out(scene: Scene) -> None:
    java = scene.server.java()
    limit = limited([java], psutil.RLIMIT_NOFILE, java.num_fds() + 20)
    scene.held.enter_context(limit)
    for _ in range(100):
        scene.held.enter_context(scene.server.connect())
    time.sleep(LASTS_S)


@fault("serve's descriptors are out", "resources")
def _serve_descriptors_out(scene: Scene) -> None:
    serve = psutil.Process(scene.server.process.pid)
    with limited([serve], psutil.RLIMIT_NOFILE, serve.num_fds() + 1):
        _with_management(scene)
        time.sleep(LASTS_S)


@fault("a worker's memory is out", "resources")
def _memory_out(scene: Scene) -> None:
    workers = scene.server.of_model("good")[1]
    with contextlib.ExitStack() as stack:
        for worker in workers:
            size = worker.memory_info().vms + 2**20
            stack.enter_context(limited([worker], psutil.RLIMIT_AS, size))
        _at_once(scene.server, 4, b"1,2\n" * 1_500_000, "text/csv")


@fault("the processors are busy", "resources")
def _busy(scene: Scene) -> None:
    spin = [sys.executable, "-c", "while True: pass"]
    burners = [subprocess.Popen(spin) for _ in range(2 * (os.cpu_count() or 1))]
    time.sleep(2 * LASTS_S)
    for burner in burners:
        burner.kill()
        burner.wait()
