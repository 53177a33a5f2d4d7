"""A Module's ONNX twin answers requests as MXNet does: shapes, statuses, types and errors."""

from __future__ import annotations

import io
import json

import mxnet as mx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_models import DATA, bind

from mms_handler import codecs, errors, models
from mms_handler.codecs import recordio
from mms_handler.errors import Failed
from mms_handler.models.arrays import Arrays
from mms_handler.models.inputs import UnboundModule
from mms_handler.script.load import Script
from mms_handler.worker.functions import Options
from mms_handler.worker.pipeline import build
from mms_handler.worker.request import Request

JSON, CSV, NPY, NPZ = "application/json", "text/csv", "application/x-npy", "application/x-npz"
LINES, RECORDIO = "application/jsonlines", "application/x-recordio-protobuf"


def weights(*shape):
    return mx.nd.array(np.random.RandomState(len(shape)).uniform(-1, 1, shape))


def net(data=DATA, name="fc", hidden=3):
    return mx.sym.relu(mx.sym.FullyConnected(data, num_hidden=hidden, name=name))


def bound():
    """Takes (N, 4)."""
    symbol = mx.sym.softmax(net(), name="out")
    return bind(symbol, ("data", (1, 4)), params={"fc_weight": weights(3, 4)})


def pictures():
    """Takes (N, 1, 2, 2), and such values in any shape."""
    symbol = mx.sym.Convolution(DATA, kernel=(2, 2), num_filter=2, name="conv")
    return bind(mx.sym.flatten(symbol), ("data", (1, 1, 2, 2)))


def two():
    """Takes x (N, 2) and y (N, 3), and gives two outputs."""
    x, y = net(mx.sym.var("x"), "a"), net(mx.sym.var("y"), "b", 2)
    params = {"a_weight": weights(3, 2), "b_weight": weights(2, 3)}
    return bind(mx.sym.Group([x, y]), ("x", (1, 2)), ("y", (1, 3)), params=params)


def unbound():
    """Takes the shapes of requests: (N, 4) was proved."""
    module = bound()
    arguments, states = module.get_params()
    return UnboundModule.of(module.symbol, ["data"], arguments, states, mx.cpu())


SAMPLES = {
    bound: [(2, 4)],
    pictures: [(2, 1, 2, 2)],
    two: [(2, 2), (2, 3)],
    unbound: [(2, 4)],
}


class Pair:
    """The answers of a Module, and of its twin, to the same requests."""

    def __init__(self, make) -> None:
        module = make()
        noise = np.random.RandomState(0)
        sample = Arrays([noise.uniform(-1, 1, s).astype("f") for s in SAMPLES[make]])
        predictor = models.make_predictor(module, mx.cpu(), True)
        entry, content = models.make_twin(module, predictor, sample)
        session = models.Session(entry, content, 1)
        self.twin = models.TwinModel(session, self.load)
        self.loads = 0
        self.module = module
        self.pipelines = [
            build(Script(), model, Options(mx.cpu(), max_array_bytes=4096))
            for model in (module, self.twin)
        ]

    def load(self):
        self.loads += 1
        return models.make_predictor(self.module, mx.cpu(), True)

    def answers(self, *requests):
        return [pipeline.answer(list(requests)) for pipeline in self.pipelines]


@pytest.fixture(scope="module", params=SAMPLES, ids=lambda make: make.__name__)
def pair(request):
    return Pair(request.param)


def request(body, content_type=JSON, accept=JSON):
    return Request(body, content_type, accept, {})


def agree(expected, reply):
    """Two replies are the same, up to the rounding of their numbers."""
    assert type(expected) is type(reply)
    if isinstance(expected, Failed):
        assert errors.fault(expected.exc) == errors.fault(reply.exc)
        return
    assert expected[1:] == reply[1:]  # content type, status
    if expected.content_type == JSON:
        assert_near(json.loads(expected.body), json.loads(reply.body))
    elif expected.content_type == LINES:
        assert_near(*([json.loads(x) for x in r.body.splitlines()] for r in (expected, reply)))
    else:
        arrays = [codecs.decode(each.body, each.content_type) for each in (expected, reply)]
        assert_near(*(a if isinstance(a, dict) else {"": a} for a in arrays))


def assert_near(expected, value):
    if isinstance(expected, dict):
        assert expected.keys() == value.keys()
        for key in expected:
            assert_near(expected[key], value[key])
    elif isinstance(expected, list):
        assert len(expected) == len(value)
        for each, other in zip(expected, value):
            assert_near(each, other)
    elif isinstance(expected, np.ndarray):
        assert expected.shape == value.shape
        np.testing.assert_allclose(value, expected, 1e-4, 1e-4)
    else:
        assert value == (expected if expected is None else pytest.approx(expected, 1e-4, 1e-4))


numbers = st.floats(-100, 100, width=32) | st.sampled_from([0, 1, 1e20, 3e38, None, 1e39])
FIT = [(4,), (1, 4), (3, 4), (2, 1, 4), (1, 1, 2, 2), (2, 1, 2, 2), (2, 2, 2), (16, 4), (300, 4)]
shapes = st.sampled_from([*FIT, (2, 3), (3,), (0, 4), (), (2, 5), (1, 2), (2, 2), (40, 40)])
arrays = shapes.flatmap(
    lambda shape: st.lists(numbers, min_size=1, max_size=3).map(
        lambda some: np.resize(np.array(some, float), shape)
    )
)
names = st.sampled_from(["data", "x", "y", "any"])
values = arrays | st.dictionaries(names, arrays, max_size=3)
types = st.sampled_from([JSON, CSV, NPY, NPZ, LINES, RECORDIO, "image/png", "text/html", ""])
accepts = st.sampled_from([JSON, CSV, NPY, NPZ, LINES, RECORDIO, "*/*", "image/png"])


def lists(value):
    if isinstance(value, dict):
        return {name: lists(item) for name, item in value.items()}
    return json.loads(json.dumps(value.tolist()).replace("NaN", "null"))


def written(value, content_type):
    """A value as a body, as far as the type can have it; the bytes of JSON otherwise."""
    out = io.BytesIO()
    if content_type == NPZ:
        np.savez(out, **(value if isinstance(value, dict) else {"a": value}))
    elif content_type == NPY and not isinstance(value, dict):
        np.save(out, value)
    elif content_type == RECORDIO and not isinstance(value, dict):
        return recordio.encode(value.astype("f")) if value.ndim == 2 else b"\n"
    elif content_type == CSV and not isinstance(value, dict) and value.ndim == 2:
        return "\n".join(",".join(map(str, row)) for row in value.tolist()).encode()
    elif content_type == LINES and not isinstance(value, dict):
        rows = lists(value)
        return b"\n".join(json.dumps(r).encode() for r in (rows if value.ndim else [rows]))
    else:
        return json.dumps(lists(value)).encode()
    return out.getvalue()


@settings(max_examples=80)
@given(value=values, content_type=types, accept=accepts, junk=st.binary(max_size=6))
def test_a_request_gets_the_same_reply(pair, value, content_type, accept, junk):
    """One in sixty is broken."""
    body = written(value, content_type)
    body = junk if len(body) % 60 == 0 else body
    (expected,), (reply,) = pair.answers(request(body, content_type, accept))
    agree(expected, reply)


@settings(max_examples=25)
@given(some=st.lists(st.tuples(values, types, accepts), min_size=2, max_size=5))
def test_requests_that_come_together_get_the_same_replies(pair, some):
    requests = [request(written(value, kind), kind, accept) for value, kind, accept in some]
    for expected, reply in zip(*pair.answers(*requests)):
        agree(expected, reply)


def test_mxnet_is_not_asked_for_what_was_proved():
    """It is for NaN, and for another shape if the model takes any."""
    known = Pair(bound)
    for body in (b"[1, 2, 3, 4]", b"[[1, 2, 3, 4], [5, 6, 7, 8]]", b"[1, 2]", b"{}", b"no"):
        known.answers(request(body))
    assert known.loads == 0
    known.answers(request(b"[1, 2, null, 4]"))
    assert known.loads == 1
    free = Pair(unbound)
    free.answers(request(b"[[1, 2, 3, 4]]"))
    assert free.loads == 0
    free.answers(request(b"[[1, 2, 3]]"), request(b"[[1, 2, 3]]"))
    assert free.loads == 1
