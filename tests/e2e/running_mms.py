"""What the end-to-end tests do with a real MMS: start it, ask it, end it."""

from __future__ import annotations

import contextlib
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
    (folder / "config.properties").write_text(server.properties(chosen))
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
        one.kill()
    process.wait()
