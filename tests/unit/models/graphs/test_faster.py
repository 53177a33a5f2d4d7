"""faster: a graph is used if it agrees with the model and is faster, else never."""

from __future__ import annotations

import logging

import mxnet as mx
import numpy as np
import pytest
from tiny_models import images, runs_graph

from mms_handler.errors import attempt
from mms_handler.models.graphs import faster
from mms_handler.models.graphs.executors import Executors
from mms_handler.models.graphs.faster import recorded_calls, try_graph, use_graph
from mms_handler.models.graphs.graph import of_module
from mms_handler.models.kinds import blocks

# --- what is used ---


def test_a_graph_that_agrees_takes_the_place_of_forward(convolutions):
    """Calling the Block gives what it gave before, at any number of rows."""
    photos = [images(rows, 3, 8, 8) for rows in (1, 2, 5, 1)]
    predictions = [convolutions(photo).asnumpy() for photo in photos]
    try_graph(convolutions, [photos[0]])
    assert runs_graph(convolutions)
    assert convolutions.forward.executors.fused
    for photo, expected in zip(photos, predictions):
        assert np.allclose(convolutions(photo).asnumpy(), expected, rtol=1e-4, atol=1e-6)


def test_a_graph_that_another_process_has_found(convolutions, monkeypatch):
    """It is used as it was found there, for inputs with the same rows' shape; nothing is timed."""
    photo = images(2, 3, 8, 8)
    expected = convolutions(photo).asnumpy()
    found = faster.FasterGraph([[1, 3, 8, 8]], ["float32"], False, 4, 2.5)
    monkeypatch.setattr(faster, "compare", None)
    assert use_graph(convolutions, found)
    assert runs_graph(convolutions)
    executors = convolutions.forward.executors
    assert (executors.fused, executors.max_rows) == (False, 4)
    assert convolutions.forward.checked.agreed([photo])
    assert np.allclose(convolutions(photo).asnumpy(), expected, rtol=1e-4, atol=1e-6)


def test_what_was_found_is_all_that_another_process_needs(convolutions):
    found = try_graph(convolutions, [images(2, 3, 8, 8)])
    rows = convolutions.forward.executors.max_rows
    assert found[:4] == ([(2, 3, 8, 8)], ["float32"], True, rows)
    assert found.gain > 0
    assert try_graph(convolutions, [images(2, 3, 8, 8)]) is None  # it runs as its graph already


def test_a_graph_that_disagrees_here_is_not_used():
    """What another process found is compared with this one's predictions."""
    net = Off(0.1)
    assert not use_graph(net, faster.FasterGraph([[1, 2]], ["float32"], True, None, 2.5))
    assert "forward" not in vars(net)


@pytest.mark.filterwarnings("ignore:.*Cannot decide type:UserWarning")  # SymbolBlock.imports
def test_a_symbol_block(convolutions, tmp_path):
    """What was exported and imported again is a HybridBlock too."""
    photo = images(2, 3, 8, 8)
    expected = convolutions(photo).asnumpy()
    convolutions.hybridize()
    convolutions(photo)
    convolutions.export(str(tmp_path / "net"))
    files = str(tmp_path / "net-symbol.json"), ["data"], str(tmp_path / "net-0000.params")
    net = mx.gluon.SymbolBlock.imports(*files)
    try_graph(net, [photo])
    assert runs_graph(net)
    assert np.allclose(net(photo).asnumpy(), expected, rtol=1e-4, atol=1e-6)


def test_a_run_ends_when_it_is_computed(monkeypatch):
    """MXNet computes later what a forward returns; only what was waited for can be timed."""
    waited = []
    monkeypatch.setattr(mx.nd.NDArray, "wait_to_read", lambda array: waited.append(id(array)))
    run = faster.waiting(lambda x, y: [x + y, {"product": x * y}])
    total, others = run([mx.nd.ones((2,)), mx.nd.ones((2,))])
    assert waited == [id(total), id(others["product"])]


class Off(mx.gluon.HybridBlock):
    """Its graph is off by as much."""

    def __init__(self, much):
        super().__init__()
        self.much = much

    def hybrid_forward(self, F, x):
        return x if F is mx.nd else x + self.much


@pytest.mark.parametrize(
    ("largest", "much", "agrees"),
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
def test_rounding_of_fused_operators_is_no_difference(largest, much, agrees):
    """It is in proportion to the largest value, also in values that are zero."""
    net = Off(much)
    try_graph(net, [mx.nd.array([[0, largest, 0, -largest / 2]])])
    assert runs_graph(net) is agrees


# --- what is not used ---


class Otherwise(mx.gluon.HybridBlock):
    def hybrid_forward(self, F, x):
        return x * 2 if F is mx.nd else x * 2.01


class Noise(mx.gluon.HybridBlock):
    def hybrid_forward(self, F, x):
        return x + F.random.uniform(shape=(1, 2))


class Looks(mx.gluon.HybridBlock):
    def hybrid_forward(self, F, x):
        return x * x.shape[0]


class Overrides(mx.gluon.HybridBlock):
    """Overrides forward itself."""

    def forward(self, x):
        self.last = x
        return x * 2


class Plain(mx.gluon.Block):
    def forward(self, x):
        return x * 2


def hooked():
    net = mx.gluon.nn.HybridSequential()
    net.add(mx.gluon.nn.Flatten())
    net[0].register_forward_hook(lambda *args: None)
    return net


def inner():
    net = mx.gluon.nn.HybridSequential()
    net.add(Overrides())
    return net


@pytest.mark.parametrize(
    "build",
    [
        pytest.param(Otherwise, id="gives other values"),
        pytest.param(Noise, id="gives other values each time"),
        pytest.param(Looks, id="looks at shapes"),
        pytest.param(Overrides, id="has a forward of its own"),
        pytest.param(inner, id="has a Block with a forward of its own"),
        pytest.param(hooked, id="has a hook inside"),
        pytest.param(Plain, id="is not hybrid"),
    ],
)
def test_a_block_that_stays(build):
    """Its graph is wrong, cannot be traced, or would leave out what Python does."""
    net = build()
    forward = net.forward
    try_graph(net, [mx.nd.array([[1, 2]])])
    assert net.forward == forward
    assert "forward" not in vars(net)


def test_a_graph_that_is_not_faster_is_not_used(convolutions, monkeypatch, caplog):
    """To agree is not enough; the log has the figures."""
    monkeypatch.setattr(faster, "GAIN", 1e9)
    with caplog.at_level(logging.INFO):
        try_graph(convolutions, [images(1, 3, 8, 8)])
    assert not runs_graph(convolutions)
    fused, unfused = caplog.messages
    assert fused.startswith("fused graph of the Block: ")
    assert unfused.startswith("unfused graph of the Block: ")
    assert fused.endswith(" ms)")


def test_a_slow_block_is_not_tried(convolutions, monkeypatch, caplog):
    """Trying takes a handful of runs, and a worker has to become ready."""
    monkeypatch.setattr(faster, "SLOW_S", 0)
    with caplog.at_level(logging.INFO):
        try_graph(convolutions, [images(1, 3, 8, 8)])
    assert not runs_graph(convolutions)
    assert "not tried, a run takes" in caplog.text


def test_a_slow_block_is_tried_with_patience(convolutions, monkeypatch):
    """Where nobody waits, a run may take a multiple of the usual limit."""
    monkeypatch.setattr(faster, "SLOW_S", 1e-9)
    try_graph(convolutions, [images(1, 3, 8, 8)], patience=1e12)
    assert runs_graph(convolutions)


def test_large_weights_are_not_fused(convolutions, monkeypatch):
    """Fused operators would copy them; the unfused graph agrees and is faster."""
    monkeypatch.setattr("mms_handler.models.graphs.executors.COPIED_BYTES", 1)
    try_graph(convolutions, [images(1, 3, 8, 8)])
    assert convolutions.forward.executors.fused is False


def test_a_large_and_slow_block_is_not_tried(convolutions, monkeypatch, caplog):
    """It is too large to be fused, and would hardly be faster unfused."""
    caplog.set_level(logging.INFO)
    monkeypatch.setattr("mms_handler.models.graphs.executors.COPIED_BYTES", 1)
    monkeypatch.setattr(faster, "UNFUSED_S", 0)
    try_graph(convolutions, [images(1, 3, 8, 8)])
    assert not runs_graph(convolutions)
    assert caplog.messages == [
        "no graph of the Block is tried: too large to fuse, too slow to gain otherwise"
    ]


def failing(*_):
    raise mx.base.MXNetError("MXNetError: Check failed: a")


def test_a_graph_that_cannot_be_run():
    """The log says why."""
    rows = [np.ones((1, 2), np.float32)]
    model = faster.Baseline([rows], [rows], 0)
    trial = faster.compare(model, lambda arrays: arrays, failing)
    assert trial == (0, "cannot be run: Check failed: a")


def test_a_sample_that_the_model_does_not_take():
    """Says nothing about a graph; the next one does."""
    rows = [np.ones((1, 2), np.float32)]
    failed = attempt(failing)
    other = [2 * array for array in rows]
    agreeing = faster.Baseline([rows, rows], [failed, rows], 0)
    assert faster.compare(agreeing, lambda arrays: arrays, lambda arrays: arrays).gain > 0
    differing = faster.Baseline([rows, rows], [failed, other], 0)
    assert faster.compare(differing, lambda arrays: arrays, lambda arrays: arrays) == (
        0,
        "gives other values",
    )


# --- Modules ---


def module():
    y = mx.sym.relu(mx.sym.FullyConnected(mx.sym.var("data"), num_hidden=1, name="fc"))
    bound = mx.mod.Module(y, label_names=None)
    bound.bind([("data", (1, 2))], for_training=False)
    bound.init_params(mx.init.One())
    return bound


@pytest.mark.parametrize(("gain", "fused"), [(0, None), (1e9, False)])
def test_a_module_is_fused_if_that_helps(monkeypatch, gain, fused):
    """MXNet's own choice is kept if it is faster, else operators stay unfused."""
    monkeypatch.setattr(faster, "GAIN", gain)
    executors = Executors(of_module(module()), 8)
    fastest = faster.try_unfused(executors, [np.array([[1, 2]], np.float32)])
    assert (fastest.fused, fastest.max_rows) == (fused, 8)
    assert fastest([np.array([[1, 2], [3, 4]], np.float32)])[0].tolist() == [[3.0], [7.0]]


def test_a_module_that_nothing_would_fuse(monkeypatch):
    """On a GPU, or with weights that are too large to copy: it is not tried."""
    monkeypatch.setattr(faster, "compare", None)
    executors = Executors(of_module(module()), 8)
    arrays = [np.array([[1, 2]], np.float32)]
    on_gpu = Executors(executors.graph._replace(device=mx.gpu(0)), 8)
    assert faster.try_unfused(on_gpu, arrays) is on_gpu
    monkeypatch.setattr("mms_handler.models.graphs.executors.COPIED_BYTES", 1)
    assert faster.try_unfused(executors, arrays) is executors


# --- recording calls ---


def test_the_first_call_of_each_block_is_recorded(convolutions):
    """Whoever calls it; afterwards the Block is as it was."""
    other = mx.gluon.nn.Flatten()
    photo = images(1, 3, 8, 8)
    with recorded_calls([convolutions, other]) as calls:
        convolutions(photo)
        convolutions(images(2, 3, 8, 8))
    ((block, args),) = calls
    assert block is convolutions
    assert args[0] is photo
    assert "forward" not in vars(convolutions)
    assert "forward" not in vars(other)


def test_a_call_with_hooks_inside_is_not_recorded():
    """A script that registers a hook for the time of a call would hear nothing from a graph."""
    net = mx.gluon.nn.HybridSequential()
    net.add(mx.gluon.nn.Flatten())
    handle = net[0].register_forward_hook(lambda *args: None)
    with recorded_calls([net]) as calls:
        net(images(1, 2))
    assert calls == []
    handle.detach()
    with recorded_calls([net]) as calls:
        net(images(1, 2))
    assert len(calls) == 1


def test_the_blocks_of_a_model(convolutions):
    """A model is a Block, or a tuple with Blocks; one with a script's own forward is left out."""
    other = mx.gluon.nn.Flatten()
    other.forward = lambda x: x
    assert blocks(convolutions) == [convolutions]
    assert blocks((convolutions, "vocabulary", convolutions, other)) == [convolutions]
    assert blocks({"net": convolutions}) == blocks(None) == blocks(Plain()) == []
