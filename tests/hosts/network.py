"""Hosts as network namespaces, each with a cable to one bridge.

namespace of algo-1 ──cable──▶ bridge ◀──cable── namespace of algo-2     10.77.0.1, 10.77.0.2 ...
"""

from __future__ import annotations

import contextlib
import os
import subprocess
from pathlib import Path
from typing import Iterator, Sequence

_GUARD = """\
read -r _
for name in "$@"; do
    ip netns pids "$name" | xargs -r kill -9
    ip netns del "$name"
done
"""


def missing() -> str:
    """What this machine lacks for network namespaces; "" if nothing."""
    if os.geteuid() != 0:
        return "network namespaces need root: sudo make test-hosts"
    try:
        with Network(["algo-1"]):
            return ""
    except FileNotFoundError:
        return "ip is not installed: apt-get install iproute2"
    except subprocess.CalledProcessError as exc:
        return f"no network namespaces here: {exc.stderr.strip()}"


def ip(*words: str, netns: str | None = None) -> str:
    """Run ``ip``, which is in Debian's package iproute2; returns what it prints."""
    command = ["ip", *(["-n", netns] if netns else []), *words]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


class Network:
    """Hosts that reach each other through a bridge, as a context.

    Nothing is changed outside of its namespaces, whose names have this process's id.  If this
    process is killed, a guard removes them, with what runs in them.
    """

    def __init__(self, hosts: Sequence[str]) -> None:
        self._bridge = self._namespace("bridge")
        self.addresses = {host: f"10.77.0.{number + 1}" for number, host in enumerate(hosts)}
        self._guard: subprocess.Popen[bytes] | None = None

    @staticmethod
    def _namespace(host: str) -> str:
        return f"mms-test-hosts-{os.getpid()}-{host}"

    def __enter__(self) -> Network:
        names = [self._bridge, *map(self._namespace, self.addresses)]
        self._guard = subprocess.Popen(
            ["/bin/sh", "-c", _GUARD, "guard", *names],
            stdin=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            ip("netns", "add", self._bridge)
            ip("link", "add", "bridge", "type", "bridge", netns=self._bridge)
            ip("link", "set", "bridge", "up", netns=self._bridge)
            for host, address in self.addresses.items():
                self._add(host, address)
        except BaseException:
            self.__exit__()
            raise
        return self

    def _add(self, host: str, address: str) -> None:
        namespace = self._namespace(host)
        ip("netns", "add", namespace)
        peer = ["peer", "name", host, "netns", self._bridge]
        ip("link", "add", "eth0", "type", "veth", *peer, netns=namespace)
        ip("address", "add", f"{address}/24", "dev", "eth0", netns=namespace)
        for device in ("lo", "eth0"):
            ip("link", "set", device, "up", netns=namespace)
        ip("link", "set", host, "master", "bridge", "up", netns=self._bridge)

    def __exit__(self, *_: object) -> None:
        if self._guard and self._guard.stdin:
            self._guard.stdin.close()
            self._guard.wait()

    def command(self, host: str, names: Path, words: Sequence[str]) -> list[str]:
        """A command that runs ``words`` on a host, as the same process; ``names``: /etc/hosts."""
        mounted = 'mount --bind "$0" /etc/hosts && exec "$@"'  # only for this command
        inside = ["ip", "netns", "exec", self._namespace(host), "/bin/sh", "-c", mounted]
        return [*inside, str(names), *words]

    def pids(self, host: str) -> list[int]:
        """The processes that run on a host."""
        return [int(pid) for pid in ip("netns", "pids", self._namespace(host)).split()]

    def pull(self, host: str) -> None:
        """Lose all that a host sends and is sent, as behind a switch that has failed."""
        ip("link", "set", host, "nomaster", netns=self._bridge)

    def plug(self, host: str) -> None:
        """End ``pull``."""
        ip("link", "set", host, "master", "bridge", netns=self._bridge)

    @contextlib.contextmanager
    def isolated(self, hosts: Sequence[str]) -> Iterator[None]:
        """Let these hosts reach the others, but not each other."""
        for on in ("on", "off"):
            for host in hosts:
                subprocess.run(
                    ["bridge", "-n", self._bridge, "link", "set", "dev", host, "isolated", on],
                    check=True,
                )
            if on == "on":
                yield
