"""The folder for what can be made again: where it is, and whether others can write to it."""

from __future__ import annotations

import contextlib
import os
import stat
from pathlib import Path

from mms_handler.settings.table import Settings


def cache_folder(settings: Settings) -> Path:
    """The folder for installed requirements and Java's class data: as set, or in the user's cache.

    It is in the folder for temporary files if the user's home cannot be written, or belongs to
    another user: then others may write there, too.
    """
    if settings.cache_dir:
        return Path(settings.cache_dir)
    home = Path(os.path.expanduser("~"))
    if os.access(home, os.W_OK) and home.stat().st_uid == os.geteuid():
        return home / ".cache" / "mms_handler"
    import tempfile  # few have such a home, and it imports much

    return Path(tempfile.gettempdir()) / f"mms_handler-{os.geteuid()}"


def make_private(cache: Path) -> str | None:
    """Create the folder for this user alone, or see whether anybody else may have written to it.

    Anyone can create a folder of this name where everyone may write, and fill it with code.

    Returns:
        Why the folder cannot be used; None: it can.
    """
    try:
        cache.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            cache.mkdir(mode=0o700)
        status, parent = cache.stat(), cache.parent.stat()
    except OSError as exc:
        return str(exc.strerror)
    if status.st_uid != os.geteuid():
        return "it belongs to another user; set the variable to a folder of your own"
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        return f"other users can write to it; remove it, or run chmod 700 {cache} if you trust it"
    if parent.st_mode & stat.S_IWOTH and not parent.st_mode & stat.S_ISVTX:
        return f"other users can replace it; run chmod +t {cache.parent}"
    return None
