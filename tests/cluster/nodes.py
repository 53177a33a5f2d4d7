"""A Ray cluster on this machine: each node is a process of its own, and can be killed."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import subprocess
import sys
import time
from pathlib import Path

import psutil

BIN = Path(sys.executable).parent

#: A lost node is noticed after 1.5 s, not after 15.
_SYSTEM = {
    "health_check_initial_delay_ms": 5000,
    "health_check_period_ms": 500,
    "health_check_failure_threshold": 3,
}

_DEADLINE_S = 120

_COUNT = (
    "import ray, sys; ray.init(sys.argv[1], log_to_driver=False); "
    "print(sum(node['Alive'] for node in ray.nodes()))"
)


class Cluster:
    """A head without CPUs, and nodes of one CPU each, for the length of a ``with`` block."""

    def __init__(self, folder: Path, port: int) -> None:
        self.address = f"127.0.0.1:{port}"
        self._folder, self._port = folder, port
        #: For the nodes and for drivers: without the token, Ray runs nobody's code.
        self.env = {
            **os.environ,
            "HOME": str(folder),
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": secrets.token_hex(32),
            "RAY_USAGE_STATS_ENABLED": "0",
            # On a busy machine a node ends if its agents are not there within 30 and 60 seconds.
            "RAY_DASHBOARD_STARTUP_TIMEOUT_S": "120",
            "RAY_agent_register_timeout_ms": "120000",
            "RAY_raylet_start_wait_time_s": "120",
            "TMPDIR": str(folder),
        }
        self._log = (folder / "log").open("ab")
        self._running: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Cluster:
        config = f"--system-config={json.dumps(_SYSTEM)}"
        self._start("--head", f"--port={self._port}", "--include-dashboard=false", "--num-cpus=0",
                    config)  # fmt: skip
        return self

    def __exit__(self, *_: object) -> None:
        for node in list(self._running):
            self.kill(node)
        self._log.close()

    def add(self, count: int) -> list[subprocess.Popen[bytes]]:
        """Start so many nodes."""
        started = []
        for _ in range(count):  # one after another: nodes of one machine look for free ports
            self._wait(len(self._running))
            started.append(self._start(f"--address={self.address}", "--num-cpus=1"))
        self._wait(len(self._running))
        return started

    def kill(self, node: subprocess.Popen[bytes]) -> None:
        """Let a node vanish with all its processes, like a machine that loses power."""
        self._running.remove(node)
        processes = []
        with contextlib.suppress(psutil.NoSuchProcess):
            processes = [psutil.Process(node.pid)]
            processes += processes[0].children(recursive=True)
        for process in processes:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        node.wait()

    def _start(self, *words: str) -> subprocess.Popen[bytes]:
        command = [str(BIN / "ray"), "start", *words, "--block"]
        command += ["--disable-usage-stats", "--object-store-memory=80000000"]
        command += ["--memory=2000000000"]
        if "--head" in words:
            command.append(f"--temp-dir={self._folder / 'ray'}")
        output = {"stdout": self._log, "stderr": self._log}
        node = subprocess.Popen(command, env=self.env, start_new_session=True, **output)
        self._running.append(node)
        return node

    def _wait(self, nodes: int) -> None:
        """Wait until so many nodes are alive."""
        command = [sys.executable, "-c", _COUNT, self.address]
        deadline = time.monotonic() + _DEADLINE_S
        while time.monotonic() < deadline:
            with contextlib.suppress(subprocess.SubprocessError):
                counted = subprocess.run(command, env=self.env, stdout=subprocess.PIPE,
                                         stderr=subprocess.DEVNULL, timeout=30)  # fmt: skip
                if counted.stdout.strip() == str(nodes).encode():
                    return
            time.sleep(0.5)
        raise TimeoutError((self._folder / "log").read_text()[-3000:])
