"""int8: an archive's int8 graph replaces the float graph if it is near and faster."""

from __future__ import annotations

import mxnet as mx
import numpy as np
import pytest

from mms_handler.errors import ModelError
from mms_handler.models.graphs import faster, int8
from mms_handler.models.graphs.checked import Checked
from mms_handler.models.graphs.executors import Executors
from mms_handler.models.graphs.graph import graph_of, of_module
from mms_handler.models.graphs.int8 import PackedInt8, checked_int8, try_int8
from mms_handler.models.graphs.quantize import quantize
from mms_handler.models.predictor import ModulePredictor


@pytest.fixture
def dense():
    """A Block of two Dense layers with random weights."""
    mx.random.seed(0)
    net = mx.gluon.nn.HybridSequential()
    net.add(
        mx.gluon.nn.Dense(32, in_units=16, activation="relu"), mx.gluon.nn.Dense(4, in_units=32)
    )
    net.initialize(mx.init.Xavier())
    return net


def rows(count, seed=0, largest=1):
    return np.random.RandomState(seed).uniform(-largest, largest, (count, 16)).astype(np.float32)


def packed(model, arrays, path, max_difference=0.1):
    """The int8 graph of a model as an archive holds it."""
    quantize(graph_of(model, arrays), [[rows(4, seed)] for seed in range(6)]).symbol.save(str(path))
    return PackedInt8(path, max_difference)


def difference(values, expected):
    """The largest difference, relative to the largest value."""
    return np.abs(values - expected).max() / np.abs(expected).max()


@pytest.fixture
def int8_block(dense, tmp_path):
    """A Block that runs as its int8 graph, and what it gave before for numbers of rows."""
    arrays = [mx.nd.array(rows(1))]
    int8_graph = packed(dense, arrays, tmp_path / "int8.json")
    expected = {count: dense(mx.nd.array(rows(count, 7))).asnumpy() for count in (1, 2, 5)}
    faster.try_graph(dense, arrays)
    try_int8(dense, arrays, int8_graph)
    assert dense.forward.checked.name == "int8 graph of the Block"
    return dense, expected


def test_a_near_graph_takes_the_place_of_forward(int8_block):
    """At any number of rows it gives nearly what the Block gave, and not exactly the same."""
    block, predictions = int8_block
    for count, expected in predictions.items():
        prediction = block(mx.nd.array(rows(count, 7))).asnumpy()
        assert 1e-5 < difference(prediction, expected) < 0.1


def test_its_rows_are_independent(int8_block):
    """A row gives the same together with others as alone."""
    block, _ = int8_block
    together = block(mx.nd.array(rows(3, 9))).asnumpy()
    alone = [block(mx.nd.array(rows(3, 9)[at : at + 1])).asnumpy() for at in range(3)]
    assert np.allclose(together, np.concatenate(alone), rtol=1e-5, atol=1e-6)


def test_new_parameters_are_compared_anew(int8_block):
    """The Block gives the first prediction, and the next if the old ranges do not fit."""
    block, _ = int8_block
    block[0].weight.set_data(block[0].weight.data() * 100)
    row = mx.nd.array(rows(1, 3))
    expected = block.forward.block_forward(row).asnumpy()
    assert block(row).asnumpy().tolist() == expected.tolist()
    assert block.forward.checked._agreed == {((16,),): False}
    assert difference(block(row).asnumpy(), expected) < 1e-5


def test_training_is_the_blocks(int8_block):
    """Nothing is concluded about the graph while the Block trains."""
    block, _ = int8_block
    row = mx.nd.array(rows(1, 3))
    expected = block.forward.block_forward(row).asnumpy()
    with mx.autograd.record():
        assert difference(block(row).asnumpy(), expected) < 1e-6
    assert block.forward.checked._agreed == {}


@pytest.mark.parametrize(
    ("max_difference", "gain"), [(0, 0), (0.1, 1e9)], ids=["not near enough", "not fast enough"]
)
def test_a_graph_that_is_no_better_is_not_used(dense, tmp_path, monkeypatch, max_difference, gain):
    """The float graph stays."""
    monkeypatch.setattr(faster, "GAIN", gain)
    monkeypatch.setattr(int8, "MIN_DIFFERENCE", 1e-6)
    arrays = [mx.nd.array(rows(1))]
    try_int8(dense, arrays, packed(dense, arrays, tmp_path / "int8.json", max_difference))
    assert "forward" not in vars(dense)


def test_weights_that_are_too_large(dense, tmp_path, monkeypatch):
    """They are copied as in fused float graphs, a byte for each."""
    arrays = [mx.nd.array(rows(1))]
    int8_graph = packed(dense, arrays, tmp_path / "int8.json")
    graph = graph_of(dense, arrays)
    weights = 32 * 16 + 32 + 4 * 32 + 4
    assert graph.bytes == 4 * weights
    for limit, fits in [(weights * int8.SIZES - 1, False), (weights * int8.SIZES, True)]:
        monkeypatch.setattr(int8, "COPIED_BYTES", limit)
        assert (int8_graph.executors(graph, [rows(1)], 1) is not None) is fits
    monkeypatch.setattr(int8, "COPIED_BYTES", 100)
    try_int8(dense, arrays, int8_graph)
    assert "forward" not in vars(dense)


def test_the_graph_of_another_model(dense, tmp_path):
    """It has parameters that the model does not have."""
    symbol = mx.sym.FullyConnected(mx.sym.var("mms_handler_input0"), num_hidden=4, name="fc")
    symbol.save(str(tmp_path / "other.json"))
    with pytest.raises(
        ModelError, match="belongs to another model: this one has no parameter 'fc_weight'"
    ):
        try_int8(dense, [mx.nd.array(rows(1))], PackedInt8(tmp_path / "other.json", 0.1))


def test_near_is_twice_what_packing_measured():
    """Relative to the largest value.  A hundredth is always near, NaN and other shapes never."""
    expected = np.array([[10.0, 0]])
    for measured, shift, near in [(0.1, 1.9, True), (0.1, 2.5, False), (0, 0.09, True)]:
        assert PackedInt8(None, measured).near([expected], [expected - [[shift, 0]]]) is near
    assert PackedInt8(None, 0.25).near(np.array([2.0]), np.array([1.0]))  # half of it: the limit
    assert not PackedInt8(None, 0.1).near([expected], [expected[:, :1]])
    assert not PackedInt8(None, 0.1).near([expected], [expected * np.nan])


# --- Modules ---


@pytest.fixture
def wide():
    """A Module of 16 values to 4."""
    symbol = mx.sym.FullyConnected(mx.sym.var("data"), num_hidden=4, name="fc")
    built = mx.mod.Module(symbol, label_names=None)
    built.bind([("data", (1, 16))], for_training=False)
    mx.random.seed(0)
    built.init_params(mx.init.Xavier(magnitude=1))
    return built


def test_a_module_runs_as_its_int8_graph(wide, tmp_path):
    """By the default predict_fn, at any number of rows."""
    predictor = ModulePredictor(wide)
    int8_graph = packed(wide, [], tmp_path / "int8.json")
    expected = predictor(predictor.arrays(rows(5, 7)))
    predictor.try_int8(predictor.arrays(rows(1)), int8_graph)
    assert 1e-5 < difference(predictor(predictor.arrays(rows(5, 7))), expected) < 0.1


def test_a_module_whose_graph_is_not_near(wide, tmp_path):
    """A sample with values outside its ranges shows that."""
    best = Executors(of_module(wide), 1)
    int8_graph = packed(wide, [], tmp_path / "int8.json")
    assert checked_int8(best, [rows(1, largest=1e4)], int8_graph) is best
    assert isinstance(checked_int8(best, [rows(1)], int8_graph), Checked)


def test_a_module_whose_weights_are_too_large(wide, tmp_path, monkeypatch):
    """Its float graph stays."""
    best = Executors(of_module(wide), 1)
    int8_graph = packed(wide, [], tmp_path / "int8.json")
    monkeypatch.setattr(int8, "COPIED_BYTES", 1)
    assert checked_int8(best, [rows(1)], int8_graph) is best


def test_rows_that_an_int8_graph_mixes(wide, tmp_path, monkeypatch):
    """Are run alone, although the float graph's may be run together."""
    graph = of_module(wide)
    int8_graph = packed(wide, [], tmp_path / "int8.json")
    executors = int8_graph.executors(graph, [rows(2)], 2)
    assert (executors.max_rows, executors.fused) == (2, True)  # MXNet has int8 operators as fused
    monkeypatch.setattr(Executors, "independent", lambda *_: False)
    assert int8_graph.executors(graph, [rows(2)], 2).max_rows == 1
    assert int8_graph.executors(graph, [rows(2)], None).max_rows is None
