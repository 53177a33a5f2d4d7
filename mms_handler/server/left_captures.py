"""Finish the files of captured predictions that a server has left because it was killed.

The gate locks the file that it writes (CaptureFiles.java), and ``serve`` locks the folder from
which it uploads.  What is locked belongs to a server that runs.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import shutil
import tempfile
import time
from pathlib import Path
from typing import Iterator

log = logging.getLogger(__name__)

#: The names of folders from which files are uploaded.
PREFIX = "mms-handler-captured-"

#: In such a folder, the file with the address to which they are uploaded.
_OWNER = "owner"

#: A file without a line that is younger may have been made just now, and not be locked yet.
_BEGUN_S = 60


def finish(folder: Path) -> None:
    """Give each file that is not written any more its name.  A last line that is broken is cut."""
    for path in sorted(folder.glob("capture-*.jsonl.part")):
        if path.is_symlink() or not path.is_file():  # not the gate's
            continue
        with contextlib.suppress(OSError), path.open("r+b") as file:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            end = file.read().rfind(b"\n") + 1
            if end:
                file.truncate(end)
                path.rename(path.with_suffix(""))
                log.info(
                    "captured predictions of a server that was killed: %s", path.with_suffix("")
                )
            elif path.stat().st_mtime < time.time() - _BEGUN_S:
                path.unlink()


@contextlib.contextmanager
def owned(folder: Path, url: str) -> Iterator[None]:
    """Say for the length of a ``with`` block that the files in ``folder`` are to go to ``url``."""
    with (folder / _OWNER).open("w") as owner:
        fcntl.flock(owner, fcntl.LOCK_EX)
        owner.write(url)
        owner.flush()
        yield


def adopt(folder: Path, url: str) -> None:
    """Move files into ``folder`` that a server has left which uploaded to the same address."""
    for orphan in sorted(Path(tempfile.gettempdir()).glob(f"{PREFIX}*")):
        if orphan == folder or orphan.is_symlink():
            continue
        with contextlib.suppress(OSError), (orphan / _OWNER).open() as owner:
            fcntl.flock(owner, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if owner.read() == url and orphan.stat().st_uid == os.geteuid():
                _move(orphan, folder)


def _move(orphan: Path, folder: Path) -> None:
    finish(orphan)
    for file in orphan.glob("*.jsonl"):
        shutil.move(str(file), str(folder / file.name))
    if not any(orphan.glob("*.part")):  # else its gate has not ended yet
        shutil.rmtree(orphan)
