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

from mms.model_loader import ModelLoaderFactory
from mms.protocol.otf_message_handler import retrieve_msg

from benchmarks.probes.answering import answer, median_us

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


def nothing(data: object, context: object) -> list[str] | None:
    """Do nothing: the no-op handler, which answers ten zeros."""
    return [str([[0.0] * 10])] if data else None


def _main(handler: str, model: str, body: str) -> None:
    os.chdir(model)
    os.environ["MMS_DECODE_INPUT_REQUEST"] = "false"  # as in the peer's configuration
    loader = ModelLoaderFactory.get_model_loader(model)
    service = loader.load("m", model, handler, None, 1)
    frame = _frame(Path(body).read_bytes())

    def work() -> bytes:
        _, batch = retrieve_msg(Wire(frame))
        reply: bytes = service.predict(batch)
        return reply

    if b"[[0.0, 0.0" not in work():
        raise ValueError(f"{handler} answered {work()!r}")
    answer(lambda seconds: {"us": median_us(work, seconds)})


def _frame(body: bytes) -> bytes:
    headers = [_text(name) + _text(value) for name, value in HEADERS.items()]
    parts = [_text("body"), _text(HEADERS["Content-Type"]), _field(body)]
    end = struct.pack("!i", -1)
    return b"".join([b"I", _text("a-request-id"), *headers, end, *parts, end, end])


def _text(value: str) -> bytes:
    return _field(value.encode())


def _field(value: bytes) -> bytes:
    return struct.pack("!i", len(value)) + value


if __name__ == "__main__":
    _main(*sys.argv[1:])
