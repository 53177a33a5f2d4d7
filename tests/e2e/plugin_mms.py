"""Start MMS's own command with the plug-in, and send it requests and raw bytes."""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
from pathlib import Path
from typing import Iterator, NamedTuple

import psutil
from running_mms import BIN, ROOT, end, free_ports

from mms_handler import archive, client, server
from mms_handler.errors import ServerError

PLUGINS = ROOT / "mms_handler" / "plugins"
QUIET_LOG = ROOT / "mms_handler" / "log4j2.xml"
LIMIT = 2 * 2**20  # max_request_size
TEXT = {"Content-Type": "text/csv"}

# Sleeps for the seconds in the body, and answers with its process id and as many blanks as the
# body's second number says.  It loads when {folder}/ready exists.
SCRIPT = """
import os
import time


def model_fn(model_dir):
    while not os.path.exists({folder!r} + "/ready"):
        time.sleep(0.05)
    if os.path.exists({folder!r} + "/broken"):
        raise RuntimeError("broken")
    return "a model"


def transform_fn(model, data, content_type, accept):
    seconds, _, blanks = data.decode().partition(" ")
    time.sleep(float(seconds))
    return str(os.getpid()) + " " * int(blanks.strip() or 0), "text/plain"
"""


class Running(NamedTuple):
    """An MMS with the plug-in: its folder, its addresses, the process of its command."""

    folder: Path
    inference: str
    management: str
    gate: str
    process: subprocess.Popen

    def get(self, path: str, base: str | None = None) -> client.Answer:
        return client.call("GET", (base or self.gate) + path)

    def ping(self, base: str | None = None) -> tuple[int, str]:
        """The status, and MMS's text for it; (0, "") if nothing listens."""
        try:
            answer = self.get("/ping", base)
        except ServerError:
            return 0, ""
        return answer.status, json.loads(answer.body)["status"]

    def ask(self, seconds: float, base: str | None = None) -> client.Answer:
        body = str(seconds).encode()
        return client.call("POST", f"{base or self.gate}/predictions/sleeper", body, TEXT)

    def metrics(self, base: str | None = None) -> dict[str, float]:
        """The value of each sample by its name without the common prefix."""
        lines = self.get("/metrics", base).body.decode().splitlines()
        samples = [line.rpartition(" ") for line in lines if not line.startswith("#")]
        return {name[len("mms_handler_") :]: float(value) for name, _, value in samples}

    def register(self, name="sleeper", workers=1, synchronous="true") -> client.Answer:
        query = f"model_name={name}&initial_workers={workers}&synchronous={synchronous}"
        return client.call("POST", f"{self.management}/models?url=sleeper.mar&{query}")

    def java(self) -> psutil.Process:
        (java,) = (p for p in psutil.Process(self.process.pid).children() if "java" in p.name())
        return java

    def log(self) -> str:
        return (self.folder / "log").read_text()


@contextlib.contextmanager
def running(
    folder: Path,
    *words: str,
    models: str = "",
    gate: int | None = None,
    config: str = "",
    java: str = "",
    **properties: object,
) -> Iterator[Running]:
    """Run MMS's command with our jar, started with ``models``, and -Dmms_handler.* options.

    ``java`` are further options of Java.
    """
    inference, management = free_ports()
    pack(folder)
    if gate is not None:
        properties["gate"] = f"127.0.0.1:{gate}"
    options = [java, *(f"-Dmms_handler.{name}={value}" for name, value in properties.items())]
    (folder / "config.properties").write_text(
        f"inference_address=http://127.0.0.1:{inference}\n"
        f"management_address=http://127.0.0.1:{management}\n"
        f"model_store={folder}/store\n"
        f"load_models={models}\n"
        f"plugins_path={PLUGINS}\n"
        f"vmargs={' '.join(options)}\n"
        f"max_request_size={LIMIT}\n"
        "default_workers_per_model=1\n"
        f"decode_input_request=false\n{config}\n"
    )
    command = [str(BIN / "multi-model-server"), "--start", "--foreground", *words]
    temp = str(folder / "tmp")
    env = {"PATH": "/usr/bin:/bin", "TEMP": temp, "TMPDIR": temp}
    env.update(server.java_variables(env))
    with open(folder / "log", "wb") as log:
        process = subprocess.Popen(
            [*command, "--mms-config", "config.properties"],
            cwd=folder,
            env=env,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    urls = (f"http://127.0.0.1:{port}" for port in (inference, management, gate or inference))
    try:
        yield Running(folder, *urls, process)
    finally:
        if process.poll() is None:
            end(process)


def pack(folder: Path) -> None:
    """Make a store with the sleeper, which can load."""
    (folder / "tmp").mkdir()
    code = folder / "sleeper" / "code"
    code.mkdir(parents=True)
    (code / "inference.py").write_text(SCRIPT.format(folder=str(folder)))
    archive.pack(folder / "sleeper", folder / "store" / "sleeper.mar")
    (folder / "ready").touch()


def connected(mms: Running, url: str | None = None) -> socket.socket:
    """A connection to ``url``, by default to the gate."""
    host, _, port = (url or mms.gate)[len("http://") :].partition(":")
    return socket.create_connection((host, int(port)), timeout=20)


def raw(mms: Running, sent: bytes, until: bytes, url: str | None = None) -> bytes:
    """The answer to ``sent``, read until it contains ``until`` or ends."""
    received = b""
    with connected(mms, url) as connection:
        connection.sendall(sent)
        while until not in received and (more := connection.recv(65_536)):
            received += more
    return received


def request(seconds: str, *headers: str) -> bytes:
    lines = ["POST /predictions/sleeper HTTP/1.1", "Host: localhost", "Content-Type: text/csv"]
    return "\r\n".join([*lines, *headers, f"Content-Length: {len(seconds)}", "", seconds]).encode()
