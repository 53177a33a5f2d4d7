"""Do something at intervals while something else lasts."""

from __future__ import annotations

import contextlib
import threading
from typing import Callable, Iterator


@contextlib.contextmanager
def repeated(action: Callable[[], None], every_s: float) -> Iterator[None]:
    """Call ``action`` at intervals, in a thread, for the length of a ``with`` block.

    Args:
        action: may not raise.  No call of it is under way after the block.
        every_s: seconds before the first call, and between two of them.
    """
    ended = threading.Event()

    def keep_calling() -> None:
        while not ended.wait(every_s):
            action()

    thread = threading.Thread(target=keep_calling, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
