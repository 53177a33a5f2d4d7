"""model_processes: whose a process is, and that none is left."""

from __future__ import annotations

import signal
import subprocess
from types import SimpleNamespace

import psutil
import pytest
from local_mms import wait_until

from mms_handler.names import FORK_SERVER
from mms_handler.server import model_processes


@pytest.fixture
def java(mms):
    """Two models with two workers each."""
    for name in ("one", "two"):
        mms.start(name, 2)
    return mms.java.pid


def test_whose_processes_they_are(java, mms):
    """A model's are its listener and its workers; Java itself is nobody's."""
    every = {process.pid for process in model_processes.of_all_models(java)}
    one = {process.pid for process in model_processes.of_model(java, "one")}
    two = {process.pid for process in model_processes.of_model(java, "two")}
    assert (len(one), len(two)) == (3, 3)
    assert every == one | two
    assert java not in every
    listener = model_processes.listener(java, "one")
    assert listener.pid in one
    assert listener.ppid() == java
    assert model_processes.listener(java, "none") is None
    assert model_processes.of_model(java, "-S") == []  # other words of the command line
    workers = {process.pid for process in model_processes.workers(java)}
    listeners = {model_processes.listener(java, name).pid for name in ("one", "two")}
    assert workers == every - listeners


def test_an_orphan_is_the_models_but_no_listener(java, mms):
    """It stays in Java's group."""
    listener = model_processes.listener(java, "one")
    assert model_processes.is_alive(listener)
    listener.kill()
    listener.wait(30)
    assert not model_processes.is_alive(listener)
    assert len(model_processes.of_model(java, "one")) == 2
    assert model_processes.listener(java, "one") is None
    assert len(model_processes.workers(java)) == 4


class Process(SimpleNamespace):
    """A process of the model ``one``."""

    def __hash__(self):
        return self.pid

    def ppid(self):
        return self.parent

    def name(self):
        return self.called

    def cmdline(self):
        return ["python", "--model-name", "one"]


def test_a_worker_is_one_from_its_first_moment(monkeypatch):
    """It has the fork server's name then.  What a script has forked is none."""
    processes = [
        Process(pid=2, parent=1, called="python"),  # the listener
        Process(pid=3, parent=2, called=FORK_SERVER),
        Process(pid=4, parent=3, called="python"),
        Process(pid=5, parent=3, called=FORK_SERVER),
        Process(pid=6, parent=4, called="python"),
    ]
    monkeypatch.setattr(model_processes, "of_all_models", lambda java_pid: processes)
    assert [process.pid for process in model_processes.workers(1)] == [4, 5]
    assert [process.pid for process in model_processes.forked(processes)] == [4, 5]


def test_a_zombie_is_not_alive():
    process = subprocess.Popen(["true"])
    found = psutil.Process(process.pid)
    wait_until(lambda: found.status() == psutil.STATUS_ZOMBIE)
    assert not model_processes.is_alive(found)
    process.wait()
    assert not model_processes.is_alive(found)


class Ending(psutil.Process):
    """A process that ends between two looks at it."""

    def is_running(self):
        return True

    def status(self):
        raise psutil.NoSuchProcess(self.pid)


def test_a_process_that_ends_meanwhile_is_not_alive():
    assert not model_processes.is_alive(Ending())


def test_what_does_not_end_is_killed(monkeypatch):
    """After the time that it has; what ends by itself is waited for."""
    monkeypatch.setattr(model_processes, "_END_S", 0.2)
    ending, staying = subprocess.Popen(["sleep", "0.1"]), subprocess.Popen(["sleep", "60"])
    model_processes.wait_for_end([psutil.Process(each.pid) for each in (ending, staying)], 0.1)
    assert [process.wait(30) for process in (ending, staying)] == [0, -signal.SIGKILL]


def test_a_zombie_is_not_waited_for():
    """Whose parent does not reap it, it stays for long."""
    process = subprocess.Popen(["true"])
    zombie = psutil.Process(process.pid)
    wait_until(lambda: zombie.status() == psutil.STATUS_ZOMBIE)
    model_processes.wait_for_end([zombie], 60)
    assert psutil.pid_exists(process.pid)
    process.wait()


def test_old_sockets(mms, tmp_path):
    """Those on which nobody listens, and no other file."""
    java = mms.java.pid
    mms.start("one", 1, "--sock-name", f"{tmp_path}/.mms.sock.9001")
    for name in (".mms.sock.9000", ".mms.sock.9001", "other.sock"):
        (tmp_path / name).touch()
    model_processes.remove_sockets(java, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".mms.sock.9001", "other.sock"]
    mms.end("one")
    model_processes.remove_sockets(java, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["other.sock"]
