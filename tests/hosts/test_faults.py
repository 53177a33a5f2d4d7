"""Hosts in network namespaces train with MXNet's parameter server, and something fails.

All hosts end, each failure file gives the same reason, and nothing is left running.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import time

import pytest

from tests.hosts.exact_training import EPOCHS, WEIGHTS
from tests.hosts.jobs import cause

pytestmark = pytest.mark.hosts

EXACT = [weight * (1 - 2**-EPOCHS) for weight in WEIGHTS]

with_mpi = pytest.mark.skipif(
    not (shutil.which("mpirun") and shutil.which("sshd", path=f"{os.defpath}:/usr/sbin")),
    reason="not installed: openmpi-bin or openssh-server",
)
BOTH = pytest.mark.parametrize("mode", ["legacy", "script"])
ALL = pytest.mark.parametrize("mode", ["legacy", "script", pytest.param("MPI", marks=with_mpi)])


def check_success(job):
    """Wait for the end; the weights are exact on each host."""
    assert set(job.end(120).values()) == {0}, job.failures()
    assert job.weights() == [EXACT] * len(job.hosts)


def reason_of(job, without=()):
    """Wait for the end; the one reason that all hosts give."""
    codes = job.end(120)
    failures = job.failures()
    assert failures.keys() == set(job.hosts) - set(without)
    assert all(codes[host] for host in job.hosts)
    for host, line in failures.items():
        assert line.startswith(f"{host}: "), line
    (reason,) = {cause(line) for line in failures.values()}
    return reason


# --- the network (first, because these tests take longest) -----------------------------------


@pytest.mark.parametrize(
    ("count", "host", "mode", "reason"),
    [
        (2, "algo-2", "legacy", "hosts algo-1 and algo-2 could not reach each other for 30 s"),
        (3, "algo-1", "script", "algo-1: it was silent for 30 s"),
        (3, "algo-2", "script", "algo-2: it was silent for 30 s"),
        pytest.param(3, "algo-2", "MPI", "algo-2: it was silent for 30 s", marks=with_mpi),
    ],
)
def test_a_network_that_stays_away(make_job, network, report, count, host, mode, reason):
    """The host that is cut off gives the same reason as the others."""
    job = make_job(count, mode, pause_s=1)
    job.start()
    job.wait_for_epoch(1)
    network.pull(host)
    assert reason_of(job) == reason
    report(f"{host}'s network fails", job, reason)


@pytest.mark.parametrize(
    ("host", "mode"), [("algo-2", "legacy"), ("algo-1", "script"), ("algo-2", "MPI")]
)
def test_an_outage(make_job, network, report, host, mode):
    """Of 20 s; the weights are those of a job without it."""
    job = make_job(2, mode, pause_s=0.3)
    job.start()
    job.wait_for_epoch(2)
    network.pull(host)
    time.sleep(20)
    network.plug(host)
    check_success(job)
    assert "algo-2: host algo-1 is back after " in job.log("algo-2")
    report(f"{host}'s network fails for 20 s", job, "success")


def test_a_failure_during_an_outage(make_job, network, report):
    """All learn of it when the network is back."""
    job = make_job(2, "script", pause_s=1)
    job.start()
    job.wait_for_epoch(1)
    network.pull("algo-2")
    job.kill_script("algo-2")
    time.sleep(20)
    network.plug("algo-2")
    reason = reason_of(job)
    assert reason == "algo-2: the script: killed by SIGKILL"
    report("algo-2's network fails for 20 s, and its script is killed", job, reason)


def test_hosts_that_cannot_reach_each_other(make_job, network, report):
    """They both reach the first, so that the job begins; it stalls, and the reason says so."""
    job = make_job(3, "script", options=["--stall-s", "15"])
    with network.isolated(["algo-2", "algo-3"]):
        job.start()
        reason = reason_of(job)
    assert re.match(r"algo-\d: the script: no processor time used for 1\d s", reason)
    report("algo-2 and algo-3 cannot reach each other; --stall-s 15", job, reason)


# --- a script fails --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "what", "pattern"),
    [
        ("raise", "raises", r"ValueError: a bad batch \(exact_training.py, line \d+\)"),
        ("exit", "calls sys.exit(3)", r"SystemExit: 3 \(exact_training.py, line \d+\)"),
        ("kill", "is killed", "killed by SIGKILL"),
    ],
)
@ALL
def test_a_script_fails(make_job, report, mode, fault, what, pattern):
    """In a synchronous step, with the other host waiting for it."""
    job = make_job(2, mode)
    job.start("algo-1")
    job.start("algo-2", fault=fault)
    reason = reason_of(job)
    job.date_fault("algo-2")
    if (mode, fault) == ("MPI", "kill"):  # mpirun, on the first host, sees it
        assert reason == "algo-1: the script: rank 1 on algo-2 was killed by SIGKILL"
    else:
        assert re.fullmatch(f"algo-2: (train|the script): {pattern}", reason)
    report(f"the script of algo-2 {what}", job, reason)


# --- a host fails ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("host", "mode"),
    [
        ("algo-1", "legacy"),
        ("algo-2", "script"),
        *(pytest.param(host, "MPI", marks=with_mpi) for host in ("algo-1", "algo-2")),
    ],
)
def test_mms_handler_is_killed(make_job, report, host, mode):
    """And what it has started ends with it."""
    job = make_job(2, mode, pause_s=1)
    job.start()
    job.wait_for_epoch(1)
    job.send_signal(host, signal.SIGKILL)
    reason = reason_of(job, without=[host])
    assert reason == f"{host}: its connection closed"
    report(f"mms-handler of {host} is killed", job, reason)


@ALL
def test_a_host_is_stopped(make_job, report, mode):
    job = make_job(2, mode, pause_s=1)
    job.start()
    job.wait_for_epoch(1)
    job.send_signal("algo-2", signal.SIGTERM)
    reason = reason_of(job)
    assert re.fullmatch(r"algo-2: (train|the script): stopped by SIGTERM", reason)
    report("SIGTERM to algo-2", job, reason)


# --- no fault --------------------------------------------------------------------------------


@pytest.mark.parametrize(("late", "mode"), [("algo-1", "legacy"), ("algo-2", "script")])
def test_a_late_host(make_job, report, late, mode):
    """The other one waits for it."""
    job = make_job(2, mode)
    (early,) = set(job.hosts) - {late}
    job.start(early)
    time.sleep(20)
    job.start(late)
    check_success(job)
    report(f"{late} starts 20 s after the other", job, "success")


@pytest.mark.parametrize(
    ("count", "mode"),
    [(1, "legacy"), (2, "script"), (3, "legacy"), pytest.param(3, "MPI", marks=with_mpi)],
)
def test_several_hosts_equal_one(make_job, report, count, mode):
    """To the last bit."""
    job = make_job(count, mode)
    job.start()
    check_success(job)
    report("none", job, "success")
