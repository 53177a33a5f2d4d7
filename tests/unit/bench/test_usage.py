"""bench.usage: which process listens, and what it and its children use."""

from __future__ import annotations

import os
import socket
import subprocess
import sys

import psutil
import pytest

from mms_handler.bench.usage import Meter, listener

#: Starts a process that is as busy for half a second, and ends when its input does.
BUSY = """
import subprocess, sys, time
def busy(seconds):
    while time.process_time() < seconds: pass
if sys.argv[1:]:
    child = subprocess.Popen([sys.executable, __file__], stdin=sys.stdin, stdout=subprocess.PIPE)
    child.stdout.read(1)
    busy(0.2)
else:
    busy(0.6)
print(flush=True)
sys.stdin.read()
"""


def test_the_process_that_listens():
    """On this machine; a socket that only talks there does not count."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        host, port = server.getsockname()
        with socket.create_connection((host, port)) as client:
            assert listener(host, port).pid == os.getpid()
            assert listener(host, client.getsockname()[1]) is None
        assert listener("203.0.113.9", port) is None  # an address of the documentation
    assert listener(host, port) is None


def test_what_a_server_and_its_workers_use(tmp_path):
    script = tmp_path / "busy.py"
    script.write_text(BUSY)
    with subprocess.Popen(
        [sys.executable, script, "front"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as front:
        meter = Meter(psutil.Process(front.pid))
        meter.start()
        front.stdout.read(1)
        meter.end()
        used = meter.read()
        front.communicate()
    assert used.workers == 1
    assert used.workers_cpu_s == pytest.approx(0.6, abs=0.2)
    assert used.front_cpu_s == pytest.approx(0.2, abs=0.15)
    assert 1 < used.workers_mb < 100
    assert 1 < used.front_mb < 100


def test_a_server_that_has_ended_uses_nothing():
    with subprocess.Popen([sys.executable, "-c", ""]) as front:
        process = psutil.Process(front.pid)
    meter = Meter(process)
    meter.start()
    meter.end()
    assert meter.read() == (0, 0, 0, 0, 0)


def test_a_worker_that_ends_takes_its_time_with_it():
    """No use is below zero."""
    meter = Meter(psutil.Process())
    code = "import time\nwhile time.process_time() < 0.5: pass\nprint(flush=True)\ninput()"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as worker:
        worker.stdout.read(1)
        meter.start()
        worker.kill()
    meter.end()
    assert meter.read().workers_cpu_s == 0
