"""The cores and the memory that this process may use, read from /proc and the control groups."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Iterable, Iterator, Mapping, NamedTuple, Protocol

from mms_handler.errors import ServerError


class Machine(NamedTuple):
    """The cores and the memory that this process may use, of a machine or of a container on it."""

    cpus: float
    memory_bytes: int


class Process(Protocol):
    """Anything with a process id, such as psutil's Process."""

    @property
    def pid(self) -> int: ...


def this_machine(root: Path = Path("/")) -> Machine:
    """What this process may use: the lowest limit of the machine, its affinity and its groups.

    Args:
        root: the folder of proc and sys.
    """
    return Machine(
        min([float(_affinity(root)), *_quotas(root)]),
        min([_memory(root, "MemTotal"), *_limits(root)]),
    )


def available_bytes(root: Path = Path("/")) -> int:
    """Memory that can still be used.  Memory that the system can reclaim counts as free."""
    return min([_memory(root, "MemAvailable"), *_unused(root)])


def used_bytes(processes: Iterable[Process], root: Path = Path("/")) -> int:
    """Memory that some processes use; what they share with each other counts once.

    What other processes do must not change it.  So pages of files are not counted as the system
    shares them out: another server on this machine takes half of the libraries' pages then.
    Processes of one program are taken to have the same files in memory.
    """
    file_bytes: dict[str, int] = {}
    total_bytes = 0
    for process in processes:
        folder = root / "proc" / str(process.pid)
        status = _fields(folder / "status")
        total_bytes += _process_bytes(status, _fields(folder / "smaps_rollup"))
        program = _link(folder / "exe")
        file_bytes[program] = max(file_bytes.get(program, 0), status.get("RssFile", 0))
    return total_bytes + sum(file_bytes.values())


def private_bytes(process: Process, root: Path = Path("/")) -> int:
    """Memory that ends with a process: it shares it with no other, such as that which forked it.

    The kernel's tables of its pages are part of it.
    """
    folder = root / "proc" / str(process.pid)
    status = _fields(folder / "status")
    own_bytes = _fields(folder / "smaps_rollup").get("Private_Dirty", _process_bytes(status, {}))
    return own_bytes + status.get("VmPTE", 0)


def _process_bytes(status: Mapping[str, int], rollup: Mapping[str, int]) -> int:
    """A process's memory without files' pages; forked processes share out what they still share.

    All of the process if its parts are unknown; 0 if it is gone.
    """
    if "Pss_Anon" in rollup:
        return rollup["Pss_Anon"] + rollup.get("Pss_Shmem", 0)
    if "RssAnon" in status:
        return status["RssAnon"] + status.get("RssShmem", 0)
    return status.get("VmRSS", 0)


def _affinity(root: Path) -> int:
    """The number of cores on which this process may run."""
    for line in _text(root / "proc/self/status").splitlines():
        if line.startswith("Cpus_allowed_list:"):
            parts = [part.split("-") for part in line.split()[1].split(",")]
            return sum(int(part[-1]) - int(part[0]) + 1 for part in parts)
    return os.cpu_count() or 1


def _memory(root: Path, name: str) -> int:
    count = _fields(root / "proc/meminfo").get(name)
    if count is None:
        raise ServerError(
            f"{root / 'proc/meminfo'} has no line {name}, so memory cannot be planned"
        )
    return count


def _quotas(root: Path) -> Iterator[float]:
    """The cores that each of our groups may use, under cgroups v2 or v1."""
    for group in _groups(root, "cpu"):
        words = _text(group / "cpu.max").split() or [
            _text(group / "cpu.cfs_quota_us").strip(),
            _text(group / "cpu.cfs_period_us").strip(),
        ]
        if words[0].isdecimal() and int(words[0]):
            yield int(words[0]) / int(words[1])


def _limits(root: Path) -> Iterator[int]:
    for group in _groups(root, "memory"):
        limit = _number(group, "memory.max", "memory.limit_in_bytes")
        if limit is not None:
            yield limit


def _unused(root: Path) -> Iterator[int]:
    """The memory that each of our groups may still use; inactive file pages can be reclaimed."""
    for group in _groups(root, "memory"):
        limit = _number(group, "memory.max", "memory.limit_in_bytes")
        usage = _number(group, "memory.current", "memory.usage_in_bytes")
        if limit is not None and usage is not None:
            stat = dict(line.split() for line in _text(group / "memory.stat").splitlines())
            pages = int(stat.get("total_inactive_file", stat.get("inactive_file", 0)))
            yield max(0, limit - max(0, usage - pages))


def _groups(root: Path, controller: str) -> Iterator[Path]:
    """The folders of our control group and of those around it, outermost first.

    In a container the path may be the host's.  Then its folders do not exist here, and the
    container's own group is the outermost.
    """
    for line in _text(root / "proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if not controllers or controller in controllers.split(","):
            top = root / "sys/fs/cgroup" / controllers
            parts = [part for part in path.split("/") if part not in ("", "..")]
            for depth in range(len(parts) + 1):
                yield top.joinpath(*parts[:depth])


def _number(folder: Path, *names: str) -> int | None:
    """The number in the first of these files that has one; "max" is not a number."""
    texts = [_text(folder / name).strip() for name in names]
    return next((int(text) for text in texts if text.isdecimal()), None)


def _fields(path: Path) -> dict[str, int]:
    """The lines "name:  12 kB" of a file, in bytes."""
    pairs = (line.split() for line in _text(path).splitlines() if line.endswith(" kB"))
    return {name.rstrip(":"): int(number) * 1024 for name, number, _ in pairs}


def _link(path: Path) -> str:
    try:
        return os.readlink(path)
    except OSError:
        return ""


def _text(path: Path) -> str:
    """A file's text; "" if it cannot be read, because files of /proc and /sys come and go."""
    try:
        return path.read_text()
    except OSError:
        return ""
