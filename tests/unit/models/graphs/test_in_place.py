"""in_place: a Block that runs as its graph gives what it gave before."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import mxnet as mx
import numpy as np
import pytest
from tiny_models import images, runs_graph

from mms_handler.models.graphs.executors import Executors
from mms_handler.models.graphs.faster import try_graph
from mms_handler.models.graphs.in_place import GraphForward
from mms_handler.models.predictor import BlockPredictor


def test_other_shapes_are_compared_once(convolutions):
    """The Block answers the first samples of a new shape; if the graph agrees, it runs the next."""
    try_graph(convolutions, [images(1, 3, 8, 8)])
    other = images(2, 3, 12, 10)
    expected = convolutions.forward.block_forward(other).asnumpy()
    assert convolutions(other).asnumpy().tolist() == expected.tolist()
    assert convolutions.forward.checked._agreed[((3, 12, 10),)] is True
    assert np.allclose(convolutions(other).asnumpy(), expected, rtol=1e-4, atol=1e-6)
    assert ((2, 3, 12, 10),) in convolutions.forward.executors._bound


def test_the_results_are_the_callers(convolutions):
    """A second call does not write into the first's prediction."""
    photo, other = images(1, 3, 8, 8), images(1, 3, 8, 8, seed=1)
    try_graph(convolutions, [photo])
    first = convolutions(photo)
    copy = first.asnumpy().copy()
    second = convolutions(other)
    assert (first.asnumpy() == copy).all()
    assert (second.asnumpy() != copy).any()


def test_threads_of_a_script_are_kept_apart(convolutions):
    """Each thread that calls the Block gets the prediction for its own arguments."""
    photos = [images(1, 3, 8, 8, seed=seed) for seed in range(4)]
    expected = [convolutions(photo).asnumpy() for photo in photos]
    try_graph(convolutions, photos[:1])

    def agrees(index):
        predictions = [convolutions(photos[index]).asnumpy() for _ in range(100)]
        return all(
            np.allclose(prediction, expected[index], rtol=1e-4, atol=1e-6)
            for prediction in predictions
        )

    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(agrees, range(4))) == [True] * 4


def test_a_script_may_write_to_a_prediction(convolutions):
    """It is an NDArray like any other."""
    try_graph(convolutions, [images(1, 3, 8, 8)])
    prediction = convolutions(images(1, 3, 8, 8))
    prediction[:] = 7
    prediction += 1
    assert prediction.asnumpy().tolist() == [[8.0] * 3]


def test_new_values_of_parameters_are_used(convolutions):
    """The next call uses what a script set, though fused operators hold copies.

    A float graph is not compared anew: it agrees for any values.
    """
    photo = images(1, 3, 8, 8)
    try_graph(convolutions, [photo])
    compared = []
    convolutions.forward.checked._same = lambda *both: compared.append(both) or True
    convolutions(photo)
    last = convolutions[4]
    last.weight.set_data(mx.nd.zeros(last.weight.shape))
    last.bias.set_data(mx.nd.array([1, 2, 3]))
    assert convolutions(photo).asnumpy().tolist() == [[1.0, 2.0, 3.0]]
    assert compared == []


def test_parameters_that_are_loaded_again(convolutions, tmp_path):
    """The next call uses the values of the file."""
    photo = images(1, 3, 8, 8)
    convolutions.save_parameters(str(tmp_path / "net.params"))
    expected = convolutions(photo).asnumpy()
    for parameter in convolutions.collect_params().values():
        parameter.set_data(parameter.data() * 0)
    try_graph(convolutions, [photo])
    assert convolutions(photo).asnumpy().tolist() == [[0.0, 0.0, 0.0]]
    convolutions.load_parameters(str(tmp_path / "net.params"))
    assert np.allclose(convolutions(photo).asnumpy(), expected, rtol=1e-4, atol=1e-6)


def test_what_is_learnt_is_used(convolutions):
    """A step of training between two requests changes what the second gets."""
    photo = images(1, 3, 8, 8)
    try_graph(convolutions, [photo])
    untrained = convolutions(photo).asnumpy()
    trainer = mx.gluon.Trainer(convolutions.collect_params(), "sgd", {"learning_rate": 0.1})
    with mx.autograd.record():
        loss = (convolutions(photo) ** 2).sum()
    loss.backward()
    trainer.step(1)
    trained = convolutions(photo).asnumpy()
    assert abs(trained - untrained).max() > 1e-4
    expected = convolutions.forward.block_forward(photo).asnumpy()
    assert np.allclose(trained, expected, rtol=1e-4, atol=1e-6)


class Two(mx.gluon.HybridBlock):
    """Two inputs, and an output beside a list with another."""

    def hybrid_forward(self, F, left, right):
        return left - right, [left + right]


def test_structure_and_order_are_kept():
    """Arguments go by position, predictions are in the Block's own tuples and lists."""
    net = Two()
    left, right = mx.nd.array([[5], [9]]), mx.nd.array([[1], [2]])
    try_graph(net, [left, right])
    assert runs_graph(net)
    less, (more,) = net(left, right)
    assert isinstance(net(left, right), tuple)
    assert (less.asnumpy().tolist(), more.asnumpy().tolist()) == ([[4], [7]], [[6], [11]])


def test_a_block_that_was_hybridized_stays_so(convolutions):
    """What the graph does not take goes to the Block in the state the script put it in."""
    convolutions.hybridize(static_alloc=True)
    photo = images(1, 3, 8, 8)
    expected = convolutions(photo).asnumpy()
    try_graph(convolutions, [photo])
    assert convolutions._active
    assert np.allclose(convolutions(photo).asnumpy(), expected, rtol=1e-4, atol=1e-6)


# --- what the Block answers itself ---


@pytest.mark.parametrize(
    "args",
    [
        pytest.param([mx.nd.ones((1, 3, 8, 8), dtype="float64")], id="another type"),
        pytest.param([mx.sym.var("data")], id="a Symbol"),
    ],
)
def test_arguments_the_graph_does_not_take(convolutions, args):
    """The Block's own forward gets them, and fails or not as before."""
    try_graph(convolutions, [images(1, 3, 8, 8)])
    calls = []
    convolutions.forward.block_forward = lambda *args: calls.append(args)
    convolutions(*args)
    assert len(calls) == 1


def test_in_training_the_block_trains(convolutions):
    """Under autograd the batch norm uses the batch's mean, and there are gradients."""
    photo = images(4, 3, 8, 8)
    with mx.autograd.train_mode():
        expected = convolutions(photo).asnumpy()
    try_graph(convolutions, [photo])
    with mx.autograd.record():
        prediction = convolutions(photo)
    prediction.backward()
    assert np.allclose(prediction.asnumpy(), expected, rtol=1e-4)
    assert convolutions[0].weight.grad().asnumpy().any()


# --- ndarrays straight to the graph ---


@pytest.fixture
def calls(convolutions, monkeypatch):
    """The arguments of each call of a Block whose ndarrays may go straight to its graph."""
    try_graph(convolutions, [images(1, 3, 8, 8)], straight=True)
    recorded, call = [], GraphForward.__call__

    def recording(self, *args):
        recorded.append(args)
        return call(self, *args)

    monkeypatch.setattr(GraphForward, "__call__", recording)
    return recorded


def predicted(block, photo, plain=True):
    predictor = BlockPredictor(block, mx.cpu(), plain)
    return predictor(predictor.arrays(photo.asnumpy()))


def test_ndarrays_go_straight_to_the_graph(convolutions, calls):
    """At any number of rows of shapes that agreed; the result is the caller's."""
    photos = [images(rows, 3, 8, 8, seed=rows) for rows in (1, 2, 5)]
    predictions = [predicted(convolutions, photo) for photo in photos]
    assert calls == []
    for photo, prediction in zip(photos, predictions):
        assert isinstance(prediction, np.ndarray)
        expected = convolutions.forward.block_forward(photo).asnumpy()
        assert np.allclose(prediction, expected, rtol=1e-4, atol=1e-6)


def test_new_shapes_are_for_the_block(convolutions, calls):
    """Once; the next go straight to the graph too."""
    photo = images(1, 3, 12, 10)
    expected = convolutions.forward.block_forward(photo).asnumpy()
    for _ in range(3):
        assert np.allclose(predicted(convolutions, photo), expected, rtol=1e-4, atol=1e-6)
        assert len(calls) == 1


def test_the_block_is_called_for_ndarrays_of_mxnet(convolutions, calls):
    """A script's own output_fn expects NDArrays."""
    assert isinstance(predicted(convolutions, images(1, 3, 8, 8), plain=False), mx.nd.NDArray)
    assert len(calls) == 1


def test_hooks_are_called(convolutions, calls):
    """A forward hook of a Block is called for each request."""
    shapes = []
    convolutions.register_forward_hook(lambda block, args, out: shapes.append(out.shape))
    assert predicted(convolutions, images(2, 3, 8, 8)).shape == (2, 3)
    assert shapes == [(2, 3)]


def test_a_block_with_a_call_of_its_own(calls, convolutions):
    """A script's ``__call__`` may do more than the forward."""

    class Louder(type(convolutions)):
        def __call__(self, *args):
            return super().__call__(*args) * 10

    photo = images(1, 3, 8, 8)
    expected = convolutions.forward.block_forward(photo).asnumpy() * 10
    convolutions.__class__ = Louder
    assert np.allclose(predicted(convolutions, photo), expected, rtol=1e-4, atol=1e-5)


def test_no_rows_are_for_the_block(convolutions, calls):
    """MXNet binds nothing to no rows; the request fails in the Block's own words."""
    with pytest.raises(mx.base.MXNetError, match="could not construct a memory descriptor"):
        predicted(convolutions, mx.nd.zeros((1, 3, 8, 8))[0:0])
    assert calls[0][0].shape == (0, 3, 8, 8)


def test_in_training_ndarrays_are_for_the_block(convolutions, calls):
    with mx.autograd.train_mode():
        predicted(convolutions, images(4, 3, 8, 8))
    assert len(calls) == 1


def test_the_structure_stays_for_ndarrays():
    """Outputs in a list within a tuple."""

    class Nested(mx.gluon.HybridBlock):
        def hybrid_forward(self, F, x, y):
            return x + y, [x * 2, y * 3]

    net = Nested()
    try_graph(net, [mx.nd.ones((1, 2)), mx.nd.ones((1, 2))], straight=True)
    predictor = BlockPredictor(net, mx.cpu(), True)
    rows = [np.array([[1, 2], [3, 4]], np.float32), np.array([[5, 6], [7, 8]], np.float32)]
    total, (double, triple) = predictor(predictor.arrays(dict(zip("xy", rows))))
    assert total.tolist() == [[6, 8], [10, 12]]
    assert double.tolist() == [[2, 4], [6, 8]]
    assert triple.tolist() == [[15, 18], [21, 24]]


def test_a_straight_graph_that_breaks_at_other_shapes():
    """The Block answers shapes that the graph cannot be bound to."""
    net = Grown()
    try_graph(net, [mx.nd.array([[1, 2]])], straight=True)
    assert runs_graph(net)
    for _ in range(2):
        assert predicted(net, mx.nd.array([[1, 2, 3]])).tolist() == [[2.0, 3.0, 4.0]]


def failing(monkeypatch, exc):
    """Have each run of a graph raise ``exc``; the list has an item for each run."""
    runs = []

    def forward(self, arrays):
        runs.append(len(arrays))
        raise exc

    monkeypatch.setattr(Executors, "_forward", forward)
    return runs


@pytest.mark.parametrize("plain", [True, False])
def test_a_graph_that_fails_now_and_then(convolutions, calls, monkeypatch, plain):
    """The Block answers in its place, after one try."""
    photo = images(1, 3, 8, 8)
    expected = convolutions.forward.block_forward(photo).asnumpy()
    runs = failing(monkeypatch, mx.base.MXNetError("out of memory"))
    prediction = predicted(convolutions, photo, plain)
    values = prediction if plain else prediction.asnumpy()
    assert np.allclose(values, expected, rtol=1e-4, atol=1e-6)
    assert len(runs) == 1


class TimeIsUp(BaseException):
    """Like a request's deadline, which is raised wherever Python is."""


@pytest.mark.parametrize("plain", [True, False])
def test_an_interrupted_graph_is_not_replaced(convolutions, calls, monkeypatch, plain):
    """The Block is not started when a request's time is up."""
    runs = failing(monkeypatch, TimeIsUp())
    calls_of_block = []
    forward = convolutions.forward
    monkeypatch.setattr(forward, "block_forward", lambda *args: calls_of_block.append(args))
    monkeypatch.setattr(forward.checked, "_best", calls_of_block.append)
    for photo in (images(1, 3, 8, 8), images(1, 3, 9, 9)):
        with pytest.raises(TimeIsUp):
            predicted(convolutions, photo, plain)
    assert (len(runs), calls_of_block) == (2, [])


def test_a_tuple_stays_a_tuple():
    """Calling the Block gives its own structure, even if its graph was compared in ndarrays."""

    class Two(mx.gluon.HybridBlock):
        def hybrid_forward(self, F, x):
            return x + 1, x + 2

    net = Two()
    try_graph(net, [mx.nd.ones((1, 2))], straight=True)
    assert runs_graph(net)
    assert type(net(mx.nd.ones((1, 2)))) is tuple


def test_another_type_does_not_go_straight():
    """A script's float64 stays exact, which a float32 ndarray would not be."""

    class Exact(mx.gluon.HybridBlock):
        def hybrid_forward(self, F, x):
            return x * 2

    net, value = Exact(), mx.nd.array([[1 + 2**-40]], dtype="float64")
    try_graph(net, [value], straight=True)
    assert runs_graph(net)
    assert net(value).asnumpy().tolist() == [[2 + 2**-39]]


# --- shapes for which the graph is wrong ---


class Sizes(mx.gluon.HybridBlock):
    """Its graph knows no shapes; called with arrays, it looks at them."""

    def hybrid_forward(self, F, x):
        return x * 2 if F is mx.sym or x.shape[1] == 2 else x * 3


def test_a_graph_that_is_wrong_for_other_shapes(caplog):
    """Right for the sample, it answers that.  The Block answers other shapes, as the log says."""
    net = Sizes()
    try_graph(net, [mx.nd.array([[1, 2]])])
    assert runs_graph(net)
    for _ in range(2):
        assert net(mx.nd.array([[1, 2, 3]])).asnumpy().tolist() == [[3.0, 6.0, 9.0]]
        assert net(mx.nd.array([[1, 2]])).asnumpy().tolist() == [[2.0, 4.0]]
    assert caplog.messages == [
        "fused graph of the Block disagrees for shapes ((3,),); it is not used for them"
    ]


class Grown(mx.gluon.HybridBlock):
    """Called with arrays, it takes any width; its graph takes two."""

    def hybrid_forward(self, F, x):
        return F.broadcast_add(x, F.ones((1, 2 if F is mx.sym else x.shape[1])))


def test_a_graph_that_breaks_at_other_shapes():
    """The Block answers shapes that the graph cannot be bound to."""
    net = Grown()
    try_graph(net, [mx.nd.array([[1, 2]])])
    assert runs_graph(net)
    for _ in range(2):
        assert net(mx.nd.array([[1, 2, 3]])).asnumpy().tolist() == [[2.0, 3.0, 4.0]]


class Centred(mx.gluon.HybridBlock):
    """Rows less their mean."""

    def hybrid_forward(self, F, x):
        return F.broadcast_sub(x, F.mean(x, axis=0, keepdims=True))


def test_dependent_rows_are_not_split(monkeypatch):
    """A graph whose rows depend on each other is bound to all of them."""
    monkeypatch.setattr("mms_handler.models.graphs.graph.CPU_BYTES", 1)
    net = Centred()
    try_graph(net, [mx.nd.array([[1.0], [3.0]])])
    assert runs_graph(net)
    rows = mx.nd.array([[1], [5], [6]])
    for _ in range(2):
        assert net(rows).asnumpy().tolist() == [[-3.0], [1.0], [2.0]]
