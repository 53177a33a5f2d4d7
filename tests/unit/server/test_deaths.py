"""deaths: what is said of a worker that died."""

from __future__ import annotations

import os
import signal
import subprocess

import local_mms
import pytest
from local_mms import wait_until

from mms_handler import worker_files
from mms_handler.server import deaths
from mms_handler.server.deaths import EndedWorkers, _End
from mms_handler.server.machine import Machine
from mms_handler.worker.mms.current_requests import CurrentRequests


@pytest.fixture
def ended(mms, tmp_path):
    return EndedWorkers(mms.java.pid, lambda name: tmp_path / "store" / name)


@pytest.fixture
def workers(mms, tmp_path, monkeypatch):
    """Start workers of a model.  MMS's listener does not reap them before it starts others."""
    unreaped = "import signal\nsignal.signal(signal.SIGCHLD, signal.SIG_DFL)\n"
    monkeypatch.setattr(local_mms, "LISTENER", unreaped + local_mms.LISTENER)

    def start(name, count):
        (tmp_path / "store" / name / "MAR-INF").mkdir(parents=True)
        mms.start(name, count)
        return [process for process in mms.processes(name) if process.ppid() != mms.java.pid]

    return start


def end(process, number):
    process.send_signal(number)
    wait_until(lambda: not deaths.model_processes.is_alive(process))


def test_a_worker_that_is_killed(workers, ended, tmp_path):
    """With its model, its memory and its requests; once, and no other worker."""
    one, two = workers("iris", 2)
    ended.look()
    path = worker_files.requests_path(tmp_path / "store" / "iris", one.pid)
    CurrentRequests(path).set(["r-1", "r-2"])
    end(one, signal.SIGKILL)
    ended.look()
    (sentence,) = ended.sentences("iris", "iris", 1, 3)
    size = sentence.partition("(worker ")[2].partition(" MB)")[0]
    assert int(size) > 0
    assert sentence == (
        f"worker {one.pid} of iris was killed (worker {size} MB); it had requests r-1, r-2; "
        "deaths of iris in the last minute: 3"
    )
    assert not path.exists()
    end(two, signal.SIGTERM)
    ended.look()
    (sentence,) = ended.sentences("iris", "iris", 1, 4)
    assert sentence.startswith(f"worker {two.pid} of iris died of SIGTERM (worker ")
    assert sentence.endswith(" MB); it had no request; deaths of iris in the last minute: 4")


def test_a_worker_that_was_told_to_end(workers, ended):
    """The plug-in does not count it, so only the latest ends are those of its deaths."""
    first, second = workers("iris", 2)
    (other,) = workers("rose", 1)
    ended.look()
    for process in (first, other, second):
        end(process, signal.SIGTERM)
        ended.look()
    (sentence,) = ended.sentences("iris", "iris", 1, 1)
    assert sentence.startswith(f"worker {second.pid} of iris ")
    (sentence,) = ended.sentences("rose", "rose version 2", 1, 1)
    assert sentence.startswith(f"worker {other.pid} of rose version 2 ")


def test_a_worker_that_is_replaced_before_the_next_look(workers, ended):
    """The plug-in counts its death at once, since a fork takes a few milliseconds."""
    (worker,) = workers("iris", 1)
    ended.look()
    end(worker, signal.SIGTERM)
    (sentence,) = ended.sentences("iris", "iris", 1, 1)
    assert sentence.startswith(f"worker {worker.pid} of iris died of SIGTERM (worker ")
    assert ended.sentences("iris", "iris", 1, 1)[0].startswith("a worker of iris died; ")


def test_a_short_life_leaves_no_file(workers, ended, tmp_path):
    """A worker that started and ended between two looks; that of another one stays."""
    (one,) = workers("iris", 1)
    short = subprocess.Popen(["true"])
    short.wait(30)
    paths = [worker_files.requests_path(tmp_path / "store" / "iris", p.pid) for p in (short, one)]
    for path in paths:
        CurrentRequests(path).set(["r-1"])
    ended.look()
    assert [path.exists() for path in paths] == [False, True]


def test_a_worker_that_was_not_seen(workers, ended):
    """It may have lived between two looks, or its end was long ago."""
    assert (
        ended.sentences("iris", "iris", 2, 2)
        == ["a worker of iris died; deaths of iris in the last minute: 2"] * 2
    )


@pytest.mark.parametrize(("before", "after", "words"), [
    (4, 5, "was killed, perhaps by the system for memory (worker "),
    (5, 5, "was killed (worker "),
])  # fmt: skip
def test_memory_that_ran_out(workers, ended, monkeypatch, before, after, words):
    """The system counts whom it kills for memory; nothing else tells."""
    (worker,) = workers("iris", 1)
    monkeypatch.setattr(deaths, "_killed_for_memory", lambda: before)
    ended.look()
    ended.look()
    end(worker, signal.SIGKILL)
    monkeypatch.setattr(deaths, "_killed_for_memory", lambda: after)
    ended.look()
    assert words in ended.sentences("iris", "iris", 1, 1)[0]


@pytest.mark.parametrize(("share", "blamed"), [(0.4, False), (0.6, True)])
def test_a_worker_as_large_as_the_machine(workers, ended, monkeypatch, share, blamed):
    """One with more than half of the memory was the likeliest to be killed for it."""
    monkeypatch.setattr(deaths, "_killed_for_memory", lambda: 7)
    (worker,) = workers("iris", 1)
    ended.look()
    ended.look()
    memory_bytes = int(worker.memory_info().rss / share)
    monkeypatch.setattr(deaths.machine, "this_machine", lambda: Machine(1, memory_bytes))
    end(worker, signal.SIGKILL)
    ended.look()
    assert ("perhaps by the system" in ended.sentences("iris", "iris", 1, 1)[0]) is blamed


def test_the_system_counts_whom_it_kills():
    assert deaths._killed_for_memory() >= 0


def status_of(how):
    process = os.fork()
    if not process:
        how()
    while deaths._status(process) is None:
        pass
    status = deaths._status(process)
    assert os.waitpid(process, 0)[1] == status
    assert deaths._status(process) is None
    return status


def killed_by(number):
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)


@pytest.mark.parametrize(
    ("how", "words"),
    [
        (lambda: os._exit(3), "ended with exit code 3"),
        (lambda: os._exit(0), "ended with exit code 0"),
        (lambda: killed_by(signal.SIGBUS), "died of SIGBUS (worker 812 MB)"),
        (lambda: killed_by(signal.SIGRTMIN + 3), "died of signal 37 (worker 812 MB)"),
    ],
    ids=["an exit code", "success", "a signal", "a signal without a name"],
)
def test_how_a_process_ended(how, words):
    """As the kernel keeps it until the process is reaped."""
    end = _End(0, 12, "iris", status_of(how), 812_000_000, ["r"], memory=False)
    assert end.sentence("iris") == f"worker 12 of iris {words}; it had request r"


def test_how_a_process_ended_that_was_reaped():
    end = _End(0, 12, "iris", None, 0, [], memory=False)
    assert end.sentence("iris version 2") == "worker 12 of iris version 2 died; it had no request"


@pytest.mark.parametrize(
    ("status", "memory", "cause"),
    [
        (None, True, "unknown"),
        (3 << 8, True, "exit"),
        (signal.SIGKILL, False, "SIGKILL"),
        (signal.SIGKILL, True, "memory"),
        (signal.SIGSEGV, True, "SIGSEGV"),
        (signal.SIGSEGV | 0x80, False, "SIGSEGV"),  # with a core dump
        (33, False, "signal"),
    ],
)
def test_causes_are_few(status, memory, cause):
    """For the label of a metric."""
    assert _End(0, 1, "iris", status, 0, [], memory).cause == cause


def test_causes_are_counted(workers, ended):
    """By model; a worker that was never seen, too."""
    one, _ = workers("iris", 2)
    ended.look()
    end(one, signal.SIGKILL)
    ended.look()
    ended.sentences("iris", "iris", 2, 2)
    assert ended.causes == {"iris": {"SIGKILL": 1, "unknown": 1}}


@pytest.mark.parametrize(
    ("exit_value", "words", "cause"),
    [
        (137, "was killed", "SIGKILL"),
        (139, "died of SIGSEGV", "SIGSEGV"),
        (1, "ended with exit code 1", "exit"),
        (None, "died", "unknown"),
    ],
)
def test_a_listener_that_died(ended, exit_value, words, cause):
    """Java reaps it, and says how it ended."""
    sentence = ended.listener_sentence("iris~2", "iris version 2", exit_value)
    assert sentence == f"the listener of iris version 2 {words}; the model is loaded again"
    assert ended.causes == {"iris~2": {cause: 1}}


def test_a_listener_that_died_for_memory(ended, monkeypatch):
    """The system has killed something since the look before the last."""
    monkeypatch.setattr(deaths, "_killed_for_memory", lambda: 10**9)
    ended.look()
    ended.look()
    sentence = ended.listener_sentence("iris", "iris", 137)
    assert "iris was killed, perhaps by the system for memory; the model" in sentence
    assert ended.causes == {"iris": {"memory": 1}}
