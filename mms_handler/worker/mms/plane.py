"""Answer the gate's requests, which come on a connection of their own and not through MMS.

gate ──▶ plane ──▶ worker ──▶ plane ──▶ gate        requests and replies, in batches
MMS  ─────────────▶ worker                           load, requests of MMS's own port, the end

The worker connects once it has loaded its model.  From then on it waits for both connections in
its main thread.  All integers are little-endian; a frame's length does not count itself.

hello     length:4  version:2  takes:2  pid:4  port:4
requests  length:4  count:2 unused:2   (head:4 body:4 parts:2 unused:2)...      heads  bodies
replies   length:4  count:2 takes:2    (index:2 status:2 head:4 body:4)...      heads  bodies

A request's head is lines: its id, and a name and a value for each header.  A reply's head is lines,
too: the phrase, and a name and a value for each header.  A body of ``parts`` has, for each of them,
three lengths (4 bytes each), the name, the type and the value.
"""

from __future__ import annotations

import os
import select
import socket
import struct
import sys
import time
from pathlib import Path
from typing import Any, Callable, Mapping, Sequence

from mms.context import RequestProcessor
from mms.metrics.metrics_store import MetricsStore
from mms.service import emit_metrics

from mms_handler.worker.mms.lifeline import Lifeline
from mms_handler.worker.mms.reply_frame import SET_BY_MMS

VERSION = 1

_LENGTH = struct.Struct("<I")
_HELLO = struct.Struct("<IHHII")
_START = struct.Struct("<IHH")
_REQUEST = struct.Struct("<IIHH")
_REPLY = struct.Struct("<HHII")
_PART = struct.Struct("<III")

#: A reply without a content type of its own has this one.
_BYTES = "application/octet-stream"

#: A model that takes longer for a request gains nothing from a batch, and delays others.
_HEAVY_S = 3e-3

#: The latest request has a weight of one in this many in the mean time.
_MEMORY = 16

#: Replies of more bytes are sent without joining them first.
_LARGE = 1 << 16

#: Answers a batch: MMS's parts of each request, and MMS's context, on which it sets the heads.
Answer = Callable[[Sequence[Mapping[str, Any]], Any], Sequence[bytes]]


class Plane:
    """A worker's connection to the gate."""

    def __init__(self, connection: socket.socket, port: int, takes: int) -> None:
        """Say hello: this process takes up to ``takes`` requests of the listener's ``port``."""
        self.connection = connection
        self._buffer = bytearray(1 << 16)
        hello = _HELLO.pack(_HELLO.size - 4, VERSION, takes, os.getpid(), port)
        connection.sendall(hello)

    def receive(self) -> memoryview | None:
        """The next frame without its length, valid until the next call; None at the end."""
        connection, buffer = self.connection, self._buffer
        got = connection.recv_into(buffer)
        length = _LENGTH.unpack_from(buffer)[0] + 4 if got >= 4 else len(buffer)
        if got == length:
            return memoryview(buffer)[4:length]
        while got < length:
            if length > len(buffer):
                self._buffer = buffer = buffer[:got] + bytearray(length - got)
            more = connection.recv_into(memoryview(buffer)[got:length])
            if not more:
                return None
            got += more
            if got >= 4:
                length = _LENGTH.unpack_from(buffer)[0] + 4
        return memoryview(buffer)[4:length]

    def send(self, takes: int, replies: Sequence[tuple[int, int, bytes, bytes]]) -> None:
        """Send replies: for each its index in the batch, status, head and body."""
        records, heads, bodies = [], [], []
        length = 4
        for index, status, head, body in replies:
            records.append(_REPLY.pack(index, status, len(head), len(body)))
            heads.append(head)
            bodies.append(body)
            length += _REPLY.size + len(head) + len(body)
        start = b"".join([_START.pack(length, len(replies), takes), *records, *heads])
        if length <= _LARGE:
            self.connection.sendall(start + b"".join(bodies))
        else:
            for piece in (start, *bodies):
                self.connection.sendall(piece)


def read_requests(frame: memoryview) -> tuple[list[str], list[dict[str, str]], list[Any]]:
    """The requests of a frame: their ids, headers and parts, as MMS would hand them over."""
    (count, _) = struct.unpack_from("<HH", frame)
    records = list(_REQUEST.iter_unpack(frame[4 : 4 + count * _REQUEST.size]))
    head = 4 + count * _REQUEST.size
    body = head + sum(record[0] for record in records)
    ids, headers, bodies = [], [], []
    for head_bytes, body_bytes, parts, _ in records:
        request_id, *lines = str(frame[head : head + head_bytes], "latin-1").split("\n")
        ids.append(request_id)
        headers.append(dict(zip(lines[::2], lines[1::2])))
        value = frame[body : body + body_bytes]
        bodies.append(_parts(value, parts, headers[-1]) if parts else {"body": value})
        head += head_bytes
        body += body_bytes
    return ids, headers, bodies


def _parts(body: memoryview, count: int, headers: dict[str, Any]) -> dict[str, memoryview]:
    """The parts of a form or a query by name; their types are added to the headers, as by MMS."""
    parts, at = {}, 0
    for _ in range(count):
        name_bytes, type_bytes, value_bytes = _PART.unpack_from(body, at)
        start, at = at + _PART.size, at + _PART.size + name_bytes + type_bytes + value_bytes
        name = str(body[start : start + name_bytes], "utf-8")
        start += name_bytes
        content_type = str(body[start : start + type_bytes], "utf-8")
        parts[name] = body[start + type_bytes : at]
        headers.setdefault(name, {"content-type": content_type})
    return parts


class Worker:
    """The loop in which a worker waits for the gate and for MMS."""

    def __init__(
        self,
        plane: Plane,
        answer: Answer,
        takes: Callable[[], int],
        context: Any,
        line: Lifeline,
        between: Callable[[], None],
    ) -> None:
        self._plane, self._answer, self._takes, self._between = plane, answer, takes, between
        self._context, self._lifeline = context, line
        self._mean_s = 0.0

    def serve(self, mms: socket.socket) -> None:
        """Answer the gate's requests until MMS sends something, or ends this worker.

        Raises:
            ValueError: the gate ended it; MMS's loop logs this and ends the process.
        """
        gate = self._plane.connection.fileno()
        poll = select.poll()
        poll.register(gate, select.POLLIN)
        poll.register(mms, select.POLLIN)
        while True:
            ready = [descriptor for descriptor, _ in poll.poll()]
            if gate in ready:
                if not self._serve_batch():
                    raise ValueError("Frontend disconnected")
            elif mms.recv(1, socket.MSG_PEEK):
                self._lifeline.watch(mms.fileno())
                return
            else:
                self._leave()
                return

    def _leave(self) -> None:
        """MMS ends this worker: answer what the gate has sent meanwhile."""
        self._plane.send(0, ())
        while self._serve_batch():
            pass

    def _serve_batch(self) -> bool:
        """Answer one batch; returns whether there was one."""
        frame = self._plane.receive()
        if frame is None:
            return False
        start_s = time.thread_time()
        self._lifeline.watch(self._plane.connection.fileno())
        ids, headers, bodies = read_requests(frame)
        context = self._context
        context.request_ids = dict(enumerate(ids))
        context.request_processor = [RequestProcessor(each) for each in headers]
        context.metrics = MetricsStore(context.request_ids, context.model_name)
        replies = self._answer(bodies, context)
        used_s = (time.thread_time() - start_s) / len(ids)
        self._mean_s += (used_s - self._mean_s) / _MEMORY
        self._plane.send(
            1 if self._mean_s > _HEAVY_S else self._takes(),
            [
                (index, *_head(processor), body)
                for index, (processor, body) in enumerate(zip(context.request_processor, replies))
            ],
        )
        emit_metrics(context.metrics.store)
        self._between()
        return True


def _head(processor: Any) -> tuple[int, bytes]:
    """The status and the head of a reply, which was set on MMS's context."""
    headers = processor.get_response_headers()
    lines = [processor.get_response_status_phrase() or ""]
    if len(headers) == 1 and "content-type" in headers:
        lines += ["content-type", headers["content-type"] or _BYTES]
    else:
        by_name = {"content-type": _BYTES}
        by_name.update((name.lower(), value) for name, value in headers.items())
        for name, value in by_name.items():
            if name not in SET_BY_MMS:
                lines += [name, value]
    return processor.get_response_status_code(), "\n".join(lines).encode("ascii")


def join(
    mms: socket.socket,
    answer: Answer,
    takes: Callable[[], int],
    context: Any,
    line: Lifeline,
    between: Callable[[], None] = lambda: None,
) -> None:
    """Have MMS's loop serve the gate's requests too, if the gate listens for workers.

    ``between`` is called after the replies to each batch have been sent.

    MMS's loop calls its global ``retrieve_msg`` for each message (model_service_worker.py:134).
    """
    address = Path(mms.getsockname())
    path = address.with_name("plane")
    if not path.is_socket():
        return
    main: Any = sys.modules["__main__"]
    retrieve_msg = main.retrieve_msg
    worker: Worker | None = None

    def retrieve(connection: socket.socket) -> Any:
        nonlocal worker
        if worker is None:  # MMS has been told that the model is loaded
            gate = socket.socket(socket.AF_UNIX)
            gate.connect(str(path))
            os.register_at_fork(after_in_child=gate.close)
            line.add(gate.fileno())
            plane = Plane(gate, int(address.suffix[1:]), takes())
            worker = Worker(plane, answer, takes, context, line, between)
        worker.serve(connection)
        return retrieve_msg(connection)

    main.retrieve_msg = retrieve
