"""Where a model may come from when the management API is asked to register it."""

from __future__ import annotations

import contextlib
import tempfile
from pathlib import Path
from typing import Iterator, Sequence

from mms_handler import archive
from mms_handler.errors import NoSuchModel


class Sources:
    """Some folders, and some addresses; nothing else."""

    def __init__(self, folders: Sequence[Path], allowed: Sequence[str], scratch: Path) -> None:
        """Allow models from some places.

        Args:
            folders: each with models; an address without scheme is a path in one of them.
            allowed: prefixes of the addresses that models may be fetched from.
            scratch: where what is fetched lies until it is in the store.
        """
        self._folders = [folder.resolve() for folder in folders]
        self._allowed, self._scratch = allowed, scratch

    @contextlib.contextmanager
    def found(self, url: str) -> Iterator[Path]:
        """The file or folder at ``url``, for the length of a ``with`` block.

        Raises:
            NoSuchModel: there is none, or it may not be had.
            ArchiveError: the address is not allowed, or cannot be fetched.
        """
        if "://" not in url:
            yield self._local(url)
            return
        with tempfile.TemporaryDirectory(dir=self._scratch) as folder:
            yield archive.fetch(url, Path(folder), self._allowed)

    def _local(self, url: str) -> Path:
        for folder in self._folders:
            path = (folder / url).resolve()  # an absolute url stays what it is
            inside = folder in path.parents
            if inside and path.exists():
                return path
        raise NoSuchModel(f"there is no {url} in the model store")
