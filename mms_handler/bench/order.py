"""What is asked of the load: of the whole, and of each process that makes a part of it."""

from __future__ import annotations

import base64
import json
from typing import Any, Mapping, NamedTuple


class Load(NamedTuple):
    """A load: a number of clients, or a rate of requests.

    Fields:
        clients: each sends its next request when it has the reply to the last; 0 if there is a
            rate.
        rate: requests a second, at constant intervals, whether or not earlier ones were answered.
    """

    clients: int = 0
    rate: float = 0

    def __str__(self) -> str:
        if self.rate:
            return f"{self.rate:g}/s"
        return f"{self.clients} client{'s' if self.clients > 1 else ''}"


class Timing(NamedTuple):
    """How long a load lasts, in seconds.

    Fields:
        warmup_s: requests that begin earlier do not count.
        seconds: how long requests count.
        timeout_s: a reply that takes longer is an error.
    """

    warmup_s: float = 2
    seconds: float = 10
    timeout_s: float = 10


class Order(NamedTuple):
    """What one process of the load has to do.

    Fields:
        host: the server's.
        port: the server's.
        request: the bytes of each request.
        expected: the right reply, as archive.packed_reply writes it; None: any with status 2xx.
        clients: as Load, for this process.
        rate: likewise.
        connections: the most connections of an open loop.
        first_s: seconds from the load's begin to this process's first request of an open loop.
        timing: how long it lasts.
    """

    host: str
    port: int
    request: bytes
    expected: Mapping[str, Any] | None
    clients: int
    rate: float
    connections: int
    first_s: float
    timing: Timing

    def encode(self) -> bytes:
        """The order as one line."""
        fields = {**self._asdict(), "request": base64.b64encode(self.request).decode()}
        return json.dumps(fields).encode() + b"\n"

    @classmethod
    def decode(cls, text: bytes) -> Order:
        fields = json.loads(text)
        fields["request"] = base64.b64decode(fields["request"])
        fields["timing"] = Timing(*fields["timing"])
        return cls(**fields)
