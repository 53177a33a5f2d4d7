"""Process parts with several workers at a time, each in a thread that waits for it.

A part is cut only when a worker is free, and a done part waits until it is taken, so that memory
is bounded by the number of workers.
"""

from __future__ import annotations

import queue
import threading
from typing import Callable, Generator, Iterator, Sequence, Union

from mms_handler.transform.part import DonePart, Part, Worker

#: A done part; the exception that ended a thread; or None, if a thread had no more parts.
_Result = Union[DonePart, BaseException, None]


def processed(
    parts: Iterator[Part], workers: Sequence[Callable[[], Worker]]
) -> Generator[DonePart, None, None]:
    """Yield the done parts, in the order in which they are done.

    Args:
        parts: those of a job; they are cut by several threads, one after another.
        workers: each makes a worker, in the thread that will use it.

    Raises:
        HandlerError: a worker or a part cannot be made, or the job cannot go on.
    """
    crew = _Crew(parts, len(workers))
    threads = [
        threading.Thread(target=crew.work, args=(make,), daemon=True, name="transform")
        for make in workers
    ]
    for thread in threads:
        thread.start()
    try:
        yield from crew.results()
    finally:
        crew.stop()
        for thread in threads:
            thread.join()


class _Crew:
    """What the threads share."""

    def __init__(self, parts: Iterator[Part], size: int) -> None:
        self._parts, self._size = parts, size
        self._lock = threading.Lock()  # of the parts and the workers
        self._done: queue.Queue[_Result] = queue.Queue(size)
        self._stopped = False
        self._workers: list[Worker] = []

    def work(self, make: Callable[[], Worker]) -> None:
        """Process parts until there are no more."""
        try:
            worker = make()
            try:
                with self._lock:
                    self._workers.append(worker)
                while not self._stopped:
                    part = self._next()
                    if part is None:
                        break
                    self._put(worker.process(part))
            finally:
                worker.close()
            self._put(None)
        except BaseException as exc:  # it is raised where the results are taken
            self._put(exc)

    def _next(self) -> Part | None:
        with self._lock:
            return None if self._stopped else next(self._parts, None)

    def _put(self, result: _Result) -> None:
        while not self._stopped:
            try:
                self._done.put(result, timeout=0.1)
                return
            except queue.Full:
                continue

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
