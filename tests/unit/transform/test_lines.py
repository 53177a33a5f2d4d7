"""transform.lines: the lines of a part get the replies that requests with them would get."""

from __future__ import annotations

import mxnet as mx
import numpy as np
import pytest
from tiny_models import dense

from mms_handler.codecs import compiled
from mms_handler.errors import Failed
from mms_handler.script.load import Script
from mms_handler.transform.batching import Ways
from mms_handler.transform.lines import Lines
from mms_handler.transform.part import Part
from mms_handler.worker.pipeline import Options, build
from mms_handler.worker.request import Request

pytestmark = pytest.mark.skipif(compiled.core is None, reason="the core is not compiled")


def network(outputs=3):
    """A Block of two layers, for rows of two columns."""
    net = mx.gluon.nn.HybridSequential()
    net.add(mx.gluon.nn.Dense(8, activation="relu", in_units=2))
    net.add(mx.gluon.nn.Dense(outputs, in_units=8))
    net.initialize(mx.init.Uniform(1))
    net.hybridize()
    return net


class MinusMean(mx.gluon.HybridBlock):
    """A row's prediction depends on the rows beside it."""

    def hybrid_forward(self, F, x):
        return F.broadcast_sub(x, F.mean(x, axis=0, keepdims=True))


class TwoOutputs(mx.gluon.HybridBlock):
    def hybrid_forward(self, F, x):
        return x + 1, x * 2


def text(count, end=b"\n"):
    values = np.random.RandomState(1).uniform(-9, 9, (count, 2))
    return b"".join(b"%.5g,%.5g" % tuple(row) + end for row in values)


class Asked:
    """Lines, and the pipeline that they use."""

    def __init__(self, model, script=None):
        self.pipeline = build(script or Script(), model, Options(mx.cpu()))
        self.lines = Lines(self.pipeline, Ways(chooses=False))

    def at_once(self, data, count, accept="text/csv", content_type="text/csv"):
        part = Part("in", 0, 1, 0, data, content_type, accept, len(data), count + 1)
        return self.lines(part, count)

    def by_requests(self, data, accept="text/csv"):
        requests = [Request(line, "text/csv", accept, {}) for line in data.splitlines()]

        def answer(start, end):
            return self.pipeline.answer(requests[start:end])

        replies = Ways(chooses=False).run([1] * len(requests), answer)
        assert not any(isinstance(reply, Failed) for reply in replies)
        return [reply.body for reply in replies]


@pytest.mark.parametrize("accept", ["text/csv", "application/json", "", "application/x-npy"])
@pytest.mark.parametrize("count", [1, 700])
@pytest.mark.parametrize("make", [network, dense])
def test_replies_are_those_to_requests(make, count, accept):
    asked = Asked(make())
    replies = asked.at_once(text(count), count, accept)
    assert len(replies) == count
    assert replies == asked.by_requests(text(count), accept)


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(text(3, b"\r\n"), id="CRLF"),
        pytest.param(text(3)[:-1], id="no line feed after the last line"),
        pytest.param(b" 1 , 2\n-0,1e3\n3.,4\n".replace(b"3.", b"3"), id="other spellings"),
    ],
)
def test_lines_may_be_written_otherwise(data):
    asked = Asked(network())
    assert asked.at_once(data, 3) == asked.by_requests(data)


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"1,2\nx,4\n5,6\n", id="not a number"),
        pytest.param(b"1,2\n3\n5,6\n", id="fewer columns"),
        pytest.param(b"1,2\n\n5,6\n", id="an empty line"),
        pytest.param(b"1,2\n \n5,6\n", id="white space"),
        pytest.param(b"1,2,3\n4,5,6\n7,8,9\n", id="more columns than the model has"),
        pytest.param(b'"1",2\n3,4\n5,6\n', id="quotes"),
    ],
)
def test_other_lines_are_asked_one_by_one(data):
    asked = Asked(network())
    assert asked.at_once(data, 3) is None
    assert asked.at_once(text(3), 3) == asked.by_requests(text(3))  # the next part may be good


def test_other_content_types_are_asked_one_by_one():
    assert Asked(network()).at_once(b"[[1,2]]\n" * 3, 3, content_type="application/json") is None


@pytest.mark.parametrize(
    ("make", "count"),
    [
        pytest.param(MinusMean, 3, id="of all rows"),
        pytest.param(TwoOutputs, 3, id="two outputs"),
        pytest.param(lambda: network(outputs=300), 256, id="outputs that take longer to write"),
    ],
)
def test_models_whose_rows_are_asked_one_by_one(make, count):
    assert Asked(make()).at_once(text(count), count) is None


def test_a_type_that_cannot_be_written():
    assert Asked(network()).at_once(text(3), 3, "image/png") is None


def test_a_script_with_functions_for_a_request():
    script = Script(hooks={"output_fn": lambda prediction, accept: "3"})
    assert Asked(network(), script).at_once(text(3), 3) is None
