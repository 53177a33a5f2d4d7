"""training.local_hosts: what reaches the hosts' processes."""

from __future__ import annotations

import signal
import subprocess
import sys
from types import SimpleNamespace

import pytest

from mms_handler.training import local_hosts

PROGRAM = """
import signal, sys, time
received = []
def end(number, frame):
    received.append(number)
    print(len(received), number, flush=True)
    sys.exit(0)
signal.signal(signal.SIGINT, end)
signal.signal(signal.SIGTERM, end)
print("ready", flush=True)
while True:
    time.sleep(0.1)  # pause() could miss a signal that came right before it
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_reaches_every_host(number):
    """The first one, once; then each host is waited for."""
    running = [
        subprocess.Popen([sys.executable, "-S", "-c", PROGRAM], stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    try:
        assert [process.stdout.readline() for process in running] == ["ready\n"] * 2
        local_hosts._wait_for_all(running, [number, signal.SIGUSR1])
        assert [process.stdout.read() for process in running] == [f"1 {number.value}\n"] * 2
        assert [process.returncode for process in running] == [0, 0]
    finally:
        for process in running:
            process.kill()
            process.wait()
            process.stdout.close()


@pytest.mark.parametrize("count", [1, 2])
def test_where_a_job_runs(monkeypatch, count):
    """One host is this process; more are processes of their own, by SageMaker's names."""
    calls = []
    monkeypatch.setattr(local_hosts, "run", lambda job, **options: calls.append(job.current_host))
    monkeypatch.setattr(
        local_hosts, "run_local_hosts", lambda job, hosts, output, **options: calls.append(hosts)
    )
    job = SimpleNamespace(current_host="algo-7")
    local_hosts.run_job(job, local_hosts=count)
    assert calls == (["algo-7"] if count == 1 else [("algo-1", "algo-2")])
