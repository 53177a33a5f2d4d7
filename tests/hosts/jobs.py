"""A training job on hosts of a network: started, watched, and what each host says at the end."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import time
from pathlib import Path
from typing import Sequence

from running_mms import BIN, wait_for

from tests.hosts.network import Network

SCRIPT = Path(__file__).with_name("exact_training.py")


class Job:
    """The processes of a job.

    Args:
        network: with the job's hosts, and perhaps others.
        folder: an empty folder.
        count: the number of hosts.
        mode: "legacy", "script", or "MPI": the same as "script", but mpirun starts the script.
        pause_s: how long each host waits after each epoch.
        options: more options of ``mms-handler train``.
    """

    def __init__(
        self,
        network: Network,
        folder: Path,
        count: int,
        mode: str,
        *,
        pause_s: float = 0.05,
        options: Sequence[str] = (),
    ) -> None:
        self.hosts = list(network.addresses)[:count]
        self.mode = mode
        self.fault_at = time.time()
        self.ended_at: dict[str, float] = {}
        self._network, self._folder = network, folder
        self._pause_s, self._options = pause_s, options
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._names = folder / "hosts"
        lines = [f"{address} {host}\n" for host, address in network.addresses.items()]
        self._names.write_text("127.0.0.1 localhost\n" + "".join(lines))

    def start(self, *hosts: str, fault: str = "") -> None:
        """Start these hosts, or all; ``fault`` is one of the script's, after some epochs."""
        for host in hosts or self.hosts:
            base = self._folder / host
            base.mkdir()
            words = [
                *(BIN / "mms-handler", "train", "--entry-point", SCRIPT),
                *("--mode", "legacy" if self.mode == "legacy" else "script"),
                *("--hp", f"sagemaker_mpi_enabled={json.dumps(self.mode == 'MPI')}"),
                *("--hosts", ",".join(self.hosts), "--current-host", host, "--base-dir", base),
                *("--hp", f"sagemaker_parameter_server_enabled={json.dumps(len(self.hosts) > 1)}"),
                *self._options,
            ]
            command = self._network.command(host, self._names, [str(word) for word in words])
            with (base / "log").open("wb") as log:
                self._processes[host] = subprocess.Popen(
                    command,
                    cwd=base,
                    env={
                        **os.environ,
                        "PROGRESS": str(base / "epoch"),
                        "PAUSE_S": str(self._pause_s),
                        "FAULT": fault,
                    },
                    stdout=log,
                    stderr=subprocess.STDOUT,
                )

    def wait_for_epoch(self, epoch: int) -> None:
        """Wait until each host has come so far; the next thing is the fault."""
        wait_for(lambda: all(self._epoch(host) >= epoch for host in self.hosts), 90)
        self.fault_at = time.time()

    def _epoch(self, host: str) -> int:
        assert self._processes[host].poll() is None, self.log(host)
        path = self._folder / host / "epoch"
        return int(path.read_text().split()[0]) if path.exists() else -1

    def kill_script(self, host: str) -> None:
        """Kill the process that trains on a host."""
        os.kill(int((self._folder / host / "epoch").read_text().split()[1]), signal.SIGKILL)

    def send_signal(self, host: str, number: int) -> None:
        """Send a signal to a host's mms-handler."""
        self._processes[host].send_signal(number)

    def end(self, limit_s: float = 60) -> dict[str, int]:
        """Wait until all hosts have ended, and nothing runs on any; returns their exit codes."""
        wait_for(self._have_ended, limit_s)
        wait_for(lambda: not any(map(self._network.pids, self.hosts)), 20)
        return {host: process.returncode for host, process in self._processes.items()}

    def _have_ended(self) -> bool:
        for host, process in self._processes.items():
            if process.poll() is not None:
                self.ended_at.setdefault(host, time.time())
        return len(self.ended_at) == len(self._processes)

    @property
    def seconds(self) -> float:
        """From the fault, or from the start of a job without one, to the end of all hosts."""
        return max(self.ended_at.values()) - self.fault_at

    def date_fault(self, host: str) -> None:
        """The fault was in the script of ``host``, which wrote down its progress just before."""
        self.fault_at = (self._folder / host / "epoch").stat().st_mtime

    def failures(self) -> dict[str, str]:
        """The first line of each failure file, by host."""
        files = {host: self._folder / host / "output" / "failure" for host in self.hosts}
        return {h: file.read_text().splitlines()[0] for h, file in files.items() if file.exists()}

    def weights(self) -> list[list[float]]:
        """What each host has saved."""
        files = [self._folder / host / "model" / "weights.json" for host in self.hosts]
        return [json.loads(file.read_text()) for file in files]

    def log(self, host: str) -> str:
        return (self._folder / host / "log").read_text()

    def kill(self) -> None:
        """End what is left, if a test has failed."""
        for host in self.hosts:
            for pid in self._network.pids(host):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        for process in self._processes.values():
            process.wait()


def cause(line: str) -> str:
    """The host that a first line names as the cause, and why: the same for each host of a job."""
    lost = re.search(r"host (\S+) was lost: (.+)", line)
    if lost:
        return f"{lost[1]}: {lost[2]}"
    apart = re.search(r"hosts \S+ and \S+ could not reach each other.*", line)
    return apart[0] if apart else line
