"""stopped: which processes are killed, and when."""

from __future__ import annotations

import json
import logging
import subprocess
import sys

import psutil
import pytest
from local_mms import serving, wait_until

from mms_handler.server import stopped
from mms_handler.server.stopped import StoppedWorkers


@pytest.fixture
def workers(versions, source, mms):
    """The workers of the model ``one``."""
    versions().register(source("one"), serving(2))
    return [process for process in mms.processes("one") if process.ppid() != mms.java.pid]


def stop(process: psutil.Process) -> None:
    process.suspend()
    wait_until(lambda: process.status() == psutil.STATUS_STOPPED)


def test_a_worker_that_stays_stopped(workers, mms, caplog):
    """It is killed at the fourth look; the others go on."""
    stopped, (worker, *others) = StoppedWorkers(mms.java.pid), workers
    stop(worker)
    for _ in range(3):
        stopped.look()
    assert worker.status() == psutil.STATUS_STOPPED
    with caplog.at_level(logging.WARNING):
        stopped.look()
    worker.wait(30)
    assert caplog.messages == [
        f"worker {worker.pid} is stopped, so it is killed; another one starts"
    ]
    stopped.look()
    assert all(other.is_running() for other in others)


def test_a_worker_that_goes_on(workers, mms):
    """Only looks in a row count."""
    stopped, worker = StoppedWorkers(mms.java.pid), workers[0]
    for _ in range(2):
        stop(worker)
        for _ in range(3):
            stopped.look()
        worker.resume()
        wait_until(lambda: worker.status() != psutil.STATUS_STOPPED)
        stopped.look()
    assert worker.is_running()


def test_a_server_that_is_stopped_as_a_whole(workers, mms):
    """Whoever stopped it will let it go on."""
    stopped, java = StoppedWorkers(mms.java.pid), psutil.Process(mms.java.pid)
    for process in (java, *workers):
        stop(process)
    for _ in range(5):
        stopped.look()
    java.resume()
    assert all(worker.status() == psutil.STATUS_STOPPED for worker in workers)


def test_a_listener_and_what_a_script_has_forked(mms):
    """The workers go on without the listener, and a script may stop its own processes."""
    forks = "import os, time; os.fork() or os.fork(); time.sleep(120)"
    command = [sys.executable, "-S", "-c", forks, "--model-name", "one"]
    mms.java.stdin.write(f"{json.dumps(command)}\n")
    mms.java.stdin.flush()
    wait_until(lambda: len(mms.processes("one")) == 3)
    listener, worker, forked = sorted(mms.processes("one"), key=lambda each: len(each.parents()))
    stop(listener)
    stop(forked)
    stopped = StoppedWorkers(mms.java.pid)
    for _ in range(5):
        stopped.look()
    assert listener.status() == forked.status() == psutil.STATUS_STOPPED
    assert worker.is_running()


def test_a_worker_without_a_listener(workers, mms):
    """Nobody else ends it."""
    listener = psutil.Process(workers[0].ppid())
    listener.kill()
    listener.wait(30)
    stop(workers[0])
    stopped = StoppedWorkers(mms.java.pid)
    for _ in range(4):
        stopped.look()
    workers[0].wait(30)
    assert workers[1].is_running()


def test_a_process_that_has_ended_is_not_stopped():
    """It may end between two looks."""
    process = subprocess.Popen(["true"])
    ended = psutil.Process(process.pid)
    process.wait()
    assert not stopped._is_stopped(ended)
