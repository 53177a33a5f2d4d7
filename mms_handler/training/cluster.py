"""The parameter server of a job on several hosts: this host's processes of it.

sorted(hosts)[0] ──▶ scheduler, hub ◀── a line of text a beat ──┐
every host       ──▶ server, watch ─────────────────────────────┘    the worker is the caller's

Knows neither MXNet nor the script; who is alive is told by ``peers``.
"""

from __future__ import annotations

import contextlib
import ipaddress
import logging
import random
import shlex
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Callable, Iterator, Mapping, Sequence

from mms_handler import processes
from mms_handler.errors import TrainingError
from mms_handler.training.peers import TICK_S, Watch, check_free, hub

log = logging.getLogger(__name__)

#: Seconds that the helpers have to end by themselves when all workers have.
HELPERS_S = 10

#: Seconds until a helper that ended badly counts: by then, was it only its exit, all is over.
BROKEN_S = 5


# --- addresses -------------------------------------------------------------------------------


def addresses(
    hosts: Sequence[str],
    resolve: Callable[[str], str] = socket.gethostbyname,
    limit_s: float = 900,
) -> dict[str, str]:
    """The IPv4 address of each host, the scheduler's host first.

    Args:
        hosts: names, or addresses.
        resolve: gives a name's address, or raises OSError.
        limit_s: how long to try, with growing pauses.

    Raises:
        TrainingError: names the hosts without an address, or one that others cannot reach.

    Source: CONTRACT A6; container_support waits in the same way.
    """
    deadline = time.monotonic() + limit_s
    found: dict[str, str] = {}
    for pause_s in pauses():
        for host in sorted(set(hosts) - found.keys()):
            with contextlib.suppress(OSError, UnicodeError):
                found[host] = resolve(host)
        missing = sorted(set(hosts) - found.keys())
        left_s = deadline - time.monotonic()
        if not missing:
            break
        if left_s <= 0:
            raise TrainingError(f"no address within {limit_s:g} s for {', '.join(missing)}")
        time.sleep(min(pause_s, left_s))
    _check_reachable(found)
    return {host: found[host] for host in sorted(found)}


def pauses() -> Iterator[float]:
    """Seconds between tries: 0.1, doubled each time, at most 30."""
    pause_s = 0.1
    while True:
        yield pause_s
        pause_s = min(2 * pause_s, 30)


def _check_reachable(found: Mapping[str, str]) -> None:
    """Debian's /etc/hosts gives a machine's own name 127.0.1.1, where no other one finds it."""
    local = [host for host, address in found.items() if ipaddress.ip_address(address).is_loopback]
    if local and len(local) < len(found):
        raise TrainingError(
            f"{local[0]} is {found[local[0]]} on this host, where no other host can reach it; "
            "correct /etc/hosts, or give addresses as hosts"
        )


def local_port() -> int:
    """A port of 127.0.0.1 that is free, as is the next; below those that the system hands out."""
    for port in random.sample(range(20_000, 32_000), 200):
        with contextlib.suppress(TrainingError):
            check_free("127.0.0.1", port)
            check_free("127.0.0.1", port + 1)
            return port
    raise TrainingError("no two free ports on 127.0.0.1")


# --- a host's part ---------------------------------------------------------------------------


class Member:
    """This host's part in a cluster: what its worker needs, and how the others are."""

    def __init__(
        self,
        host: str,
        variables: Mapping[str, str],
        helpers: Mapping[str, subprocess.Popen[bytes]],
        watch: Watch,
    ) -> None:
        self.variables = variables  # for the worker's environment
        self._host = host
        self._helpers = helpers
        self._watch = watch
        self._finished = False
        self._broken_at: float | None = None

    def lost(self) -> str | None:
        """Why the job cannot go on, a sentence that names the host; None while it can.

        Look at it several times a second while the worker runs.
        """
        broken = self.broken()
        return self._watch.lost or (broken and f"host {self._host} was lost: {broken}")

    def broken(self) -> str | None:
        """Which helper of this host ended badly while it was needed; None while none did."""
        ends = {role: process.poll() for role, process in self._helpers.items()}
        bad = [f"its {role} ended with {code}" for role, code in ends.items() if code]
        if not bad:
            return None
        self._broken_at = self._broken_at or time.monotonic()
        return bad[0] if time.monotonic() - self._broken_at > BROKEN_S else None

    def finished(self, stop: Callable[[], object] = lambda: None) -> None:
        """Say that the worker ended well, and wait until all have and the helpers are gone.

        Args:
            stop: true once somebody asks us to end.

        Raises:
            TrainingError: another host was lost meanwhile, or ``stop`` was true.
        """
        if self._finished:
            return
        self._watch.say("finished")
        while not self._watch.done.wait(TICK_S):
            lost = self.lost()
            if lost or stop():
                raise TrainingError(lost or "asked to end while other hosts were training")
        self._finished = True
        self._wait_for_helpers()

    def _wait_for_helpers(self) -> None:
        """They end when all workers did, but for those that no worker ever asked for anything."""
        deadline = time.monotonic() + HELPERS_S
        for role, process in self._helpers.items():
            try:
                process.wait(max(0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                log.info("the %s of host %s was not used; it is ended", role, self._host)


@contextlib.contextmanager
def joined(
    hosts: Sequence[str],
    current_host: str,
    *,
    addresses: Mapping[str, str],
    env: Mapping[str, str],
    port: int = 8000,
    verbose: int = 0,
    join_s: float = 900,
    lost_s: float = 30,
) -> Iterator[Member]:
    """Run this host's part of the parameter server for the length of a ``with`` block.

    The block that ends without an exception has finished, as by ``Member.finished``; one that
    raises makes the job fail on all hosts, which are told the exception's first line.

    Args:
        hosts: all of them; the first by name schedules.
        current_host: this one.
        addresses: IPv4, by host.
        env: the environment of the helpers; a custom optimizer is imported there.
        port: the scheduler's; the hub's is the next.
        verbose: ps-lite's: 0 nothing, 1 connections, 2 each message.
        join_s: how long the hosts may take to come.
        lost_s: a host that is silent for so long is lost.

    Yields:
        This host's part.  Afterwards no process of it is left.

    Raises:
        TrainingError: a port in use, or another host was lost before all had finished.
    """
    first, own = sorted(hosts)[0], addresses[current_host]
    shared = variables(len(hosts), addresses[first], port, own, verbose)
    with contextlib.ExitStack() as stack:
        if current_host == first:
            check_free(own, port)
            stack.enter_context(hub(hosts, own, port + 1, join_s, lost_s))
        helpers = {
            role: stack.enter_context(_helper({**env, **shared, "DMLC_ROLE": role}))
            for role in (("scheduler", "server") if current_host == first else ("server",))
        }
        watch = Watch(current_host, first, (addresses[first], port + 1), join_s, lost_s)
        member = Member(current_host, {**shared, "DMLC_ROLE": "worker"}, helpers, watch)
        try:
            yield member
            member.finished()
        except BaseException as exc:
            watch.leave(member.broken() or _first_line(exc))
            raise
        watch.leave()


def variables(count: int, scheduler: str, port: int, own: str, verbose: int = 0) -> dict[str, str]:
    """What ps-lite reads, but for the role.

    DMLC_NODE_HOST is what a node binds and tells the others.  Without it ps-lite takes the
    first interface that is not loopback, and fails where there is none (Van::Start).
    """
    return {
        "DMLC_NUM_WORKER": str(count),
        "DMLC_NUM_SERVER": str(count),
        "DMLC_PS_ROOT_URI": scheduler,
        "DMLC_PS_ROOT_PORT": str(port),
        "DMLC_NODE_HOST": own,
        "PS_VERBOSE": str(verbose),
    }


def _helper(env: Mapping[str, str]) -> contextlib.AbstractContextManager[subprocess.Popen[bytes]]:
    """A scheduler or server: importing mxnet runs it and exits (mxnet/kvstore/kvstore_server.py).

    In a folder where nothing of a user's can be taken for a module.
    """
    return processes.group([sys.executable, "-c", "import mxnet"], env=env, cwd=Path("/"))


def _first_line(exc: BaseException) -> str:
    return (str(exc).strip().splitlines() or [type(exc).__name__])[0]


# --- MPI -------------------------------------------------------------------------------------


def mpi_command(
    hosts: Sequence[str],
    processes_per_host: int,
    options: str,
    command: Sequence[str],
    passed: Sequence[str] = (),
) -> list[str]:
    """Open MPI's command line that runs ``command`` on all hosts.

    Args:
        hosts: where; the others than this one are reached by ssh.
        processes_per_host: 1 or more.
        options: more of mpirun's, as for a shell: ``sagemaker_mpi_custom_mpi_options``.
        command: what each process is.
        passed: names of variables that other hosts' processes are given, too.

    Raises:
        TrainingError: mpirun is not installed, or the options are not closed quotes.
    """
    mpirun = shutil.which("mpirun")
    if mpirun is None:
        raise TrainingError("mpirun is not installed: apt-get install openmpi-bin")
    try:
        more = shlex.split(options)
    except ValueError as exc:
        raise TrainingError(f"options of mpirun {options!r}: {exc}") from exc
    places = ",".join(f"{host}:{processes_per_host}" for host in hosts)
    count = str(len(hosts) * processes_per_host)
    variables = [word for name in passed for word in ("-x", name)]
    fixed = ["--allow-run-as-root", "--tag-output", "-mca", "orte_abort_on_non_zero_status", "1"]
    return [mpirun, "--host", places, "-np", count, *fixed, *variables, *more, *command]
