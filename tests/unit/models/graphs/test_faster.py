"""optimize: a Block's graph takes its place where it gives the same and is faster, else never."""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor

import mxnet as mx
import numpy as np
import pytest

from mms_handler.models.graphs import faster
from mms_handler.models.graphs.executors import Executors
from mms_handler.models.graphs.faster import GraphForward, blocks, recorded_calls, try_graph
from mms_handler.models.graphs.graph import of_module
from mms_handler.models.predictor import BlockPredictor


@pytest.fixture(autouse=True)
def any_speed(monkeypatch):
    """What is right is kept, however fast: times are not for tests."""
    monkeypatch.setattr(faster, "GAIN", 0)
    monkeypatch.setattr(faster, "UNFUSED_S", 60)


def pictures(*shape, seed=0):
    return mx.nd.array(np.random.RandomState(seed).uniform(-1, 1, shape))


@pytest.fixture
def convolutions():
    """Convolution, batch norm, relu6 and a Dense, of random weights."""
    mx.random.seed(0)
    net = mx.gluon.nn.HybridSequential()
    net.add(
        mx.gluon.nn.Conv2D(8, 3),
        mx.gluon.nn.BatchNorm(),
        mx.gluon.nn.HybridLambda(lambda F, x: F.clip(x, 0, 6)),
        mx.gluon.nn.GlobalAvgPool2D(),
        mx.gluon.nn.Dense(3),
    )
    net.initialize(mx.init.Xavier())
    net(mx.nd.zeros((1, 3, 8, 8)))
    return net


def is_swapped(block):
    return isinstance(block.forward, GraphForward)


# --- what is kept ---


def test_a_right_graph_takes_the_place_of_forward(convolutions):
    """And whoever calls the Block gets what it gave before, at any number of rows."""
    photos = [pictures(rows, 3, 8, 8) for rows in (1, 2, 5, 1)]
    wanted = [convolutions(one).asnumpy() for one in photos]
    try_graph(convolutions, [photos[0]])
    assert is_swapped(convolutions)
    assert convolutions.forward.executors.fused
    for photo, one in zip(photos, wanted):
        assert np.allclose(convolutions(photo).asnumpy(), one, rtol=1e-4, atol=1e-6)


def test_other_shapes_are_compared_once(convolutions):
    """The first call with samples of a new shape is the Block's, and says whether the next are."""
    try_graph(convolutions, [pictures(1, 3, 8, 8)])
    other = pictures(2, 3, 12, 10)
    wanted = convolutions.forward.block_forward(other).asnumpy()
    assert convolutions(other).asnumpy().tolist() == wanted.tolist()
    assert convolutions.forward.checked._agreed[((3, 12, 10),)] is True
    assert np.allclose(convolutions(other).asnumpy(), wanted, rtol=1e-4, atol=1e-6)
    assert ((2, 3, 12, 10),) in convolutions.forward.executors._bound


def test_the_results_are_the_callers(convolutions):
    """A second call does not write into the first's prediction."""
    one, other = pictures(1, 3, 8, 8), pictures(1, 3, 8, 8, seed=1)
    try_graph(convolutions, [one])
    first = convolutions(one)
    kept = first.asnumpy().copy()
    second = convolutions(other)
    assert (first.asnumpy() == kept).all()
    assert (second.asnumpy() != kept).any()


def test_threads_of_a_script_do_not_meet(convolutions):
    """Each that calls the Block gets what belongs to its own arguments."""
    photos = [pictures(1, 3, 8, 8, seed=seed) for seed in range(4)]
    wanted = [convolutions(photo).asnumpy() for photo in photos]
    try_graph(convolutions, photos[:1])

    def called(place):
        found = [convolutions(photos[place]).asnumpy() for _ in range(100)]
        return all(np.allclose(one, wanted[place], rtol=1e-4, atol=1e-6) for one in found)

    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(called, range(4))) == [True] * 4


def test_a_script_may_write_to_a_prediction(convolutions):
    """It is an NDArray like any other."""
    try_graph(convolutions, [pictures(1, 3, 8, 8)])
    found = convolutions(pictures(1, 3, 8, 8))
    found[:] = 7
    found += 1
    assert found.asnumpy().tolist() == [[8.0] * 3]


def test_parameters_stay_the_blocks_own(convolutions):
    """New values that a script sets are used by the next call, though fused ones are copies."""
    photo = pictures(1, 3, 8, 8)
    try_graph(convolutions, [photo])
    convolutions(photo)
    last = convolutions[4]
    last.weight.set_data(mx.nd.zeros(last.weight.shape))
    last.bias.set_data(mx.nd.array([1, 2, 3]))
    assert convolutions(photo).asnumpy().tolist() == [[1.0, 2.0, 3.0]]


def test_parameters_that_are_loaded_again(convolutions, tmp_path):
    """So are those of a file."""
    photo = pictures(1, 3, 8, 8)
    convolutions.save_parameters(str(tmp_path / "net.params"))
    wanted = convolutions(photo).asnumpy()
    for parameter in convolutions.collect_params().values():
        parameter.set_data(parameter.data() * 0)
    try_graph(convolutions, [photo])
    assert convolutions(photo).asnumpy().tolist() == [[0.0, 0.0, 0.0]]
    convolutions.load_parameters(str(tmp_path / "net.params"))
    assert np.allclose(convolutions(photo).asnumpy(), wanted, rtol=1e-4, atol=1e-6)


def test_what_is_learnt_is_used(convolutions):
    """A step of training between two requests changes what the second gets."""
    photo = pictures(1, 3, 8, 8)
    try_graph(convolutions, [photo])
    before = convolutions(photo).asnumpy()
    trainer = mx.gluon.Trainer(convolutions.collect_params(), "sgd", {"learning_rate": 0.1})
    with mx.autograd.record():
        loss = (convolutions(photo) ** 2).sum()
    loss.backward()
    trainer.step(1)
    after = convolutions(photo).asnumpy()
    assert abs(after - before).max() > 1e-4
    assert np.allclose(
        after, convolutions.forward.block_forward(photo).asnumpy(), rtol=1e-4, atol=1e-6
    )


class Two(mx.gluon.HybridBlock):
    """Two inputs, and an output beside a list of one."""

    def hybrid_forward(self, F, left, right):
        return left - right, [left + right]


def test_structure_and_order_are_kept():
    """Arguments by position, predictions in the tuples and lists that the Block makes."""
    net = Two()
    left, right = mx.nd.array([[5], [9]]), mx.nd.array([[1], [2]])
    try_graph(net, [left, right])
    assert is_swapped(net)
    less, (more,) = net(left, right)
    assert isinstance(net(left, right), tuple)
    assert (less.asnumpy().tolist(), more.asnumpy().tolist()) == ([[4], [7]], [[6], [11]])


@pytest.mark.filterwarnings("ignore:.*Cannot decide type:UserWarning")  # SymbolBlock.imports
def test_a_symbol_block(convolutions, tmp_path):
    """What was exported and imported again is a HybridBlock too."""
    photo = pictures(2, 3, 8, 8)
    wanted = convolutions(photo).asnumpy()
    convolutions.hybridize()
    convolutions(photo)
    convolutions.export(str(tmp_path / "net"))
    files = str(tmp_path / "net-symbol.json"), ["data"], str(tmp_path / "net-0000.params")
    net = mx.gluon.SymbolBlock.imports(*files)
    try_graph(net, [photo])
    assert is_swapped(net)
    assert np.allclose(net(photo).asnumpy(), wanted, rtol=1e-4, atol=1e-6)


def test_a_block_that_was_hybridized_stays_so(convolutions):
    """What the graph does not take goes to the Block as the script left it."""
    convolutions.hybridize(static_alloc=True)
    photo = pictures(1, 3, 8, 8)
    wanted = convolutions(photo).asnumpy()
    try_graph(convolutions, [photo])
    assert convolutions._active
    assert np.allclose(convolutions(photo).asnumpy(), wanted, rtol=1e-4, atol=1e-6)


# --- what the Block answers itself ---


@pytest.mark.parametrize(
    "args",
    [
        pytest.param([mx.nd.ones((1, 3, 8, 8), dtype="float64")], id="another type"),
        pytest.param([mx.sym.var("data")], id="a Symbol"),
    ],
)
def test_arguments_the_graph_does_not_take(convolutions, args):
    """The Block's own forward has them, and fails or not as it did."""
    try_graph(convolutions, [pictures(1, 3, 8, 8)])
    asked = []
    convolutions.forward.block_forward = lambda *given: asked.append(given)
    convolutions(*args)
    assert len(asked) == 1


def test_in_training_the_block_trains(convolutions):
    """Under autograd the batch norm uses the batch's own mean, and gradients can be had."""
    photo = pictures(4, 3, 8, 8)
    with mx.autograd.train_mode():
        wanted = convolutions(photo).asnumpy()
    try_graph(convolutions, [photo])
    with mx.autograd.record():
        found = convolutions(photo)
    found.backward()
    assert np.allclose(found.asnumpy(), wanted, rtol=1e-4)
    assert convolutions[0].weight.grad().asnumpy().any()


# --- ndarrays straight to the graph ---


@pytest.fixture
def calls(convolutions, monkeypatch):
    """The arguments of each call of a Block that runs as a graph of ndarrays."""
    try_graph(convolutions, [pictures(1, 3, 8, 8)], straight=True)
    noted, call = [], GraphForward.__call__

    def noting(self, *args):
        noted.append(args)
        return call(self, *args)

    monkeypatch.setattr(GraphForward, "__call__", noting)
    return noted


def predicted(block, photo, plain=True):
    predictor = BlockPredictor(block, mx.cpu(), plain)
    return predictor(predictor.arrays(photo.asnumpy()))


def test_ndarrays_go_straight_to_the_graph(convolutions, calls):
    """At any number of rows, of shapes that were seen to do; the result is the caller's."""
    photos = [pictures(rows, 3, 8, 8, seed=rows) for rows in (1, 2, 5)]
    found = [predicted(convolutions, photo) for photo in photos]
    assert calls == []
    for photo, one in zip(photos, found):
        assert isinstance(one, np.ndarray)
        wanted = convolutions.forward.block_forward(photo).asnumpy()
        assert np.allclose(one, wanted, rtol=1e-4, atol=1e-6)


def test_shapes_that_the_graph_has_not_met_are_the_blocks(convolutions, calls):
    """Once; then they go straight to it too."""
    photo = pictures(1, 3, 12, 10)
    wanted = convolutions.forward.block_forward(photo).asnumpy()
    for _ in range(3):
        assert np.allclose(predicted(convolutions, photo), wanted, rtol=1e-4, atol=1e-6)
        assert len(calls) == 1


def test_who_wants_ndarrays_has_the_block_called(convolutions, calls):
    """A script's own output_fn does."""
    assert isinstance(predicted(convolutions, pictures(1, 3, 8, 8), plain=False), mx.nd.NDArray)
    assert len(calls) == 1


def test_hooks_are_called(convolutions, calls):
    """Whoever listens to a Block hears of each call."""
    heard = []
    convolutions.register_forward_hook(lambda block, args, out: heard.append(out.shape))
    assert predicted(convolutions, pictures(2, 3, 8, 8)).shape == (2, 3)
    assert heard == [(2, 3)]


def test_a_block_with_a_call_of_its_own(calls, convolutions):
    """It may do more than its forward."""

    class Louder(type(convolutions)):
        def __call__(self, *args):
            return super().__call__(*args) * 10

    photo = pictures(1, 3, 8, 8)
    wanted = convolutions.forward.block_forward(photo).asnumpy() * 10
    convolutions.__class__ = Louder
    assert np.allclose(predicted(convolutions, photo), wanted, rtol=1e-4, atol=1e-5)


def test_no_rows_are_for_the_block(convolutions, calls):
    """MXNet binds nothing to them; it fails in the Block's own words."""
    with pytest.raises(mx.base.MXNetError):
        predicted(convolutions, mx.nd.zeros((1, 3, 8, 8))[0:0])
    assert len(calls) == 1


def test_in_training_ndarrays_are_for_the_block(convolutions, calls):
    with mx.autograd.train_mode():
        predicted(convolutions, pictures(4, 3, 8, 8))
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
    one, (two, three) = predictor(predictor.arrays(dict(zip("xy", rows))))
    assert one.tolist() == [[6, 8], [10, 12]]
    assert two.tolist() == [[2, 4], [6, 8]]
    assert three.tolist() == [[15, 18], [21, 24]]


def test_a_straight_graph_that_breaks_at_other_shapes():
    """The Block answers what the graph cannot be bound to."""
    net = Grown()
    try_graph(net, [mx.nd.array([[1, 2]])], straight=True)
    assert is_swapped(net)
    for _ in range(2):
        assert predicted(net, mx.nd.array([[1, 2, 3]])).tolist() == [[2.0, 3.0, 4.0]]


def failing(monkeypatch, exc):
    """Each run of a graph raises ``exc``; gives what counts them."""
    runs = []

    def forward(self, arrays):
        runs.append(len(arrays))
        raise exc

    monkeypatch.setattr(Executors, "_forward", forward)
    return runs


@pytest.mark.parametrize("plain", [True, False])
def test_a_graph_that_fails_now_and_then(convolutions, calls, monkeypatch, plain):
    """The Block answers in its place, after one try."""
    photo = pictures(1, 3, 8, 8)
    wanted = convolutions.forward.block_forward(photo).asnumpy()
    runs = failing(monkeypatch, mx.base.MXNetError("out of memory"))
    found = predicted(convolutions, photo, plain)
    assert np.allclose(found if plain else found.asnumpy(), wanted, rtol=1e-4, atol=1e-6)
    assert len(runs) == 1


class TimeIsUp(BaseException):
    """As the deadline of a request raises it, wherever Python is."""


@pytest.mark.parametrize("plain", [True, False])
def test_who_interrupts_a_graph_is_heard(convolutions, calls, monkeypatch, plain):
    """The Block does not begin then."""
    runs = failing(monkeypatch, TimeIsUp())
    asked = []
    monkeypatch.setattr(convolutions.forward, "block_forward", lambda *args: asked.append(args))
    monkeypatch.setattr(convolutions.forward.checked, "_best", asked.append)
    for photo in (pictures(1, 3, 8, 8), pictures(1, 3, 9, 9)):
        with pytest.raises(TimeIsUp):
            predicted(convolutions, photo, plain)
    assert (len(runs), asked) == (2, [])


def test_a_tuple_stays_one_for_who_calls_the_block():
    """Also where its graph was measured with ndarrays."""

    class Two(mx.gluon.HybridBlock):
        def hybrid_forward(self, F, x):
            return x + 1, x + 2

    net = Two()
    try_graph(net, [mx.nd.ones((1, 2))], straight=True)
    assert is_swapped(net)
    assert type(net(mx.nd.ones((1, 2)))) is tuple


def test_another_type_does_not_go_straight():
    """A script's float64, which a float32 ndarray would not be."""

    class Exact(mx.gluon.HybridBlock):
        def hybrid_forward(self, F, x):
            return x * 2

    net, value = Exact(), mx.nd.array([[1 + 2**-40]], dtype="float64")
    try_graph(net, [value], straight=True)
    assert is_swapped(net)
    assert net(value).asnumpy().tolist() == [[2 + 2**-39]]


class Sizes(mx.gluon.HybridBlock):
    """Its graph knows no shapes; called with arrays, it looks at them."""

    def hybrid_forward(self, F, x):
        return x * 2 if F is mx.sym or x.shape[1] == 2 else x * 3


def test_a_graph_that_is_wrong_for_other_shapes(caplog):
    """Right for the sample, it answers that; for other shapes the Block does, as the log says."""
    net = Sizes()
    try_graph(net, [mx.nd.array([[1, 2]])])
    assert is_swapped(net)
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
    """The Block answers what the graph cannot be bound to."""
    net = Grown()
    try_graph(net, [mx.nd.array([[1, 2]])])
    assert is_swapped(net)
    for _ in range(2):
        assert net(mx.nd.array([[1, 2, 3]])).asnumpy().tolist() == [[2.0, 3.0, 4.0]]


class Off(mx.gluon.HybridBlock):
    """Its graph is off by as much."""

    def __init__(self, much):
        super().__init__()
        self.much = much

    def hybrid_forward(self, F, x):
        return x if F is mx.nd else x + self.much


@pytest.mark.parametrize(
    ("largest", "much", "kept"),
    [
        pytest.param(10, 2e-5, True, id="a MobileNetV2 of the zoo"),
        pytest.param(500, 3e-4, True, id="a ResNet-18 of the zoo"),
        pytest.param(500, 1e-2, False, id="more than large values round"),
        pytest.param(1, 5e-6, True, id="probabilities"),
        pytest.param(1, 2e-5, False, id="more than probabilities round"),
        pytest.param(1e-6, 1e-10, True, id="small values"),
        pytest.param(1e-6, 1e-8, False, id="more than small values round"),
    ],
)
def test_what_fused_operators_round_is_no_difference(largest, much, kept):
    """It is in proportion to the largest value, also in those that are zero."""
    net = Off(much)
    try_graph(net, [mx.nd.array([[0, largest, 0, -largest / 2]])])
    assert is_swapped(net) is kept


class Centred(mx.gluon.HybridBlock):
    """Rows less their mean."""

    def hybrid_forward(self, F, x):
        return F.broadcast_sub(x, F.mean(x, axis=0, keepdims=True))


def test_rows_that_meet_are_not_cut(monkeypatch):
    """A graph whose rows depend on each other is bound to all of them."""
    monkeypatch.setattr("mms_handler.models.graphs.graph.CPU_BYTES", 1)
    net = Centred()
    try_graph(net, [mx.nd.array([[1.0], [3.0]])])
    assert is_swapped(net)
    rows = mx.nd.array([[1], [5], [6]])
    for _ in range(2):
        assert net(rows).asnumpy().tolist() == [[-3.0], [1.0], [2.0]]


# --- what is not kept ---


class Otherwise(mx.gluon.HybridBlock):
    def hybrid_forward(self, F, x):
        return x * 2 if F is mx.nd else x * 2.01


class Noise(mx.gluon.HybridBlock):
    def hybrid_forward(self, F, x):
        return x + F.random.uniform(shape=(1, 2))


class Looks(mx.gluon.HybridBlock):
    def hybrid_forward(self, F, x):
        return x * x.shape[0]


class Listens(mx.gluon.HybridBlock):
    """Overrides forward itself."""

    def forward(self, x):
        self.seen = x
        return x * 2


class Plain(mx.gluon.Block):
    def forward(self, x):
        return x * 2


def listened():
    net = mx.gluon.nn.HybridSequential()
    net.add(mx.gluon.nn.Flatten())
    net[0].register_forward_hook(lambda *args: None)
    return net


def inner():
    net = mx.gluon.nn.HybridSequential()
    net.add(Listens())
    return net


@pytest.mark.parametrize(
    "made",
    [
        pytest.param(Otherwise, id="gives other values"),
        pytest.param(Noise, id="gives other values each time"),
        pytest.param(Looks, id="looks at shapes"),
        pytest.param(Listens, id="has a forward of its own"),
        pytest.param(inner, id="has a Block with a forward of its own"),
        pytest.param(listened, id="has somebody listening inside"),
        pytest.param(Plain, id="is not hybrid"),
    ],
)
def test_a_block_that_stays(made):
    """A graph that is wrong, that cannot be had, or in whose place Python does something."""
    net = made()
    forward = net.forward
    try_graph(net, [mx.nd.array([[1, 2]])])
    assert net.forward == forward
    assert "forward" not in vars(net)


def test_what_is_not_faster_is_not_kept(convolutions, monkeypatch, caplog):
    """Right is not enough; the log has the figures."""
    monkeypatch.setattr(faster, "GAIN", 1e9)
    with caplog.at_level(logging.INFO):
        try_graph(convolutions, [pictures(1, 3, 8, 8)])
    assert not is_swapped(convolutions)
    fused, unfused = caplog.messages
    assert fused.startswith("fused graph of the Block: ")
    assert unfused.startswith("unfused graph of the Block: ")
    assert fused.endswith(" ms)")


def test_a_slow_block_is_not_tried(convolutions, monkeypatch, caplog):
    """Trying takes a handful of runs: a worker that never gets ready is worse."""
    monkeypatch.setattr(faster, "SLOW_S", 0)
    with caplog.at_level(logging.INFO):
        try_graph(convolutions, [pictures(1, 3, 8, 8)])
    assert not is_swapped(convolutions)
    assert "not tried, a run takes" in caplog.text


def test_large_weights_are_not_fused(convolutions, monkeypatch):
    """Fused operators would copy them; the graph is right and faster without."""
    monkeypatch.setattr("mms_handler.models.graphs.executors.COPIED_BYTES", 1)
    try_graph(convolutions, [pictures(1, 3, 8, 8)])
    assert convolutions.forward.executors.fused is False


def test_what_is_large_and_slow_stays(convolutions, monkeypatch, caplog):
    """Not to be fused, it would hardly be faster as a graph."""
    caplog.set_level(logging.INFO)
    monkeypatch.setattr("mms_handler.models.graphs.executors.COPIED_BYTES", 1)
    monkeypatch.setattr(faster, "UNFUSED_S", 0)
    try_graph(convolutions, [pictures(1, 3, 8, 8)])
    assert not is_swapped(convolutions)
    assert caplog.messages == [
        "no graph of the Block is tried: too large to fuse, too slow to gain otherwise"
    ]


# --- Modules ---


def module():
    made = mx.sym.relu(mx.sym.FullyConnected(mx.sym.var("data"), num_hidden=1, name="fc"))
    bound = mx.mod.Module(made, label_names=None)
    bound.bind([("data", (1, 2))], for_training=False)
    bound.init_params(mx.init.One())
    return bound


@pytest.mark.parametrize(("gain", "fused"), [(0, None), (1e9, False)])
def test_a_module_is_fused_if_that_helps(monkeypatch, gain, fused):
    """MXNet's own choice is kept when it is faster, else its operators stay as they are."""
    monkeypatch.setattr(faster, "GAIN", gain)
    rows = Executors(of_module(module()), 8)
    found = faster.try_unfused(rows, [np.array([[1, 2]], np.float32)])
    assert (found.fused, found.max_rows) == (fused, 8)
    assert found([np.array([[1, 2], [3, 4]], np.float32)])[0].tolist() == [[3.0], [7.0]]


# --- noting calls ---


def test_the_first_call_of_each_block_is_noted(convolutions):
    """Whoever calls it, and the Block is as it was afterwards."""
    other = mx.gluon.nn.Flatten()
    photo = pictures(1, 3, 8, 8)
    with recorded_calls([convolutions, other]) as calls:
        convolutions(photo)
        convolutions(pictures(2, 3, 8, 8))
    ((block, args),) = calls
    assert block is convolutions
    assert args[0] is photo
    assert "forward" not in vars(convolutions)
    assert "forward" not in vars(other)


def test_a_call_that_is_listened_to_is_not_noted():
    """A script that hooks into a Block for the time of a call would hear nothing of a graph."""
    net = mx.gluon.nn.HybridSequential()
    net.add(mx.gluon.nn.Flatten())
    handle = net[0].register_forward_hook(lambda *args: None)
    with recorded_calls([net]) as calls:
        net(pictures(1, 2))
    assert calls == []
    handle.detach()
    with recorded_calls([net]) as calls:
        net(pictures(1, 2))
    assert len(calls) == 1


def test_the_blocks_of_a_model(convolutions):
    """A model is one, or a tuple with some; a forward that a script put there is left alone."""
    other = mx.gluon.nn.Flatten()
    other.forward = lambda x: x
    assert blocks(convolutions) == [convolutions]
    assert blocks((convolutions, "vocabulary", convolutions, other)) == [convolutions]
    assert blocks({"net": convolutions}) == blocks(None) == blocks(Plain()) == []
