"""lane: what it sends is what the present way sends, and it says nothing where it is unsure."""

from __future__ import annotations

import io
import socket
import struct

import mxnet as mx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mms.context import Context
from mms.metrics.metrics_store import MetricsStore

from mms_handler.codecs import compiled
from mms_handler.errors import attempt
from mms_handler.models.arrays import Arrays
from mms_handler.models.graphs import faster
from mms_handler.script.load import Script
from mms_handler.worker.functions import Options
from mms_handler.worker.lane import Lane
from mms_handler.worker.mms import plane
from mms_handler.worker.mms.current_requests import CurrentRequests
from mms_handler.worker.pipeline import build
from mms_handler.worker.service import respond
from tests.unit.tiny_models import DATA, bind

pytestmark = pytest.mark.skipif(compiled.core is None, reason="there is no compiled core")

JSON, CSV, NPY = "application/json", "text/csv", "application/x-npy"
MAX_BYTES, PHASES = 100_000, (1, 2, 3)


def frame_of(*requests):
    """A frame without its length; a request is its id, type, Accept, encoding, body and parts."""
    heads, bodies, records = [], [], b""
    for request_id, content_type, accept, encoding, body, parts in requests:
        lines = [request_id, content_type, accept, encoding, "X-A", "1"]
        heads.append("".join(f"{line}\n" for line in lines).encode("latin-1"))
        bodies.append(body)
        records += struct.pack("<IIHH", len(heads[-1]), len(body), parts, 0)
    return struct.pack("<HH", len(requests), 0) + records + b"".join(heads + bodies)


def plain(*bodies, content_type=JSON, accept="*/*"):
    """A frame of requests of one type."""
    return frame_of(
        *((f"id-{place}", content_type, accept, "", body, 0) for place, body in enumerate(bodies))
    )


def npy_of(array):
    out = io.BytesIO()
    np.save(out, array)
    return out.getvalue()


class Both:
    """A model, answered by the lane and by the present way."""

    def __init__(self, model, max_bytes=MAX_BYTES, **options):
        self.steps = build(Script(), model, Options(mx.cpu(), **options))
        self.max_bytes, self.gate = max_bytes, socket.socketpair()
        self.gate[0].settimeout(20)
        self.plane = plane.Plane(self.gate[1], 9000, 1)
        self.gate[0].recv(100)
        limits = plane.START_BYTES, max_bytes
        self.lane = Lane(self.steps, plane.good_head, *limits, CurrentRequests(None))
        self.context = Context("m", "/m", {"gpu_id": None}, 1, None, "1")
        self.context.metrics = MetricsStore({}, "m")

    def close(self):
        for end in self.gate:
            end.close()

    def present(self, frame):
        """What the present way sends; the lane learns from it, as in a worker."""
        requests = plane.read_requests(memoryview(frame), self.context)
        read = [attempt(request.read, self.max_bytes) for request in requests]
        replies = self.steps.answer(read)
        answers = zip(requests, replies)
        self.plane.send(7, [respond(*answer, self.max_bytes) for answer in answers], PHASES)
        self.lane.learn(*requests[0].asked)
        return self.received()

    def in_lane(self, frame):
        """What the lane sends; None if it sends nothing."""
        replies = self.lane.answer(memoryview(frame))
        if replies is None:
            return None
        self.plane.send_frame(7, replies, PHASES)
        return self.received()

    def received(self):
        with self.gate[0].makefile("rb") as stream:
            (length,) = struct.unpack("<I", start := stream.read(4))
            return start + stream.read(length)

    def agree(self, frame, taken):
        """Whether both send the same; the lane must answer if ``taken`` is true, and not if false.

        It answers nothing that the present way has not answered before.
        """
        expected = self.present(frame)
        sent = self.in_lane(frame)
        assert sent in (None, expected)
        assert taken is None or (sent is not None) == taken
        return sent is not None


def block_of(classes=3, width=4):
    """A Block that runs as its graph for rows of ``width``."""
    mx.random.seed(1)
    net = mx.gluon.nn.HybridSequential()
    net.add(mx.gluon.nn.Dense(5, "relu", in_units=width), mx.gluon.nn.Dense(classes, in_units=5))
    net.initialize(mx.init.Xavier())
    return net


def with_graph(net, width, monkeypatch):
    """The Block with its graph in its place, however slow the machine finds it."""
    monkeypatch.setattr(faster, "GAIN", 0)
    assert faster.try_graph(net, [mx.nd.ones((1, width))], straight=True)
    return net


def module_of(rows=1, **parameters):
    symbol = mx.sym.FullyConnected(DATA, num_hidden=3, name="fc")
    random = {"fc_weight": mx.nd.array(np.random.RandomState(0).randn(3, 4))}
    return bind(symbol, ("data", (rows, 4)), params=parameters or random)


@pytest.fixture
def kinds(monkeypatch):
    """A Module and a Block whose rows are known to share a forward."""
    made = [Both(module_of(rows=2)), Both(with_graph(block_of(), 4, monkeypatch))]
    for both in made:
        both.steps.passes.learn(Arrays([np.ones((1, 4), np.float32)]), True)
    yield made
    for both in made:
        both.close()


ROW, ROWS = b"[[1, 2.5, -3e-2, 4]]", b"[[1,2,3,4],[0.1,-0.0,-0,1e-40]]"


def test_plain_batches_take_the_lane(kinds):
    """A lone request, several, and several with different numbers of rows."""
    for both in kinds:
        assert both.in_lane(plain(ROW)) is None, "nothing has been answered yet"
        for bodies in ((ROW,), (ROWS,), (ROW, ROW), (ROW, ROWS, ROW)):
            assert both.agree(plain(*bodies), taken=True)
            assert both.agree(plain(*bodies, accept=JSON), taken=True)
            assert both.agree(plain(*bodies, content_type="", accept=""), taken=True)
            assert both.agree(plain(*bodies, accept=CSV), taken=True)
        lines = b"1,2.5,-3e-2,4\r\n"
        assert both.agree(plain(lines, lines * 3, content_type=CSV), taken=True)
        assert both.agree(plain(lines, content_type=CSV, accept=CSV), taken=True)
        saved = npy_of(np.float32([[1, 2.5, np.inf, np.nan]]))
        assert both.agree(plain(saved, content_type=NPY), taken=True)
        assert both.agree(plain(saved, saved, content_type=NPY, accept=CSV), taken=True)


def test_the_bytes():
    """Of a frame, written out."""
    both = Both(module_of(fc_bias=mx.nd.array([0, 1, np.nan])))
    frame = plain(b"[[1,2,3,4]]")
    both.present(frame)
    body, head = b"[[10.0, 11.0, null]]", b"OK\ncontent-type\napplication/json"
    records = struct.pack("<HHII", 0, 200, len(head), len(body))
    start = struct.pack("<IHHIII", 16 + 12 + len(head) + len(body), 1, 7, *PHASES)
    assert both.in_lane(frame) == start + records + head + body
    both.close()


GZIP, FORM, QUERY = "gzip", "application/x-www-form-urlencoded", "multipart/form-data"


@pytest.mark.parametrize(
    "requests",
    [
        pytest.param([("a", JSON, "*/*", "gzip", ROW, 0)], id="an encoding"),
        pytest.param(
            [("a", JSON, "*/*", "identity", ROW, 0)], id="an encoding that changes nothing"
        ),
        pytest.param([("a", JSON, "*/*", "", ROW, 1)], id="parts"),
        pytest.param([("a", FORM, "*/*", "", ROW, 0)], id="a form"),
        pytest.param([("a", "text/plain", "*/*", "", ROW, 0)], id="an unknown type"),
        pytest.param([("a", JSON, "image/png", "", ROW, 0)], id="a type that cannot be written"),
        pytest.param([("a", JSON, NPY, "", ROW, 0)], id="NPY is wanted"),
        pytest.param([("a", f"{JSON}; charset=utf-16", "", "", ROW, 0)], id="a charset"),
        pytest.param(
            [("a", JSON, "*/*", "", ROW, 0), ("b", CSV, "*/*", "", b"1,2,3,4", 0)], id="two types"
        ),
        pytest.param(
            [("a", JSON, "*/*", "", ROW, 0), ("b", JSON, CSV, "", ROW, 0)], id="two Accepts"
        ),
        *(
            pytest.param([("a", JSON, "*/*", "", ROW, 0), ("b", JSON, "*/*", "", body, 0)], id=name)
            for name, body in {
                "no body": b"",
                "not JSON": b"[[1, 2, 3, 4",
                "NaN": b"[[NaN, 2, 3, 4]]",
                "null": b"[[null, 2, 3, 4]]",
                "too large for a float32": b"[[1e39, 2, 3, 4]]",
                "names": b'{"data": [[1, 2, 3, 4]]}',
                "other columns": b"[[1, 2, 3]]",
                "other dimensions": b"[[[1, 2, 3, 4]]]",
                "no rows": b"[1, 2, 3, 4]",
                "a byte order mark": b"\xef\xbb\xbf" + ROW,
            }.items()
        ),
    ],
)
def test_all_else_goes_the_present_way(kinds, requests):
    """Whole batches do, also if only one of their requests is unusual."""
    for both in kinds:
        both.agree(plain(ROW, ROW), taken=True)
        assert not both.agree(frame_of(*requests), taken=False)
        assert not both.agree(frame_of(*reversed(requests)), taken=False)


def test_a_reply_that_is_too_large(monkeypatch):
    both = Both(module_of(), max_bytes=90)
    assert both.agree(plain(b"[[1, 2, 3, 4]]"), taken=True)
    frame = plain(b"[[1, 2, 3, 4]]", b"[[1, 2, 3, 4], [5, 6, 7, 8.123456]]")
    both.steps.passes.learn(Arrays([np.ones((1, 4), np.float32)]), True)
    assert b"the server sends at most 90" in both.present(frame)
    assert both.in_lane(frame) is None
    both.close()


def test_numbers_of_more_than_half_the_limit():
    both = Both(module_of(), max_array_bytes=64)
    assert both.agree(plain(b"[[1, 2, 3, 4], [1, 2, 3, 4]]"), taken=True)
    assert not both.agree(plain(b"[[1, 2, 3, 4], [1, 2, 3, 4], [1, 2, 3, 4]]"), taken=False)
    both.close()


def test_rows_that_may_not_share_a_forward():
    """The lane takes them alone."""
    net = block_of()
    both = Both(net)
    both.steps.passes.learn(Arrays([np.ones((1, 4), np.float32)]), False)
    assert not both.agree(plain(ROW), taken=False), "the Block runs as its own Python"
    both.close()


def test_new_values_of_parameters(kinds):
    """The present way binds again, before the lane takes anything."""
    _, both = kinds
    frame = plain(ROW)
    assert both.agree(frame, taken=True)
    before = both.present(frame)
    block = both.steps.model
    block[1].bias.set_data(mx.nd.array([100, 200, 300]))
    assert both.in_lane(frame) is None
    after = both.present(frame)
    assert after != before
    assert both.in_lane(frame) == after


def test_a_hook_that_is_added_later(kinds):
    _, both = kinds
    assert both.agree(plain(ROW), taken=True)
    handle = both.steps.model.register_forward_hook(lambda *arguments: None)
    assert not both.agree(plain(ROW), taken=False)
    handle.detach()
    assert both.agree(plain(ROW), taken=True)


def test_training(kinds):
    """A thread of the script may train, and then the graph is bound anew."""
    _, both = kinds
    assert both.agree(plain(ROW), taken=True)
    with mx.autograd.train_mode():
        assert both.in_lane(plain(ROW)) is None


def test_executors_that_were_dropped(kinds):
    """Memory ran short: the present way binds again."""
    both, _ = kinds
    assert both.agree(plain(ROW), taken=True)
    both.steps.predictor._executors.forget()
    assert both.in_lane(plain(ROW)) is None
    assert both.agree(plain(ROW), taken=True)


def test_a_lane_that_fits_nothing_is_seldom_tried(kinds, monkeypatch):
    """Bodies would be read twice.  One batch that fits brings it back."""
    both, _ = kinds
    tried = []
    answer = both.lane._answer
    monkeypatch.setattr(both.lane, "_answer", lambda frame: tried.append(1) or answer(frame))
    assert both.agree(plain(ROW), taken=True)
    for _ in range(200):
        assert both.in_lane(plain(b"[1, 2, 3, 4]")) is None
    assert len(tried) == 1 + 8 + 200 // 32
    sent = [both.in_lane(plain(ROW)) for _ in range(64)]
    assert 32 <= sum(reply is not None for reply in sent) < 64


def test_several_outputs(sums):
    both = Both(sums(outputs=2))
    assert not both.agree(plain(b"[[1, 2]]"), taken=False)
    both.close()


def test_fewer_rows_than_came():
    """A model that adds rows up gives one."""
    both = Both(bind(mx.sym.sum(DATA, axis=0, keepdims=True), ("data", (1, 2))))
    assert not both.agree(plain(b"[[1, 2], [3, 4]]"), taken=None)
    both.close()


def test_more_rows_than_one_forward_takes(kinds, monkeypatch):
    both, _ = kinds
    monkeypatch.setattr(both.steps.predictor._executors, "max_rows", 2)
    assert both.agree(plain(ROWS), taken=True)
    assert not both.agree(plain(ROWS, ROW), taken=False)


def test_a_failing_forward_is_left_to_the_present_way(kinds, monkeypatch):
    both, _ = kinds
    assert both.agree(plain(ROW), taken=True)
    bound = both.steps.predictor._executors._bound
    for shapes, each in list(bound.items()):
        bound[shapes] = each._replace(
            quick=each.quick._replace(values_out=each.quick.values_out + 1)
        )
    assert not both.agree(plain(ROW), taken=False)


def test_ids_are_kept_while_a_batch_runs(tmp_path, kinds, monkeypatch):
    """serve names them if the worker dies."""
    both, _ = kinds
    path = tmp_path / "ids"
    current = CurrentRequests(path)
    both.lane._current = current
    seen = []
    quick = both.steps.predictor.quick
    monkeypatch.setattr(
        both.steps.predictor,
        "quick",
        lambda *arguments: seen.append(path.read_bytes().split(b"\0")[0]) or quick(*arguments),
    )
    request = ("M\xfcller", JSON, "*/*", "", ROW, 0)
    for frame in (plain(ROW, ROW), frame_of(request), frame_of((5000 * "a", *request[1:]))):
        assert both.agree(frame, taken=None)
        assert path.read_bytes()[:1] == b"\0"
    assert seen == [b"id-0\nid-1", b"M?ller", 4095 * b"a"]


# --- any batches -----------------------------------------------------------------------------

FLOATS = st.floats(width=32, allow_nan=False, allow_infinity=False).map(repr)
SPELLED = st.sampled_from(
    [*("1", "-0", "0", "0.1", "1e-50", "1E+2", "12345678901234567890", "1e39", "null", "NaN")]
)


@st.composite
def bodies(draw, content_type):
    """Mostly rows of four numbers."""
    columns = draw(st.sampled_from([4] * 20 + [1, 3, 5]))
    cells = draw(st.sampled_from([FLOATS] * 4 + [SPELLED]))
    row = st.lists(cells, min_size=columns, max_size=columns)
    rows = draw(st.lists(row, min_size=draw(st.sampled_from([1] * 9 + [0])), max_size=3))
    if content_type == CSV:
        text = "".join(",".join(row) + "\n" for row in rows)
    else:
        text = "[" + ",".join("[" + ", ".join(row) + "]" for row in rows) + "]"
    return text[: draw(st.sampled_from([None] * 20 + [-1, 3]))].encode()


ARRAYS = [
    np.float32([[1, 2, 3, 4]]),
    np.float32([[1, np.nan, -np.inf, 4], [5, 6, 7, 8]]),
    *(np.ones(shape, np.float32) for shape in [(4,), (), (0, 4), (1, 4, 1), (2, 2)]),
    *(np.ones((1, 4), kind) for kind in (">f4", np.float64, np.int8, bool)),
    np.asfortranarray(np.ones((2, 4), np.float32)),
]


@st.composite
def arrays(draw):
    """NPY, mostly of rows of four; sometimes damaged."""
    body = bytearray(npy_of(draw(st.sampled_from(ARRAYS[:2] * 8 + ARRAYS))))
    if draw(st.integers(0, 5)) == 3:
        place = draw(st.integers(0, len(body) - 1))
        body[place] = draw(st.sampled_from(b"0123456789,() '\n\x01\xff"))
    return bytes(body[: draw(st.sampled_from([None] * 20 + [-1, 9, 60]))])


@st.composite
def frames(draw):
    """Mostly requests of one type."""
    types = [JSON, CSV, NPY, "", f"{JSON}; charset=utf-8"]
    content_type = draw(st.sampled_from(types * 3 + ["text/plain"]))
    accepts = ["*/*", "", JSON, CSV, "text/*;q=0.5, */*;q=0.1"]
    accept = draw(st.sampled_from(accepts * 3 + ["image/png"]))
    requests = []
    for place in range(draw(st.integers(1, 4))):
        is_odd = draw(st.integers(0, 29)) == 17
        kind = CSV if is_odd else content_type
        encoding = draw(st.sampled_from([""] * 30 + ["gzip"]))
        body = draw(arrays() if kind == NPY else bodies(kind))
        requests.append((f"id-{place}", kind, accept, encoding, body, 0))
    return frame_of(*requests)


@pytest.fixture(scope="module")
def lasting():
    with pytest.MonkeyPatch.context() as patch:
        made = [Both(module_of(rows=2)), Both(with_graph(block_of(), 4, patch))]
    for both in made:
        both.steps.passes.learn(Arrays([np.ones((1, 4), np.float32)]), True)
    yield made
    for both in made:
        both.close()


def test_any_batch_gets_what_the_present_way_sends(lasting):
    """Many of them are taken by the lane."""
    taken = []

    @settings(max_examples=900)
    @given(frames())
    def agree(frame):
        for both in lasting:
            both.lane._misses = 0
        taken.extend(both.agree(frame, taken=None) for both in lasting)

    agree()
    assert sum(taken) > len(taken) / 10


@settings(max_examples=400)
@given(st.data())
def test_malformed_frames_are_refused(lasting, data):
    """Cut, or with other lengths and counts; nothing is read beyond the frame."""
    both, _ = lasting
    both.lane._misses = 0
    frame = bytearray(plain(ROW, ROWS))
    for _ in range(data.draw(st.integers(1, 3))):
        frame[data.draw(st.integers(0, 40))] = data.draw(st.integers(0, 255))
    cut = bytes(frame[: data.draw(st.sampled_from([None, None, 0, 3, 10, 30, -1]))])
    sent = both.in_lane(np.frombuffer(cut, np.uint8).copy() if cut else b"")
    if sent is not None:
        assert sent == both.present(cut)
