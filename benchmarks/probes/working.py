"""Time a worker's Python for one request: MMS's own reader, loader and Service, but no socket.

python -m benchmarks.probes.working HANDLER MODEL BODY.json

The frame has the front end's format (mms/protocol/otf_message_handler.py of MMS 1.1.11).
"""

from __future__ import annotations

import io
import os
import struct
import sys
from pathlib import Path
from typing import Callable

from mms.model_loader import ModelLoaderFactory
from mms.protocol.otf_message_handler import retrieve_msg

from benchmarks.probes.answering import answer, median_us
from mms_handler import media

HEADERS = {
    "Host": "127.0.0.1:8080",
    "Content-Type": "application/json",
    "Accept": "*/*",
    "User-Agent": "client",
    "Content-Length": "15000",
}


class Wire(io.BytesIO):
    """The part of a socket that MMS's reader uses."""

    recv = io.BytesIO.read


def nothing(data: list[object] | None, context: object) -> list[str] | None:
    """Do nothing: the no-op handler, which answers ten zeros."""
    return [str([[0.0] * 10])] * len(data) if data else None


def worker(handler: str, model: str, body: Path, requests: int) -> Callable[[], bytes]:
    """Load a model, and return what answers a batch of requests with this body."""
    os.chdir(model)
    os.environ["MMS_DECODE_INPUT_REQUEST"] = "false"  # as in the peer's configuration
    loader = ModelLoaderFactory.get_model_loader(model)
    service = loader.load("m", model, handler, None, requests)
    frame = _frame(body.read_bytes(), media.type_of_file(body), requests)

    def work() -> bytes:
        _, batch = retrieve_msg(Wire(frame))
        reply: bytes = service.predict(batch)
        return reply

    return work


def _main(handler: str, model: str, body: str) -> None:
    work = worker(handler, model, Path(body), 1)
    if b"[[0.0, 0.0" not in work():
        raise ValueError(f"{handler} answered {work()!r}")
    answer(lambda seconds: {"us": median_us(work, seconds)})


def _frame(body: bytes, content_type: str, requests: int) -> bytes:
    headers = {**HEADERS, "Content-Type": content_type}
    lines = [_text(name) + _text(value) for name, value in headers.items()]
    parts = [_text("body"), _text(content_type), _field(body)]
    end = struct.pack("!i", -1)
    ids = [_text(f"request-{number:028}") for number in range(requests)]
    each = [b"".join([request_id, *lines, end, *parts, end]) for request_id in ids]
    return b"".join([b"I", *each, end])


def _text(value: str) -> bytes:
    return _field(value.encode())


def _field(value: bytes) -> bytes:
    return struct.pack("!i", len(value)) + value


if __name__ == "__main__":
    _main(*sys.argv[1:])
