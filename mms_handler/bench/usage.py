"""What a server on this machine uses: processor time and memory of its front end and workers."""

from __future__ import annotations

import contextlib
from typing import NamedTuple, Sequence

import psutil


class Used(NamedTuple):
    """What a server used during a load.

    Fields:
        front_cpu_s: processor seconds of the process that listens.
        workers_cpu_s: of those that it started.
        front_mb: memory after the load, with shared pages divided among the processes.
        workers_mb: likewise.
        workers: how many processes it has started.
    """

    front_cpu_s: float
    workers_cpu_s: float
    front_mb: float
    workers_mb: float
    workers: int


def listener(host: str, port: int) -> psutil.Process | None:
    """The process of this machine that listens there; None if it is another's, or elsewhere."""
    addresses = {each.address for card in psutil.net_if_addrs().values() for each in card}
    if host not in addresses:
        return None
    with contextlib.suppress(psutil.Error, OSError):
        for connection in psutil.net_connections("tcp"):
            if connection.status == psutil.CONN_LISTEN and connection.laddr.port == port:
                return psutil.Process(connection.pid) if connection.pid else None
    return None


class Meter:
    """Reads what a server uses; ``start`` and ``end`` are called around a load."""

    def __init__(self, front: psutil.Process) -> None:
        self._front = front
        self._start_s, self._end_s = (0.0, 0.0), (0.0, 0.0)

    def start(self) -> None:
        self._start_s = self._cpu_s()

    def end(self) -> None:
        self._end_s = self._cpu_s()

    def read(self) -> Used:
        """What was used between ``start`` and ``end``, and the memory now."""
        workers = self._workers()
        return Used(
            front_cpu_s=round(max(0.0, self._end_s[0] - self._start_s[0]), 3),
            workers_cpu_s=round(max(0.0, self._end_s[1] - self._start_s[1]), 3),
            front_mb=round(_pss_mb([self._front]), 1),
            workers_mb=round(_pss_mb(workers), 1),
            workers=len(workers),
        )

    def _workers(self) -> list[psutil.Process]:
        with contextlib.suppress(psutil.Error):
            return list(self._front.children(recursive=True))
        return []

    def _cpu_s(self) -> tuple[float, float]:
        return _cpu_s([self._front]), _cpu_s(self._workers())


def _cpu_s(processes: Sequence[psutil.Process]) -> float:
    total = 0.0
    for process in processes:
        with contextlib.suppress(psutil.Error):
            times = process.cpu_times()
            total += times.user + times.system
    return total


def _pss_mb(processes: Sequence[psutil.Process]) -> float:
    total = 0
    for process in processes:
        with contextlib.suppress(psutil.Error):
            total += process.memory_full_info().pss
    return total / 2**20
