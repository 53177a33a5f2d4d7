"""expected: a body of the wrong shape is the client's fault, and a bug is not."""

from __future__ import annotations

import mxnet as mx
import numpy as np
import pytest
from mxnet.gluon import nn

from mms_handler.errors import BadInput
from mms_handler.models.arrays import Arrays
from mms_handler.models.expected import Expected, _with_rows
from mms_handler.models.graphs.faster import try_graph
from mms_handler.models.predictor import ModulePredictor, make_predictor


def block(*layers, shape=None):
    net = nn.HybridSequential()
    net.add(*layers)
    net.initialize()
    if shape:
        net(mx.nd.zeros(shape))
    return net


def ask(model, *shapes):
    return model(Arrays(np.zeros(shape, np.float32) for shape in shapes))


def refusal(model, *shapes):
    with pytest.raises(BadInput) as error:
        ask(model, *shapes)
    return str(error.value)


def of(net, **options):
    return make_predictor(net, mx.cpu(), plain=True, **options)


# --- what the graph tells ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("layers", "shape", "takes"),
    [
        pytest.param(lambda: [nn.Dense(3)], (1, 4), "(N, 4)", id="dense"),
        pytest.param(lambda: [nn.Dense(3, in_units=4)], None, "(N, 4)", id="dense, not called yet"),
        pytest.param(lambda: [nn.Flatten(), nn.Dense(3)], (1, 2, 3), "(N, 6)", id="flattened"),
        pytest.param(
            lambda: [nn.Conv2D(3, 3), nn.MaxPool2D(), nn.Dense(2)],
            (1, 1, 8, 8),
            "(N, 1, 8, 8)",
            id="pictures of one size",
        ),
        pytest.param(
            lambda: [nn.Conv2D(3, 3, in_channels=3), nn.GlobalAvgPool2D()],
            None,
            "(N, 3, any, any)",
            id="pictures of any size",
        ),
        pytest.param(
            lambda: [nn.BatchNorm(), nn.Conv2D(3, 3, padding=1, strides=2), nn.Dense(2)],
            (1, 3, 28, 28),
            "(N, 3, 28, 28)",
            id="normalised pictures",
        ),
        pytest.param(
            lambda: [nn.Conv1D(3, 3), nn.Dense(2)], (1, 2, 9), "(N, 2, 9)", id="a sequence"
        ),
        pytest.param(
            lambda: [nn.Conv1D(3, 1), nn.MaxPool1D(3), nn.Dense(2)],
            (1, 2, 9),
            "(N, 2, 9)",
            id="a sequence of 9 to 11, which is no picture",
        ),
        pytest.param(
            lambda: [nn.Conv2D(1, 1), nn.MaxPool2D(99), nn.Dense(2)],
            (1, 3, 299, 299),
            "(N, 3, 299, 299)",
            id="pictures of a common size, though 300 has more factors",
        ),
        pytest.param(
            lambda: [nn.Embedding(10, 4), nn.Flatten(), nn.Dense(2)], (1, 7), "(N, 7)", id="tokens"
        ),
        pytest.param(
            lambda: [mx.gluon.rnn.LSTM(4, layout="NTC"), nn.Dense(2)],
            (1, 6, 3),
            "(N, 6, 3)",
            id="LSTM",
        ),
    ],
)
@pytest.mark.parametrize("body", [(2, 5), (5,), (1, 2, 3, 4, 5)])
def test_what_a_block_takes(layers, shape, takes, body):
    """Without a sample or a file of shapes: MXNet's inference tells, whatever its words are."""
    net = of(block(*layers(), shape=shape))
    assert refusal(net, body) == f"the model takes {takes}, the body has {body}"
    assert refusal(net, body) == f"the model takes {takes}, the body has {body}"


@pytest.mark.filterwarnings("ignore:Cannot decide type")
def test_a_symbol_block(tmp_path):
    """As scripts load what they exported."""
    net = block(nn.Conv2D(3, 3), nn.Dense(2), shape=(1, 1, 8, 8))
    net.hybridize()
    net(mx.nd.zeros((1, 1, 8, 8)))
    net.export(str(tmp_path / "net"))
    loaded = nn.SymbolBlock.imports(
        str(tmp_path / "net-symbol.json"), ["data"], str(tmp_path / "net-0000.params")
    )
    assert refusal(of(loaded), (2, 2)) == "the model takes (N, 1, 8, 8), the body has (2, 2)"


def test_a_block_that_runs_as_its_graph():
    """The graph in its place has the rules, and fails in other words."""
    net = block(nn.Dense(64), nn.Dense(64), nn.Dense(2), shape=(1, 4))
    try_graph(net, [mx.nd.ones((1, 4))], straight=True)
    assert refusal(of(net), (2, 5)) == "the model takes (N, 4), the body has (2, 5)"
    assert ask(of(net), (3, 4)).shape == (3, 2)


def test_a_module_without_a_file_of_shapes():
    """It is bound to what comes; its symbol tells what it takes."""
    from mms_handler.models.inputs import UnboundModule

    symbol = mx.sym.FullyConnected(mx.sym.var("data"), num_hidden=1, name="fc")
    weights = {"fc_weight": mx.nd.ones((1, 2)), "fc_bias": mx.nd.ones((1,))}
    module = UnboundModule.of(symbol, ["data"], weights, {}, mx.cpu())
    model = ModulePredictor(module)
    assert refusal(model, (1, 3)) == "the model takes (N, 2), the body has (1, 3)"
    assert ask(model, (3, 2)).shape == (3, 1)


def test_a_bug_is_not_the_clients_fault():
    """The graph takes the shape, so something else failed."""

    net = block(nn.Dense(2), shape=(1, 4))
    model = of(net)
    net.register_forward_hook(lambda *args: [][1])
    with pytest.raises(IndexError):
        ask(model, (1, 4))
    assert refusal(model, (1, 5)).startswith("the model does not take shape (1, 5): ")


def test_a_shape_that_fits_and_is_refused():
    """A picture of any size, but not smaller than the kernel: MXNet's reason remains."""
    net = of(block(nn.Conv2D(3, 5, in_channels=3), nn.GlobalAvgPool2D()))
    assert refusal(net, (1, 3, 2, 2)).startswith("the model does not take shape (1, 3, 2, 2): ")


def test_several_inputs():
    """The first one that differs is named; they are known from a call that worked."""

    class Sum(nn.HybridBlock):
        def __init__(self):
            super().__init__()
            self.first, self.second = nn.Dense(2, in_units=3), nn.Dense(2, in_units=4)

        def hybrid_forward(self, F, left, right):
            return self.first(left) + self.second(right)

    net = Sum()
    net.initialize()
    model = of(net)
    assert refusal(model, (1, 3), (1, 5)).startswith("the model does not take shape (1, 3), (1, 5)")
    assert ask(model, (1, 3), (1, 4)).shape == (1, 2)
    assert refusal(model, (1, 3), (1, 5)) == (
        "the model takes (N, 4) as right, the body has (1, 5)"
    )


# --- what the sample and the file of shapes tell ---------------------------------------------


class Python(nn.Block):
    """Has no graph: its forward is Python."""

    def forward(self, x):
        rows, channels, height, _ = x.shape
        assert (channels, height) == (1, 8)
        if x.asnumpy().max() > 5:
            raise KeyError("a bug")
        return x.reshape((rows, -1)).sum(axis=1)


def test_a_block_without_a_graph():
    """Its first good call tells what it takes, and it is asked again with zeros."""
    model = of(Python())
    with pytest.raises(ValueError, match="not enough values"):
        ask(model, (2, 2))
    ask(model, (1, 1, 8, 8))
    assert refusal(model, (2, 2)) == "the model takes (N, 1, 8, 8), the body has (2, 2)"
    assert refusal(model, (1, 2, 8, 8)) == "the model takes (N, 1, 8, 8), the body has (1, 2, 8, 8)"
    assert ask(model, (2, 1, 8, 9)).shape == (2,)


class Layers(nn.Block):
    """Has layers in a forward that is Python."""

    def __init__(self):
        super().__init__()
        self.convolution = nn.Conv2D(4, 3, in_channels=1)
        self.dense = nn.Dense(2)

    def forward(self, x):
        return self.dense(self.convolution(x))


def test_layers_in_python_code():
    """The first request tells what they take; until then their parameters do."""
    net = Layers()
    net.initialize()
    net(mx.nd.zeros((1, 1, 8, 8)))
    model = of(net)
    assert refusal(model, (2, 2)) == "the model takes (N, 1, 8, 8), the body has (2, 2)"
    assert refusal(model, (1, 1, 1, 1)) == (
        "the model takes (N, 1, 8, 8), the body has (1, 1, 1, 1)"
    )
    assert ask(model, (3, 1, 8, 8)).shape == (3, 2)


def test_python_code_that_takes_more_than_its_symbol():
    """What works is no fault, whatever the symbol says of it."""

    class Padded(nn.Block):
        def __init__(self):
            super().__init__()
            self.dense = nn.Dense(2, in_units=4)

        def forward(self, x):
            if isinstance(x, mx.nd.NDArray) and x.shape[1] == 3:
                x = mx.nd.concat(x, x[:, :1])
            return self.dense(x)

    net = Padded()
    net.initialize()
    model = of(net)
    assert refusal(model, (1, 5)) == "the model takes (N, 4), the body has (1, 5)"
    assert ask(model, (1, 3)).shape == (1, 2)
    assert refusal(model, (1, 6)) == "the model takes (N, 3), the body has (1, 6)"


def test_values_that_fail_are_not_the_shapes_fault():
    model = of(Python())
    ask(model, (1, 1, 8, 8))
    for shape in ((1, 1, 8, 8), (1, 1, 8, 9)):
        with pytest.raises(KeyError):
            model(Arrays([np.full(shape, 6, np.float32)]))


@pytest.mark.parametrize(
    ("shape", "rows", "tried"),
    [
        ((1, 8), 5, (5, 8)),
        ((1, 8), 100, (16, 8)),
        ((1, 2**10, 2**12), 16, (4, 2**10, 2**12)),
        ((1, 2**30), 16, (1, 2**30)),
        ((1, 0), 16, (16, 0)),
        ((), 3, ()),
    ],
)
def test_how_large_a_trial_is(shape, rows, tried):
    """No more than 16 rows and 64 MB, but a row."""
    assert _with_rows(shape, rows) == tried


def test_rows_that_fail_are_not_the_shapes_fault():
    """As many rows of a shape that works fail as well."""

    class Odd(nn.Block):
        def forward(self, x):
            if len(x) == 3:
                raise KeyError("a bug")
            return x.reshape((len(x), 2, -1))

    model = of(Odd())
    ask(model, (1, 2))
    with pytest.raises(KeyError):
        ask(model, (3, 5))
    assert refusal(model, (2, 5)) == "the model takes (N, 2), the body has (2, 5)"
    assert refusal(model, (100, 5)) == "the model takes (N, 2), the body has (100, 5)"


def test_a_dimension_of_several_sizes():
    """Each call that works may show that another size is taken, too."""
    model = of(Python())
    ask(model, (1, 1, 8, 8))
    ask(model, (1, 1, 8, 9))
    assert refusal(model, (1, 2, 8, 7)) == (
        "the model takes (N, 1, 8, any), the body has (1, 2, 8, 7)"
    )
    with pytest.raises(KeyError):
        model(Arrays([np.full((1, 1, 8, 7), 6, np.float32)]))


def test_the_file_of_shapes():
    """It is believed if the model takes these shapes."""
    model = of(Python(), saved=[(100, 1, 8, 8)])
    assert refusal(model, (2, 2)) == "the model takes (N, 1, 8, 8), the body has (2, 2)"
    model = of(Python(), saved=[(100, 3, 8, 8)])
    with pytest.raises(ValueError, match="not enough values"):
        ask(model, (2, 2))


def test_what_a_scripts_input_fn_made():
    model = of(block(nn.Dense(2, in_units=4)), subject="input_fn returned")
    assert refusal(model, (1, 5)) == "the model takes (N, 4), input_fn returned (1, 5)"


def test_errors_with_a_status_are_kept():
    """Theirs was chosen by whoever raised them."""
    expected = Expected(lambda: None, exact=False)
    expected.worked([np.zeros((1, 2))])

    def run(arrays):
        if arrays[0].shape[1] != 2:
            raise OSError

    other = [np.zeros((3, 3))]
    assert expected.fault(other, BadInput("mine"), run) is None
    assert expected.fault(other, MemoryError(), run) is None
    assert expected.fault(["a text"], OSError(), run) is None
    assert str(expected.fault(other, OSError(), run)) == (
        "the model takes (N, 2), the body has (3, 3)"
    )


class Rules:
    """Of a graph that takes every shape."""

    exact = True

    def refusal(self, shapes):
        return None

    def search(self):
        return None


@pytest.mark.parametrize(
    ("rules", "reason"),
    [(None, "the model does not take this body: Check failed: shape"), (Rules(), None)],
    ids=["no graph", "a graph that takes them"],
)
def test_words_of_mxnet(rules, reason):
    """They count where nothing else is known of the shapes that a model takes."""
    expected = Expected(lambda: rules)
    exc = mx.base.MXNetError("Check failed: shape")
    fault = expected.fault([np.zeros((1, 2), np.float32)], exc, lambda arrays: 1 / 0)
    assert (fault and str(fault)) == reason


class Two(nn.Block):
    """Takes any number of columns, but fails for two rows of one."""

    def forward(self, x):
        if x.shape == (2, 1):
            raise mx.base.MXNetError("Check failed: shape")
        return x


def test_words_of_mxnet_about_a_shape_that_fits():
    """They never count, whether or not the shapes that the model takes were looked for yet."""
    model = of(Two())
    for shape in ((1, 1), (1, 2)):
        ask(model, shape)
    for _ in range(2):
        with pytest.raises(mx.base.MXNetError):
            ask(model, (2, 1))
        model._expected.fault([np.zeros((3,), np.float32)], OSError(), lambda arrays: arrays)


def test_a_time_limit_ends_the_trial():
    class Expired(BaseException):
        pass

    expected = Expected(lambda: None, exact=False)
    expected.worked([np.zeros((1, 2))])

    def run(arrays):
        raise Expired

    with pytest.raises(Expired):
        expected.fault([np.zeros((3, 3))], OSError(), run)


def test_the_graph_is_asked_again_after_another_shape():
    """A Block may have got its parameters only then; one that was asked is not asked twice."""
    asked = []
    expected = Expected(lambda: asked.append(len(asked)))

    def fail(*shape):
        expected.fault([np.zeros(shape, np.float32)], ValueError("no"), lambda arrays: 1 / 0)
        return len(asked)

    expected.worked([np.zeros((1, 4), np.float32)])
    assert [fail(1, 5), fail(1, 6), fail(1, 5)] == [1, 1, 1]
    expected.worked([np.zeros((1, 7), np.float32)])
    assert [fail(1, 2, 3), fail(1, 2, 4)] == [2, 2]
