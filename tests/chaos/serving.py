"""A server of its own for the faults: started, looked into, restarted, ended."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, FrozenSet, Iterator, NamedTuple

import psutil

from benchmarks.processes import free_ports
from mms_handler import client
from mms_handler.errors import ServerError
from mms_handler.names import FORK_SERVER
from mms_handler.server import java_variables
from tests.chaos.load import WEIGHT

HERE = Path(__file__).parent

#: Workers of the good model.
WORKERS = 2


class State(NamedTuple):
    """What a server has: processes, files and folders, and connections of clients."""

    processes: int = 0
    paths: FrozenSet[str] = frozenset()
    sockets: int = 0

    def beyond(self, before: State) -> State:
        """What is more now than it was before."""
        paths = self.paths - before.paths if len(self.paths) > len(before.paths) else frozenset()
        processes = max(0, self.processes - before.processes)
        return State(processes, paths, max(0, self.sockets - before.sockets))


def write_models(store: Path) -> None:
    """Write the folders of two models: good, and hostile."""
    import mxnet as mx

    good = store / "good"
    good.mkdir(parents=True)
    data = mx.sym.var("data")
    symbol = mx.sym.FullyConnected(data, num_hidden=2, no_bias=True, name="fc")
    symbol.save(str(good / "model-symbol.json"))
    mx.nd.save(str(good / "model-0000.params"), {"arg:fc_weight": mx.nd.array(WEIGHT)})
    (good / "model-shapes.json").write_text('[{"name": "data", "shape": [1, 2]}]')
    code = store / "hostile" / "code"
    code.mkdir(parents=True)
    shutil.copy(HERE / "hostile_script.py", code / "inference.py")


class Server:
    """``mms-handler serve`` with two workers of the good model."""

    def __init__(
        self,
        folder: Path,
        store: Path,
        timeout_s: int,
        ports: tuple[int, int] | None = None,
        optimize: str = "off",
    ) -> None:
        """Prepare; nothing is started yet.

        Args:
            folder: for its log and temporary files; no server may have used it.
            store: the folders of the models.
            timeout_s: for one request, and for loading a model.
            ports: of an earlier server that this one replaces.
            optimize: whether workers try faster graphs; without, they are back sooner.
        """
        self.folder, self.store, self.timeout_s = folder, store, timeout_s
        self.ports = ports or free_ports()
        self.url, self.management_url = (f"http://127.0.0.1:{port}" for port in self.ports)
        self._optimize = optimize
        self.family: list[psutil.Process] = []

    def start(self, limit_s: float = 60) -> None:
        """Start it, and return when it is ready.

        Raises:
            ServerError: it ended, or was not ready in time.
        """
        (self.folder / "tmp").mkdir(parents=True)
        env = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
        env.update(java_variables(env), TMPDIR=str(self.folder / "tmp"))
        env["MMS_HANDLER_OPTIMIZE"] = self._optimize
        command = [sys.executable, "-m", "mms_handler", "serve", self.store / "good"]
        options = {
            "port": self.ports[0],
            "management-port": self.ports[1],
            "model-store": self.store,
            "workers": WORKERS,
            "timeout-s": self.timeout_s,
        }
        words = [word for name, value in options.items() for word in (f"--{name}", value)]
        with open(self.folder / "log", "wb") as log:
            self.process = subprocess.Popen(
                [str(word) for word in (*command, *words)],
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        deadline_s = time.monotonic() + limit_s
        while not self._is_ready():
            if self.process.poll() is not None or time.monotonic() > deadline_s:
                raise ServerError(f"the server did not start: {self.log()}")
            time.sleep(0.05)
        self.note_family()

    def _is_ready(self) -> bool:
        with contextlib.suppress(ServerError):
            return client.call("GET", f"{self.url}/ping", timeout_s=2).status == 200
        return False

    def end(self) -> None:
        """End it, and kill what it leaves."""
        self.note_family()
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(40)
        for process in self.alive():
            with contextlib.suppress(psutil.Error):
                process.kill()
        self.process.wait(10)

    def log(self) -> str:
        """The end of what it printed, without Java's stack traces."""
        lines = (self.folder / "log").read_text(errors="replace").splitlines()
        return "\n".join(line for line in lines if not line.startswith("\tat "))[-3000:]

    # --- its processes ---

    def note_family(self) -> None:
        """Remember the processes that belong to the server now."""
        with contextlib.suppress(psutil.Error):
            serve = psutil.Process(self.process.pid)
            members = {serve, *serve.children(recursive=True)}
            groups = {p.pid for p in members if p.pid != serve.pid and p.ppid() == serve.pid}
            members.update(p for p in psutil.process_iter() if _group_of(p) in groups)
            self.family = list({*self.family, *members})

    def alive(self) -> list[psutil.Process]:
        """The remembered processes that are alive."""
        return [process for process in self.family if _is_alive(process)]

    def java(self) -> psutil.Process:
        children = psutil.Process(self.process.pid).children()
        return next(process for process in children if process.name() == "java")

    def of_model(self, name: str) -> tuple[psutil.Process | None, list[psutil.Process]]:
        """A model's listener and its workers, without the fork server."""
        java, members = self.java(), []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                command = process.cmdline() if _group_of(process) == java.pid else []
                if "--model-name" in command and name in command and _is_alive(process):
                    members.append(process)
        listener = next((process for process in members if process.ppid() == java.pid), None)
        return listener, [p for p in members if p != listener and not _is_fork_server(p)]

    def fork_server(self) -> psutil.Process:
        """The process from which the good model's workers are forked."""
        members = self.java().children(recursive=True)
        return next(p for p in members if _is_fork_server(p) and "good" in p.cmdline())

    def state(self) -> State:
        """What the server has now; while no good client is connected."""
        self.note_family()
        paths = frozenset(
            os.path.join(folder, name)
            for folder, folders, files in os.walk(self.folder / "tmp")
            for name in (*folders, *files)
        )
        sockets = 0
        with contextlib.suppress(psutil.Error, StopIteration):
            connections = self.java().connections("tcp")
            local = [c for c in connections if c.laddr and c.laddr.port == self.ports[0]]
            sockets = sum(connection.status != psutil.CONN_LISTEN for connection in local)
        return State(len(self.alive()), paths, sockets)

    def is_complete(self) -> bool:
        """Whether each worker of the good model has a process."""
        with contextlib.suppress(psutil.Error, StopIteration):
            return len(self.of_model("good")[1]) >= WORKERS
        return False

    # --- requests ---

    def connect(self, timeout_s: float = 10) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.ports[0]), timeout_s)

    def exchange(self, text: bytes, timeout_s: float = 10) -> bytes:
        """Send bytes, and return all that comes back until the server closes, or is silent."""
        received = b""
        with self.connect(timeout_s) as connection, contextlib.suppress(OSError):
            connection.sendall(text)
            while piece := connection.recv(65536):
                received += piece
        return received

    def post(self, path: str, body: bytes, content_type: str, timeout_s: float = 30) -> int:
        """The status of a request's answer; 0 if none came."""
        connection = http.client.HTTPConnection("127.0.0.1", self.ports[0], timeout=timeout_s)
        with contextlib.closing(connection):
            try:
                connection.request("POST", path, body, {"Content-Type": content_type})
                answer = connection.getresponse()
                answer.read()
                return answer.status
            except (OSError, http.client.HTTPException):
                return 0

    def manage(self, method: str, path: str, fields: Any = None) -> int:
        """The status of a management call's answer; 0 if none came."""
        body = None if fields is None else json.dumps(fields).encode()
        headers = {"Content-Type": "application/json"}
        try:
            url = f"{self.management_url}{path}"
            return client.call(method, url, body, headers, timeout_s=60).status
        except ServerError:
            return 0


@contextlib.contextmanager
def limited(processes: list[psutil.Process], resource: int, value: int) -> Iterator[None]:
    """Lower a limit of processes, as setrlimit(2), for the length of a ``with`` block."""
    limits = {}
    for process in processes:
        with contextlib.suppress(psutil.Error):
            limits[process] = process.rlimit(resource)
            process.rlimit(resource, (value, limits[process][1]))
    try:
        yield
    finally:
        for process, limit in limits.items():
            with contextlib.suppress(psutil.Error):
                process.rlimit(resource, limit)


def _group_of(process: psutil.Process) -> int:
    with contextlib.suppress(OSError):
        return os.getpgid(process.pid)
    return 0


def _is_fork_server(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.Error):
        return process.name() == FORK_SERVER
    return False


def _is_alive(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.Error):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False
