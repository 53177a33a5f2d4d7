"""pipeline: requests that come together get, each in its place, what they would get alone."""

from __future__ import annotations

import functools
import io
import itertools
import json
import logging

import mxnet as mx
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mms_handler.errors import BadInput
from mms_handler.models.graphs import faster
from mms_handler.script.load import Script
from mms_handler.worker.pipeline import Options, build
from mms_handler.worker.reply import Reply
from mms_handler.worker.request import Request
from mms_handler.worker.sample import prepare

JSON, CSV, NPY = "application/json", "text/csv", "application/x-npy"


def pipeline(model, hooks=None, *, batch_predict=False, **options):
    return build(Script(None, hooks or {}, batch_predict), model, Options(mx.cpu(), **options))


def request(rows, content_type=JSON, accept=JSON, **by_name):
    """A request with rows of numbers, or with a body as it is."""
    if isinstance(rows, bytes):
        return Request(rows, content_type, accept, by_name)
    if content_type == NPY:
        out = io.BytesIO()
        np.save(out, np.array(rows, np.float32))
        return Request(out.getvalue(), NPY, accept, by_name)
    if content_type == CSV:
        lines = "\n".join(",".join(map(str, row)) for row in rows)
        return Request(lines.encode(), CSV, accept, by_name)
    return Request(json.dumps(rows).encode(), JSON, accept, by_name)


def alone(pipe, asked):
    """What a request gets when nothing else is there."""
    (outcome,) = pipe.answer([asked])
    return outcome


def told(outcome):
    """An outcome as it can be compared."""
    return outcome if isinstance(outcome, Reply) else (type(outcome.exc), str(outcome.exc))


class Counted(mx.gluon.Block):
    """y = x0 + 2 x1 + 10; notes the rows of each pass, and fails where it meets a 13."""

    def __init__(self):
        super().__init__()
        self.passes = []

    def forward(self, x):
        self.passes.append(x.shape[0])
        if (x == 13).sum().asscalar():
            raise ZeroDivisionError("thirteen")
        return x[:, :1] + 2 * x[:, 1:] + 10


class Centred(mx.gluon.Block):
    """Rows less their mean: it must not be stacked."""

    def forward(self, x):
        return mx.nd.broadcast_sub(x, x.mean(axis=0, keepdims=True)) + x


# --- one by one ---


def test_a_batch_of_one_is_transformed(sum_block):
    """And what it raises is its outcome."""
    pipe = pipeline(sum_block)
    assert pipe.answer([request([[1, 1]])]) == [Reply(b"[[13.0]]", JSON, 200)]
    (outcome,) = pipe.answer([request(b"[[")])
    assert isinstance(outcome.exc, BadInput)
    assert pipe.answer([]) == []


def test_functions_that_take_the_request_take_each():
    """transform_fn and process_request_fn know of one request only."""
    hooks = {"transform_fn": lambda model, data, content_type, accept: (data * 2, "text/own")}
    replies = pipeline(None, hooks).answer([request(b"1"), request(b"2")])
    assert [reply.body for reply in replies] == [b"11", b"22"]
    hooks = {"process_request_fn": lambda model, data, content_type: json.loads(data)}
    replies = pipeline(None, hooks).answer([request(b"1"), request(b"2")])
    assert [reply.body for reply in replies] == [b"1", b"2"]


def test_what_input_fn_leaves_for_output_fn_stays_the_requests_own():
    """Scripts hand things on in globals: with both functions theirs, one follows the other."""
    left = {}

    def input_fn(data, content_type):
        left["name"] = json.loads(data)["name"]
        return mx.nd.ones((1, 2))

    def output_fn(prediction, accept):
        return left["name"], "text/plain"

    block = Counted()
    pipe = pipeline(block, {"input_fn": input_fn, "output_fn": output_fn})
    replies = pipe.answer([request({"name": "one"}), request({"name": "two"})])
    assert [reply.body for reply in replies] == [b"one", b"two"]
    told_to = pipeline(block, {"input_fn": input_fn, "output_fn": output_fn}, batch_predict=True)
    replies = told_to.answer([request({"name": "one"}), request({"name": "two"})])
    assert [reply.body for reply in replies] == [b"two", b"two"]  # as the script said


# --- together ---


def test_one_pass_each_its_own_reply():
    """Other rows, types and Accepts go into one pass; each gets its own back."""
    block = Counted()
    pipe = pipeline(block)
    asked = [
        request([[1, 1]]),
        request([[2, 3], [5, 5]], CSV, CSV),
        request(b"[[1,"),
        request([[0, 0.5]], NPY),
        request([[1, 1]], accept="image/png"),
        request(b"x", "text/none"),
    ]
    pipe.answer(asked)
    block.passes.clear()
    found = pipe.answer(asked)
    assert block.passes == [5]
    assert found[0] == Reply(b"[[13.0]]", JSON, 200)
    assert found[1] == Reply(b"18.0\r\n25.0\r\n", CSV, 200)
    assert found[3] == Reply(b"[[11.0]]", JSON, 200)
    assert [type(found[place].exc).__name__ for place in (2, 4, 5)] == [
        "BadInput",
        "NotAcceptable",
        "UnsupportedType",
    ]


def test_a_pass_that_fails_hurts_only_the_guilty():
    """Each of it is run alone."""
    block = Counted()
    pipe = pipeline(block)
    pipe.answer([request([[1.5, 1]]), request([[2, 2]])])
    block.passes.clear()
    found = pipe.answer([request([[1, 1]]), request([[13, 0]]), request([[2, 3]])])
    assert block.passes == [3, 1, 1, 1]
    assert told(found[1]) == (ZeroDivisionError, "thirteen")
    assert [found[0].body, found[2].body] == [b"[[13.0]]", b"[[18.0]]"]


def test_a_scripts_output_fn_gets_ndarrays_of_its_rows(sums, sum_block):
    """As it does alone; what it writes to them, and what it raises, is its own."""

    def output_fn(prediction, accept):
        assert isinstance(prediction, mx.nd.NDArray)
        prediction += 1
        if prediction[0, 0].asscalar() == 14:
            raise LookupError("fourteen")
        return prediction.asnumpy().tolist(), accept

    for model in (sums(), sums(bound=4), sum_block):
        pipe = pipeline(model, {"output_fn": output_fn})
        found = pipe.answer([request([[1, 0], [0, 0]]), request([[1, 1]]), request([[2, 3]])])
        assert told(found[1]) == (LookupError, "fourteen")
        assert [found[0].body, found[2].body] == [b"[[12.0], [11.0]]", b"[[19.0]]"]


def test_a_scripts_input_fn_may_make_what_cannot_be_stacked(sums):
    """A DataIter of its own is predicted alone, beside arrays that are stacked."""

    def input_fn(model, input_data, content_type):
        rows = mx.nd.array(json.loads(input_data))
        return mx.io.NDArrayIter(rows, batch_size=1) if len(rows) == 1 else rows

    asked = [request([[1, 1]]), request([[2, 3], [0, 0]]), request([[0, 0], [2, 3]])]
    found = pipeline(sums(), {"input_fn": input_fn}).answer(asked)
    assert [reply.body for reply in found] == [
        b"[[13.0]]",
        b"[[18.0], [10.0]]",
        b"[[10.0], [18.0]]",
    ]


def test_rows_that_meet_are_never_stacked():
    """A Block that looks at other rows gives each request what it gives alone."""
    pipe = pipeline(Centred())
    asked = [request([[1], [3]]), request([[10], [30]])]
    for _ in range(2):
        found = pipe.answer(asked)
        assert [reply.body for reply in found] == [b"[[0.0], [4.0]]", b"[[0.0], [40.0]]"]


def test_a_batch_norm_that_trains_is_never_stacked():
    """One with use_global_stats off, under train_mode, takes the mean of what it is given."""

    class Training(mx.gluon.Block):
        def __init__(self):
            super().__init__()
            self.norm = mx.gluon.nn.BatchNorm(in_channels=1, epsilon=0)

        def forward(self, x):
            with mx.autograd.train_mode():
                return self.norm(x)

    block = Training()
    block.initialize()
    pipe = pipeline(block)
    asked = [request([[1], [3]]), request([[10], [30]])]
    for _ in range(2):
        values = [json.loads(reply.body) for reply in pipe.answer(asked)]
        assert [np.round(one, 3).tolist() for one in values] == [[[-1], [1]], [[-1], [1]]]


def models_to_ask():
    """Makers of models of every kind, by name; each takes rows of two values."""

    def module(bound):
        made = mx.sym.FullyConnected(mx.sym.var("data"), num_hidden=1, name="fc")
        found = mx.mod.Module(mx.sym.Group([made, made * 2]), label_names=None)
        found.bind([("data", (bound, 2))], for_training=False)
        weights = {"fc_weight": mx.nd.array([[1, 2]]), "fc_bias": mx.nd.array([10])}
        found.init_params(None, weights, {})
        return found

    def dense():
        net = mx.gluon.nn.HybridSequential()
        net.add(mx.gluon.nn.Dense(1, in_units=2))
        net.initialize()
        net[0].weight.set_data(mx.nd.array([[1, 2]]))
        return net

    def swapped():
        net = dense()
        faster.try_graph(net, [mx.nd.array([[1, 2]])])
        return net

    widths = mx.gluon.nn.HybridLambda(lambda F, x: F.sum(x, axis=1, keepdims=True))
    return {
        "a Module bound to one": module(1),
        "a Module bound to four": module(4),
        "a Block": Counted(),
        "a HybridBlock": dense(),
        "a HybridBlock on its graph": swapped(),
        "a Block of any width": widths,
        "a Block whose rows meet": Centred(),
    }


@pytest.fixture(scope="module")
def pipes():
    """A pipeline for each kind of model, used by all examples: what one leaves, the next meets."""
    gain, faster.GAIN = faster.GAIN, 0
    try:
        return {name: pipeline(model) for name, model in models_to_ask().items()}
    finally:
        faster.GAIN = gain


def bodies():
    """Requests of small whole numbers, which every kernel computes exactly; and bad ones."""
    rows = st.integers(1, 3).flatmap(
        lambda width: st.lists(
            st.lists(st.integers(-9, 14), min_size=width, max_size=width), min_size=1, max_size=4
        )
    )
    good = st.builds(
        request, rows, st.sampled_from([JSON, CSV, NPY]), st.sampled_from([JSON, CSV, "", "a/b"])
    )
    bad = st.sampled_from(
        [
            request(b"[["),
            request(b""),
            request(b"[]"),
            request(b"\xff"),
            request(b"1", "image/gif"),
            request(b'{"a": [[1, 2]], "b": [[1, 2]]}'),
        ]
    )
    return st.lists(st.one_of(good, good, good, bad), max_size=7)


@pytest.mark.parametrize("name", list(models_to_ask()))
@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(asked=bodies())
def test_each_gets_what_it_would_get_alone(pipes, name, asked):
    """Random requests, good and bad and of several shapes: the same bytes or error, in order."""
    wanted = [told(alone(pipes[name], one)) for one in asked]
    assert [told(one) for one in pipes[name].answer(asked)] == wanted


def test_every_row_goes_back_where_it_came_from(sums):
    """A thousand rows in requests of one to nine, each with a value that is nobody else's."""
    pipe, counts = pipeline(sums()), [1 + place % 9 for place in range(200)]
    ends = np.cumsum(counts).tolist()
    asked = [
        request([[row, 0] for row in range(end - count, end)]) for end, count in zip(ends, counts)
    ]
    found = [json.loads(reply.body) for reply in pipe.answer(asked)]
    assert list(itertools.chain(*found)) == [[row + 10.0] for row in range(ends[-1])]
    assert [len(rows) for rows in found] == counts


def test_replies_are_not_written_into_by_later_ones(sums):
    """What was predicted for a request is its own, whatever comes next."""
    kept = []

    def output_fn(prediction, accept):
        kept.append(prediction)
        return b"", accept

    pipe = pipeline(sums(), {"output_fn": output_fn})
    for start in (0, 100, 200):
        pipe.answer([request([[start, 0]]), request([[start + 1, 0]])])
    found = [one.asnumpy().tolist() for one in kept]
    assert found == [[[10]], [[11]], [[110]], [[111]], [[210]], [[211]]]


# --- a predict_fn of the script's own ---


class Predict:
    """A predict_fn; notes how many rows each pass had."""

    def __init__(self):
        self.passes = []

    def __call__(self, data, model):
        self.passes.append(data.shape[0])
        return model(data) * 2


def test_a_scripts_predict_fn_is_called_for_each(sum_block):
    """Unless the script says that it may be given several requests' data."""
    predict = Predict()
    pipe = pipeline(sum_block, {"predict_fn": predict})
    prepare(pipe, request([[1, 1]]), 4, faster=False)
    predict.passes.clear()
    pipe.answer([request([[1, 1]])] * 3)
    assert predict.passes == [1, 1, 1]


def test_batch_predict_is_shown_by_the_sample(sum_block, caplog):
    """batch_predict = True in the script, and the sample gives stacked what it gives alone."""
    predict = Predict()
    pipe = pipeline(sum_block, {"predict_fn": predict}, batch_predict=True)
    prepare(pipe, request([[1, 1.5]]), 1, faster=False)
    predict.passes.clear()
    found = pipe.answer([request([[1, 1]]), request([[2, 3], [5, 5]]), request(b"[[")])
    assert predict.passes == [3]
    assert [one.body for one in found[:2]] == [b"[[26.0]]", b"[[36.0], [50.0]]"]
    assert isinstance(found[2].exc, BadInput)
    assert not caplog.messages


def test_batch_predict_of_a_module(sums):
    """The guide's predict_fn is given a DataIter of all rows."""
    sizes = []

    def predict_fn(module, data):
        sizes.append(data.num_data)
        return module.predict(data)

    pipe = pipeline(sums(bound=2), {"predict_fn": predict_fn}, batch_predict=True)
    prepare(pipe, request([[1, 1.5]]), 1, faster=False)
    sizes.clear()
    found = pipe.answer([request([[1, 1]]), request([[2, 3], [5, 5]])])
    assert sizes == [3]
    assert [one.body for one in found] == [b"[[13.0]]", b"[[18.0], [25.0]]"]


@pytest.mark.parametrize(
    ("predict_fn", "sample", "warning"),
    [
        pytest.param(
            lambda data, model: data - data.mean(axis=0, keepdims=True) + data,
            request([[1, 2]]),
            "batch_predict: the sample and requests like it get other predictions together than "
            "alone; requests are predicted one by one",
            id="whose rows meet",
        ),
        pytest.param(
            lambda data, model: data,
            None,
            "batch_predict: without a sample request it cannot be tried",
            id="without a sample",
        ),
        pytest.param(
            lambda data, model, headers, request_id: data,
            request([[1, 2]]),
            "batch_predict: predict_fn asks for each request's headers, request_id",
            id="that asks for what is each request's own",
        ),
    ],
)
def test_a_batch_predict_that_is_not_shown(sum_block, caplog, predict_fn, sample, warning):
    """A script that says so and is wrong is warned, and its requests are predicted one by one."""
    passes = []

    @functools.wraps(predict_fn)
    def counting(data, *more):
        passes.append(data.shape[0])
        return predict_fn(data, *more)

    pipe = pipeline(sum_block, {"predict_fn": counting}, batch_predict=True)
    prepare(pipe, sample, 2, faster=False)
    assert caplog.messages == [warning]
    passes.clear()
    assert len(pipe.answer([request([[1, 2]])] * 2)) == 2
    assert passes == [1, 1]


# --- the sample ---


def test_a_sample_that_fails_is_told(sum_block, caplog):
    """The model is served all the same: samples are made up of zeros where none was given."""
    pipe = pipeline(sum_block)
    prepare(pipe, request([[1, 2, 3]]), 2, faster=True)
    (message,) = caplog.messages
    assert message.startswith("the sample request fails, nothing is warmed up: BadInput: the model")
    assert pipe.answer([request([[1, 1]])])[0].body == b"[[13.0]]"


def test_the_sample_warms_up_each_number_of_requests(sums):
    """From one to as many as may come together: what the first clients ask is bound already."""
    pipe = pipeline(sums())
    prepare(pipe, request([[1, 1]]), 5, faster=False)
    bound = {shape[0] for (shape,) in pipe.predictor._executors._bound}
    assert bound == {1, 2, 3, 4, 5}


def test_a_trial_that_goes_wrong_is_told(sum_block, caplog, monkeypatch):
    """A model that answers its sample is served, whatever its graph makes of it."""

    def swap(block, args, straight):
        raise OverflowError("too much")

    monkeypatch.setattr("mms_handler.models.try_graph", swap)
    dense = mx.gluon.nn.HybridSequential()
    dense.add(sum_block)
    pipe = pipeline(dense)
    prepare(pipe, request([[1, 1]]), 2, faster=True)
    assert caplog.messages == ["no faster graph: OverflowError: too much"]
    assert pipe.answer([request([[1, 1]])])[0].body == b"[[13.0]]"


@pytest.mark.parametrize("improve", [True, False])
@pytest.mark.parametrize(
    "hooks",
    [
        pytest.param({}, id="by default"),
        pytest.param({"predict_fn": lambda data, model: model(data)}, id="by predict_fn"),
        pytest.param(
            {
                "transform_fn": lambda model, data, content_type, accept: (
                    model(mx.nd.array(json.loads(data))).asnumpy().tolist(),
                    accept,
                )
            },
            id="by transform_fn",
        ),
    ],
)
def test_whoever_calls_the_block_calls_its_graph(sum_block, monkeypatch, hooks, improve):
    """Found out by what the sample calls the Block with; and not where it must not be tried."""
    monkeypatch.setattr(faster, "GAIN", 0)
    pipe = pipeline(sum_block, hooks)
    prepare(pipe, request([[1, 1]]), 1, faster=improve)
    assert isinstance(sum_block.forward, faster.GraphForward) is improve
    assert [one.body for one in pipe.answer([request([[2, 3]])])] == [b"[[18.0]]"]


def test_the_choice_is_a_line_of_the_log(sums, caplog):
    """What was tried, how many times as fast it was, and of what."""
    with caplog.at_level(logging.INFO):
        prepare(pipeline(sums()), request([[1, 1]]), 1, faster=True)
    (message,) = caplog.messages
    assert message.startswith("fused graph of the Module: ")
    assert " times as fast (" in message
