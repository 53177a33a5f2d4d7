"""plane: frames over a real socket pair, in any pieces."""

from __future__ import annotations

import contextlib
import gzip
import os
import random
import socket
import struct
import threading
import time
from unittest import mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mms.context import Context, RequestProcessor
from mms.metrics.metrics_store import MetricsStore

from mms_handler.errors import Failed, attempt
from mms_handler.worker import phases, sample
from mms_handler.worker.mms import plane
from mms_handler.worker.mms.lifeline import Lifeline
from mms_handler.worker.phases import ENCODE, PREDICT, Phases
from mms_handler.worker.reply import Response
from mms_handler.worker.request import received_by_mms


@pytest.fixture
def pair():
    gate, worker = socket.socketpair()
    with gate, worker:
        gate.settimeout(20)
        worker.settimeout(20)
        yield gate, worker


@pytest.fixture
def worker_end(pair):
    """The worker's end, which has said hello."""
    gate, worker = pair
    end = plane.Plane(worker, 9003, 32)
    gate.recv(100)
    return end


def frame_of(*requests, awake=0):
    """A frame as LaneWorker.java writes it; a request is its id, headers, number of parts, body."""
    heads, bodies = [], []
    records = b""
    for request_id, headers, parts, body in requests:
        last = {name.lower(): value for name, value in headers}
        asked = [last.get(name, "") for name in ("content-type", "accept", "content-encoding")]
        lines = [request_id, *asked, *(text for pair in headers for text in pair)]
        heads.append("".join(f"{line}\n" for line in lines).encode("latin-1"))
        bodies.append(body)
        records += struct.pack("<IIHH", len(heads[-1]), len(body), parts, 0)
    rest = struct.pack("<HH", len(requests), awake) + records + b"".join(heads + bodies)
    return struct.pack("<I", len(rest)) + rest


def part(name, content_type, value):
    texts = (name.encode(), content_type.encode(), value)
    return struct.pack("<III", *map(len, texts)) + b"".join(texts)


def test_hello(pair):
    gate, worker = pair
    plane.Plane(worker, 9003, 32)
    assert gate.recv(100) == struct.pack("<IHHII", 12, 4, 32, os.getpid(), 9003)


def context_of_worker():
    context = Context("m", "/m", {}, 1, None, "1")
    context.metrics = MetricsStore({}, "m")
    return context


def both_ways(requests):
    """What a worker reads of requests that come from the gate, and of the same from MMS."""
    frame = memoryview(frame_of(*requests))[4:]
    from_gate = plane.read_requests(frame, context_of_worker())
    context = context_of_worker()
    context.request_ids = {index: request[0] for index, request in enumerate(requests)}
    context.request_processor, batch = [], []
    for _, headers, parts, body in requests:
        by_part = split(body, parts)
        types = {name: {"content-type": kind} for name, kind, _ in by_part}
        context.request_processor.append(RequestProcessor({**types, **dict(headers)}))
        batch.append({name: value for name, _, value in by_part} if parts else {"body": body})
    return from_gate, received_by_mms(batch, context)


def split(body, count):
    """The parts of a body, by their lengths."""
    parts = []
    for _ in range(count):
        lengths = struct.unpack_from("<III", body)
        body, texts = body[12:], []
        for length in lengths:
            texts.append(body[:length])
            body = body[length:]
        parts.append((texts[0].decode(), texts[1].decode(), texts[2]))
    return parts


TYPES = st.sampled_from(
    [
        *("application/json", "text/csv; charset=latin-1", "", "M\xfcller", "Mu\xcc\x88", "\xff"),
        *("application/x-www-form-urlencoded", "multipart/form-data; boundary=x"),
    ]
)
HEADERS = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["Content-Type", "content-type"]), TYPES),
        st.tuples(st.sampled_from(["Accept", "ACCEPT"]), st.sampled_from(["", "*/*", "a/b, c/d"])),
        st.tuples(st.just("Content-Encoding"), st.sampled_from(["", "gzip", "identity", "br"])),
        st.tuples(st.sampled_from(["X-A", "name", "body"]), st.text("a\xe4: ,", max_size=4)),
    ),
    max_size=5,
    unique_by=lambda pair: pair[0].lower(),
)
BODIES = st.sampled_from([b"", b"[[1]]", gzip.compress(b"[[2]]"), b"\0\xff"])
PARTS = st.lists(
    st.tuples(st.sampled_from(["name", "body", "\n\xe4", "model_name"]), TYPES, BODIES),
    max_size=3,
    unique_by=lambda part: part[0],
)


def joined(parts):
    return len(parts), b"".join(part(*each) for each in parts)


@settings(max_examples=500)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["a-1", "b"]),
            HEADERS,
            st.one_of(BODIES.map(lambda body: (0, body)), PARTS.map(joined)),
        ),
        max_size=4,
    )
)
def test_requests_of_the_gate_are_those_of_mms(cases):
    """What a script can ask for, too; and the errors."""
    requests = [(request_id, headers, *body) for request_id, headers, body in cases]
    for ours, theirs in zip(*both_ways(requests)):
        read = [attempt(received.read, 100) for received in (ours, theirs)]
        if isinstance(read[1], Failed):
            assert str(read[0].exc) == str(read[1].exc)
            assert type(read[0].exc) is type(read[1].exc)
        else:
            assert read[0][:3] == read[1][:3]
            assert type(read[0].body) is bytes
        assert ours["headers"] == theirs["headers"]
        assert ours["request_id"] == theirs["request_id"] == ours["context"].get_request_id(0)
        assert ours["context"].get_all_request_header(0) == theirs[
            "context"
        ].get_all_request_header(0)


def test_mms_objects_are_made_when_they_are_asked_for():
    """A request for which no function of a script runs has none."""
    head = [("Content-Type", "text/csv"), ("Accept", "a/b")]
    (received,) = plane.read_requests(
        memoryview(frame_of(("a", head, 0, b"1")))[4:], context_of_worker()
    )
    assert received.read(100)[:3] == (b"1", "text/csv", "a/b")
    assert received.processor is None
    received["context"].set_response_header(0, "X-A", "2")
    assert received.processor.get_response_headers() == {"X-A": "2"}
    processors = plane._Processors([received])  # what scripts find in context.request_processor
    assert (len(processors), processors[0], list(processors)) == (
        1,
        received.processor,
        [received.processor],
    )


@pytest.mark.parametrize("seed", range(5))
def test_frames_may_come_in_any_pieces(pair, worker_end, seed):
    """Also frames that are larger than the buffer, and smaller ones after them."""
    gate, _ = pair
    chance = random.Random(seed)
    for sizes in ((5,), (300_000, 0), (1, 2, 3), ()):
        bodies = [random_bytes(chance, size) for size in sizes]
        frame = frame_of(*((f"{size}", [], 0, body) for size, body in zip(sizes, bodies)))
        cuts = sorted({0, 1, 3, 4, len(frame), *(chance.randrange(len(frame)) for _ in range(9))})
        thread = threading.Thread(target=send_in_pieces, args=(gate, frame, cuts))
        thread.start()
        read = plane.read_requests(worker_end.receive(), None)
        assert [each.request_id for each in read] == [f"{size}" for size in sizes]
        assert [bytes(each.parts()["body"]) for each in read] == bodies
        thread.join()


def random_bytes(chance, size):
    return chance.getrandbits(8 * size).to_bytes(size, "little") if size else b""


def send_in_pieces(connection, frame, cuts):
    for start, end in zip(cuts, cuts[1:]):
        connection.sendall(frame[start:end])
        time.sleep(0.001)  # so that the other end reads this piece alone


def test_a_very_large_buffer_is_not_kept(pair, worker_end, monkeypatch):
    """A large one is, because memory that is new to the process takes the kernel time."""
    gate, _ = pair
    kept = []
    for limit in (10**6, 10**5):
        monkeypatch.setattr(plane, "_KEPT_BYTES", limit)
        for size in (300_000, 1):
            frame = frame_of(("a", [], 0, b"x" * size))
            thread = threading.Thread(target=gate.sendall, args=(frame,))
            thread.start()
            (received,) = plane.read_requests(worker_end.receive(), None)
            assert received.read(10**6).body == b"x" * size
            thread.join()
        kept.append(len(worker_end._buffer) >= 300_000)
    assert kept == [True, False]


@pytest.mark.parametrize("sent", [b"", b"\x05", frame_of(("a", [], 0, b"123"))[:-1]])
def test_the_end_of_the_connection(pair, worker_end, sent):
    """Also in the middle of a frame."""
    gate, _ = pair
    gate.sendall(sent)
    gate.shutdown(socket.SHUT_WR)
    assert worker_end.receive() is None


def test_responses(pair, worker_end):
    gate, _ = pair
    plain, odd = {"content-type": "text/csv"}, {"content-type": "a/b", "X-A": "1"}
    responses = [Response(200, "OK", plain, b"1,2"), Response(404, "", odd, b"")]
    worker_end.send(7, responses, (3, 2**32 - 1, 0))
    assert gate.recv(1000) == (
        struct.pack("<IHHIII", 16 + 24 + 24 + 3 + 23, 2, 7, 3, 2**32 - 1, 0)
        + struct.pack("<HHII", 0, 200, 24, 3)
        + struct.pack("<HHII", 1, 404, 23, 0)
        + b"OK\ncontent-type\ntext/csv\ncontent-type\na/b\nx-a\n11,2"
    )


def test_a_large_response(pair, worker_end):
    gate, _ = pair
    body = random_bytes(random.Random(7), 1 << 20)
    response = Response(200, "OK", {"content-type": "a/b"}, body)
    thread = threading.Thread(target=worker_end.send, args=(1, [response]))
    thread.start()
    head = b"OK\ncontent-type\na/b"
    with gate.makefile("rb") as stream:
        assert stream.read(20 + 12 + len(head) + len(body))[32:] == head + body
    thread.join()


@pytest.mark.parametrize(
    ("headers", "lines"),
    [
        ({"content-type": "text/csv"}, b"OK\ncontent-type\ntext/csv"),
        ({"content-type": ""}, b"OK\ncontent-type\napplication/octet-stream"),
        ({"content-type": "", "X": "1"}, b"OK\ncontent-type\napplication/octet-stream\nx\n1"),
        (
            {"Content-Type": "x", "content-type": "a/b", "Expires": "0", "x-request-id": "mine"},
            b"OK\ncontent-type\na/b",
        ),
    ],
)
def test_the_head_of_a_response(headers, lines):
    """The front end sets some headers itself, as with MMS's own frames."""
    assert plane._head(Response(200, "OK", headers, b"")) == lines


class Loop:
    """A worker's loop, in a thread, with both connections."""

    def __init__(self, pair, answer, takes=lambda: 5):
        self.gate, worker = pair
        self.mms, mms = socket.socketpair()
        self.mms_end = mms
        self.phases = Phases()
        self.worker = plane.Worker(
            *(plane.Plane(worker, 9000, takes()), self._answer, takes, context_of_worker()),
            line=Lifeline(None),
            phases=self.phases,
            between=lambda: self.between.append(self.ids),
            request_s=0.0,
        )
        self.answer, self.ids = answer, []
        self.between = []  # the ids of each batch after which it was called
        self.gate.recv(100)
        self.result = None
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _answer(self, batch):
        self.ids = [received.request_id for received in batch]
        return self.answer(batch)

    def _run(self):
        try:
            self.result = self.worker.serve(self.mms_end)
        except ValueError as exc:
            self.result = exc

    def end(self):
        """What ``serve`` returned or raised."""
        self.thread.join(20)
        assert not self.thread.is_alive()
        return self.result

    def close(self):
        self.gate.close()
        self.thread.join(20)
        self.mms.close()
        self.mms_end.close()


@pytest.fixture
def loop_with(pair):
    """Start a loop with a function that answers a batch."""
    with contextlib.ExitStack() as stack:

        def start(answer):
            return stack.enter_context(contextlib.closing(Loop(pair, answer)))

        yield start


def upper(batch):
    head = {"content-type": "text/plain"}
    return [Response(200, "OK", head, received.read(100).body.upper()) for received in batch]


def test_the_loop_answers_the_gate_and_returns_for_mms(loop_with):
    loop = loop_with(upper)
    loop.gate.sendall(frame_of(("a", [], 0, b"x"), ("b", [], 0, b"yz")))
    reply = loop.gate.recv(1000)
    assert reply[:8] == struct.pack("<IHH", len(reply) - 4, 2, 5)
    assert reply.endswith(b"XYZ")
    loop.mms.sendall(b"I")
    assert loop.end() is None
    assert loop.mms_end.recv(1) == b"I"
    assert loop.between == [["a", "b"]]


def test_the_gate_says_how_long_the_worker_waits_awake(loop_with, monkeypatch):
    limits = []
    monkeypatch.setattr(plane.Awake, "look", lambda _, limit_us: limits.append(limit_us))
    loop = loop_with(upper)
    for awake in (150, 0):
        loop.gate.sendall(frame_of(("a", [], 0, b"x"), awake=awake))
        assert loop.gate.recv(1000).endswith(b"X")
    loop.mms.sendall(b"I")
    assert loop.end() is None
    assert limits == [0, 150, 0]


def test_a_frame_tells_how_long_each_phase_took(loop_with, monkeypatch):
    """What no step of the script takes counts, too; the next batch begins anew."""
    clock = {"ns": 0}
    monkeypatch.setattr(phases, "perf_counter_ns", lambda: clock["ns"])

    def slow(batch):
        clock["ns"] += 3_000 * len(batch)
        loop.phases.enter(PREDICT)
        clock["ns"] += 20_000 * len(batch)
        loop.phases.enter(ENCODE)
        clock["ns"] += 1_999
        return upper(batch)

    loop = loop_with(slow)
    times = []
    for count in (2, 1):
        loop.gate.sendall(frame_of(*(("a", [], 0, b"x") for _ in range(count))))
        times.append(struct.unpack("<III", loop.gate.recv(1000)[8:20]))
    assert times == [(6, 40, 1), (3, 20, 1)]


def test_the_loop_ends_with_the_gates_connection(loop_with):
    loop = loop_with(upper)
    loop.gate.shutdown(socket.SHUT_WR)
    assert "disconnected" in str(loop.end())


def test_a_worker_that_mms_ends_says_so_and_answers_what_was_sent_meanwhile(loop_with):
    loop = loop_with(upper)
    loop.mms.shutdown(socket.SHUT_WR)
    assert loop.gate.recv(20) == struct.pack("<IHHIII", 16, 0, 0, 0, 0, 0)
    loop.gate.sendall(frame_of(("a", [], 0, b"late")))
    assert loop.gate.recv(1000).endswith(b"LATE")
    loop.gate.shutdown(socket.SHUT_WR)
    assert loop.end() is None


def test_a_slow_sample_is_twice_a_slow_request():
    """Because first runs are slow."""
    assert sample.HEAVY_S == 2 * plane._HEAVY_S


@pytest.mark.parametrize(("mean_s", "takes"), [(None, 1), (0.0, 5), (0.003, 5), (0.0031, 1)])
def test_how_many_requests_a_worker_asks_for(mean_s, takes):
    """One while it is not known what a request costs."""
    assert plane._takes(mean_s, lambda: 5) == takes


def test_what_a_request_costs():
    """The first one that is measured, or a mean in which the latest has a weight of a 16th."""
    assert plane._mean(None, 0.037) == 0.037
    assert plane._mean(0.016, 0.032) == pytest.approx(0.017)


@pytest.mark.parametrize(
    ("mean_s", "tries"), [(None, 0), (0.0, 1), (0.004, 1), (0.1, 1), (0.101, 0)]
)
def test_which_models_may_take_the_lane(loop_with, mean_s, tries):
    """A known one that is far from its time limit; what the lane refuses goes the present way."""
    lane = mock.Mock(**{"answer.return_value": None})
    loop = loop_with(upper)
    loop.worker._mean_s, loop.worker._lane = mean_s, lambda: lane
    loop.gate.sendall(frame_of(("a", [], 0, b"x")))
    assert loop.gate.recv(1000).endswith(b"X")
    assert lane.answer.call_count == tries


def test_slow_requests_are_taken_one_by_one(loop_with, monkeypatch):
    """A model that takes long for a request gains nothing from a batch."""
    monkeypatch.setattr(plane, "_HEAVY_S", -1)
    loop = loop_with(upper)
    loop.gate.sendall(frame_of(("a", [], 0, b"x")))
    assert loop.gate.recv(1000)[4:8] == struct.pack("<HH", 1, 1)
