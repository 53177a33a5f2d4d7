"""What the end-to-end tests do with a real MMS: start it, ask it, end it."""

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
from mms_handler.settings import Settings

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "model_archives"
BIN = Path(sys.executable).parent


def free_ports() -> tuple[int, int]:
    """Two free loopback ports below 32,767, as MMS wants them, and below the system's own."""
    with contextlib.ExitStack() as held:
        ports = []
        for port in random.sample(range(20_000, 32_767), 200):
            with contextlib.suppress(OSError):
                held.enter_context(socket.create_server(("127.0.0.1", port)))
                ports.append(port)
            if len(ports) == 2:
                return ports[0], ports[1]
    raise RuntimeError("no two free ports among 200")


def wait_for(met, within_s: float):
    """What ``met()`` gives as soon as it is true; fails after ``within_s`` seconds."""
    deadline = time.monotonic() + within_s
    while not (value := met()):
        assert time.monotonic() < deadline, f"not within {within_s} s: {met}"
        time.sleep(0.05)
    return value


class Front(NamedTuple):
    """A running MMS: its URLs, its model store, and all it has printed."""

    inference: str
    management: str
    store: Path
    log: Path

    def add(self, name: str, **parameters: object) -> client.Answer:
        """Register ``name``.mar of the store, as an operator would; one worker, synchronously."""
        query = {"initial_workers": 1, "synchronous": "true", **parameters}
        words = "&".join(f"{key}={value}" for key, value in query.items())
        return client.call("POST", f"{self.management}/models?url={name}.mar&{words}")

    def ask(self, name: str, body: bytes, content_type="application/json", accept="*/*"):
        return client.invoke(f"{self.inference}/predictions/{name}", body, content_type, accept)


def start_mms(command: str, folder: Path, ports: tuple[int, int], *more: str) -> subprocess.Popen:
    """MMS's own ``command`` with the config.properties of our defaults, but for ports and store."""
    chosen = Settings(port=ports[0], management_port=ports[1], model_store=str(folder / "store"))
    (folder / "tmp").mkdir()
    (folder / "config.properties").write_text(server.config_properties(chosen))
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
    """End a process and all that came of it."""
    family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
    for one in family:
        with contextlib.suppress(psutil.NoSuchProcess):  # it ended with those before it
            one.kill()
    process.wait()


def _lives(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False


def mms_handler(*words: object, env=None, stdin: bytes = b"") -> subprocess.CompletedProcess:
    command = [str(BIN / "mms-handler"), *map(str, words)]
    return subprocess.run(command, input=stdin, capture_output=True, env=env, timeout=60)


class Serving:
    """``mms-handler serve`` in a process of its own, ready, or ended before it was."""

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
        self.said = self.process.stdout.readline().strip()
        with contextlib.suppress(psutil.NoSuchProcess):
            self.family = psutil.Process(self.process.pid).children(recursive=True)
            self.folders = {Path(one.cwd()) for one in self.family if "mms-handler-" in one.cwd()}

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
        """Whether no process of it lives; a dead one that init has yet to reap is dead."""
        return not any(map(_lives, self.family))

    def java(self) -> psutil.Process:
        return next(one for one in self.family if one.name() == "java")

    def of_model(self, name: str) -> tuple[psutil.Process, list[psutil.Process]]:
        """A model's listener and its workers."""
        family = [one for one in self.java().children(recursive=True) if name in one.cmdline()]
        (listener,) = (one for one in family if one.ppid() == self.java().pid)
        return listener, [one for one in family if one.pid != listener.pid]
