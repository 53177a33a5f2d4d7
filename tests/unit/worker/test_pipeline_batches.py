"""pipeline: each request of a batch gets, in its place, the reply it would get alone."""

from __future__ import annotations

import functools
import io
import itertools
import json
import logging
from collections.abc import Mapping
from types import SimpleNamespace

import mxnet as mx
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mms_handler import codecs, models
from mms_handler.errors import BadInput, TooLarge, attempt
from mms_handler.models.graphs import faster
from mms_handler.script.load import Script
from mms_handler.worker import sample
from mms_handler.worker.functions import Options
from mms_handler.worker.mms.deadline import Deadline
from mms_handler.worker.pipeline import build
from mms_handler.worker.reply import Reply
from mms_handler.worker.request import Request
from mms_handler.worker.sample import prepare

JSON, CSV, NPY = "application/json", "text/csv", "application/x-npy"


@pytest.fixture(autouse=True)
def quick_samples(monkeypatch):
    """No sample is too slow to be tried in batches, however busy the machine is."""
    monkeypatch.setattr(sample, "HEAVY_S", 60)


def pipeline(model, hooks=None, *, batch_predict=False, **options):
    return build(Script(None, hooks or {}, batch_predict), model, Options(mx.cpu(), **options))


def request(rows, content_type=JSON, accept=JSON, **by_name):
    """Build a request from rows of numbers, or from the bytes of a body."""
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


def alone(pipe, single_request):
    """Answer a request that comes alone."""
    (outcome,) = pipe.answer([single_request])
    return outcome


def comparable(outcome):
    """Return a reply, or the type and text of an exception."""
    return outcome if isinstance(outcome, Reply) else (type(outcome.exc), str(outcome.exc))


class Counted(mx.gluon.Block):
    """y = x0 + 2 x1 + 10; records the number of rows of each pass, and fails if it gets a 13."""

    def __init__(self):
        super().__init__()
        self.passes = []

    def forward(self, x):
        self.passes.append(x.shape[0])
        if (x == 13).sum().asscalar():
            raise ZeroDivisionError("thirteen")
        return x[:, :1] + 2 * x[:, 1:] + 10


class Centred(mx.gluon.Block):
    """Subtracts the mean of all rows, so requests must not be stacked."""

    def forward(self, x):
        return mx.nd.broadcast_sub(x, x.mean(axis=0, keepdims=True)) + x


# --- one by one ---


def test_a_batch_of_one_is_answered(sum_block):
    """The outcome is the reply or the exception; an empty batch has none."""
    pipe = pipeline(sum_block)
    assert pipe.answer([request([[1, 1]])]) == [Reply(b"[[13.0]]", JSON, 200)]
    (outcome,) = pipe.answer([request(b"[[")])
    assert isinstance(outcome.exc, BadInput)
    assert pipe.answer([]) == []


def test_functions_for_whole_requests_get_them_one_by_one():
    """transform_fn and process_request_fn are called once for each request."""
    hooks = {"transform_fn": lambda model, data, content_type, accept: (data * 2, "text/own")}
    replies = pipeline(None, hooks).answer([request(b"1"), request(b"2")])
    assert [reply.body for reply in replies] == [b"11", b"22"]
    hooks = {"process_request_fn": lambda model, data, content_type: json.loads(data)}
    replies = pipeline(None, hooks).answer([request(b"1"), request(b"2")])
    assert [reply.body for reply in replies] == [b"1", b"2"]


def test_a_global_from_input_fn_reaches_the_same_requests_output_fn():
    """If a script has both functions, one request is finished before the next one begins.

    A script with batch_predict gives that up.
    """
    state = {}

    def input_fn(data, content_type):
        state["name"] = json.loads(data)["name"]
        return mx.nd.ones((1, 2))

    def output_fn(prediction, accept):
        return state["name"], "text/plain"

    block = Counted()
    pipe = pipeline(block, {"input_fn": input_fn, "output_fn": output_fn})
    replies = pipe.answer([request({"name": "one"}), request({"name": "two"})])
    assert [reply.body for reply in replies] == [b"one", b"two"]
    batched = pipeline(block, {"input_fn": input_fn, "output_fn": output_fn}, batch_predict=True)
    replies = batched.answer([request({"name": "one"}), request({"name": "two"})])
    assert [reply.body for reply in replies] == [b"two", b"two"]


# --- in one pass ---


def test_one_pass_gives_each_request_its_own_reply():
    """Requests with different numbers of rows, types and Accepts share a pass."""
    block = Counted()
    pipe = pipeline(block)
    requests = [
        request([[1, 1]]),
        request([[2, 3], [5, 5]], CSV, CSV),
        request(b"[[1,"),
        request([[0, 0.5]], NPY),
        request([[1, 1]], accept="image/png"),
        request(b"x", "text/none"),
    ]
    pipe.answer(requests)
    block.passes.clear()
    outcomes = pipe.answer(requests)
    assert block.passes == [5]
    assert outcomes[0] == Reply(b"[[13.0]]", JSON, 200)
    assert outcomes[1] == Reply(b"18.0\r\n25.0\r\n", CSV, 200)
    assert outcomes[3] == Reply(b"[[11.0]]", JSON, 200)
    assert [type(outcomes[index].exc).__name__ for index in (2, 4, 5)] == [
        "BadInput",
        "NotAcceptable",
        "UnsupportedType",
    ]


def test_a_failed_pass_is_repeated_request_by_request():
    """Only the request that caused the failure gets an error."""
    block = Counted()
    pipe = pipeline(block)
    pipe.answer([request([[1.5, 1]]), request([[2, 2]])])
    block.passes.clear()
    outcomes = pipe.answer([request([[1, 1]]), request([[13, 0]]), request([[2, 3]])])
    assert block.passes == [3, 1, 1, 1]
    assert comparable(outcomes[1]) == (ZeroDivisionError, "thirteen")
    assert [outcomes[0].body, outcomes[2].body] == [b"[[13.0]]", b"[[18.0]]"]


def test_a_scripts_output_fn_gets_an_ndarray_of_its_rows(sums, sum_block):
    """In a batch as alone.  Neither what it writes to the array nor its errors affect others."""

    def output_fn(prediction, accept):
        assert isinstance(prediction, mx.nd.NDArray)
        prediction += 1
        if prediction[0, 0].asscalar() == 14:
            raise LookupError("fourteen")
        return prediction.asnumpy().tolist(), accept

    for model in (sums(), sums(bound=4), sum_block):
        pipe = pipeline(model, {"output_fn": output_fn})
        outcomes = pipe.answer([request([[1, 0], [0, 0]]), request([[1, 1]]), request([[2, 3]])])
        assert comparable(outcomes[1]) == (LookupError, "fourteen")
        assert [outcomes[0].body, outcomes[2].body] == [b"[[12.0], [11.0]]", b"[[19.0]]"]


def test_a_scripts_data_iter_is_predicted_alone(sums):
    """It cannot be stacked; the arrays of other requests in the batch are."""

    def input_fn(model, input_data, content_type):
        rows = mx.nd.array(json.loads(input_data))
        return mx.io.NDArrayIter(rows, batch_size=1) if len(rows) == 1 else rows

    requests = [request([[1, 1]]), request([[2, 3], [0, 0]]), request([[0, 0], [2, 3]])]
    replies = pipeline(sums(), {"input_fn": input_fn}).answer(requests)
    assert [reply.body for reply in replies] == [
        b"[[13.0]]",
        b"[[18.0], [10.0]]",
        b"[[10.0], [18.0]]",
    ]


def test_dependent_rows_are_never_stacked():
    """A Block whose rows depend on each other gives each request what it gives alone."""
    pipe = pipeline(Centred())
    requests = [request([[1], [3]]), request([[10], [30]])]
    for _ in range(2):
        replies = pipe.answer(requests)
        assert [reply.body for reply in replies] == [b"[[0.0], [4.0]]", b"[[0.0], [40.0]]"]


def test_a_batch_norm_in_training_mode_is_never_stacked():
    """With use_global_stats off, under train_mode, it subtracts the mean of its input."""

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
    requests = [request([[1], [3]]), request([[10], [30]])]
    for _ in range(2):
        predictions = [json.loads(reply.body) for reply in pipe.answer(requests)]
        assert [np.round(rows, 3).tolist() for rows in predictions] == [[[-1], [1]], [[-1], [1]]]


def models_of_every_kind():
    """Return models by name; each takes rows of two values."""

    def module(rows):
        y = mx.sym.FullyConnected(mx.sym.var("data"), num_hidden=1, name="fc")
        bound_module = mx.mod.Module(mx.sym.Group([y, y * 2]), label_names=None)
        bound_module.bind([("data", (rows, 2))], for_training=False)
        weights = {"fc_weight": mx.nd.array([[1, 2]]), "fc_bias": mx.nd.array([10])}
        bound_module.init_params(None, weights, {})
        return bound_module

    def dense():
        net = mx.gluon.nn.HybridSequential()
        net.add(mx.gluon.nn.Dense(1, in_units=2))
        net.initialize()
        net[0].weight.set_data(mx.nd.array([[1, 2]]))
        return net

    def dense_as_graph():
        net = dense()
        faster.try_graph(net, [mx.nd.array([[1, 2]])])
        return net

    def two_inputs():
        x, y = mx.sym.var("x"), mx.sym.var("y")
        bound_module = mx.mod.Module(x - y, data_names=["x", "y"], label_names=None)
        bound_module.bind([("x", (1, 2)), ("y", (1, 2))], for_training=False)
        bound_module.init_params()
        return bound_module

    widths = mx.gluon.nn.HybridLambda(lambda F, x: F.sum(x, axis=1, keepdims=True))
    return {
        "a Module bound to one": module(1),
        "a Module bound to four": module(4),
        "a Module with two inputs": two_inputs(),
        "a Block": Counted(),
        "a HybridBlock": dense(),
        "a HybridBlock on its graph": dense_as_graph(),
        "a Block of any width": widths,
        "a Block with dependent rows": Centred(),
    }


@pytest.fixture(scope="module")
def pipes():
    """A pipeline for each kind of model.  All examples share it, so earlier ones may affect later.

    The graph is installed however slow it is on this machine.  Each pipeline has seen all widths,
    from which it learns what to say about a wrong one.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(faster, "GAIN", 0)
        patch.setattr(faster, "UNFUSED_S", 60)
        pipes = {name: pipeline(model) for name, model in models_of_every_kind().items()}
        for pipe in pipes.values():
            for rows in ([[1, 2]], [[1]], [[1, 2, 3]], {"x": [[1, 2]], "y": [[3, 4]]}):
                alone(pipe, request(rows))
        return pipes


class Untouched(Mapping):
    """What a request has for parameters by name, which default functions do not ask for."""

    def __getitem__(self, name):
        raise AssertionError(name)

    __iter__ = __len__ = __getitem__


def sent(rows, kind, accept):
    """A request with these rows in one of the forms that mean the same, or nearly."""
    content_type, form = kind
    if content_type == NPY:
        out = io.BytesIO()
        np.save(out, np.array(rows, form))
        body = out.getvalue()
    elif content_type.startswith(CSV):
        body = form.join(",".join(map(str, row)) for row in rows).encode()
    else:
        body = form % json.dumps(rows).encode()
    return Request(body, content_type, accept, Untouched())


KINDS = [
    (JSON, b"%s"),
    (JSON, b" %s\n" + b" " * 600),  # as long as what pysimdjson reads
    (JSON, b'{"x": %s}'),
    (JSON, b'{"x": %s, "y": [1]}'),
    (JSON, b'{"y": [[1, 2]], "x": %s}'),
    (JSON, b"[%s]"),
    (JSON, b"\xef\xbb\xbf%s"),
    ("application/JSON; charset=utf-8", b"%s"),
    ("application/json; charset=latin-1", b"%s"),
    ("application/json; charset=none", b"%s"),
    ("application/jsonlines", b"%s"),
    (CSV, "\n"),
    (CSV, "\r\n"),
    ("text/csv; header=absent", "\n"),
    (NPY, "<f4"),
    (NPY, "<f8"),
    (NPY, ">i2"),
    (NPY, "i1"),
]
ACCEPTS = [JSON, CSV, NPY, "", "*/*", " */*", "text/*", "text/html, text/csv;q=0.5", "a/b"]


def bodies():
    """Lists of requests: good ones, of small whole numbers that are computed exactly, and bad."""
    rows = st.integers(1, 3).flatmap(
        lambda width: st.lists(
            st.lists(st.integers(-9, 14), min_size=width, max_size=width), min_size=1, max_size=4
        )
    )
    good = st.builds(sent, rows, st.sampled_from(KINDS), st.sampled_from(ACCEPTS))
    flat = st.builds(
        lambda values, accept: Request(json.dumps(values).encode(), JSON, accept, Untouched()),
        st.one_of(st.integers(0, 9), st.lists(st.sampled_from([1, 2.5, None]), max_size=3)),
        st.sampled_from(ACCEPTS),
    )
    bad = st.sampled_from(
        [
            request(b"[["),
            request(b""),
            request(b"[]"),
            request(b"\xff"),
            request(b"1", "image/gif"),
            request(b"1,2\n3", CSV),
            request(b"\x93NUMPY", NPY),
            request(b"[1, 2]]"),
            request(b"[[1, 2]], [[3, 4]]"),
            request(b'{"a": [[1, 2]], "b": [[1, 2]]}'),
        ]
    )
    mixed = st.lists(st.one_of(good, good, good, flat, bad), max_size=7)

    def of_one_kind(kind):
        """As most clients of a model send them; one may be wrong, or accept something else."""
        accept = st.sampled_from(ACCEPTS).flatmap(
            lambda usual: st.sampled_from([usual] * 12 + ACCEPTS)
        )
        request = st.builds(sent, rows, st.just(kind), accept)
        lists = st.lists(request, min_size=2, max_size=7)
        return st.one_of(lists, st.builds(lambda some, one: [*some, one], lists, bad))

    return st.one_of(mixed, st.sampled_from(KINDS).flatmap(of_one_kind))


@pytest.mark.parametrize("name", list(models_of_every_kind()))
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(requests=bodies())
def test_each_request_gets_what_it_would_get_alone(pipes, name, requests):
    """Random requests, good and bad, of several shapes, get the same bytes or errors, in order.

    What a model refuses is found out from what it has taken so far.  So a bad request may get
    another error than before the batch; then it gets that one alone, too.
    """
    before = [comparable(alone(pipes[name], single_request)) for single_request in requests]
    together = [comparable(outcome) for outcome in pipes[name].answer(requests)]
    after = [comparable(alone(pipes[name], single_request)) for single_request in requests]
    assert len(together) == len(requests)
    assert all(outcome in each for outcome, *each in zip(together, before, after))
    assert after == [step_by_step(pipes[name], single_request) for single_request in requests]


def step_by_step(pipe, single_request):
    """What codecs and the predictor make of a request, called one after the other."""
    body, content_type, accept, *_ = single_request
    predictor = pipe.predictor
    try:
        data = predictor.arrays(codecs.decode(body, content_type))
        prediction = models.to_plain(predictor(data))
        accept = JSON if accept.strip() in ("", "*/*") else accept
        return Reply(*codecs.encode(prediction, accept, JSON))
    except Exception as exc:
        return type(exc), str(exc)


def test_a_deadline_while_a_batch_is_read(sum_block, monkeypatch):
    """The request that is being read has taken too long; the others were not answered in time."""
    decode = codecs.decode

    def endless(body, *arguments):
        while body == b"[[5, 5]]":
            pass
        return decode(body, *arguments)

    monkeypatch.setattr(codecs, "decode", endless)
    monkeypatch.setattr(codecs, "decode_together", lambda *arguments: None)
    pipe = pipeline(sum_block)
    outcomes = within_half_a_second(pipe, [request([[number, number]]) for number in (4, 5, 6)])
    assert [str(outcome.exc) for outcome in outcomes] == [
        "not started: its batch used up the limit of 0.45 s",
        "the model did not answer within 0.45 s",
        "not started: its batch used up the limit of 0.45 s",
    ]


def within_half_a_second(pipe, requests):
    deadline = Deadline(0.5)
    with deadline:
        return pipe.answer(requests, lambda _, *call: attempt(deadline.call, *call))


def test_a_deadline_while_a_batch_is_read_together(sum_block, monkeypatch):
    """None of the requests has been read."""

    def endless(*arguments):
        while True:
            pass

    monkeypatch.setattr(codecs, "decode_together", endless)
    outcomes = within_half_a_second(pipeline(sum_block), [request([[1, 1]])] * 2)
    assert {str(outcome.exc) for outcome in outcomes} == {
        "not started: its batch used up the limit of 0.45 s"
    }


@pytest.mark.parametrize("kind", [JSON, CSV, NPY])
def test_plain_bodies_are_read_and_written_at_once(kind, sums, sum_block, monkeypatch):
    """Bodies that are plain and alike are not read one by one, nor are their replies so written."""
    for model in (sums(), sum_block):
        pipe = pipeline(model)
        pipe.answer([request([[1, 1]])] * 2)  # which shows that a Block's rows are independent
        with monkeypatch.context() as patch:
            patch.setattr(codecs, "decode", None)
            patch.setattr(codecs, "encode", None)
            patch.setattr(codecs, "encode_each", None)
            replies = pipe.answer([request([[row, 1]] * 2, kind) for row in (1, 2, 3)])
        assert [json.loads(reply.body) for reply in replies] == [
            [[row + 12.0]] * 2 for row in (1, 2, 3)
        ]


def test_a_bad_body_is_answered_alone(sum_block, monkeypatch):
    """The others are predicted in one pass, and written at once."""
    block = Counted()
    pipe = pipeline(block)
    pipe.answer([request([[1, 1]])] * 2)
    block.passes.clear()
    good = [request([[row, 1]]) for row in (1, 2, 3)]
    monkeypatch.setattr(codecs, "encode", None)  # which writes one reply
    *replies, wrong = pipe.answer([*good, request(b"[[1, 2]")])
    assert [json.loads(reply.body) for reply in replies] == [[[row + 12.0]] for row in (1, 2, 3)]
    assert isinstance(wrong.exc, BadInput)
    assert block.passes == [3]


@pytest.mark.parametrize(
    ("rows", "fits"),
    [([[1, 1]] * 2, False), ([[1, 1]] * 4, True), ([[1] * 8], True), ([[1] * 4] * 2, False)],
)
def test_bodies_are_taken_together_as_they_are_alone(rows, fits):
    """Two halves of a sample are no sample together, and two samples in lines are no rows."""
    symbol = mx.sym.sum(mx.sym.var("data"), axis=(1, 2))
    module = mx.mod.Module(symbol, data_names=["data"], label_names=None)
    module.bind(data_shapes=[("data", (1, 4, 2))], for_training=False)
    module.init_params()
    pipe = pipeline(module)
    outcomes = [comparable(outcome) for outcome in pipe.answer([request(rows)] * 2)]
    assert outcomes == [comparable(alone(pipe, request(rows)))] * 2
    assert (outcomes[0] == (b"[8.0]", JSON, 200)) == fits


def test_every_row_returns_to_its_request(sums):
    """A thousand rows with different values, in requests of one to nine rows, stay in order."""
    pipe, counts = pipeline(sums()), [1 + index % 9 for index in range(200)]
    ends = np.cumsum(counts).tolist()
    requests = [
        request([[row, 0] for row in range(end - count, end)]) for end, count in zip(ends, counts)
    ]
    predictions = [json.loads(reply.body) for reply in pipe.answer(requests)]
    assert list(itertools.chain(*predictions)) == [[row + 10.0] for row in range(ends[-1])]
    assert [len(rows) for rows in predictions] == counts


def test_later_requests_do_not_overwrite_predictions(sums):
    """A prediction that a script holds on to never changes."""
    predictions = []

    def output_fn(prediction, accept):
        predictions.append(prediction)
        return b"", accept

    pipe = pipeline(sums(), {"output_fn": output_fn})
    for start in (0, 100, 200):
        pipe.answer([request([[start, 0]]), request([[start + 1, 0]])])
    values = [prediction.asnumpy().tolist() for prediction in predictions]
    assert values == [[[10]], [[11]], [[110]], [[111]], [[210]], [[211]]]


# --- a script's predict_fn ---


class Predict:
    """A predict_fn that records the number of rows of each pass."""

    def __init__(self):
        self.passes = []

    def __call__(self, data, model):
        self.passes.append(data.shape[0])
        return model(data) * 2


def test_a_scripts_predict_fn_is_called_for_each_request(sum_block):
    """It gets data of several requests only if the script has batch_predict."""
    predict = Predict()
    pipe = pipeline(sum_block, {"predict_fn": predict})
    prepare(pipe, request([[1, 1]]), 4, faster=False)
    predict.passes.clear()
    pipe.answer([request([[1, 1]])] * 3)
    assert predict.passes == [1, 1, 1]


def test_the_sample_proves_batch_predict(sum_block, caplog):
    """With batch_predict and a sample that gives stacked what it gives alone, data is stacked."""
    predict = Predict()
    pipe = pipeline(sum_block, {"predict_fn": predict}, batch_predict=True)
    prepare(pipe, request([[1, 1.5]]), 1, faster=False)
    predict.passes.clear()
    outcomes = pipe.answer([request([[1, 1]]), request([[2, 3], [5, 5]]), request(b"[[")])
    assert predict.passes == [3]
    assert [reply.body for reply in outcomes[:2]] == [b"[[26.0]]", b"[[36.0], [50.0]]"]
    assert isinstance(outcomes[2].exc, BadInput)
    assert not caplog.messages


def test_batch_predict_of_a_module(sums):
    """The guide's predict_fn gets a DataIter of all rows of the batch."""
    sizes = []

    def predict_fn(module, data):
        sizes.append(data.num_data)
        return module.predict(data)

    pipe = pipeline(sums(bound=2), {"predict_fn": predict_fn}, batch_predict=True)
    prepare(pipe, request([[1, 1.5]]), 1, faster=False)
    sizes.clear()
    replies = pipe.answer([request([[1, 1]]), request([[2, 3], [5, 5]])])
    assert sizes == [3]
    assert [reply.body for reply in replies] == [b"[[13.0]]", b"[[18.0], [25.0]]"]


@pytest.mark.parametrize(
    ("predict_fn", "sample_request", "warning"),
    [
        pytest.param(
            lambda data, model: data - data.mean(axis=0, keepdims=True) + data,
            request([[1, 2]]),
            "batch_predict has no effect: the sample and requests like it get other predictions "
            "together than alone, so requests are predicted one by one",
            id="dependent rows",
        ),
        pytest.param(
            lambda data, model: data,
            None,
            "batch_predict has no effect: without a packed sample request it cannot be tried",
            id="no sample",
        ),
        pytest.param(
            lambda data, model, headers, request_id: data,
            request([[1, 2]]),
            "batch_predict has no effect: predict_fn takes each request's headers, request_id",
            id="a predict_fn that needs a request's own headers",
        ),
    ],
)
def test_an_unproven_batch_predict(sum_block, caplog, predict_fn, sample_request, warning):
    """The log warns about a wrong batch_predict, and requests are predicted one by one."""
    passes = []

    @functools.wraps(predict_fn)
    def counting(data, *others):
        passes.append(data.shape[0])
        return predict_fn(data, *others)

    pipe = pipeline(sum_block, {"predict_fn": counting}, batch_predict=True)
    prepare(pipe, sample_request, 2, faster=False)
    assert caplog.messages == [warning]
    passes.clear()
    assert len(pipe.answer([request([[1, 2]])] * 2)) == 2
    assert passes == [1, 1]


# --- the sample ---


def test_a_failing_sample_is_logged(sum_block, caplog):
    """The model is served all the same: if no sample was packed, one was made of zeros."""
    pipe = pipeline(sum_block)
    prepare(pipe, request([[1, 2, 3]]), 2, faster=True)
    (message,) = caplog.messages
    assert message.startswith(
        "the sample request fails, so nothing is warmed up: BadInput: the model"
    )
    assert pipe.answer([request([[1, 1]])])[0].body == b"[[13.0]]"


def test_the_sample_warms_up_each_batch_size(sums, monkeypatch):
    """Executors are bound for one request to a full batch, so no client waits for that.

    The time for it is unlimited here, whatever else the machine does.
    """
    monkeypatch.setattr(sample, "WARM_UP_S", 60)
    pipe = pipeline(sums())
    prepare(pipe, request([[1, 1]]), 5, faster=False)
    bound = {shape[0] for (shape,) in pipe.predictor._executors._bound}
    assert bound == {1, 2, 3, 4, 5}


def test_warming_up_takes_half_a_second(sums, monkeypatch):
    """By a clock that moves whenever it is looked at; larger batches wait for clients."""
    ticks = itertools.count(0, 0.05)
    clock = SimpleNamespace(monotonic=lambda: next(ticks), thread_time=lambda: 0.0)
    monkeypatch.setattr(sample, "time", clock)
    pipe = pipeline(sums())
    prepare(pipe, request([[1, 1]]), 32, faster=False)
    bound = {shape[0] for (shape,) in pipe.predictor._executors._bound}
    assert 8 < max(bound) < 16


def test_a_failing_trial_is_logged(sum_block, caplog, monkeypatch):
    """A model that answers its sample is served even if its graph fails."""

    def fail(block, arrays, straight, patience):
        raise OverflowError("too much")

    monkeypatch.setattr("mms_handler.models.try_graph", fail)
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
def test_scripts_that_call_the_block_use_its_graph(sum_block, monkeypatch, hooks, improve):
    """The sample shows how the Block is called.  No graph is installed where none may be tried.

    The graph counts as faster here, however slow it is on this machine.
    """
    monkeypatch.setattr(faster, "GAIN", 0)
    monkeypatch.setattr(faster, "UNFUSED_S", 60)
    pipe = pipeline(sum_block, hooks)
    prepare(pipe, request([[1, 1]]), 1, faster=improve)
    assert isinstance(sum_block.forward, faster.GraphForward) is improve
    assert [reply.body for reply in pipe.answer([request([[2, 3]])])] == [b"[[18.0]]"]


def test_the_trial_is_logged(sums, caplog):
    """The line names the graph and its model, and says how many times as fast it was."""
    with caplog.at_level(logging.INFO):
        prepare(pipeline(sums()), request([[1, 1]]), 1, faster=True)
    (message,) = caplog.messages
    assert message.startswith("fused graph of the Module: ")
    assert " times as fast (" in message


# --- memory ---


def test_a_batch_is_read_in_groups_of_a_limited_size():
    """Requests wait until those before them are predicted, so that few arrays are there at once."""
    block = Counted()
    pipe = pipeline(block, max_array_bytes=64)
    requests = [request([[i, 1]]) for i in range(32)]
    expected = [comparable(alone(pipe, single)) for single in requests]
    pipe.answer(requests)  # proves that they may share a pass
    block.passes.clear()
    replies = pipe.answer(requests)
    assert [comparable(reply) for reply in replies] == expected
    assert sum(rows for rows in block.passes) >= 32
    assert max(block.passes) == 5  # of 8 bytes each: more than half of the limit


def test_a_body_beyond_the_limit_is_refused_alone():
    """The others of its batch are answered."""
    pipe = pipeline(Counted(), max_array_bytes=64)
    bodies = [[[1, 1]], [[1, 1]] * 9, [[2, 1]]]
    first, second, third = map(comparable, pipe.answer([request(rows) for rows in bodies]))
    assert (first.body, third.body) == (b"[[13.0]]", b"[[14.0]]")
    assert second == (TooLarge, "the arrays take 72 bytes as float32; the limit is 64")
