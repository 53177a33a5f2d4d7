"""This host's processes of the parameter server of a job on several hosts.

sorted(hosts)[0] ──▶ scheduler, hub ◀── messages and beats ──┐
every host       ──▶ server, watch ──────────────────────────┘    the caller runs the worker

This module knows neither MXNet nor the script.  The hub and the watches find out which hosts are
alive.
"""

from __future__ import annotations

import contextlib
import ipaddress
import logging
import random
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Callable, Iterator, Mapping, Sequence

from mms_handler import processes
from mms_handler.errors import TrainingError
from mms_handler.training.hub import check_can_listen, hub
from mms_handler.training.messages import TICK_S, as_received, lost
from mms_handler.training.phases import Stopped, describe, phase_of
from mms_handler.training.watch import Watch

log = logging.getLogger(__name__)

#: Seconds in which scheduler and server must end by themselves after all workers have ended.
HELPERS_S = 10

#: Seconds after which a scheduler or server that exited with an error fails its host.  A helper may
#: fail only in its exit, at the end of a job; the job is over within this time.
BROKEN_S = 5

#: Seconds for which a host that fails before it has joined tries to report that.
REPORT_S = 10

#: Ports of trials on one machine: below those that the system gives to clients.
LOCAL_PORTS = range(20_000, 32_000)

#: The program of a scheduler or server: the import runs it and exits
#: (mxnet/kvstore/kvstore_server.py).
_HELPER = """\
from mms_handler.mxnet_import import postponed
with postponed():
    import mxnet
"""


# --- addresses -------------------------------------------------------------------------------


def addresses(
    hosts: Sequence[str],
    resolve: Callable[[str], str] = socket.gethostbyname,
    limit_s: float = 900,
) -> dict[str, str]:
    """The IPv4 address of each host, sorted by name, so that the scheduler's host is first.

    Args:
        hosts: names or addresses.
        resolve: returns a name's address, or raises OSError.
        limit_s: how long to retry, with growing pauses.

    Raises:
        TrainingError: a host has no address, or has one that other hosts cannot reach.

    Source: CONTRACT A6; container_support waits in the same way.
    """
    deadline = time.monotonic() + limit_s
    resolved: dict[str, str] = {}
    for pause_s in pauses():
        for host in sorted(set(hosts) - resolved.keys()):
            with contextlib.suppress(OSError, UnicodeError):
                resolved[host] = resolve(host)
        missing = sorted(set(hosts) - resolved.keys())
        remaining_s = deadline - time.monotonic()
        if not missing:
            break
        if time.monotonic() > deadline:
            raise TrainingError(
                f"no address within {limit_s:g} s for {', '.join(missing)}; "
                "check the hosts' names, DNS and /etc/hosts"
            )
        time.sleep(min(pause_s, remaining_s))
    # Debian's /etc/hosts gives a machine's own name 127.0.1.1, which no other machine can reach.
    loopback = [
        host for host, address in resolved.items() if ipaddress.ip_address(address).is_loopback
    ]
    if loopback and len(loopback) < len(resolved):
        raise TrainingError(
            f"{loopback[0]} is {resolved[loopback[0]]} on this host, where no other host can "
            "reach it; correct /etc/hosts, or name the hosts by their addresses"
        )
    return {host: resolved[host] for host in sorted(resolved)}


def pauses() -> Iterator[float]:
    """Seconds between tries: 0.1, doubled each time, at most 30."""
    pause_s = 0.1
    while True:
        yield pause_s
        pause_s = min(2 * pause_s, 30)


def local_port() -> int:
    """The first of two successive free ports of 127.0.0.1."""
    for port in random.sample(LOCAL_PORTS, 200):
        with contextlib.suppress(TrainingError):
            check_can_listen("127.0.0.1", port)
            check_can_listen("127.0.0.1", port + 1)
            return port
    raise TrainingError("no two successive free ports on 127.0.0.1 between 20000 and 32000")


# --- a host's part ---------------------------------------------------------------------------


class EndedBefore(TrainingError):
    """The job had ended before this host failed, so this host gives the reason of all others.

    ``details`` say how this host failed.
    """

    def __init__(self, line: str, reason: str, failure: BaseException) -> None:
        super().__init__(line)
        self.details = f"{reason}\n{getattr(failure, 'details', '')}"
        self.phase = phase_of(failure)


class Member:
    """This host's part in a cluster: its worker's variables, and whether the job can go on."""

    def __init__(
        self,
        host: str,
        variables: Mapping[str, str],
        helpers: Mapping[str, subprocess.Popen[bytes]],
        watch: Watch,
        addresses: Mapping[str, str] = {},
    ) -> None:
        self.variables = variables  # for the worker's environment
        self.addresses = addresses  # of all hosts
        self._host = host
        self._helpers = helpers
        self._watch = watch
        self._finished = False
        self._broken_at: float | None = None

    def lost(self) -> str | None:
        """Why the job cannot go on, in a sentence that names the host; None while it can.

        Call it several times a second while the worker runs.
        """
        broken = self.broken()
        return self._watch.lost or (broken and lost(self._host, broken))

    def broken(self) -> str | None:
        """Which helper process of this host failed while it was needed; None if all is well."""
        codes = {role: process.poll() for role, process in self._helpers.items()}
        failures = [f"its {role} ended with {code}" for role, code in codes.items() if code]
        if not failures:
            return None
        self._broken_at = self._broken_at or time.monotonic()
        return failures[0] if time.monotonic() - self._broken_at > BROKEN_S else None

    def note(self, text: str) -> None:
        """Let every host read ``text``, a short line."""
        self._watch.send("note", text)

    def read_note(self, host: str) -> str:
        """Wait until ``host`` has noted something.

        Raises:
            TrainingError: a host was lost meanwhile.
        """
        while host not in self._watch.notes:
            self.check()
            time.sleep(TICK_S)
        return self._watch.notes[host]

    def check(self, stop: Callable[[], object] = lambda: None) -> None:
        """Check that the job can go on.

        Raises:
            TrainingError: a host was lost, or ``stop`` returned true.
        """
        lost = self.lost()
        if lost or stop():
            raise TrainingError(lost or "stopped while other hosts were training")

    def finished(self, stop: Callable[[], object] = lambda: None) -> None:
        """Report that the worker succeeded; wait for all hosts, and for the helpers to end.

        Args:
            stop: returns true once this process must end.

        Raises:
            TrainingError: another host was lost meanwhile, or ``stop`` returned true.
        """
        if self._finished:
            return
        self._watch.send("finished")
        while not self._watch.done.wait(TICK_S):
            self.check(stop)
        self._finished = True
        # Helpers end after all workers, unless no worker ever used them.
        deadline = time.monotonic() + HELPERS_S
        for role, process in self._helpers.items():
            try:
                process.wait(max(0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                log.info("ending the %s of host %s, which no worker used", role, self._host)


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
    parameter_server: bool = True,
) -> Iterator[Member]:
    """Be one of the hosts for the length of a ``with`` block, and run its part of their server.

    A block that ends without an exception has finished, as by ``Member.finished``.  An exception
    makes the job fail on all hosts, which get its phase and its reason.

    Args:
        hosts: all hosts; the first by name runs the scheduler.
        current_host: this host.
        addresses: IPv4 addresses, by host.
        env: environment of the helper processes; they import custom optimizers.
        port: the scheduler's; the hub uses the next one.
        verbose: ps-lite's level: 0 nothing, 1 connections, 2 each message.
        join_s: seconds in which all hosts must join.
        lost_s: seconds after which a silent host is lost.
        parameter_server: whether the job has one; the hosts always know of each other.

    Yields:
        This host's part.  After the block none of its processes is left.

    Raises:
        TrainingError: a port is in use, or another host was lost before all had finished.
    """
    first_host, address = sorted(hosts)[0], addresses[current_host]
    ps_lite = variables(len(hosts), addresses[first_host], port, address, verbose)
    with contextlib.ExitStack() as stack:
        roles = ["server"] if parameter_server else []
        if current_host == first_host:
            if parameter_server:
                roles = ["scheduler", "server"]
                check_can_listen(address, port)
            stack.enter_context(hub(addresses, port + 1, join_s, lost_s))
        helpers = {
            role: stack.enter_context(_helper({**env, **ps_lite, "DMLC_ROLE": role}))
            for role in roles
        }
        watch = Watch(current_host, addresses, port + 1, join_s, lost_s)
        worker = {**ps_lite, "DMLC_ROLE": "worker"} if parameter_server else {}
        member = Member(current_host, worker, helpers, watch, addresses)
        try:
            yield member
            member.finished()
        except BaseException as exc:
            _leave(watch, current_host, exc, member.broken() or describe(exc))
            raise
        watch.leave()


def _leave(watch: Watch, host: str, failure: BaseException, reason: str) -> None:
    """Report a failure.

    Raises:
        EndedBefore: the job had ended for another reason.
    """
    watch.leave(reason)
    same_reason = (None, str(failure), as_received(lost(host, reason)))
    if watch.lost not in same_reason and not isinstance(failure, Stopped):
        raise EndedBefore(str(watch.lost), f"{host}: {reason}", failure) from failure


def report(failure: Exception, current_host: str, addresses: Mapping[str, str], port: int) -> None:
    """Report to the other hosts that this one failed before it could join them.

    The first host waits some seconds until they join; another one, until it reaches the first.

    Raises:
        EndedBefore: the job had ended for another reason.
        TrainingError: a port is in use.
    """
    with contextlib.ExitStack() as stack:
        if current_host == min(addresses):
            stack.enter_context(hub(addresses, port + 1, REPORT_S, REPORT_S))
        watch = Watch(current_host, addresses, port + 1, 2 * REPORT_S, REPORT_S)
        _leave(watch, current_host, failure, describe(failure))


def variables(
    count: int, scheduler: str, port: int, address: str, verbose: int = 0
) -> dict[str, str]:
    """The variables that ps-lite reads, without the role.

    DMLC_NODE_HOST is the address to which a node binds and which it sends to the others.  Without
    it ps-lite takes the first interface other than loopback, and fails without one (Van::Start).
    """
    return {
        "DMLC_NUM_WORKER": str(count),
        "DMLC_NUM_SERVER": str(count),
        "DMLC_PS_ROOT_URI": scheduler,
        "DMLC_PS_ROOT_PORT": str(port),
        "DMLC_NODE_HOST": address,
        "PS_VERBOSE": str(verbose),
    }


def _helper(env: Mapping[str, str]) -> contextlib.AbstractContextManager[subprocess.Popen[bytes]]:
    """A scheduler or server.

    It runs in the root folder, so that no file of the user's is imported instead of a module.
    """
    return processes.group([sys.executable, "-c", _HELPER], env=env, cwd=Path("/"))
