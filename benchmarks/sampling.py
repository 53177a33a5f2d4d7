"""One client beside the load that compares every answer with MXNet's own."""

from __future__ import annotations

import contextlib
import http.client
import itertools
import threading
import urllib.parse
from typing import Iterator

from benchmarks.reading import Traffic

#: Pause between two samples: often enough to see wrong answers, too rarely to be load.
PAUSE_S = 0.2


class Samples:
    """Counts of the answers that were checked, and of those that were wrong or missing."""

    def __init__(self, url: str, traffic: Traffic, tolerance: float) -> None:
        """Prepare the bodies; nothing is sent yet."""
        self._url = urllib.parse.urlsplit(url)
        self._traffic, self._tolerance = traffic, tolerance
        self._bodies = traffic.bodies()
        self._turn = itertools.cycle(range(len(self._bodies)))
        self.checked = self.wrong = 0

    def take(self) -> bool:
        """Send one request, and return whether its answer was right."""
        number = next(self._turn)
        status, reply = self._post(self._bodies[number])
        right = status == 200 and self._traffic.right(number, reply, self._tolerance)
        self.checked += 1
        self.wrong += not right
        return right

    def _post(self, body: bytes) -> tuple[int, bytes]:
        """Return the status and the body, or status 0 if there was no answer."""
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
def in_background(samples: Samples) -> Iterator[None]:
    """Take samples for the length of a ``with`` block, and one more afterwards.

    The last one waits behind the requests that the load left in the server's queue, so that the
    next measurement starts with an idle server.
    """
    stop = threading.Event()

    def sample() -> None:
        while not stop.wait(PAUSE_S):
            samples.take()

    thread = threading.Thread(target=sample)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        samples.take()
