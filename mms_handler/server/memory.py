"""The memory that the workers of a server may use, reserved before they start."""

from __future__ import annotations

import contextlib
import threading
from typing import Iterator

from mms_handler.errors import OutOfResources
from mms_handler.server import machine, model_processes, sizing


class Memory:
    """The memory of this machine, or the part of it that a server may use.  Thread-safe."""

    def __init__(self, java: machine.Process, limit_bytes: int | None) -> None:
        """Plan with all memory of the machine, or with ``limit_bytes`` for Java and all models.

        Args:
            java: MMS's Java, which has the processes of the models in its group.
            limit_bytes: None for no limit beside the machine's.
        """
        self._java, self._limit_bytes = java, limit_bytes
        self._reserved: list[int] = []  # bytes for each change that starts workers
        self._lock = threading.Lock()

    def free_bytes(self) -> int:
        """Memory that no process needs: of the machine, and of the limit.  It may be negative.

        A worker that was forked a moment ago uses hardly any.  What it needs is not free.
        """
        models = model_processes.of_all_models(self._java.pid)
        free_bytes = machine.available_bytes()
        if self._limit_bytes:
            used_bytes = machine.used_bytes([self._java, *models])
            free_bytes = min(free_bytes, self._limit_bytes - used_bytes)
        forks = map(machine.private_bytes, model_processes.forked(models))
        return free_bytes - sum(max(0, sizing.FORK_BYTES - own_bytes) for own_bytes in forks)

    def unreserved_bytes(self) -> int:
        """Memory that is free, and not reserved."""
        return self.free_bytes() - sum(self._reserved)

    @contextlib.contextmanager
    def reserved(self, subject: str, need_bytes: int) -> Iterator[None]:
        """Reserve the memory that ``subject`` needs, while its workers load.

        Raises:
            OutOfResources: it is not there, or it is reserved for others; says how much is free.
        """
        with self._lock:
            free_bytes = self.unreserved_bytes()
            if need_bytes > free_bytes:
                raise OutOfResources(
                    f"{subject} needs about {need_bytes >> 20} MB, but only "
                    f"{max(free_bytes, 0) >> 20} MB are free; unregister another model first"
                )
            self._reserved.append(need_bytes)
        try:
            yield
        finally:
            with self._lock:
                self._reserved.remove(need_bytes)
