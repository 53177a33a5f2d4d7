"""Keep the ids of a worker's requests where they outlive it: serve names them if it dies."""

from __future__ import annotations

import contextlib
import mmap
from pathlib import Path
from typing import Iterable

#: Bytes of the file: a page, which costs a worker less than a microsecond to write.
_BYTES = mmap.PAGESIZE


class CurrentRequests:
    """The requests of the batch that a worker has."""

    def __init__(self, path: Path | None) -> None:
        """Write them to ``path``; to no file if there is none, or if it cannot be made."""
        self._memory: mmap.mmap | None = None
        with contextlib.suppress(OSError):
            if path:
                with path.open("w+b") as file:
                    file.truncate(_BYTES)
                    self._memory = mmap.mmap(file.fileno(), _BYTES)

    @property
    def memory(self) -> mmap.mmap | None:
        """Where the ids are written, a line each, with a zero behind them; None for no file."""
        return self._memory

    def set(self, ids: Iterable[str]) -> None:
        """Write the ids of a batch; as many as there is room for."""
        if self._memory:
            text = "\n".join(ids).encode("ascii", "replace")[: _BYTES - 1] + b"\0"
            self._memory[: len(text)] = text

    def clear(self) -> None:
        """Write that there is no request."""
        if self._memory:
            self._memory[0] = 0
