"""Models whose MMS is the stand-in of local_mms.py."""

from __future__ import annotations

import subprocess
import threading

import local_mms
import pytest
from local_mms import MB

from mms_handler.server import machine, sizing
from mms_handler.server.front_end import FrontEnd
from mms_handler.server.process_log import ProcessLog
from mms_handler.server.sources import Source
from mms_handler.server.store import Store
from mms_handler.server.versions import Versions
from mms_handler.server.watch import WorkerDeaths
from mms_handler.settings import Settings


@pytest.fixture
def mms():
    """MMS's stand-in."""
    with local_mms.running() as mms:
        yield mms


@pytest.fixture
def followed():
    """Let a log read all of a text."""

    def followed(text: bytes, log: ProcessLog) -> None:
        process = subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        before = set(threading.enumerate())
        log.follow(process.stdout)
        process.stdin.write(text)
        process.stdin.close()
        process.wait()
        for thread in set(threading.enumerate()) - before:
            thread.join(30)

    return followed


@pytest.fixture
def used(monkeypatch):
    """The megabytes that each process uses, as far as is counted: none, until it is set."""
    used = {"mb": 0}
    monkeypatch.setattr(machine, "used_bytes", lambda processes: used["mb"] * MB * len(processes))
    monkeypatch.setattr(machine, "available_bytes", lambda: 10_000 * MB)
    return used


@pytest.fixture
def deaths():
    """Two deaths of a model are tolerated."""
    return WorkerDeaths(2)


@pytest.fixture
def versions(tmp_path, mms, used, deaths, monkeypatch):
    """Build models that may use so many megabytes; a worker's requests may take 60."""
    monkeypatch.setattr(sizing, "request_bytes", lambda settings: 60 * MB)
    front = FrontEnd(tmp_path, mms.java, ProcessLog(lambda line: None), mms.url, mms.url)

    def build(memory_mb: int = 1_000, multi_model: bool = False, **more) -> Versions:
        settings = Settings(memory_bytes=memory_mb * MB, multi_model=multi_model, drain_s=5)
        return Versions(front, Store(tmp_path / "store", None), settings, deaths, **more)

    return build


@pytest.fixture
def source(tmp_path):
    """Build the source of a model with these files and a size that it says it has."""

    def build(name: str, size_bytes: int = 0, **files: str) -> Source:
        folder = tmp_path / "sources" / name
        for path, text in {"code/inference.py": "", **files}.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_text(text)
        return Source(name, folder, size_bytes, str(folder))

    return build
