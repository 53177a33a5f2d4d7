"""A small HTTP server in MMS's place, and a process that starts listeners in Java's.

The processes of the models are real ones that sleep.  The end-to-end tests have the real MMS.
"""

from __future__ import annotations

import contextlib
import http.server
import json
import os
import signal
import subprocess
import sys
import threading
import time
from typing import Iterator
from urllib.parse import parse_qs, urlsplit

from mms_handler.server import model_processes
from mms_handler.server.mms_models import Serving

MB = 2**20

#: Starts each line as a command, and leaves no ended child as a zombie.
JAVA = """
import json, signal, subprocess, sys
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
for line in sys.stdin:
    subprocess.Popen(json.loads(line))
"""

#: A listener forks its workers.
LISTENER = """
import os, sys, time
any(os.fork() == 0 for _ in range(int(sys.argv[1])))
time.sleep(120)
"""


class Mms:
    """Answers as MMS's APIs do.

    Attributes:
        statuses: of the answers, by method; 200 for others.
        message: of the answers that are errors.
        calls: what came: the method, the model, and the number of workers if it is one.
        during: called with each call, before it is answered.
        java: the process whose children are the listeners.
        routes: the lines of the gate's table.
        in_flight: how many requests models have, by name.
    """

    def __init__(self) -> None:
        self.statuses: dict[str, int] = {}
        self.message = "because"
        self.calls: list[tuple[str, str, int | None]] = []
        self.bodies: list[bytes] = []
        self.during = lambda call: None
        command = [sys.executable, "-S", "-c", JAVA]
        self.java = subprocess.Popen(
            command, stdin=subprocess.PIPE, preexec_fn=os.setpgrp, text=True
        )
        self.url = ""
        self.routes: list[str] = []
        self.in_flight: dict[str, int] = {}

    def answer(self, method: str, url: str, body: bytes) -> tuple[int, object]:
        path, query = urlsplit(url).path, parse_qs(urlsplit(url).query, keep_blank_values=True)
        if path == "/routes":
            return self.route(method, query)
        name, workers = path.rpartition("/")[2], None
        if path == "/models":
            fields = json.loads(body)
            name, workers = fields["model_name"], fields["initial_workers"]
        elif path.startswith("/predictions/"):
            method = "INVOKE"
        elif method == "PUT":
            workers = int(query["min_worker"][0])
        self.calls.append((method, name, workers))
        self.bodies.append(body)
        self.during(self.calls[-1])
        status = self.statuses.get(method, 200)
        if method == "POST" and status == 200:
            self.start(name, workers)
        if method == "DELETE":
            self.end(name)
        if method == "GET" and status == 200:
            return status, [{"modelName": name, "workers": [1]}]
        return status, {"code": status, "type": "T", "message": self.message}

    def route(self, method: str, query: dict[str, list[str]]) -> tuple[int, object]:
        if method == "GET":
            return 200, "".join(f"{name} {number}\n" for name, number in self.in_flight.items())
        self.routes = [*(self.routes if "append" in query else []), *query["line"]]
        return self.statuses.get("ROUTES", 200), {"message": self.message}

    def processes(self, name: str):
        return model_processes.of_model(self.java.pid, name)

    def start(self, name: str, workers: int, *words: str) -> None:
        """Start a listener, which forks the workers; return when all are there."""
        options = [str(workers), "--model-name", name, *words]
        command = [sys.executable, "-S", "-c", LISTENER, *options]
        self.java.stdin.write(f"{json.dumps(command)}\n")
        self.java.stdin.flush()
        wait_until(lambda: len(self.processes(name)) == 1 + workers)

    def end(self, name: str) -> None:
        """Kill a model's processes, first the workers; return when they are gone."""
        for process in sorted(self.processes(name), key=lambda each: each.ppid() == self.java.pid):
            process.kill()
            process.wait(30)


def wait_until(ready) -> None:
    deadline = time.monotonic() + 30
    while not ready():
        assert time.monotonic() < deadline
        time.sleep(0.005)


@contextlib.contextmanager
def running() -> Iterator[Mms]:
    """MMS's stand-in for the length of a ``with`` block."""
    mms = Mms()

    class Handler(http.server.BaseHTTPRequestHandler):
        def answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            status, content = mms.answer(self.command, self.path, body)
            reply = (content if isinstance(content, str) else json.dumps(content)).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(reply)))
            self.end_headers()
            self.wfile.write(reply)

        do_GET = do_POST = do_PUT = do_DELETE = answer

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        mms.url = f"http://127.0.0.1:{server.server_port}"
        yield mms
        server.shutdown()
    with contextlib.suppress(ProcessLookupError):  # a test may have ended all of it
        os.killpg(mms.java.pid, signal.SIGKILL)
    mms.java.communicate()


def check_free(models, name: str) -> None:
    """Raise what a registration would that gets this name."""
    with models.reserved(name, "url"):
        pass


def serving(workers: int = 1) -> Serving:
    return Serving(workers, batch_size=4, timeout_s=5)
