"""One client beside the load, whose every answer is compared with MXNet's own."""

from __future__ import annotations

import contextlib
import http.client
import itertools
import threading
import urllib.parse
from typing import Iterator

from benchmarks.reading import Traffic

#: Between two samples: often enough to see what is wrong, too seldom to be load.
PAUSE_S = 0.2


class Samples:
    """How many answers were compared, and how many of them were wrong or none."""

    def __init__(self, url: str, traffic: Traffic, tolerance: float) -> None:
        """Nothing is asked yet."""
        self._url = urllib.parse.urlsplit(url)
        self._traffic, self._tolerance = traffic, tolerance
        self._bodies = traffic.bodies()
        self._turn = itertools.cycle(range(len(self._bodies)))
        self.checked = self.wrong = 0

    def take(self) -> bool:
        """Ask once; whether the answer was right."""
        number = next(self._turn)
        status, reply = self._ask(self._bodies[number])
        right = status == 200 and self._traffic.right(number, reply, self._tolerance)
        self.checked += 1
        self.wrong += not right
        return right

    def _ask(self, body: bytes) -> tuple[int, bytes]:
        """Status and body; 0 where there was no answer."""
        client = http.client.HTTPConnection(self._url.netloc, timeout=60)
        with contextlib.closing(client):
            try:
                client.request(
                    "POST", self._url.path, body, {"Content-Type": self._traffic.content_type}
                )
                answer = client.getresponse()
                return answer.status, answer.read()
            except OSError as exc:
                return 0, str(exc).encode()


@contextlib.contextmanager
def beside(samples: Samples) -> Iterator[None]:
    """Take samples for the length of a ``with`` block, and one more when the load is gone.

    That one waits behind whatever the load left in the server's queue: the next measurement
    starts with an idle server.
    """
    over = threading.Event()

    def sample() -> None:
        while not over.wait(PAUSE_S):
            samples.take()

    thread = threading.Thread(target=sample)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        samples.take()
