"""Wait for the next batch without sleeping, for a short time.

To sleep and to be woken up takes as long as a small model, above all on a virtual machine, whose
idle processors stop.  The gate says how long it is worth it.
"""

from __future__ import annotations

import os
import select
import time

#: After a look that took so long, because another process got the processor, a worker sleeps
#: whenever it waits, for a while: such a process would get it for as long at each look.
_CROWDED_NS, _PAUSE_NS = 300_000, 20_000_000


class Awake:
    """Looks for events again and again; between two looks other processes may run."""

    def __init__(self, poll: select.poll) -> None:
        self._poll = poll
        self._pause_end_ns = 0

    def look(self, limit_us: int) -> list[tuple[int, int]]:
        """The events that come within so many microseconds; none if there should be no look."""
        events: list[tuple[int, int]] = []
        now_ns = time.monotonic_ns()
        end_ns = now_ns + limit_us * 1_000
        while not events and max(now_ns, self._pause_end_ns) < end_ns:
            before_ns = now_ns
            os.sched_yield()
            events = self._poll.poll(0)
            now_ns = time.monotonic_ns()
            if now_ns - before_ns > _CROWDED_NS:
                self._pause_end_ns = now_ns + _PAUSE_NS
        return events
