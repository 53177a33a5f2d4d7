"""Run a job: this host's part, or all of its hosts as processes on this machine.

job ──▶ run    BASE

job ──▶ algo-1: mms-handler train-host ──▶ run    BASE
    ├─▶ algo-2: mms-handler train-host ──▶ run    BASE/hosts/algo-2
    ...
"""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Mapping, Sequence

from mms_handler import processes, settings
from mms_handler.training import cluster
from mms_handler.training.job import Job
from mms_handler.training.outcome import recorded
from mms_handler.training.output import Output
from mms_handler.training.phases import JobFailed, Stopped, phase
from mms_handler.training.progress import Watching, shown
from mms_handler.training.run import run
from mms_handler.training.supervise import signals_received


def run_job(
    job: Job, *, mode: str | None = None, local_hosts: int = 1, watching: Watching | None = None
) -> None:
    """Run ``job`` to its end.

    Args:
        job: this host's part, or the whole job if all hosts are this machine.
        mode: "legacy" or "script"; None decides by the script.
        local_hosts: if more than 1, the number of hosts, which are all this machine.
        watching: what to do about the metrics that the script prints; None: nothing.

    Raises:
        TrainingError: the job failed.
        Stopped: this process got SIGTERM or SIGINT, and the script did not end with 0.
    """
    if local_hosts > 1:
        hosts = tuple(f"algo-{number + 1}" for number in range(local_hosts))
        with phase(f"training on {local_hosts} hosts"), shown(
            hosts, watching, named=True
        ) as output:
            run_local_hosts(job, hosts, output, mode=mode)
    else:
        with shown([job.current_host], watching) as output:
            run(job, mode=mode, output=output)


def run_local_hosts(
    job: Job, hosts: tuple[str, ...], output: Output, *, mode: str | None = None
) -> None:
    """Run ``job`` on several hosts that are all this machine.

    The first host uses the job's own folders, the others BASE/hosts/NAME.

    Args:
        job: the job; its hosts are replaced.
        hosts: their names.
        output: passes on what they print.
        mode: "legacy" or "script"; None decides by the script.

    Raises:
        JobFailed: a host failed; the text is the first line of its failure file.
        Stopped: this process got SIGTERM or SIGINT.
    """
    jobs = {host: _job_of(job, host, hosts) for host in hosts}
    port = cluster.local_port()
    with tempfile.TemporaryDirectory(
        prefix="mms-handler-"
    ) as scratch, contextlib.ExitStack() as stack:
        signals = stack.enter_context(signals_received())
        running, printed = {}, []
        for host in hosts:
            folder = Path(scratch) / host
            folder.mkdir()
            (folder / "job.json").write_text(jobs[host].to_json())
            words = [str(folder), str(port), *([mode] if mode else [])]
            command = [sys.executable, "-m", "mms_handler", "train-host", *words]
            pipes = output.pipes()
            process = processes.group(
                command, env=settings.environment(), cwd=Path.cwd(), **pipes.arguments
            )
            running[host] = stack.enter_context(process)
            printed.append(output.follow(host, running[host], pipes))
        _wait_for_all(list(running.values()), signals)
    for follower in printed:
        follower.join()
    if signals:
        raise Stopped(signals[0])
    failed = {host: process.returncode for host, process in running.items() if process.returncode}
    if failed:
        raise JobFailed(
            _reason({host: first_line_of_failure(jobs[host], failed[host]) for host in failed})
        )


def run_host(folder: Path, port: int, mode: str | None) -> None:
    """Run one host of ``run_local_hosts`` in this process."""
    job = Job.from_json((folder / "job.json").read_text())
    with recorded(job.base_dir, job.current_host):
        run(job, mode=mode, local_port=port)


def _job_of(job: Job, host: str, hosts: tuple[str, ...]) -> Job:
    """The part of ``host`` in ``job``.  Hosts other than the first one have their own folders."""
    part = job._replace(hosts=hosts, current_host=host)
    if host == part.first_host:
        return part
    base = job.base_dir / "hosts" / host
    return part._replace(
        base_dir=base,
        model_dir=base / "model",
        output_data_dir=base / "output" / "data",
        checkpoints=None,
    )


def _wait_for_all(running: Sequence[subprocess.Popen[bytes]], signals: Sequence[int]) -> None:
    """Wait until all processes have ended; pass the first signal on to all of them, once."""
    passed_on = False
    while any(process.poll() is None for process in running):
        if signals and not passed_on:
            passed_on = True
            for process in running:
                process.send_signal(signals[0])
        time.sleep(0.05)


def first_line_of_failure(job: Job, code: int) -> str:
    """The first line of a job's failure file; if there is none, how its process ended."""
    try:
        lines = (job.output_dir / "failure").read_text().splitlines()
    except OSError:
        lines = []
    ended = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with {code}"
    return (lines or [f"{job.current_host}: training: mms-handler {ended}, without a reason"])[0]


def _reason(failures: Mapping[str, str]) -> str:
    """Why the job failed; that a host was lost is a reason only if there is no other."""
    causes = [line for line in failures.values() if " was lost: " not in line]
    return "; ".join(causes or failures.values())
