"""The parameter server of a job on several hosts, and the knowledge which of them are alive.

sorted(hosts)[0] ──▶ scheduler, hub ◀── a line of text a beat ──┐
every host       ──▶ server, watch ─────────────────────────────┘    the worker is the caller's

Who cannot go on says why; whose connection closes, or who is silent, before all have finished
is lost, and the hub tells everyone.  Knows neither MXNet nor the script.
"""

from __future__ import annotations

import contextlib
import ipaddress
import logging
import random
import select
import shlex
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections import deque
from pathlib import Path
from typing import Callable, Iterator, Mapping, Sequence

from mms_handler import processes
from mms_handler.errors import TrainingError

log = logging.getLogger(__name__)

#: Seconds that the helpers have to end by themselves when all workers have.
HELPERS_S = 10

#: Seconds until a helper that ended badly counts: by then, was it only its exit, all is over.
BROKEN_S = 5

#: A message is a line of at most so many bytes: a word and, behind a space, its text.
LINE_BYTES = 1024

#: Connections of nobody we know that are held at a time.
MAX_STRANGERS = 16

#: Seconds between two looks at connections and processes.
TICK_S = 0.05


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
            _check_free("127.0.0.1", port)
            _check_free("127.0.0.1", port + 1)
            return port
    raise TrainingError("no two free ports on 127.0.0.1")


def _check_free(address: str, port: int) -> None:
    try:
        _listener(address, port).close()
    except (OSError, OverflowError) as exc:
        raise TrainingError(f"port {port} of {address} cannot be used: {exc}") from exc


# --- a host's part ---------------------------------------------------------------------------


class Member:
    """This host's part in a cluster: what its worker needs, and how the others are."""

    def __init__(
        self,
        host: str,
        variables: Mapping[str, str],
        helpers: Mapping[str, subprocess.Popen[bytes]],
        watch: _Watch,
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
            _check_free(own, port)
            stack.enter_context(_hub(hosts, own, port + 1, join_s, lost_s))
        helpers = {
            role: stack.enter_context(_helper({**env, **shared, "DMLC_ROLE": role}))
            for role in (("scheduler", "server") if current_host == first else ("server",))
        }
        watch = _Watch(current_host, first, (addresses[first], port + 1), join_s, lost_s)
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


# --- messages --------------------------------------------------------------------------------


class _Line:
    """A connection that carries lines, and when each side last had one."""

    def __init__(self, connection: socket.socket) -> None:
        connection.setblocking(False)
        self.connection = connection
        self.host = ""  # until it has said who it is
        self.heard = self.said = time.monotonic()
        self._rest = b""

    def say(self, word: str, text: str = "") -> None:
        """Send a line.  Who does not read is found silent, and who is gone is found closed."""
        self.said = time.monotonic()
        with contextlib.suppress(OSError):
            self.connection.sendall(line(word, text))

    def hear(self) -> list[tuple[str, str]]:
        """The lines that have come.

        Raises:
            OSError: it is closed, or says what cannot be a line.
        """
        try:
            came = self.connection.recv(4 * LINE_BYTES)
        except BlockingIOError:
            return []
        if not came:
            raise ConnectionError("closed")
        self.heard = time.monotonic()
        *lines, self._rest = (self._rest + came).split(b"\n")
        if any(len(one) >= LINE_BYTES for one in (*lines, self._rest)):
            raise ConnectionError("too long a line")
        return [message(one) for one in lines]

    def keep(self, lost_s: float) -> None:
        """Say something now and then, and expect it.

        Raises:
            OSError: it was silent for too long.
        """
        now = time.monotonic()
        if now - self.heard > lost_s:
            raise TimeoutError(f"silent for {lost_s:g} s")
        if now - self.said > lost_s / 6:
            self.say("beat")


def line(word: str, text: str) -> bytes:
    """A message as bytes, cut to what a line may have."""
    return f"{word} {' '.join(text.split())}".encode()[: LINE_BYTES - 1] + b"\n"


def message(one: bytes) -> tuple[str, str]:
    """A line's word and text, without anything that a terminal would obey."""
    word, _, text = one.decode("utf-8", "replace").partition(" ")
    return word, "".join(letter for letter in text if letter.isprintable())


def _listener(address: str, port: int) -> socket.socket:
    # create_server sets SO_REUSEADDR: a job may follow another at once.
    return socket.create_server((address, port))


# --- the hub, on the scheduler's host --------------------------------------------------------


class _Hub:
    """Hears every host, and tells all of them what becomes of the job."""

    def __init__(
        self, hosts: Sequence[str], listener: socket.socket, join_s: float, lost_s: float
    ) -> None:
        self._hosts = set(hosts)
        self._listener = listener
        self._limits_s = (join_s, lost_s)
        self._began = time.monotonic()
        self._lines: list[_Line] = []
        self._came: set[str] = set()
        self._finished: set[str] = set()
        self._end: tuple[str, str] | None = None  # what all are told
        self.closing_at: float | None = None

    def run(self) -> None:
        """Serve until closed, and then until everyone has gone, or ``closing_at``."""
        while self.closing_at is None or (self._lines and time.monotonic() < self.closing_at):
            open_ = [self._listener, *(one.connection for one in self._lines)]
            ready, _, _ = select.select(open_, [], [], TICK_S)
            if self._listener in ready:
                self._accept()
            for one in list(self._lines):
                self._hear(one)
            self._look()
        for one in self._lines:
            one.connection.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            connection, _ = self._listener.accept()
            self._lines.append(_Line(connection))
        strangers = [one for one in self._lines if not one.host]
        if len(strangers) > MAX_STRANGERS + len(self._hosts):
            self._drop(strangers[0], "")

    def _hear(self, one: _Line) -> None:
        try:
            for word, text in one.hear():
                self._obey(one, word, text)
            one.keep(self._limits_s[1])
        except TimeoutError as exc:
            self._drop(one, f"it was {exc}")
        except OSError:
            self._drop(one, "its connection closed")

    def _obey(self, one: _Line, word: str, text: str) -> None:
        if word == "hello" and not one.host:
            self._greet(one, text)
        elif not one.host:
            raise ConnectionError("no host of this job")
        elif word == "finished":
            self._finished.add(one.host)
        elif word == "failed":
            self._tell("lost", f"host {one.host} was lost: {text}")

    def _greet(self, one: _Line, host: str) -> None:
        if host not in self._hosts or host in self._came:
            one.say("lost", f"host {host} was lost: the job has no place for it")
            raise ConnectionError("no place")
        one.host = host
        self._came.add(host)
        if self._end:
            one.say(*self._end)

    def _drop(self, one: _Line, why: str) -> None:
        self._lines.remove(one)
        one.connection.close()
        if one.host:
            self._tell("lost", f"host {one.host} was lost: {why}")

    def _look(self) -> None:
        """Whether all have finished, or some will not come any more."""
        join_s, _ = self._limits_s
        missing = sorted(self._hosts - self._came)
        if self._finished == self._hosts:
            self._tell("done", "")
        elif missing and time.monotonic() - self._began > join_s:
            which = (
                f"host {missing[0]} was"
                if len(missing) == 1
                else f"hosts {', '.join(missing)} were"
            )
            self._tell("lost", f"{which} lost: not here within {join_s:g} s")

    def _tell(self, word: str, text: str) -> None:
        """Tell all how the job ends; the first reason is the one."""
        if self._end is None:
            self._end = (word, text)
            for one in self._lines:
                one.say(word, text)


@contextlib.contextmanager
def _hub(
    hosts: Sequence[str], address: str, port: int, join_s: float, lost_s: float
) -> Iterator[None]:
    """A hub in a thread of its own; at the end everyone who listened has been told."""
    _check_free(address, port)
    with _listener(address, port) as listener:
        hub = _Hub(hosts, listener, join_s, lost_s)
        thread = threading.Thread(target=hub.run, daemon=True)
        thread.start()
        try:
            yield
        finally:
            hub.closing_at = time.monotonic() + 2
            thread.join()


# --- the watch, on every host ----------------------------------------------------------------


class _Watch:
    """Tells the hub how this host is, and hears from it how the job is; in a thread of its own."""

    def __init__(
        self, host: str, first: str, hub: tuple[str, int], join_s: float, lost_s: float
    ) -> None:
        self._host = host
        self._first = first
        self._hub = hub
        self._join_s = join_s
        self._lost_s = lost_s
        self._to_say: deque[tuple[str, str]] = deque([("hello", host)])
        self._leave_by: float | None = None
        self.lost: str | None = None
        self.done = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def say(self, word: str, text: str = "") -> None:
        self._to_say.append((word, text))

    def leave(self, why: str | None = None) -> None:
        """Say why, unless all know already, and return when it was heard or cannot be."""
        if why and not self.lost:
            self.say("failed", why)
            self._leave_by = time.monotonic() + self._lost_s
        else:
            self._leave_by = time.monotonic()
        self._thread.join(self._lost_s + 5)

    def _run(self) -> None:
        try:
            with self._connected() as connection:
                self._talk(_Line(connection))
        except OSError as exc:
            self.lost = self.lost or f"host {self._first} was lost: {exc}"

    def _connected(self) -> socket.socket:
        """The hub's connection, as soon as the hub is there."""
        deadline = time.monotonic() + self._join_s
        while not self._late(deadline):
            with contextlib.suppress(OSError):
                connection = socket.create_connection(self._hub, timeout=1)
                if connection.getsockname() != self._hub:  # the system may connect it to itself
                    return connection
                connection.close()
            time.sleep(4 * TICK_S)
        raise TimeoutError(f"not here within {self._join_s:g} s")

    def _late(self, deadline: float) -> bool:
        return time.monotonic() > min(deadline, self._leave_by or deadline)

    def _talk(self, hub: _Line) -> None:
        """Until all have finished, or this host leaves.

        Raises:
            OSError: the hub is gone, or silent, before it said how the job ends.
        """
        while not self.done.is_set():
            leaving = self._leave_by is not None  # looked at first: then all is in _to_say
            while self._to_say:
                hub.say(*self._to_say.popleft())
            if leaving:
                self._part(hub)
                return
            if self.lost:
                time.sleep(TICK_S)
            else:
                select.select([hub.connection], [], [], TICK_S)
                self._listen(hub)

    def _listen(self, hub: _Line) -> None:
        try:
            for word, text in hub.hear():
                if word == "lost":
                    self.lost = text
                elif word == "done":
                    self.done.set()
        except OSError:
            raise ConnectionError("its connection closed") from None
        try:
            hub.keep(self._lost_s)
        except OSError as exc:
            raise ConnectionError(f"it was {exc}") from None

    def _part(self, hub: _Line) -> None:
        """Close when the hub has: it has then heard all that was said."""
        with contextlib.suppress(OSError):
            hub.connection.shutdown(socket.SHUT_WR)
            hub.connection.settimeout(2)
            while hub.connection.recv(LINE_BYTES):
                pass


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
