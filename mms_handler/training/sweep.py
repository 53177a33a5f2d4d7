"""Run a job with each of several sets of hyperparameters, two at a time if they fit.

job, points ──▶ BASE/sweep/001: mms-handler train-run ──▶ model/, output/, log, metrics.jsonl ...
            ├─▶ BASE/sweep/002: mms-handler train-run
            ...

There is no other scheduler here: docs/training.md names engines that have one.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import time
from collections import deque
from pathlib import Path
from typing import Callable, Iterable, Mapping, NamedTuple, Sequence

import psutil

from mms_handler import processes, settings
from mms_handler.errors import TrainingError
from mms_handler.training.arguments import host_gpu_count
from mms_handler.training.job import Job, decode_hyperparameters
from mms_handler.training.local_hosts import first_line_of_failure, run_job
from mms_handler.training.metrics import rank
from mms_handler.training.outcome import recorded
from mms_handler.training.progress import watching
from mms_handler.training.supervise import signals_received

#: Seconds after which a run is taken to use as much memory as it ever will.
SETTLED_S = 5

#: The least memory that must be free for a second run.  MXNet's import takes a fifth of it.
SPARE_BYTES = 2**30

#: Seconds between two looks at a run's memory, and at its process.
MEMORY_S = 1
TICK_S = 0.05


class Room(NamedTuple):
    """What this machine has for runs."""

    cpus: float
    available_bytes: Callable[[], int]
    used_bytes: Callable[[Iterable[psutil.Process]], int]


class Run:
    """One run of a sweep.

    Attributes:
        name: its number, of three digits or more.
        point: the hyperparameters that the sweep sets, as texts.
        job: its part of the work, with folders of its own.
        state: "not run", "running", "succeeded", "failed" or "stopped".
        seconds: how long it ran.
        reason: the first line of its failure file; "" if it did not fail.
        metrics: the last value of each metric that its first host printed.
    """

    def __init__(self, name: str, point: Mapping[str, str], job: Job) -> None:
        self.name, self.point, self.job = name, point, job
        self.state, self.seconds, self.reason = "not run", 0.0, ""
        self.metrics: Mapping[str, float] = {}

    @property
    def log(self) -> Path:
        """The file with all that it prints."""
        return self.job.base_dir / "log"


def runs_of(job: Job, points: Sequence[Mapping[str, str]], *, raw: bool = False) -> list[Run]:
    """A run of ``job`` for each point.  They count on from an earlier sweep's runs.

    Args:
        job: the hyperparameters that it has are for all runs.
        points: further hyperparameters, as texts.
        raw: whether these stay texts.

    Raises:
        TrainingError: a channel is in PIPE mode, or the job has several hosts.
    """
    for name, config in job.input_data_config.items():
        if config.get("TrainingInputMode") == "Pipe":
            raise TrainingError(
                f"channel {name} is in PIPE mode, and a pipe can be read only once; "
                f"use --channel {name}=FOLDER with --sweep"
            )
    if len(job.hosts) > 1:
        raise TrainingError("--sweep needs one host; try several hosts with --local-hosts")
    folder = job.base_dir / "sweep"
    numbers = [int(path.name) for path in folder.glob("*") if path.name.isdecimal()]
    first = max(numbers, default=0) + 1
    runs = []
    for number, point in enumerate(points, first):
        base = folder / f"{number:03}"
        part = job._replace(
            base_dir=base,
            hyperparameters={**job.hyperparameters, **decode_hyperparameters(point, raw=raw)},
            model_dir=base / "model",
            output_data_dir=base / "output" / "data",
            checkpoints=None,
        )
        runs.append(Run(base.name, point, part))
    return runs


class Sweep:
    """Runs them all, two at a time if they fit; a run that fails does not end the others.

    Two fit if each of their hosts has a processor, there is no GPU, and as much memory is free as
    the largest run so far has used, but at least SPARE_BYTES.

    Args:
        runs: from ``runs_of``; their state, seconds and reason are set.
        room: the machine's.
        input_dir: the folder of the job's input, which the runs share.
        mode: "legacy" or "script"; None decides by the script.
        local_hosts: the number of hosts of each run, which are all this machine.
        definitions: a JSON file of metric definitions; None: the usual patterns.
        report: called with each run when it starts and when it has ended.
    """

    def __init__(
        self,
        runs: Sequence[Run],
        room: Room,
        *,
        input_dir: Path,
        mode: str | None = None,
        local_hosts: int = 1,
        definitions: Path | None = None,
        report: Callable[[Run], object] = lambda run: None,
    ) -> None:
        self._waiting, self._count = deque(runs), len(runs)
        self._room, self._input_dir, self._report = room, input_dir, report
        options = {"--local-hosts": local_hosts, "--mode": mode, "--definitions": definitions}
        self._words = [f"{name}={value}" for name, value in options.items() if value is not None]
        self._two_at_once = room.cpus >= 2 * local_hosts and host_gpu_count() == 0
        self._environment = dict(settings.environment())
        if self._two_at_once:
            threads = max(1, int(room.cpus / 2 / local_hosts))
            self._environment.setdefault("OMP_NUM_THREADS", str(threads))
        self._active: list[_Active] = []
        self._largest_bytes = 0

    def run(self) -> int | None:
        """Run them to their ends.

        Returns:
            The signal that ended the sweep, or None.
        """
        with contextlib.ExitStack() as stack:
            signals = stack.enter_context(signals_received())
            stack.callback(self._close)
            passed_on = False
            while self._active or (self._waiting and not signals):
                if self._waiting and not signals and self._fits():
                    self._start(self._waiting.popleft())
                if signals and not passed_on:
                    passed_on = True
                    for active in self._active:
                        active.process.send_signal(signals[0])
                for active in list(self._active):
                    self._look(active, bool(signals))
                time.sleep(TICK_S)
            return signals[0] if signals else None

    def _close(self) -> None:
        for active in self._active:
            active.close()

    def _fits(self) -> bool:
        """Whether one more run fits beside those that run."""
        if not self._active:
            return True
        if len(self._active) > 1 or not self._two_at_once:
            return False
        is_first = len(self._waiting) + 1 == self._count
        if is_first and self._active[0].seconds < SETTLED_S:
            return False  # how much memory a run takes is not known yet
        return self._room.available_bytes() >= max(self._largest_bytes, SPARE_BYTES)

    def _start(self, run: Run) -> None:
        base = run.job.base_dir
        base.mkdir(parents=True)
        if self._input_dir.exists():
            (base / "input").symlink_to(self._input_dir.resolve())
        (base / "job.json").write_text(run.job.to_json())
        run.state = "running"
        self._active.append(_Active(run, self._words, self._environment))
        self._report(run)

    def _look(self, active: _Active, stopped: bool) -> None:
        """Note how much memory a run uses, and how it ended if it has."""
        active.run.seconds = active.seconds
        self._largest_bytes = max(self._largest_bytes, active.used_bytes(self._room))
        code = active.process.poll()
        if code is None:
            return
        active.close()
        self._active.remove(active)
        active.run.state = "succeeded" if code == 0 else "stopped" if stopped else "failed"
        active.run.reason = "" if code == 0 else first_line_of_failure(active.run.job, code)
        active.run.metrics = last_metrics(metrics_file(active.run.job.base_dir))
        self._report(active.run)


class _Active:
    """The process of a run, until ``close``."""

    def __init__(self, run: Run, words: Sequence[str], environment: Mapping[str, str]) -> None:
        self.run, self._started_at = run, time.monotonic()
        self._looked_at, self._bytes = 0.0, 0
        command = [sys.executable, "-m", "mms_handler", "train-run", str(run.job.base_dir), *words]
        with contextlib.ExitStack() as stack:
            log = stack.enter_context(run.log.open("wb"))
            self.process: subprocess.Popen[bytes] = stack.enter_context(
                processes.group(
                    command, env=environment, cwd=Path.cwd(), stdout=log, stderr=subprocess.STDOUT
                )
            )
            self._stack = stack.pop_all()

    def close(self) -> None:
        """End the process and all that it started."""
        self._stack.close()

    @property
    def seconds(self) -> float:
        """Since it began."""
        return time.monotonic() - self._started_at

    def used_bytes(self, room: Room) -> int:
        """The memory of its processes, as of the last second."""
        if self.seconds - self._looked_at >= MEMORY_S:
            self._looked_at = self.seconds
            with contextlib.suppress(psutil.Error):  # it has just ended
                process = psutil.Process(self.process.pid)
                self._bytes = room.used_bytes([process, *process.children(recursive=True)])
        return self._bytes


def run_one(
    base_dir: Path,
    *,
    local_hosts: int = 1,
    mode: str | None = None,
    definitions: Path | None = None,
) -> None:
    """Run one run of a sweep in this process."""
    job = Job.from_json((base_dir / "job.json").read_text())
    with recorded(base_dir, job.current_host):
        watched = watching(file=metrics_file(base_dir), definitions=definitions)
        run_job(job, mode=mode, local_hosts=local_hosts, watching=watched)


def metrics_file(base_dir: Path) -> Path:
    """The file with the metrics of a run, as ``train --metrics`` writes it."""
    return base_dir / "metrics.jsonl"


def last_metrics(file: Path) -> dict[str, float]:
    """The last value of each metric of the first host in a file of metrics, losses first."""
    values: dict[str, dict[str, float]] = {}
    with contextlib.suppress(OSError), file.open() as lines:  # a run that cannot start has none
        for line in lines:
            with contextlib.suppress(ValueError):  # the disk may have been full
                entry = json.loads(line)
                values.setdefault(entry["host"], {})[entry["name"]] = float(entry["value"])
    metrics = values[min(values)] if values else {}
    return {name: metrics[name] for name in sorted(metrics, key=rank)}
