"""Give back the memory that a load needed and requests do not."""

from __future__ import annotations

import ctypes
import re
import sys
from pathlib import Path

#: A mapping of a file that cannot be written to, in /proc/self/smaps: proc(5).
_READ_ONLY = re.compile(r"^(\w+)-(\w+) r-.p \S+ \S+ [1-9]\d* .*\n((?:[A-Z].*\n)+)", re.M)

#: The pages of a mapping that are not the file's, such as addresses that the linker has filled in.
_CHANGED = re.compile(r"^(?:Anonymous|Swap): *[1-9]", re.M)

_MADV_DONTNEED = 4


def trim() -> None:
    """Give back what was freed: it would be in every fork's memory, too."""
    if sys.platform == "linux":
        ctypes.CDLL(None).malloc_trim(0)


def unmap_files() -> None:
    """Give back the pages of files with code and constants, such as most of MXNet's 80 MB.

    What is used again comes from the system's memory of files: madvise(2).
    """
    try:
        mappings = Path("/proc/self/smaps").read_text()
    except OSError:  # another system, or a kernel without it
        return
    madvise = ctypes.CDLL(None).madvise
    for first, last, counts in _READ_ONLY.findall(mappings):
        if not _CHANGED.search(counts):
            start = int(first, 16)
            madvise(ctypes.c_void_p(start), ctypes.c_size_t(int(last, 16) - start), _MADV_DONTNEED)
