"""registry: names and memory are claimed before anything starts, and free again after a failure.

A small HTTP server stands for MMS, and a process that sleeps for Java.  The end-to-end tests have
the real ones.
"""

from __future__ import annotations

import http.server
import json
import os
import subprocess
import sys
import threading
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from mms_handler.errors import NameTaken, NoSuchModel, OutOfResources, ServerError
from mms_handler.server import machine, model_processes
from mms_handler.server.front_end import FrontEnd, ProcessLog
from mms_handler.server.registry import Registry, Serving
from mms_handler.server.sources import Source
from mms_handler.server.store import Store
from mms_handler.server.watch import WorkerDeaths
from mms_handler.settings import Settings

MB = 2**20
SERVING = Serving(workers=1, batch_size=1, max_batch_delay_ms=1, timeout_s=5)


class Mms(http.server.BaseHTTPRequestHandler):
    """Answers as MMS's management API; registering starts a process, as a listener."""

    status = 200  # of a registration
    calls: list[tuple[str, str]] = []
    listeners: dict[str, subprocess.Popen] = {}
    group = 0

    def answer(self) -> None:
        path = urlsplit(self.path).path
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        registers = (self.command, path) == ("POST", "/models")
        name = json.loads(body)["model_name"] if registers else path.rpartition("/")[2]
        self.calls.append((self.command, name))
        status = self.status if registers else 200
        if registers and status == 200:
            self.listeners[name] = listener(name, self.group)
        if self.command == "DELETE" and name in self.listeners:
            end(self.listeners.pop(name))
        body = b'{"code": %d, "type": "T", "message": "because"}' % status
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = do_PUT = do_DELETE = answer

    def log_message(self, *_: object) -> None:
        pass


def listener(name: str, group: int) -> subprocess.Popen:
    """A process that looks like a model's, in Java's process group."""
    source = f"import os, time; os.setpgid(0, {group}); print(flush=True); time.sleep(60)"
    command = [sys.executable, "-S", "-c", source, "--model-name", name]
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    process.stdout.readline()
    return process


def end(process: subprocess.Popen) -> None:
    process.kill()
    process.wait()
    if process.stdout:
        process.stdout.close()


@pytest.fixture
def mms():
    """MMS's stand-in: ``status`` is of the next registrations, ``calls`` are those it got."""
    Mms.calls, Mms.listeners, Mms.status = [], {}, 200
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Mms) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        Mms.url = f"http://127.0.0.1:{server.server_port}"
        yield Mms
        server.shutdown()
    for process in Mms.listeners.values():
        end(process)


@pytest.fixture
def registry(tmp_path, mms, monkeypatch):
    """Build a registry with so many megabytes; what runs already is not counted."""
    java = subprocess.Popen(["sleep", "60"], preexec_fn=os.setpgrp)
    mms.group = java.pid
    monkeypatch.setattr(machine, "used_bytes", lambda processes: 0)
    monkeypatch.setattr(
        model_processes,
        "listener",
        lambda pid, name: next(iter(model_processes.of_model(pid, name)), None),
    )
    front = FrontEnd(tmp_path, java, ProcessLog(lambda line: None), mms.url, mms.url)

    def build(memory_mb=1_000):
        store = Store(tmp_path / "store", None)
        return Registry(front, store, Settings(memory_bytes=memory_mb * MB), WorkerDeaths(2))

    yield build
    end(java)


def source(tmp_path: Path, name: str, size_bytes: int = 0) -> Source:
    folder = tmp_path / "sources" / name
    (folder / "code").mkdir(parents=True, exist_ok=True)
    (folder / "code" / "inference.py").write_text("")
    return Source(name, folder, size_bytes, str(folder))


def test_a_name_can_be_taken_once(registry, tmp_path, mms):
    """By a model that is registered, and by one that is being registered."""
    models = registry()
    models.register(source(tmp_path, "one"), SERVING)
    assert (models.names(), models.model("one").serving) == (["one"], SERVING)
    with pytest.raises(NameTaken, match="^a model called one is registered or being registered$"):
        models.register(source(tmp_path, "one"), SERVING)
    with models._name_reserved("two"), pytest.raises(NameTaken, match="^a model called two is"):
        models.check_free("two")
    models.check_free("two")
    models.unregister("one")
    models.check_free("one")
    assert mms.listeners == {}
    with pytest.raises(NoSuchModel, match="^no model is called one$"):
        models.unregister("one")


def test_memory_is_claimed_before_anything_starts(registry, tmp_path, mms):
    """Two registrations at once do not both get the last megabytes; nothing was started."""
    models = registry(memory_mb=500)
    needs = 220 + 3 * 40
    with models._memory_reserved("the first", 200 * MB):
        with pytest.raises(OutOfResources) as caught:
            models.register(source(tmp_path, "big", 40 * MB), SERVING)
        message = str(caught.value)
    assert message.startswith(f"big needs about {needs} MB, but only 300 MB are free; ")
    assert mms.calls == []
    assert list((tmp_path / "store").iterdir()) == []
    models.register(source(tmp_path, "big", 40 * MB), SERVING)
    assert models.names() == ["big"]


@contextmanager
def unchanged(models, tmp_path):
    """Check that names, memory and the store are the same after the block."""
    yield
    models.check_free("broken")
    assert models._reserved == []
    assert models.names() == []
    assert list((tmp_path / "store").iterdir()) == []


@pytest.mark.parametrize(
    ("status", "error"), [(500, ServerError), (507, OutOfResources), (404, ServerError)]
)
def test_a_failed_load_is_rolled_back(registry, tmp_path, mms, status, error):
    """MMS keeps the name in some cases, so it is unregistered there; the reason is MMS's."""
    models = registry()
    mms.status = status
    with unchanged(models, tmp_path):
        with pytest.raises(error, match="^broken cannot be served: because$"):
            models.register(source(tmp_path, "broken"), SERVING)
        assert ("DELETE", "broken") in mms.calls
    mms.status = 200
    models.register(source(tmp_path, "broken"), SERVING)
    assert models.names() == ["broken"]
