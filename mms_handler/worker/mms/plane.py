"""Answer the gate's requests, which come on a connection of their own and not through MMS.

gate ──▶ plane ──▶ worker ──▶ plane ──▶ gate        requests and replies, in batches
MMS  ─────────────▶ worker                           load, requests of MMS's own port, the end

The worker connects once it has loaded its model.  From then on it waits for both connections in
its main thread.  All integers are little-endian; a frame's length does not count itself.

hello     length:4  version:2  takes:2  pid:4  port:4
requests  length:4  count:2 awake:2
                             (head:4 body:4 parts:2 unused:2)...      heads  bodies
replies   length:4  count:2 takes:2 decode:4 predict:4 encode:4
                             (index:2 status:2 head:4 body:4)...      heads  bodies

A request's head is lines: its id; its Content-Type, Accept and Content-Encoding, empty if it has
none; and a name and a value for each header.  A reply's head is lines, too: the phrase, and a name
and a value for each header.  The microseconds that the worker took for a batch are those of its
phases.  A body of ``parts`` has, for each of them,
three lengths (4 bytes each), the name, the type and the value.
"""

from __future__ import annotations

import os
import select
import socket
import struct
import sys
import time
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable, Iterator, Mapping, Sequence

from mms.metrics.metrics_store import MetricsStore
from mms.service import emit_metrics

from mms_handler import media
from mms_handler.worker.mms.awake import Awake
from mms_handler.worker.mms.lifeline import IDLE_MS, Lifeline
from mms_handler.worker.mms.reply_frame import SET_BY_MMS
from mms_handler.worker.phases import Phases
from mms_handler.worker.reply import Response
from mms_handler.worker.request import FORMS, Received, Request, as_sent

if TYPE_CHECKING:
    from mms_handler.worker.lane import Lane, Replies  # imports mxnet

VERSION = 4

_LENGTH = struct.Struct("<I")
_HELLO = struct.Struct("<IHHII")
_COUNT = struct.Struct("<HH")
_START = struct.Struct("<IHHIII")
_REQUEST = struct.Struct("<IIHH")
_REPLY = struct.Struct("<HHII")
_PART = struct.Struct("<III")

#: A reply without a content type of its own has this one.
_BYTES = "application/octet-stream"

#: A model that takes longer for a request gains nothing from a batch, and delays others.
_HEAVY_S = 3e-3

#: A model that takes longer for a request gains nothing in the lane, and might meet its time limit
#: there, of which the lane tells nobody.
_LANE_S = 0.1

#: The latest request has a weight of one in this many in the mean time.
_MEMORY = 16

#: Bytes of the buffer for frames: at first, and the most that are kept for the next frame.
_BUFFER_BYTES, _KEPT_BYTES = 1 << 16, 1 << 24

#: Replies of more bytes are sent without joining them first.
_LARGE = 1 << 16

#: Answers the requests of a batch.
Answer = Callable[[Sequence[Received]], Sequence[Response]]

#: Bytes of a frame of replies before its records.
START_BYTES = _START.size


class Plane:
    """A worker's connection to the gate."""

    def __init__(self, connection: socket.socket, port: int, takes: int) -> None:
        """Say hello: this process takes up to ``takes`` requests of the listener's ``port``."""
        self.connection = connection
        self._buffer = bytearray(_BUFFER_BYTES)
        hello = _HELLO.pack(_HELLO.size - 4, VERSION, takes, os.getpid(), port)
        connection.sendall(hello)

    def receive(self) -> memoryview | None:
        """The next frame without its length, valid until the next call; None at the end."""
        if len(self._buffer) > _KEPT_BYTES:
            self._buffer = bytearray(_BUFFER_BYTES)
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

    def send(
        self, takes: int, responses: Sequence[Response], phases_us: Sequence[int] = (0, 0, 0)
    ) -> None:
        """Send the responses to a batch, in its order; its phases took ``phases_us``."""
        records, heads = [], []
        length = _START.size - 4
        for index, response in enumerate(responses):
            head, body_bytes = _head(response), len(response.body)
            records.append(_REPLY.pack(index, response.status, len(head), body_bytes))
            heads.append(head)
            length += _REPLY.size + len(head) + body_bytes
        start = [_START.pack(length, len(responses), takes, *phases_us), *records, *heads]
        bodies = [response.body for response in responses]
        if length <= _LARGE:
            self.connection.sendall(b"".join(start + bodies))
        else:
            for piece in (b"".join(start), *bodies):
                self.connection.sendall(piece)

    def send_frame(self, takes: int, replies: Replies, phases_us: Sequence[int]) -> None:
        """Send the responses to a batch, in a frame that lacks its start."""
        frame = replies.frame
        _START.pack_into(frame, 0, len(frame) - 4, replies.requests, takes, *phases_us)
        self.connection.sendall(frame)


class ReceivedByGate(Received):
    """A request of a frame.

    Attributes:
        asked: its Content-Type, Accept and Content-Encoding, as the gate sent them.
    """

    def __init__(self, head: str, body: memoryview, part_count: int, context: Any) -> None:
        """Make one.

        Args:
            head: as in the frame.
            body: valid until the next frame.
            part_count: how many parts of a form or a query the body has; 0: it is as it came.
            context: MMS's.
        """
        request_id, *self.asked, self._lines = head.split("\n", 4)
        super().__init__(request_id, context)
        self._body, self._part_count = body, part_count
        self._read_headers: dict[str, Any] | None = None

    def read(self, max_bytes: int) -> Request:
        """Read it; what is neither packed nor divided needs no look at its headers."""
        content_type, accept, encoding = self.asked
        if self._part_count or encoding:
            return super().read(max_bytes)
        body = bytes(self._body)
        if not body or media.main_type(content_type) in FORMS:
            return super().read(max_bytes)
        return Request(body, as_sent(content_type) or media.JSON, as_sent(accept), self)

    def sent_headers(self) -> Mapping[str, Any]:
        if self._read_headers is None:
            lines = self._lines.split("\n")
            self._read_headers = dict(zip(lines[::2], lines[1::2]))
            for name, content_type, _ in self._each_part():
                self._read_headers.setdefault(name, {"content-type": content_type})
        return self._read_headers

    def parts(self) -> Mapping[str, Any]:
        if not self._part_count:
            return {"body": self._body}
        return {name: value for name, _, value in self._each_part()}

    def _each_part(self) -> Iterator[tuple[str, str, memoryview]]:
        """The name, type and value of each part."""
        at = 0
        for _ in range(self._part_count):
            name_bytes, type_bytes, value_bytes = _PART.unpack_from(self._body, at)
            start = at + _PART.size
            at = start + name_bytes + type_bytes + value_bytes
            name = str(self._body[start : start + name_bytes], "utf-8")
            start += name_bytes
            content_type = str(self._body[start : start + type_bytes], "utf-8")
            yield name, content_type, self._body[start + type_bytes : at]


def read_requests(frame: memoryview, context: Any) -> list[ReceivedByGate]:
    """The requests of a frame; they are valid until the next one."""
    (count, _) = _COUNT.unpack_from(frame)
    records = list(_REQUEST.iter_unpack(frame[4 : 4 + count * _REQUEST.size]))
    head = 4 + count * _REQUEST.size
    body = head + sum(record[0] for record in records)
    requests = []
    for head_bytes, body_bytes, parts, _ in records:
        text = str(frame[head : head + head_bytes], "latin-1")
        head += head_bytes
        requests.append(ReceivedByGate(text, frame[body : body + body_bytes], parts, context))
        body += body_bytes
    return requests


class _Processors(Sequence[Any]):
    """MMS's RequestProcessors of a batch, each made when a script first asks for it."""

    def __init__(self, requests: Sequence[Received]) -> None:
        self._requests = requests

    def __len__(self) -> int:
        return len(self._requests)

    def __getitem__(self, index: Any) -> Any:
        return self._requests[index].asked_processor()


class Worker:
    """The loop in which a worker waits for the gate and for MMS."""

    def __init__(
        self,
        plane: Plane,
        answer: Answer,
        takes: Callable[[], int],
        context: Any,
        line: Lifeline,
        phases: Phases,
        between: Callable[[], None],
        request_s: float | None,
        lane: Callable[[], Lane | None] = lambda: None,
    ) -> None:
        """Serve a connection; the other arguments are those of ``join``."""
        self._plane, self._answer, self._takes, self._between = plane, answer, takes, between
        self._context, self._lifeline = context, line
        self._phases, self._lane = phases, lane
        self._mean_s = request_s
        self._awake_us = 0  # how long it waits awake for the next batch

    def serve(self, mms: socket.socket) -> None:
        """Answer the gate's requests until MMS sends something, or ends this worker.

        Raises:
            ValueError: the gate ended it; MMS's loop logs this and ends the process.
        """
        gate = self._plane.connection.fileno()
        poll = select.poll()
        poll.register(gate, select.POLLIN)
        poll.register(mms, select.POLLIN)
        awake = Awake(poll)
        while True:
            events = awake.look(self._awake_us) or poll.poll(IDLE_MS)
            if not events:
                self._lifeline.rest()
                events = poll.poll()
            ready = [descriptor for descriptor, _ in events]
            if gate in ready:
                if not self._serve_batch():
                    raise ValueError("Frontend disconnected")
            elif mms.recv(1, socket.MSG_PEEK):
                self._lifeline.rest()
                self._lifeline.watch(mms.fileno())
                return
            else:
                self._leave()
                return

    def _leave(self) -> None:
        """MMS ends this worker: answer what the gate has sent meanwhile."""
        self._lifeline.rest()
        self._plane.send(0, ())
        while self._serve_batch():
            self._lifeline.rest()

    def _serve_batch(self) -> bool:
        """Answer one batch; returns whether there was one."""
        frame = self._plane.receive()
        if frame is None:
            return False
        self._awake_us = _COUNT.unpack_from(frame)[1]
        self._phases.begin()
        start_s = time.thread_time()
        self._lifeline.watch(self._plane.connection.fileno())
        lane = self._lane()
        replies = self._answer_in(lane, frame) if lane else None
        if replies:
            takes = self._takes_next(start_s, replies.requests)
            self._plane.send_frame(takes, replies, self._phases.end_us())
        else:
            self._answer_each(frame, start_s, lane)
        self._between()
        return True

    def _answer_in(self, lane: Lane, frame: memoryview) -> Replies | None:
        """The replies that the lane makes; None if it makes none."""
        if self._mean_s is None or self._mean_s > _LANE_S:
            return None
        self._lifeline.begin()
        replies = lane.answer(frame)
        self._lifeline.end()
        return replies

    def _answer_each(self, frame: memoryview, start_s: float, lane: Lane | None) -> None:
        """Answer a batch of any requests."""
        context = self._context
        context.metrics = MetricsStore({}, context.model_name)
        requests = read_requests(frame, context)
        # A script may have kept the context with which its model was loaded.
        context.request_ids = {index: each.request_id for index, each in enumerate(requests)}
        context.request_processor = _Processors(requests)
        responses = self._answer(requests)
        takes = self._takes_next(start_s, len(requests))
        self._plane.send(takes, responses, self._phases.end_us())
        if context.metrics.store:
            emit_metrics(context.metrics.store)
        if lane:
            lane.learn(*requests[0].asked)

    def _takes_next(self, start_s: float, count: int) -> int:
        """How many requests are taken next, after ``count`` since this time of the thread."""
        used_s = (time.thread_time() - start_s) / count
        self._mean_s = _mean(self._mean_s, used_s)
        return _takes(self._mean_s, self._takes)


def good_head(content_type: str) -> bytes:
    """The head of a good reply with a body of this type."""
    return _usual_head("OK", content_type)


def _mean(mean_s: float | None, used_s: float) -> float:
    """The mean time of a request after another one; None: it is the first."""
    return used_s if mean_s is None else mean_s + (used_s - mean_s) / _MEMORY


def _takes(mean_s: float | None, takes: Callable[[], int]) -> int:
    """How many requests to ask for: one while it is not known what they cost, or if it is much."""
    return 1 if mean_s is None or mean_s > _HEAVY_S else takes()


def _head(response: Response) -> bytes:
    """The head of a response in a frame."""
    headers = response.headers
    if len(headers) == 1:  # its content type
        return _usual_head(response.phrase, headers["content-type"])
    lines = [response.phrase]
    by_name = {name.lower(): value for name, value in headers.items()}
    by_name["content-type"] = by_name["content-type"] or _BYTES
    for name, value in by_name.items():
        if name not in SET_BY_MMS:
            lines += [name, value]
    return "\n".join(lines).encode("ascii")


@lru_cache(maxsize=64)
def _usual_head(phrase: str, content_type: str) -> bytes:
    return "\n".join([phrase, "content-type", content_type or _BYTES]).encode("ascii")


def join(
    answer: Answer,
    takes: Callable[[], int],
    context: Any,
    line: Lifeline,
    phases: Phases,
    between: Callable[[], None] = lambda: None,
    request_s: float | None = None,
    lane: Callable[[], Lane | None] = lambda: None,
) -> None:
    """Have MMS's loop serve the gate's requests too, if the gate listens for workers.

    Args:
        answer: answers the requests of a batch.
        takes: how many requests may come together.
        context: MMS's.
        line: has MMS's connection.
        phases: ``answer`` says to them what it does.
        between: called after the replies to each batch have been sent.
        request_s: processor seconds that a request takes; None if that is not known.
        lane: returns the lane that a batch may take, if there is one at that time.

    MMS's loop calls its global ``retrieve_msg`` for each message (model_service_worker.py:134).
    """
    address = Path(line.connection.getsockname())
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
            plane = Plane(gate, int(address.suffix[1:]), _takes(request_s, takes))
            worker = Worker(plane, answer, takes, context, line, phases, between, request_s, lane)
        worker.serve(connection)
        return retrieve_msg(connection)

    main.retrieve_msg = retrieve
