"""training.before_joining: which failures the other hosts are told; test_job has real hosts."""

from __future__ import annotations

import logging
import socket
from pathlib import Path

import pytest

from mms_handler.errors import TrainingError
from mms_handler.training import before_joining, cluster
from mms_handler.training.job import Job

FAILURE = TrainingError("no data")
HOSTS = ("127.0.0.1", "127.0.0.2")


@pytest.fixture
def reports(monkeypatch):
    """What would be reported."""
    found = []
    monkeypatch.setattr(cluster, "report", lambda *arguments: found.append(arguments))
    return found


def job_of(hosts=HOSTS, current_host="127.0.0.2", **hyperparameters):
    return Job(Path(), hyperparameters, {}, Path(), Path(), hosts, current_host)


def fail(job, failure=FAILURE, **options):
    """The exception that comes out of the block."""
    with pytest.raises(Exception) as caught, before_joining.reported(job, **options):  # noqa: PT011
        raise failure
    return caught.value


@pytest.mark.parametrize(
    ("parameters", "options", "port"),
    [({}, {}, 8000), ({"_ps_port": "9000"}, {}, 9000), ({}, {"local_port": 20_000}, 20_000)],
)
def test_what_is_reported(reports, parameters, options, port):
    """The failure, with the addresses of all hosts and the job's port."""
    assert fail(job_of(**parameters), **options) is FAILURE
    local = bool(options)
    addresses = {host: HOSTS[0] if local else host for host in HOSTS}
    assert reports == [(FAILURE, "127.0.0.2", addresses, port)]


@pytest.mark.parametrize(
    ("job", "failure"),
    [
        pytest.param(job_of(hosts=("127.0.0.2",)), FAILURE, id="the only host"),
        pytest.param(job_of(current_host="127.0.0.3"), FAILURE, id="none of the hosts"),
        pytest.param(job_of(), KeyError("a bug"), id="no error of the job's"),
    ],
)
def test_what_is_not_reported(reports, job, failure):
    assert fail(job, failure) is failure
    assert reports == []


def test_a_name_that_is_found_at_the_second_try(reports, monkeypatch):
    """Another host's name may be new."""
    tries = []

    def resolve(host):
        tries.append(host)
        if len(tries) == 1:
            raise socket.gaierror
        return host

    monkeypatch.setattr(socket, "gethostbyname", resolve)
    fail(job_of())
    assert len(reports) == 1


@pytest.mark.parametrize("trouble", [TrainingError("port 8001 is in use"), OSError("no network")])
def test_a_report_that_fails(monkeypatch, caplog, trouble):
    """The log says so; the job still fails for its own reason."""

    def report(*_):
        raise trouble

    monkeypatch.setattr(cluster, "report", report)
    caplog.set_level(logging.WARNING)
    assert fail(job_of()) is FAILURE
    assert str(trouble) in caplog.text


def test_a_job_that_had_ended(monkeypatch):
    """All hosts give the same reason."""
    ended = cluster.EndedBefore("host 127.0.0.1 was lost", "127.0.0.2: no data", FAILURE)

    def report(*_):
        raise ended

    monkeypatch.setattr(cluster, "report", report)
    assert fail(job_of()) is ended
