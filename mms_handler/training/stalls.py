"""Notice a script that does nothing: a deadlock, a host that waits for another, a stopped process.

script's session ──▶ processor time ──▶ a line each minute, with the place in the script
                                    └─▶ Stalled, after a limit
"""

from __future__ import annotations

import logging
import re
import time
from pathlib import Path
from typing import Callable

from mms_handler import processes
from mms_handler.errors import TrainingError

log = logging.getLogger(__name__)

#: Seconds between two lines of the log, and between two looks.
SAY_S = 60
LOOK_S = 1

#: Processor seconds in a look from which the script is doing something.  A worker that waits for
#: MXNet's parameter server takes none in ten seconds.
BUSY_S = 0.03


class Stalls:
    """Watches the processor time of a script's processes.

    Args:
        host: the name of this host.
        pid: the process that leads the script's session.
        place: where the script is, in a few words; "" if that is not known.
        limit_s: seconds without processor time after which the job ends; None: never.
        clock: for tests.
    """

    def __init__(
        self,
        host: str,
        pid: int,
        place: Callable[[], str],
        limit_s: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._host, self._pid, self._place, self._limit_s = host, pid, place, limit_s
        self._clock = clock
        self._looked_at = self._busy_at = self._said_at = clock()
        self._cpu_s = 0.0

    @property
    def idle_s(self) -> float:
        """Seconds since the script last used a processor."""
        return self._looked_at - self._busy_at

    def look(self) -> None:
        """Look, if a second has passed.  Call it often.

        Raises:
            TrainingError: the script has used no processor for ``limit_s`` seconds.
        """
        now = self._clock()
        if now - self._looked_at < LOOK_S:
            return
        self._looked_at = now
        cpu_s = processes.session_cpu_s(self._pid)
        if cpu_s - self._cpu_s >= BUSY_S:
            self._busy_at = self._said_at = now
        self._cpu_s = cpu_s
        if now - self._said_at >= SAY_S:
            self._said_at = now
            log.warning("%s: %s", self._host, self._sentence())
        if self._limit_s is not None and self.idle_s >= self._limit_s:
            raise TrainingError(f"{self._sentence()} (--stall-s {self._limit_s:g})")

    def _sentence(self) -> str:
        place = self._place()
        return f"no processor time used for {self.idle_s:.0f} s" + (
            f"; it is at {place}" if place else ""
        )


_FRAME = re.compile(r'  File "(.+)", line (\d+) in (.+)')


def innermost(stacks: str, folder: Path) -> str:
    """Where the main thread is: the innermost line of a file in ``folder``, else the innermost.

    Args:
        stacks: what ``faulthandler`` wrote; the last of its texts counts.
        folder: the script's code.
    """
    last = stacks.rpartition("Timeout (")[2]
    main = last.rpartition("Thread 0x")[2]  # faulthandler writes the newest thread first
    frames = [match.groups() for match in map(_FRAME.match, main.splitlines()) if match]
    within = [
        (str(Path(file).relative_to(folder)), line, function)
        for file, line, function in frames
        if folder in Path(file).parents
    ]
    return "".join(f"{file}, line {line}, in {name}" for file, line, name in (within or frames)[:1])
