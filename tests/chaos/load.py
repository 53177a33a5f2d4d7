"""Good clients: each request has numbers of its own, and each reply is compared with its result."""

from __future__ import annotations

import contextlib
import http.client
import json
import random
import threading
import time
from collections import Counter
from typing import Iterator, NamedTuple

#: Weight of the model: the request [[a, b]] gives [[a + 2b, 3a + 4b]].
WEIGHT = ((1, 2), (3, 4))

#: Seconds after which a client gives a request up as lost.
PATIENCE_S = 15

#: A reply that takes longer counts as a disturbance when the time to recover is measured.
SLOW_S = 1.0

#: Seconds between two requests of a client: the load is steady, and leaves room on two cores.
PAUSE_S = 0.02


class Outcome(NamedTuple):
    """One request.

    Fields:
        kind: "good"; "wrong": another value, or a status below 500 other than 200; "5xx"; "lost":
            no answer.
        detail: the status, or the error.
    """

    start_s: float
    end_s: float
    kind: str
    detail: str = ""


class _Client(threading.Thread):
    """Sends one request after another, over one connection or over a new one each time."""

    def __init__(self, load: Load, number: int) -> None:
        super().__init__(daemon=True)
        self._load, self._keeps = load, number % 2 == 0
        self._random = random.Random(number)
        self._connection: http.client.HTTPConnection | None = None
        self.pending_since_s: float | None = None

    def run(self) -> None:
        while not self._load.ended.wait(PAUSE_S):
            if self._load.paused.is_set():
                self._close()
                continue
            self.pending_since_s = time.monotonic()
            kind, detail = self._exchange()
            end_s = time.monotonic()
            self._load.outcomes.append(Outcome(self.pending_since_s, end_s, kind, detail))
            self.pending_since_s = None
            if kind == "lost":  # as a client would
                time.sleep(0.1)
        self._close()

    def _exchange(self) -> tuple[str, str]:
        first, second = (self._random.randint(0, 1000) for _ in range(2))
        try:
            status, body = self._post(json.dumps([[first, second]]).encode())
        except (OSError, http.client.HTTPException) as exc:
            self._close()
            return "lost", repr(exc)
        if status >= 500:
            return "5xx", str(status)
        expected = [[row[0] * first + row[1] * second for row in WEIGHT]]
        try:
            right = status == 200 and json.loads(body) == expected
        except ValueError:
            right = False
        return ("good", "") if right else ("wrong", f"{status} {body[:200]!r}")

    def _post(self, body: bytes) -> tuple[int, bytes]:
        if self._connection is None:
            self._connection = http.client.HTTPConnection(
                "127.0.0.1", self._load.port, timeout=PATIENCE_S
            )
        headers = {"Content-Type": "application/json"}
        self._connection.request("POST", "/predictions/good", body, headers)
        answer = self._connection.getresponse()
        reply = answer.status, answer.read()
        if not self._keeps:
            self._close()
        return reply

    def _close(self) -> None:
        if self._connection:
            self._connection.close()
        self._connection = None


class Load:
    """Several good clients; half of them keep their connection."""

    def __init__(self, port: int, clients: int = 4) -> None:
        self.port = port
        self.outcomes: list[Outcome] = []
        self.paused, self.ended = threading.Event(), threading.Event()
        self._clients = [_Client(self, number) for number in range(clients)]

    def __enter__(self) -> Load:
        for client in self._clients:
            client.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.ended.set()
        for client in self._clients:
            client.join(PATIENCE_S + 5)

    @contextlib.contextmanager
    def pause(self) -> Iterator[None]:
        """Send nothing, and keep no connection, for the length of a ``with`` block."""
        self.paused.set()
        try:
            deadline_s = time.monotonic() + PATIENCE_S
            while self._pending() and time.monotonic() < deadline_s:
                time.sleep(0.05)
            time.sleep(0.1)
            yield
        finally:
            self.paused.clear()

    def _pending(self) -> list[float]:
        starts_s = (client.pending_since_s for client in self._clients)
        return [start_s for start_s in starts_s if start_s is not None]

    def wait_until_steady(self, after_s: float, steady_s: float, limit_s: float) -> float:
        """Wait until requests have been good for ``steady_s`` seconds.

        Returns:
            Seconds from ``after_s`` to the end of the last one that was not good, or was slow;
            infinity if they are not steady within ``limit_s`` seconds.
        """
        while time.monotonic() < after_s + limit_s:
            time.sleep(0.1)
            now_s = time.monotonic()
            disturbed_s = self.disturbed_until(after_s)
            stuck = any(now_s - start_s > SLOW_S for start_s in self._pending())
            answered = any(o.start_s > max(after_s, disturbed_s) for o in self.outcomes[-50:])
            if not stuck and answered and now_s > max(after_s, disturbed_s) + steady_s:
                return disturbed_s - after_s
        return float("inf")

    def disturbed_until(self, after_s: float) -> float:
        """When the last request ended that was not good, or was slow; at least ``after_s``."""
        ends_s = (
            outcome.end_s
            for outcome in list(self.outcomes)
            if outcome.kind != "good" or outcome.end_s - outcome.start_s > SLOW_S
        )
        return max(after_s, max(ends_s, default=after_s))

    def take(self) -> tuple[Counter[str], float, Counter[str]]:
        """The outcomes since the last call: their kinds, the longest wait, and the failures."""
        outcomes, self.outcomes = self.outcomes, []
        longest_s = max((outcome.end_s - outcome.start_s for outcome in outcomes), default=0.0)
        kinds = Counter(outcome.kind for outcome in outcomes)
        details = Counter(f"{o.kind}: {o.detail}" for o in outcomes if o.kind != "good")
        return kinds, longest_s, details
