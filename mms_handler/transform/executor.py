"""Process parts with several workers at a time, each in a thread that waits for it.

One part is cut ahead, so that no worker waits for it, and a done part waits until it is taken.
Memory is bounded by the number of workers.
"""

from __future__ import annotations

import contextlib
import functools
import queue
import threading
from typing import Any, Callable, Generator, Generic, Iterator, Sequence, TypeVar, Union

from mms_handler.transform.part import DonePart, Worker

#: A done part; the exception that ended a thread; or None, if a thread had no more parts.
_Result = Union[DonePart, BaseException, None]

P = TypeVar("P")  #: parts, as the workers get them

#: Seconds after which a thread that waits sees that it is to end.
_LOOK_S = 0.1


def processed(
    parts: Iterator[P], workers: Sequence[Callable[[], Worker[P]]]
) -> Generator[DonePart, None, None]:
    """Yield the done parts, in the order in which they are done.

    Args:
        parts: those of a job; they are cut by a thread.
        workers: each makes a worker, in the thread that will use it.

    Raises:
        HandlerError: a worker or a part cannot be made, or the job cannot go on.
    """
    crew = _Crew(parts, len(workers))
    targets: list[Callable[[], None]] = [
        crew.cut,
        *(functools.partial(crew.work, make) for make in workers),
    ]
    threads = [threading.Thread(target=target, daemon=True) for target in targets]
    try:
        for thread in threads:
            thread.start()
        yield from crew.results()
    finally:
        crew.stop()
        for thread in threads:
            if thread.ident:  # Ctrl-C may come while they are started
                thread.join()


class _Crew(Generic[P]):
    """What the threads share."""

    def __init__(self, parts: Iterator[P], size: int) -> None:
        self._parts, self._size = parts, size
        self._ahead: queue.Queue[P | None] = queue.Queue(1)  # None after the last one
        self._done: queue.Queue[_Result] = queue.Queue(size)
        self._stopped = False
        self._workers: list[Worker[P]] = []

    def work(self, make: Callable[[], Worker[P]]) -> None:
        """Process parts until there are no more."""
        try:
            worker = make()
            try:
                self._workers.append(worker)
                for part in iter(self._next, None):
                    self._put(self._done, worker.process(part))
            finally:
                worker.close()
            self._put(self._done, None)
        except BaseException as exc:  # it is raised where the results are taken
            self._put(self._done, exc)

    def cut(self) -> None:
        """Cut parts, and after the last one, or after an error, put None for the workers."""
        try:
            for part in self._parts:
                self._put(self._ahead, part)
                if self._stopped:
                    return
        except BaseException as exc:
            self._put(self._done, exc)
        self._put(self._ahead, None)

    def _next(self) -> P | None:
        """The part that was cut ahead; None if there are no more."""
        part: P | None = None
        while not self._stopped:
            with contextlib.suppress(queue.Empty):
                part = self._ahead.get(timeout=_LOOK_S)
                break
        if part is None:
            self._put(self._ahead, None)  # for the others
        return part

    def _put(self, target: queue.Queue[Any], item: Any) -> None:
        while not self._stopped:
            with contextlib.suppress(queue.Full):
                target.put(item, timeout=_LOOK_S)
                return

    def results(self) -> Iterator[DonePart]:
        """The done parts, until all threads have ended."""
        working = self._size
        while working:
            result = self._done.get()
            if isinstance(result, BaseException):
                raise result
            if result is None:
                working -= 1
            else:
                yield result

    def stop(self) -> None:
        """Let the threads end; what they were doing is lost."""
        self._stopped = True
        for worker in list(self._workers):
            worker.close()
