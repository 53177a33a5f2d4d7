"""Try a job of several hosts on this machine, with a process for each host.

job ──▶ algo-1: mms-handler train-host ──▶ run    BASE
    ├─▶ algo-2: mms-handler train-host ──▶ run    BASE/hosts/algo-2
    ...
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Mapping, Sequence

from mms_handler import processes, settings
from mms_handler.errors import TrainingError
from mms_handler.training import cluster
from mms_handler.training.job import Job
from mms_handler.training.outcome import recorded
from mms_handler.training.run import run
from mms_handler.training.supervise import Stopped, signals_received


def run_local_hosts(job: Job, count: int, *, mode: str | None = None) -> None:
    """Run ``job`` on ``count`` hosts, called algo-1, algo-2 ..., that are all this machine.

    The first host uses the job's own folders, the others BASE/hosts/NAME.

    Args:
        job: the job; its hosts are replaced.
        count: 1 or more.
        mode: "legacy" or "script"; None decides by the script.

    Raises:
        TrainingError: a host failed; names it and gives the reason.
        Stopped: this process got SIGTERM or SIGINT.
    """
    hosts = tuple(f"algo-{number + 1}" for number in range(count))
    jobs = {host: _job_of(job, host, hosts) for host in hosts}
    port = cluster.local_port()
    with tempfile.TemporaryDirectory(
        prefix="mms-handler-"
    ) as scratch, contextlib.ExitStack() as stack:
        signals = stack.enter_context(signals_received())
        running = {}
        for host in hosts:
            folder = Path(scratch) / host
            folder.mkdir()
            (folder / "job.json").write_text(jobs[host].to_json())
            words = [str(folder), str(port), *([mode] if mode else [])]
            command = [sys.executable, "-m", "mms_handler", "train-host", *words]
            process = processes.group(command, env=settings.environment(), cwd=Path.cwd())
            running[host] = stack.enter_context(process)
        _wait_for_all(list(running.values()), signals)
    if signals:
        raise Stopped(signals[0])
    failed = [jobs[host] for host, process in running.items() if process.returncode]
    if failed:
        raise TrainingError(_reason(failed))


def run_host(folder: Path, port: int, mode: str | None) -> None:
    """Run one host of ``run_local_hosts`` in this process."""
    job = Job.from_json((folder / "job.json").read_text())
    with recorded(job.base_dir):
        run(job, mode=mode, local_port=port)


def _job_of(job: Job, host: str, hosts: tuple[str, ...]) -> Job:
    """The part of ``host`` in ``job``.  Hosts other than the first one have their own folders."""
    part = job._replace(hosts=hosts, current_host=host)
    if host == part.first_host:
        return part
    base = job.base_dir / "hosts" / host
    return part._replace(
        base_dir=base, model_dir=base / "model", output_data_dir=base / "output" / "data"
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


def _reason(failed: Sequence[Job]) -> str:
    """The reasons of the failed hosts; "host ... was lost" only if there is no other reason."""
    files = {job.current_host: job.output_dir / "failure" for job in failed}
    reasons: Mapping[str, str] = {
        host: path.read_text().splitlines()[0] for host, path in files.items() if path.exists()
    }
    causes = {host: reason for host, reason in reasons.items() if " was lost: " not in reason}
    lines = [f"{host}: {reason}" for host, reason in (causes or reasons).items()]
    return "; ".join(lines) or "a host's process ended without a failure file"
