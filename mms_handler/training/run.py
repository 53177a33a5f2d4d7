"""Run one host's part of a job in a process of its own, and tell how it ended.

job ──▶ legacy: train() and save()      ┐                 ┌ BASE/output/success
    └─▶ script mode: python SCRIPT ...  ┘ ──▶ its end ──▶ └ BASE/output/failure, exit code 1
"""

from __future__ import annotations

import contextlib
import json
import logging
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections import deque
from pathlib import Path
from typing import IO, Iterator, Mapping, NamedTuple

from mms_handler import processes, settings
from mms_handler.errors import HandlerError, TrainingError, cause
from mms_handler.script import requirements
from mms_handler.training import cluster, mode, script_mode
from mms_handler.training.job import Job, gpu_count

log = logging.getLogger(__name__)

#: Seconds that a script has after SIGTERM; SageMaker kills the container after 120.
GRACE_S = 110


class Stopped(TrainingError):
    """Somebody asked the job to end, with the signal ``number``."""

    def __init__(self, number: int) -> None:
        super().__init__(f"stopped by {signal.Signals(number).name}")
        self.number = number


def run(job: Job, *, wanted: str | None = None, local_port: int | None = None) -> None:
    """Run ``job`` to its end and write BASE/output/success or failure.

    Args:
        job: this host's part.
        wanted: "legacy" or "script", whatever the script looks like.
        local_port: for a trial on one machine: all hosts are 127.0.0.1, the scheduler there.

    Raises:
        TrainingError: it failed; the first line of the failure file says why.
        Stopped: it was asked to end, and did not end well by itself.
    """
    for folder in (job.output_dir, job.output_data_dir, job.model_dir):
        folder.mkdir(parents=True, exist_ok=True)
    for name in ("success", "failure"):
        with contextlib.suppress(FileNotFoundError):
            (job.output_dir / name).unlink()
    try:
        _run(job, wanted, local_port)
    except (HandlerError, OSError) as exc:
        details = getattr(exc, "details", "")
        (job.output_dir / "failure").write_text(f"{exc}\n{details}")
        raise
    (job.output_dir / "success").touch()


def _run(job: Job, wanted: str | None, local_port: int | None) -> None:
    job.check()
    chosen = mode.choose(job.entry_point, job.hyperparameters, wanted)
    log.info("%s: %s mode: %s", job.current_host, chosen.name, chosen.reason)
    also = requirements.paths(job.code_dir, settings.cache_folder(settings.current()))
    with tempfile.TemporaryDirectory(prefix="mms-handler-") as scratch:
        if chosen.legacy:
            mode.check_required(mode.required_parameters(job.entry_point) or ())
            part = _legacy(job, also, Path(scratch))
        else:
            part = _script(job, also, Path(scratch))
        with _joined(job, chosen.legacy, local_port) as member:
            shared = member.variables if member else {}
            _finish(part, {**settings.environment(), **part.variables, **shared}, member)


@contextlib.contextmanager
def _joined(job: Job, legacy: bool, local_port: int | None) -> Iterator[cluster.Member | None]:
    """The job's parameter server, where it has several hosts or asks for one.

    Legacy scripts of several hosts always had one, script-mode ones where they say so
    (CONTRACT A6).
    """
    given = job.hyperparameters
    if not (given.get("sagemaker_parameter_server_enabled") or (legacy and len(job.hosts) > 1)):
        yield None
        return
    resolve = (lambda host: "127.0.0.1") if local_port else socket.gethostbyname
    with cluster.joined(
        job.hosts,
        job.current_host,
        addresses=cluster.addresses(job.hosts, resolve),
        env=settings.environment(),
        port=local_port or _number(job, "_ps_port", 8000),
        verbose=_number(job, "_ps_verbose", 0),
    ) as member:
        yield member


class Part(NamedTuple):
    """A process to run, and where it says why it failed."""

    command: list[str]
    variables: Mapping[str, str]
    cwd: Path
    report: Path | None


def _legacy(job: Job, also: list[Path], scratch: Path) -> Part:
    (scratch / "job.json").write_text(job.to_json())
    command = [sys.executable, "-m", "mms_handler", "train-here", str(scratch), *map(str, also)]
    variables = script_mode.legacy_variables(job, settings.environment())
    return Part(command, variables, Path.cwd(), scratch / "report.json")


def here(scratch: Path, also: list[Path]) -> int:
    """Train in this process, as ``_legacy`` asked; the exit code."""
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    from mms_handler.training import contract

    job = Job.from_json((scratch / "job.json").read_text())
    try:
        contract.train(job, also)
    except BaseException as exc:
        if not isinstance(exc, HandlerError):
            traceback.print_exc()
        line = str(exc) if isinstance(exc, HandlerError) else cause(exc, str(job.code_dir))
        report = {"line": line, "details": traceback.format_exc()}
        (scratch / "report.json").write_text(json.dumps(report))
        return 1
    return 0


def _script(job: Job, also: list[Path], scratch: Path) -> Part:
    given = job.hyperparameters
    command = script_mode.command(job.entry_point, job.code_dir, given)
    if given.get("sagemaker_mpi_enabled"):
        command = _mpi(job, command)
    folders = [*also, *script_mode.stand_ins(scratch)]
    gpus = gpu_count()
    variables = script_mode.variables(job, settings.environment(), folders, num_gpus=gpus)
    return Part(command, variables, job.code_dir, None)


def _mpi(job: Job, command: list[str]) -> list[str]:
    if len(job.hosts) > 1:
        raise TrainingError(
            f"MPI on {len(job.hosts)} hosts needs an sshd on each, which nothing starts here; "
            "one host with several processes can use it"
        )
    count = _number(job, "sagemaker_mpi_num_of_processes_per_host", 1)
    options = str(job.hyperparameters.get("sagemaker_mpi_custom_mpi_options", ""))
    return cluster.mpi_command(["localhost"], count, options, command)  # whatever it is called


def _number(job: Job, name: str, default: int) -> int:
    """A hyperparameter that is a whole number.

    Raises:
        TrainingError: it is not.
    """
    value = job.hyperparameters.get(name, default)
    try:
        return int(value)
    except (TypeError, ValueError):
        raise TrainingError(f"{name}: {value!r} is not a whole number") from None


# --- to the end ------------------------------------------------------------------------------


class ScriptFailed(TrainingError):
    """The script ended badly; ``details`` is what the failure file has below the first line."""

    def __init__(self, line: str, details: str) -> None:
        super().__init__(line)
        self.details = details


def _finish(part: Part, env: Mapping[str, str], member: cluster.Member | None) -> None:
    """Run ``part`` until it ends, a peer is lost, or somebody asks us to end."""
    with _received() as received, processes.group(
        part.command, env=env, cwd=part.cwd, stderr=subprocess.PIPE
    ) as process:
        said = _Tail(process.stderr)
        deadline = None
        while process.poll() is None:
            if received and deadline is None:
                deadline = time.monotonic() + GRACE_S
                process.send_signal(received[0])
            if deadline is not None and time.monotonic() > deadline:
                break
            lost = member.lost() if member and not received else None
            if lost:
                raise TrainingError(lost)
            time.sleep(0.05)
        code = process.poll()
        said.join()
        if code == 0 and member and not received:
            _wait_for_peers(member, received)
    if code == 0:
        return
    if received:
        raise Stopped(received[0])
    raise _failure(part, code, said)


def _wait_for_peers(member: cluster.Member, received: list[int]) -> None:
    try:
        member.finished(stop=lambda: bool(received))
    except TrainingError:
        if received:
            raise Stopped(received[0]) from None
        raise


@contextlib.contextmanager
def _received() -> Iterator[list[int]]:
    """The signals that ask us to end, as they come, instead of ending us."""
    numbers: list[int] = []
    before = {
        number: signal.signal(number, lambda number, frame: numbers.append(number))
        for number in (signal.SIGTERM, signal.SIGINT)
    }
    try:
        yield numbers
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class _Tail:
    """Passes a process's standard error on as it comes, and keeps the end of it."""

    def __init__(self, stream: IO[bytes] | None) -> None:
        self.lines: deque[str] = deque(maxlen=50)
        self._thread = threading.Thread(target=self._follow, args=(stream,), daemon=True)
        self._thread.start()

    def _follow(self, stream: IO[bytes]) -> None:
        with stream:
            for line in stream:
                sys.stderr.buffer.write(line)
                sys.stderr.flush()
                self.lines.append(line.decode("utf-8", "replace").rstrip())

    def join(self) -> None:
        """Wait for the end of what there is; a grandchild may hold the stream open."""
        self._thread.join(timeout=1)


def _failure(part: Part, code: int | None, said: _Tail) -> ScriptFailed:
    """Why the process ended with ``code``: the exception first, which SageMaker shows."""
    if part.report and part.report.exists():
        report = json.loads(part.report.read_text())
        return ScriptFailed(report["line"], report["details"])
    how = f"ended with exit code {code}"
    if code is not None and code < 0:
        how = f"was killed by {signal.Signals(-code).name}"
    lines = [line for line in said.lines if line.strip()]
    line = f"the training {how}"
    if lines and code is not None and code > 0:
        line = lines[-1]
    details = "\n".join([f"ExitCode {code}", f"Command {' '.join(part.command)}", *said.lines])
    return ScriptFailed(line, details)


# --- several hosts on this machine -----------------------------------------------------------


def run_local_hosts(job: Job, count: int, *, wanted: str | None = None) -> None:
    """Try ``job`` on ``count`` hosts that are all this machine, each a process of its own.

    The first host has the job's own folders, the others BASE/hosts/NAME.

    Raises:
        TrainingError: a host failed; says which, and why.
    """
    hosts = tuple(f"algo-{number + 1}" for number in range(count))
    port = cluster.local_port()
    with tempfile.TemporaryDirectory(
        prefix="mms-handler-"
    ) as scratch, contextlib.ExitStack() as all_:
        received = all_.enter_context(_received())
        running = {}
        for host in hosts:
            folder = Path(scratch) / host
            folder.mkdir()
            (folder / "job.json").write_text(_local(job, host, hosts).to_json())
            words = [str(folder), str(port), *([wanted] if wanted else [])]
            command = [sys.executable, "-m", "mms_handler", "train-host", *words]
            part = processes.group(command, env=settings.environment(), cwd=Path.cwd())
            running[host] = all_.enter_context(part)
        _wait_for_all(running, received)
    if received:
        raise Stopped(received[0])
    failed = [host for host, process in running.items() if process.returncode]
    if failed:
        said = {host: _local(job, host, hosts).output_dir / "failure" for host in failed}
        reasons = {
            host: path.read_text().splitlines()[0] for host, path in said.items() if path.exists()
        }
        own = {host: why for host, why in reasons.items() if " was lost: " not in why} or reasons
        raise TrainingError(
            "; ".join(f"{host}: {why}" for host, why in own.items()) or "a host died"
        )


def _local(job: Job, host: str, hosts: tuple[str, ...]) -> Job:
    changed = job._replace(hosts=hosts, current_host=host)
    if host == changed.first_host:
        return changed
    base = job.base_dir / "hosts" / host
    return changed._replace(
        base_dir=base, model_dir=base / "model", output_data_dir=base / "output" / "data"
    )


def _wait_for_all(running: Mapping[str, subprocess.Popen[bytes]], received: list[int]) -> None:
    told = False
    while any(process.poll() is None for process in running.values()):
        if received and not told:
            told = True
            for process in running.values():
                process.send_signal(received[0])
        time.sleep(0.05)


def host_here(folder: Path, port: int, wanted: str | None) -> None:
    """Run one host of ``run_local_hosts`` in this process."""
    job = Job.from_json((folder / "job.json").read_text())
    run(job, wanted=wanted, local_port=port)
