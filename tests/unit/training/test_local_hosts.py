"""training.local_hosts: what reaches the hosts' processes."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
from types import SimpleNamespace

import pytest

from mms_handler.training import local_hosts
from mms_handler.training.job import Job
from mms_handler.training.phases import JobFailed, Stopped

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


def test_the_folders_of_hosts(tmp_path):
    """The first host has the job's own; the others have theirs below it."""
    job = Job(
        tmp_path / "train.py",
        {"lr": 1},
        {"train": tmp_path},
        tmp_path / "m",
        tmp_path / "o",
        base_dir=tmp_path,
        checkpoints=tmp_path / "c",
    )
    hosts = ("algo-1", "algo-2")
    first, second = (local_hosts._job_of(job, host, hosts) for host in hosts)
    assert first == job._replace(hosts=hosts, current_host="algo-1")
    base = tmp_path / "hosts" / "algo-2"
    assert second == first._replace(
        current_host="algo-2",
        base_dir=base,
        model_dir=base / "model",
        output_data_dir=base / "output" / "data",
        checkpoints=None,
    )


@pytest.mark.parametrize(
    ("failure", "code", "line"),
    [
        ("algo-1: the script: KeyError\nmore\n", 1, "algo-1: the script: KeyError"),
        (None, 3, "algo-1: training: mms-handler ended with 3, without a reason"),
        ("", 3, "algo-1: training: mms-handler ended with 3, without a reason"),
        (None, -9, "algo-1: training: mms-handler was killed by SIGKILL, without a reason"),
    ],
)
def test_why_a_host_failed(tmp_path, failure, code, line):
    """The first line of its failure file; else how its process ended."""
    job = Job(tmp_path, {}, {}, tmp_path, tmp_path, base_dir=tmp_path)
    if failure is not None:
        job.output_dir.mkdir()
        (job.output_dir / "failure").write_text(failure)
    assert local_hosts.first_line_of_failure(job, code) == line


def test_why_a_job_failed():
    """That a host was lost is a reason only if there is no other."""
    lost = "a: the script: host b was lost: KeyError"
    assert local_hosts._reason({"a": lost, "b": "b: KeyError"}) == "b: KeyError"
    assert local_hosts._reason({"a": "a: KeyError", "b": "b: OSError"}) == "a: KeyError; b: OSError"
    assert local_hosts._reason({"a": lost}) == lost


@pytest.mark.parametrize(
    ("signals", "error", "text"),
    [
        ([signal.SIGTERM], Stopped, "stopped by SIGTERM"),
        ([], JobFailed, "algo-2: training: mms-handler ended with 3, without a reason"),
    ],
)
@pytest.mark.parametrize("mode", [None, "legacy"])
def test_how_hosts_end(tmp_path, monkeypatch, signals, error, text, mode):
    """A job that was stopped has not failed, whatever its hosts say; else each host may fail it."""
    codes, joined, commands = iter([0, 3]), [], []

    @contextlib.contextmanager
    def group(command, **options):
        commands.append(command[1:4] + command[6:])
        code = next(codes)
        yield SimpleNamespace(poll=lambda: code, returncode=code)

    follower = SimpleNamespace(join=lambda: joined.append("host"))
    output = SimpleNamespace(
        pipes=lambda: SimpleNamespace(arguments={}), follow=lambda *arguments: follower
    )
    monkeypatch.setattr(local_hosts.processes, "group", group)
    monkeypatch.setattr(local_hosts, "signals_received", lambda: contextlib.nullcontext(signals))
    job = Job(tmp_path / "train.py", {}, {}, tmp_path / "m", tmp_path / "o", base_dir=tmp_path)
    with pytest.raises(error) as caught:
        local_hosts.run_local_hosts(job, ("algo-1", "algo-2"), output, mode=mode)
    assert str(caught.value) == text
    assert joined == ["host"] * 2  # all that they printed was passed on
    words = ["-m", "mms_handler", "train-host", *([mode] if mode else [])]
    assert commands == [words] * 2
