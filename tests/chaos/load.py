"""Good clients: each request has numbers of its own, and each reply is compared with its result."""

from __future__ import annotations

import contextlib
import http.client
import json
import math
import random
import threading
import time
from collections import Counter
from typing import Iterator, NamedTuple

#: Weight of the model: the request [[a, b]] gives [[a + 2b, 3a + 4b]].
WEIGHT = ((1, 2), (3, 4))

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


class Result(NamedTuple):
    """What became of some requests.

    Fields:
        kinds: how many were of each kind.
        waits_s: how long each took, in order.
        failures: what happened to those that were not good, and how often.
    """

    kinds: Counter[str]
    waits_s: list[float]
    failures: Counter[str]

    def wait_s(self, part: float) -> float:
        """The wait that this part of the requests did not exceed; 1 for the longest."""
        index = max(0, math.ceil(part * len(self.waits_s)) - 1)
        return self.waits_s[index] if self.waits_s else 0.0


class _Client(threading.Thread):
    """Sends one request after another, over one connection or over a new one each time."""

    def __init__(self, load: Load, number: int) -> None:
        super().__init__(daemon=True)
        self._load, self._keeps = load, number % 2 == 0
        self._random = random.Random(number)
        self._connection: http.client.HTTPConnection | None = None
        self.pending_since_s: float | None = None
        self._next_s = time.monotonic()

    def run(self) -> None:
        while not self._load.ended.wait(self._wait_s()):
            if self._load.paused.is_set():
                self._close()
                continue
            self.pending_since_s = time.monotonic()
            kind, detail = self._exchange()
            end_s = time.monotonic()
            self._load.note(Outcome(self.pending_since_s, end_s, kind, detail))
            self.pending_since_s = None
            if kind == "lost":  # as a client would
                time.sleep(0.1)
        self._close()

    def _wait_s(self) -> float:
        """Seconds to the next request: the same each time, or until the next random arrival."""
        if self._load.rate is None:
            return PAUSE_S
        self._next_s += self._random.expovariate(self._load.rate)
        return max(0, self._next_s - time.monotonic())

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
                "127.0.0.1", self._load.port, timeout=self._load.patience_s
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

    def __init__(
        self, port: int, patience_s: float, clients: int = 4, rate: float | None = None
    ) -> None:
        """Prepare; nothing is sent yet.

        Args:
            port: of the server.
            patience_s: after so many seconds a client gives a request up as lost.
            clients: how many send requests.
            rate: requests a second of each client, at random times; None: one every PAUSE_S.
        """
        self.port, self.patience_s, self.rate = port, patience_s, rate
        self._outcomes: list[Outcome] = []
        self._lock = threading.Lock()
        self.paused, self.ended = threading.Event(), threading.Event()
        self._clients = [_Client(self, number) for number in range(clients)]

    def __enter__(self) -> Load:
        for client in self._clients:
            client.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.ended.set()
        for client in self._clients:
            client.join(self.patience_s + 5)

    def note(self, outcome: Outcome) -> None:
        with self._lock:
            self._outcomes.append(outcome)

    @contextlib.contextmanager
    def pause(self) -> Iterator[None]:
        """Send nothing, and keep no connection, for the length of a ``with`` block."""
        self.paused.set()
        try:
            deadline_s = time.monotonic() + self.patience_s
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
            answered = any(o.start_s > max(after_s, disturbed_s) for o in self._outcomes[-50:])
            if not stuck and answered and now_s > max(after_s, disturbed_s) + steady_s:
                return disturbed_s - after_s
        return float("inf")

    def disturbed_until(self, after_s: float) -> float:
        """When the last request ended that was not good, or was slow; at least ``after_s``."""
        ends_s = (
            outcome.end_s
            for outcome in list(self._outcomes)
            if outcome.kind != "good" or outcome.end_s - outcome.start_s > SLOW_S
        )
        return max(after_s, max(ends_s, default=after_s))

    def take(self) -> Result:
        """The outcomes since the last call."""
        with self._lock:
            outcomes, self._outcomes = self._outcomes, []
        return Result(
            Counter(outcome.kind for outcome in outcomes),
            sorted(outcome.end_s - outcome.start_s for outcome in outcomes),
            Counter(f"{o.kind}: {o.detail}" for o in outcomes if o.kind != "good"),
        )
