"""Fixtures for jobs on hosts, and a table of how each job ended."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Callable, Iterator

import pytest

from tests.hosts import network as networks
from tests.hosts.jobs import Job

_HEAD = (
    "| fault | hosts | mode | all ended after, s | the reason on every host |",
    "|:--|--:|:--|--:|:--|",
)


@pytest.fixture(scope="session")
def network() -> Iterator[networks.Network]:
    """Three hosts."""
    missing = networks.missing()
    if missing:
        pytest.skip(missing)
    with networks.Network(["algo-1", "algo-2", "algo-3"]) as network:
        yield network


@pytest.fixture
def make_job(network: networks.Network, tmp_path: Path) -> Iterator[Callable[..., Job]]:
    """Make a job; what it leaves is killed."""
    jobs = []

    def make(count: int, mode: str, **options: Any) -> Job:
        folder = tmp_path / f"job-{len(jobs)}"
        folder.mkdir()
        jobs.append(Job(network, folder, count, mode, **options))
        return jobs[-1]

    yield make
    for host in network.addresses:
        network.plug(host)
    for job in jobs:
        job.kill()


@pytest.fixture
def report(record_property: Callable[[str, object], None]) -> Callable[[str, Job, str], None]:
    """Add a line to the table."""

    def add(fault: str, job: Job, reason: str) -> None:
        cells = (fault, str(len(job.hosts)), job.mode, f"{job.seconds:.0f}", reason)
        record_property("line", f"| {' | '.join(cells)} |")

    return add


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Print the table."""
    reports = [
        report for group in ("passed", "failed") for report in terminalreporter.getreports(group)
    ]
    lines = [line for report in reports for name, line in report.user_properties if name == "line"]
    for line in (*_HEAD, *sorted(lines)) if lines else ():
        terminalreporter.write_line(line)
