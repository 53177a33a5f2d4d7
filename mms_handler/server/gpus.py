"""Whether this machine's GPUs can be used by the MXNet that is installed.

MMS counts the GPUs that nvidia-smi lists, and gives each worker one.  A build of MXNet for CPUs,
which ``pip install mxnet`` brings, can use none, so its workers could not load.
"""

from __future__ import annotations

import importlib.util
import mmap
import shutil
from pathlib import Path


def are_useless(path: str | None) -> bool:
    """Whether there are GPUs, and MXNet is built for CPUs alone.

    Args:
        path: PATH, on which MMS finds nvidia-smi.
    """
    return shutil.which("nvidia-smi", path=path) is not None and not _uses_cuda(_library())


def _library() -> Path:
    spec = importlib.util.find_spec("mxnet")
    folders = spec.submodule_search_locations if spec else None
    return Path(next(iter(folders or ["."])), "libmxnet.so")


def _uses_cuda(library: Path) -> bool:
    """Whether a library needs CUDA's.  True if it cannot be read: MXNet will say why."""
    try:
        with library.open("rb") as file, mmap.mmap(
            file.fileno(), 0, access=mmap.ACCESS_READ
        ) as content:
            return content.find(b"libcuda") >= 0
    except (OSError, ValueError):  # an empty file cannot be mapped
        return True
