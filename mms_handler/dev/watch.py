"""Notice which files of some folders have changed."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Dict, Iterator, Sequence, Tuple

#: Folders whose files are not a script's or a model's.
_LEFT_OUT = {"__pycache__", "site-packages", "node_modules"}

#: Times and sizes of files, by path.
Snapshot = Dict[str, Tuple[int, int]]


def snapshot(paths: Sequence[Path]) -> Snapshot:
    """The present state of some files, and of all files below some folders."""
    states: Snapshot = {}
    for path in paths:
        for file in _files(path) if path.is_dir() else [str(path)]:
            with contextlib.suppress(OSError):  # it is being replaced
                stat = os.stat(file)
                states[file] = stat.st_mtime_ns, stat.st_size
    return states


def changed(earlier: Snapshot, later: Snapshot) -> list[str]:
    """The names of the files that are new, gone or different."""
    paths = {*earlier, *later}
    return sorted({os.path.basename(p) for p in paths if earlier.get(p) != later.get(p)})


def _files(folder: Path) -> Iterator[str]:
    for parent, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if name not in _LEFT_OUT and name[:1] != "."]
        # Editors write files with a dot or a ~ beside the one that is edited.
        yield from (
            os.path.join(parent, name)
            for name in files
            if name[:1] != "." and not name.endswith(("~", ".pyc"))
        )
