"""Whether a process that has loaded a model can be forked, as far as that can be known.

What the process had before its script was imported is no obstacle.
"""

from __future__ import annotations

import contextlib
import fcntl
import gc
import os
import random
import re
import signal
import threading
import time
from pathlib import Path
from typing import Any, Iterator, Mapping, NamedTuple

from mms_handler import numpy_import

#: Files that processes may share: what is read or written there has no place.
_HARMLESS = re.compile(r"/dev/(null|zero|full|random|urandom)")

#: Memory that forked processes go on sharing: proc(5), maps.
_SHARED = re.compile(r"^\S+ rw.s .*$", re.M)

_TIMERS = (signal.ITIMER_REAL, signal.ITIMER_VIRTUAL, signal.ITIMER_PROF)


class State(NamedTuple):
    """What this process has that its forks would share, or would lack."""

    threads: frozenset[int]
    descriptors: Mapping[int, str]
    shared: frozenset[str]
    generators: frozenset[int]

    @classmethod
    def now(cls) -> State:
        return cls(_threads(), dict(_descriptors()), _shared(), frozenset(map(id, _generators())))

    def native_threads(self) -> int:
        """How many threads are not Python's."""
        return len(self.threads - {thread.native_id for thread in threading.enumerate()})

    def has_gpu(self) -> bool:
        return any(name.startswith("/dev/nvidia") for name in self.descriptors.values())


def obstacle(base: State) -> str:
    """What keeps this process from being forked, beside what it had in ``base``; "" for nothing."""
    threads = _new_threads(base)
    if threads:
        return f"the script, or a library, started {threads} thread{'s' * (threads > 1)}"
    for descriptor, name in _descriptors():
        if base.descriptors.get(descriptor) != name and not _is_harmless(descriptor, name):
            return f"the script, or a library, keeps {name} open"
    if _shared() - base.shared:
        return "the script, or a library, has shared memory"
    if _has_children():
        return "the script started a process"
    if any(signal.getitimer(timer) != (0, 0) for timer in _TIMERS):
        return "the script set a timer"
    new = [each for each in _generators() if id(each) not in base.generators]
    if new:
        return f"the script, or a library, has random numbers of its own ({type(new[0]).__name__})"
    return ""


def _new_threads(base: State) -> int:
    """How many threads there are beside those of ``base``; an ended one stays for a moment."""
    for _ in range(10):
        threads = len(_threads() - base.threads)
        if not threads:
            break
        time.sleep(0.01)
    return threads


def _threads() -> frozenset[int]:
    return frozenset(map(int, os.listdir("/proc/self/task")))


def _descriptors() -> Iterator[tuple[int, str]]:
    """Open descriptors, and what each is: a path, or a name such as ``socket:[12]``."""
    for entry in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):  # the one with which this lists them
            yield int(entry), os.readlink(f"/proc/self/fd/{entry}")


def _is_harmless(descriptor: int, name: str) -> bool:
    """Whether processes may share a descriptor: it has no place, or only writes at the end."""
    if _HARMLESS.fullmatch(name):
        return True
    flags = fcntl.fcntl(descriptor, fcntl.F_GETFL)
    return flags & (os.O_APPEND | os.O_ACCMODE) == os.O_APPEND | os.O_WRONLY


def _shared() -> frozenset[str]:
    return frozenset(_SHARED.findall(Path("/proc/self/maps").read_text()))


def _generators() -> list[Any]:
    """The generators of random numbers that Python's garbage collector knows, but for NumPy's own.

    That one is seeded anew in a fork.
    """
    kinds: list[Any] = [random.Random]
    numpy_random: Any = numpy_import.random()
    if numpy_random:
        kinds += [numpy_random.Generator, numpy_random.RandomState]
    numpys = numpy_random and numpy_random.mtrand._rand
    return [each for each in gc.get_objects() if type(each) in kinds and each is not numpys]


def _has_children() -> bool:
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True
