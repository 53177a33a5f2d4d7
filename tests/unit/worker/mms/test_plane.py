"""plane: frames over a real socket pair, in any pieces."""

from __future__ import annotations

import contextlib
import os
import random
import socket
import struct
import threading
import time

import pytest
from mms.context import Context, RequestProcessor

from mms_handler.worker.mms import plane
from mms_handler.worker.mms.lifeline import Lifeline


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


def frame_of(*requests):
    """A frame as LaneWorker.java writes it; a request is its id, headers, number of parts, body."""
    heads, bodies = [], []
    records = b""
    for request_id, headers, parts, body in requests:
        lines = [request_id, *(text for pair in headers for text in pair)]
        heads.append("\n".join(lines).encode("latin-1"))
        bodies.append(body)
        records += struct.pack("<IIHH", len(heads[-1]), len(body), parts, 0)
    rest = struct.pack("<HH", len(requests), 0) + records + b"".join(heads + bodies)
    return struct.pack("<I", len(rest)) + rest


def part(name, content_type, value):
    texts = (name.encode(), content_type.encode(), value)
    return struct.pack("<III", *map(len, texts)) + b"".join(texts)


def test_hello(pair):
    gate, worker = pair
    plane.Plane(worker, 9003, 32)
    assert gate.recv(100) == struct.pack("<IHHII", 12, 1, 32, os.getpid(), 9003)


def test_requests_are_as_mms_hands_them_over(pair, worker_end):
    gate, _ = pair
    gate.sendall(
        frame_of(
            ("a-1", [("Content-Type", "text/csv"), ("X-Name", "M\xfcller")], 0, b"1,2\n"),
            ("b", [], 0, b""),
            ("c", [("name", "x")], 2, part("body", "", b"1") + part("\n", "text/csv", b"\0\n")),
        )
    )
    ids, headers, bodies = plane.read_requests(worker_end.receive())
    assert ids == ["a-1", "b", "c"]
    assert headers[:2] == [{"Content-Type": "text/csv", "X-Name": "M\xfcller"}, {}]
    assert headers[2] == {
        "name": "x",
        "body": {"content-type": ""},
        "\n": {"content-type": "text/csv"},
    }
    assert bodies == [{"body": b"1,2\n"}, {"body": b""}, {"body": b"1", "\n": b"\0\n"}]


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
        ids, _, read = plane.read_requests(worker_end.receive())
        assert ids == [f"{size}" for size in sizes]
        assert [bytes(each["body"]) for each in read] == bodies
        thread.join()


def random_bytes(chance, size):
    return chance.getrandbits(8 * size).to_bytes(size, "little") if size else b""


def send_in_pieces(connection, frame, cuts):
    for start, end in zip(cuts, cuts[1:]):
        connection.sendall(frame[start:end])
        time.sleep(0.001)  # so that the other end reads this piece alone


@pytest.mark.parametrize("sent", [b"", b"\x05", frame_of(("a", [], 0, b"123"))[:-1]])
def test_the_end_of_the_connection(pair, worker_end, sent):
    """Also in the middle of a frame."""
    gate, _ = pair
    gate.sendall(sent)
    gate.shutdown(socket.SHUT_WR)
    assert worker_end.receive() is None


def test_replies(pair, worker_end):
    gate, _ = pair
    worker_end.send(7, [(1, 200, b"OK\ncontent-type\ntext/csv", b"1,2"), (0, 404, b"", b"")])
    assert gate.recv(1000) == (
        struct.pack("<IHH", 4 + 24 + 24 + 3, 2, 7)
        + struct.pack("<HHII", 1, 200, 24, 3)
        + struct.pack("<HHII", 0, 404, 0, 0)
        + b"OK\ncontent-type\ntext/csv1,2"
    )


def test_a_large_reply(pair, worker_end):
    gate, _ = pair
    body = random_bytes(random.Random(7), 1 << 20)
    thread = threading.Thread(target=worker_end.send, args=(1, [(0, 200, b"OK", body)]))
    thread.start()
    with gate.makefile("rb") as stream:
        assert stream.read(8 + 12 + 2 + len(body))[22:] == body
    thread.join()


@pytest.mark.parametrize(
    ("headers", "lines"),
    [
        ({"content-type": "text/csv"}, b"OK\ncontent-type\ntext/csv"),
        ({}, b"OK\ncontent-type\napplication/octet-stream"),
        (
            {"Content-Type": "a/b", "X-A": "1", "Expires": "never", "x-request-id": "mine"},
            b"OK\ncontent-type\na/b\nx-a\n1",
        ),
    ],
)
def test_the_head_of_a_reply(headers, lines):
    """The front end sets some headers itself, as with MMS's own frames."""
    processor = RequestProcessor({})
    processor.report_status(200, "OK")
    for name, value in headers.items():
        processor.add_response_property(name, value)
    assert plane._head(processor) == (200, lines)


class Loop:
    """A worker's loop, in a thread, with both connections."""

    def __init__(self, pair, answer, takes=lambda: 5):
        self.gate, worker = pair
        self.mms, mms = socket.socketpair()
        self.mms_end = mms
        context = Context("m", "/m", {}, 1, None, "1")
        self.worker = plane.Worker(
            *(plane.Plane(worker, 9000, takes()), answer, takes, context, Lifeline(None)),
            between=lambda: self.between.append(list(context.request_ids.values())),
        )
        self.between = []  # the ids of each batch after which it was called
        self.gate.recv(100)
        self.result = None
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

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


def upper(bodies, context):
    for index, _ in enumerate(bodies):
        context.set_response_content_type(index, "text/plain")
        context.set_response_status(200, "OK", index)
    return [bytes(body["body"]).upper() for body in bodies]


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


def test_the_loop_ends_with_the_gates_connection(loop_with):
    loop = loop_with(upper)
    loop.gate.shutdown(socket.SHUT_WR)
    assert "disconnected" in str(loop.end())


def test_a_worker_that_mms_ends_says_so_and_answers_what_was_sent_meanwhile(loop_with):
    loop = loop_with(upper)
    loop.mms.shutdown(socket.SHUT_WR)
    assert loop.gate.recv(8) == struct.pack("<IHH", 4, 0, 0)
    loop.gate.sendall(frame_of(("a", [], 0, b"late")))
    assert loop.gate.recv(1000).endswith(b"LATE")
    loop.gate.shutdown(socket.SHUT_WR)
    assert loop.end() is None


def test_slow_requests_are_taken_one_by_one(loop_with, monkeypatch):
    """A model that takes long for a request gains nothing from a batch."""
    monkeypatch.setattr(plane, "_HEAVY_S", -1)
    loop = loop_with(upper)
    loop.gate.sendall(frame_of(("a", [], 0, b"x")))
    assert loop.gate.recv(1000)[4:8] == struct.pack("<HH", 1, 1)
