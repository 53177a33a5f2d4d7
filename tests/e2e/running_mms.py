"""Start a real MMS for the end-to-end tests, send it requests, end it."""

from __future__ import annotations

import contextlib
import os
import random
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

import psutil

from mms_handler import client, server
from mms_handler.names import FORK_SERVER
from mms_handler.settings import Settings

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "model_archives"
BIN = Path(sys.executable).parent


def free_ports() -> tuple[int, int]:
    """Two free loopback ports: below 32,767, as MMS needs them, and below the system's own."""
    with contextlib.ExitStack() as sockets:
        ports = []
        for port in random.sample(range(20_000, 32_767), 200):
            with contextlib.suppress(OSError):
                sockets.enter_context(socket.create_server(("127.0.0.1", port)))
                ports.append(port)
            if len(ports) == 2:
                return ports[0], ports[1]
    raise RuntimeError("no two free ports among 200")


def wait_for(condition, within_s: float):
    """The value of ``condition()`` as soon as it is true; fails after ``within_s`` seconds."""
    deadline = time.monotonic() + within_s
    while not (value := condition()):
        assert time.monotonic() < deadline, f"not within {within_s} s: {condition}"
        time.sleep(0.05)
    return value


class Front(NamedTuple):
    """A running MMS: its URLs, its model store, and the file of its output."""

    inference: str
    management: str
    store: Path
    log: Path

    def add(self, name: str, **parameters: object) -> client.Answer:
        """Register NAME.mar of the store with one worker, and wait until it is loaded."""
        query = {"initial_workers": 1, "synchronous": "true", **parameters}
        words = "&".join(f"{key}={value}" for key, value in query.items())
        return client.call("POST", f"{self.management}/models?url={name}.mar&{words}")

    def ask(self, name: str, body: bytes, content_type="application/json", accept="*/*"):
        return client.invoke(f"{self.inference}/predictions/{name}", body, content_type, accept)


def start_mms(command: str, folder: Path, ports: tuple[int, int], *more: str) -> subprocess.Popen:
    """Start MMS's own ``command`` with our default config.properties, except ports and store."""
    settings = Settings(port=ports[0], management_port=ports[1], model_store=str(folder / "store"))
    (folder / "tmp").mkdir()
    (folder / "config.properties").write_text(server.config_properties(settings))
    env = {"PATH": "/usr/bin:/bin", "TEMP": str(folder / "tmp"), "TMPDIR": str(folder / "tmp")}
    env.update(server.java_variables(env))
    binary = str(Path(sys.executable).with_name(command))
    with open(folder / "log", "wb") as log:
        return subprocess.Popen(
            [binary, "--start", "--foreground", "--mms-config", "config.properties", *more],
            cwd=folder,
            env=env,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )


def end(process: subprocess.Popen) -> None:
    """Kill a process and all its descendants."""
    parent = psutil.Process(process.pid)
    for member in [parent, *parent.children(recursive=True)]:
        with contextlib.suppress(psutil.NoSuchProcess):  # it ended with another one
            member.kill()
    process.wait()


def is_alive(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False


def mms_handler(*words: object, env=None, stdin: bytes = b"") -> subprocess.CompletedProcess:
    command = [str(BIN / "mms-handler"), *map(str, words)]
    return subprocess.run(command, input=stdin, capture_output=True, env=env, timeout=60)


def words_of(process: psutil.Process) -> list[str]:
    """A process's command line; [] if it has ended."""
    with contextlib.suppress(psutil.Error):
        return process.cmdline()
    return []


class Serving:
    """``mms-handler serve`` in a process of its own; it is ready, or has ended."""

    def __init__(self, ports, *words, env=None, log=None) -> None:
        self.inference, self.management = (f"http://127.0.0.1:{port}" for port in ports)
        flags = ("--port", str(ports[0]), "--management-port", str(ports[1]))
        self.log = log
        with open(log or os.devnull, "wb") as stderr:
            self.process = subprocess.Popen(
                [str(BIN / "mms-handler"), "serve", *map(str, words), *flags],
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
                env=env,
            )
        self.first_line = self.process.stdout.readline().strip()
        self.family, self.folders = [], set()
        with contextlib.suppress(psutil.Error):
            self.family = psutil.Process(self.process.pid).children(recursive=True)
        for process in self.family:
            with contextlib.suppress(psutil.Error):  # it has ended meanwhile
                folder = process.cwd()
                if "mms-handler-" in folder:
                    self.folders.add(Path(folder))

    def __enter__(self) -> Serving:
        return self

    def __exit__(self, *exc: object) -> None:
        self.process.terminate()
        self.process.wait(timeout=40)
        self.process.stdout.close()

    def ask(self, name: str, body: bytes = b"[[1,2]]", **how) -> client.Answer:
        return client.invoke(f"{self.inference}/predictions/{name}", body, **how)

    def ping(self) -> int:
        return client.call("GET", f"{self.inference}/ping").status

    def gone(self) -> bool:
        """Whether no process of it is alive; one that init has yet to reap is not."""
        return not any(map(is_alive, self.family))

    def java(self) -> psutil.Process:
        return next(process for process in self.family if process.name() == "java")

    def of_model(self, name: str) -> tuple[psutil.Process, list[psutil.Process]]:
        """A model's listener and its workers, without the fork server."""
        java = self.java()
        family = [child for child in java.children(recursive=True) if name in words_of(child)]
        (listener,) = (process for process in family if process.ppid() == java.pid)
        others = [process for process in family if process.pid != listener.pid]
        return listener, [process for process in others if process.name() != FORK_SERVER]
